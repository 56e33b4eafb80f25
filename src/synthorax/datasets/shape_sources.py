"""Shapes by whatever names them."""

from __future__ import annotations

from pathlib import Path

from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes
from synthorax.datasets.shape_files import read_shape_set
from synthorax.datasets.shapes import ShapeSet


def read_shapes(
    data: str | Path | ShapeSet, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> ShapeSet:
    """The shapes that `data` names, on the grid: `lidc`, a file or folder of masks, or a set as it is.

    Raises:
        InputError: files that cannot be read or do not fit.
    """
    if data == "lidc":
        return cached_lidc_shapes(LidcRequest(grid=grid, spacing_mm=spacing_mm)).shapes
    if isinstance(data, str | Path):
        return read_shape_set(Path(data), grid, spacing_mm)
    return data
