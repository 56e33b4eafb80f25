"""Packing stores into compact files, and unpacking them."""

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
    """Write a store, or only the patches that a training needs, into one compact file.

    Args:
        store: store to pack.
        out: file to write.
        size: voxels (z, y, x) of the patches, one for each nodule and as many without a nodule; whole cases if None.
        spacing_mm: voxel spacing (z, y, x) of the patches.
        margin: voxels to keep around each patch, for shifts and scaling in training.
        splits: splits whose patients are packed.
        hu_step: HU are rounded to multiples of this number; 1 keeps them as they are.
        seed: seed of the places without a nodule; that of the training that will use the file.
        workers: number of processes; by default one for each core.
        overwrite: replace a file that an earlier call wrote.

    Raises:
        InputError: there is no store, it has no case of these splits, or `out` is a file that no earlier call wrote.
        OutputError: the file cannot be written.
    """
    from synthorax.datasets.pack import PackRequest, pack_store
    from synthorax.datasets.store import Store

    request = PackRequest(size, spacing_mm, margin, tuple(splits), hu_step, seed)
    return pack_store(Store.of(store), Path(out), request, workers=workers, overwrite=overwrite)


def unpack(file: str | Path, out: str | Path, *, overwrite: bool = False) -> Store:
    """Write a file of `pack` as a store. If whole cases were packed without rounding, the fingerprint is the same.

    Raises:
        InputError: the file is not a pack or is damaged, or `out` has something else.
        OutputError: the store cannot be written.
    """
    from synthorax.datasets.pack import Pack, unpack_store

    return unpack_store(Pack(Path(file)), Path(out), overwrite=overwrite)
