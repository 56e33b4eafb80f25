"""Reading nodule shapes from LIDC-IDRI, files or a set of shapes."""

from __future__ import annotations

from pathlib import Path

from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes
from synthorax.datasets.shape_files import read_shape_set
from synthorax.datasets.shapes import ShapeSet


def read_shapes(
    data: str | Path | ShapeSet, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> ShapeSet:
    """Return nodule shapes on a grid.

    Args:
        data: `lidc` for the shapes of LIDC-IDRI; a file or folder of masks; or a set, which is returned unchanged.
        grid: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: a file cannot be read, or does not fit the grid.
    """
    if data == "lidc":
        return cached_lidc_shapes(LidcRequest(grid=grid, spacing_mm=spacing_mm)).shapes
    if isinstance(data, str | Path):
        return read_shape_set(Path(data), grid, spacing_mm)
    return data
