"""Nodule shapes on the grid of an in-painter that takes outlines: the mask is known before the nodule is made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.rendering.renderer import outlined, placed
from synthorax.rendering.shapes import Shape, ShapeSource
from synthorax.seeding import derive, generator
from synthorax.volume import Volume

CUT_SHARE = 0.02
"""A shape is reported if a larger share of it than this lies outside the ball that may change."""


class GridShape(NamedTuple):
    """A shape on a grid.

    Attributes:
        mask: mask within the ball that may change, bool [z, y, x].
        shape: the shape from its source.
        notes: notes of the source, and a note if voxels were cut off.
    """

    mask: NDArray[np.bool_]
    shape: Shape
    notes: tuple[str, ...]


def shape_on_grid(
    source: ShapeSource, wanted: NoduleAttributes, spec: PatchSpec, ball: NDArray[np.bool_], seed: int
) -> GridShape:
    """Return a shape with the requested attributes and diameter, placed in the middle voxel of a patch.

    Args:
        source: source of shapes.
        wanted: requested attributes, with a diameter.
        spec: grid of the patch.
        ball: the ball that may change, bool [z, y, x]; the shape is cut off outside it.
        seed: seed of the shape, its turning and mirroring.
    """
    shape = source(wanted, derive(seed, "outline"))
    grid = Volume(np.zeros(spec.size, np.float32), spec.spacing_mm)
    assert wanted.diameter_mm is not None
    whole = outlined(placed(shape.mask, grid, wanted.diameter_mm, generator(seed, "outline")), grid)
    return _cut_to(ball, whole, shape)


def mask_on_grid(mask: NDArray[np.bool_], spec: PatchSpec, ball: NDArray[np.bool_]) -> GridShape:
    """Return a given mask on a patch as a shape, neither scaled nor turned.

    Args:
        mask: the mask on the grid of the patch, bool [z, y, x].
        spec: grid of the patch.
        ball: the ball that may change, bool [z, y, x]; the shape is cut off outside it.
    """
    return _cut_to(ball, mask, Shape(Volume(mask, spec.spacing_mm)))


def _cut_to(ball: NDArray[np.bool_], whole: NDArray[np.bool_], shape: Shape) -> GridShape:
    mask = whole & ball
    notes = shape.notes
    if (cut := 1 - mask.sum() / max(whole.sum(), 1)) > CUT_SHARE and whole.any():
        notes = (*notes, f"{cut:.0%} of the shape's voxels lie outside the edit region, and were cut off")
    return GridShape(mask, shape, notes)
