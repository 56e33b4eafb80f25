"""`synthorax pack` and `synthorax unpack`."""

from __future__ import annotations

from pathlib import Path

from synthorax import api
from synthorax.cli.options import Out, Overwrite, Seed, Workers, parse_zyx
from synthorax.screen import quantity, say

MIB = 2**20


def pack(
    store: Path,
    *,
    out: Out,
    size: str | None = None,
    spacing: str = "1,1,1",
    margin: int = 0,
    splits: str = "train,val,test",
    hu_step: int = 1,
    seed: Seed = 0,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Pack a store, or only the patches that a training needs, into one compact file to copy to another machine.

    `synthorax unpack` makes a store from the file. If whole cases were packed without rounding, it has the same
    fingerprint.

    Parameters
    ----------
    store
        A store, as `synthorax prepare` writes.
    out
        File to write.
    size
        Pack only patches of Z,Y,X voxels, one for each nodule and as many without a nodule; by default whole cases.
    spacing
        Voxel spacing Z,Y,X of the patches in mm.
    margin
        Voxels to keep around each patch, for shifts and scaling in training.
    splits
        Splits to pack: any of train,val,test.
    hu_step
        Round HU to multiples of this number for a smaller file; 1 keeps them as they are.
    seed
        Seed of the places without a nodule; give the seed of the training that will use the file.
    workers
        Number of processes; by default one for each core.
    overwrite
        Replace a file that an earlier call wrote.
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
    say(f"{out}: {quantity(len(made), 'case')}, {quantity(nodules, 'nodule')}, {out.stat().st_size / MIB:.1f} MiB")


def unpack(file: Path, *, out: Out, overwrite: Overwrite = False) -> None:
    """Make a store from a file that `synthorax pack` wrote.

    Parameters
    ----------
    file
        The packed file.
    out
        Store to write.
    overwrite
        Replace a store that an earlier call wrote.
    """
    store = api.unpack(file, out, overwrite=overwrite)
    nodules = sum(len(case.nodules) for case in store.cases)
    say(f"{out}: {quantity(len(store), 'case')}, {quantity(nodules, 'nodule')}, fingerprint {store.fingerprint[:16]}")
