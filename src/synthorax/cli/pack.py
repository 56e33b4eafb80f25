"""`synthorax pack` and `synthorax unpack`."""

from __future__ import annotations

from pathlib import Path

from synthorax import api
from synthorax.cli.options import parse_zyx
from synthorax.screen import say

MIB = 2**20


def pack(
    store: Path,
    *,
    out: Path,
    size: str | None = None,
    spacing: str = "1,1,1",
    margin: int = 0,
    splits: str = "train,val,test",
    hu_step: int = 1,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """A store, or only the patches that a recipe needs of it, as one compact file to carry to another machine.

    `synthorax unpack` makes a store of it there: the same one, by fingerprint, where everything was packed.

    Parameters
    ----------
    store
        What `synthorax prepare` wrote.
    out
        File to write.
    size
        Voxels Z,Y,X of a patch a nodule, and of patches of the same scans without one; whole cases if not given.
    spacing
        Voxel size Z,Y,X of the patches in mm.
    margin
        Voxels around a nodule's patch that are kept too, for shifts and scaling.
    splits
        Whose patients; a recipe trains on train and watches val.
    hu_step
        HU are rounded to multiples of it, for a smaller file; 1 loses nothing.
    seed
        Of the places without a nodule in whole scans: the seed of the run that is to come.
    workers
        Processes; one a core if not given.
    overwrite
        Replace a file that an earlier call made.
    """
    voxels = None if size is None else parse_zyx(size, "--size", "Z,Y,X voxels, as in 24,24,24", int)
    made = api.pack(
        store,
        out,
        size=voxels,
        spacing_mm=parse_zyx(spacing, "--spacing", "Z,Y,X in mm, as in 1,1,1", float),
        margin=margin,
        splits=[part.strip() for part in splits.split(",")],
        hu_step=hu_step,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
    )
    nodules = sum(len(row["nodules"]) for row in made.rows)
    say(f"{out}: {len(made)} cases, {nodules} nodules, {out.stat().st_size / MIB:.1f} MiB")


def unpack(file: Path, *, out: Path, overwrite: bool = False) -> None:
    """A store out of what `synthorax pack` wrote.

    Parameters
    ----------
    file
        The packed file.
    out
        Store to write.
    overwrite
        Replace a store that an earlier call made.
    """
    store = api.unpack(file, out, overwrite=overwrite)
    nodules = sum(len(case.nodules) for case in store.cases)
    say(f"{out}: {len(store)} cases, {nodules} nodules, fingerprint {store.fingerprint[:16]}")
