"""Stores made small enough to carry, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthorax.datasets.pack import Pack
    from synthorax.datasets.store import Store


def pack(
    store: str | Path | Store,
    out: str | Path,
    *,
    size: tuple[int, int, int] | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    margin: int = 0,
    splits: Sequence[str] = ("train", "val", "test"),
    hu_step: int = 1,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
) -> Pack:
    """Write a store's cases, or only the patches that a recipe needs of them, into one compact file.

    Args:
        size: voxels (z, y, x) of a patch a nodule, and of patches without one; whole cases if not given.
        spacing_mm: of the patches' voxels (z, y, x).
        margin: voxels around a nodule's patch that are kept too.
        splits: whose patients.
        hu_step: HU are rounded to multiples of it; 1 loses nothing.
        seed: of the places without a nodule in whole scans.
        workers: processes; one a core if not given.

    Raises:
        InputError: no store, nothing of those splits in it, or a file that no earlier call made.
        OutputError: the file cannot be written.
    """
    from synthorax.datasets.pack import PackRequest, pack_store
    from synthorax.datasets.store import Store

    request = PackRequest(size, spacing_mm, margin, tuple(splits), hu_step, seed)
    return pack_store(Store.of(store), Path(out), request, workers=workers, overwrite=overwrite)


def unpack(file: str | Path, out: str | Path, *, overwrite: bool = False) -> Store:
    """Write what `pack` packed as a store; the same store, by fingerprint, where it was packed whole.

    Raises:
        InputError: no pack, a damaged one, or a folder that holds something else.
        OutputError: the store cannot be written.
    """
    from synthorax.datasets.pack import Pack, unpack_store

    return unpack_store(Pack(Path(file)), Path(out), overwrite=overwrite)
