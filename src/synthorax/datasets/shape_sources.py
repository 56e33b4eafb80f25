"""Reading nodule shapes from LIDC-IDRI, a store, files or a set of shapes."""

from __future__ import annotations

from pathlib import Path

from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes
from synthorax.datasets.shape_files import read_shape_set
from synthorax.datasets.shape_stores import shapes_of_store
from synthorax.datasets.shapes import ShapeSet
from synthorax.datasets.store import Store, is_store
from synthorax.io.own_kinds import STORE, own_kind


def read_shapes(
    data: str | Path | Store | ShapeSet,
    grid: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    every: bool = False,
) -> ShapeSet:
    """Return nodule shapes on a grid. Nodules larger than the grid are left out and counted in a note.

    Args:
        data: `lidc` for the shapes of LIDC-IDRI; a store, of which the training patients' nodules are taken; a file or
            folder of masks; or a set, which is returned unchanged.
        grid: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x).
        every: refuse a nodule of a file that is larger than the grid.

    Raises:
        InputError: a file cannot be read, or does not fit the grid; or the store has no such nodule.
    """
    if data == "lidc":
        return cached_lidc_shapes(LidcRequest(grid=grid, spacing_mm=spacing_mm)).shapes
    if isinstance(data, Store) or (isinstance(data, str | Path) and _is_of_store(Path(data))):
        return shapes_of_store(Store.of(data), grid, spacing_mm)
    if isinstance(data, str | Path):
        return read_shape_set(Path(data), grid, spacing_mm, every=every)
    return data


def _is_of_store(path: Path) -> bool:
    """Return whether a folder has a store, finished or not."""
    return path.is_dir() and (is_store(path) or own_kind(path) == STORE)
