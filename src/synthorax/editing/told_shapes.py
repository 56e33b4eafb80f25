"""Shapes on the grid of an in-painter that is told them: the segmentation is known before the nodule is made."""

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
"""A shape of which more than this part lies beyond the ball that may change is reported."""


class ToldShape(NamedTuple):
    """A shape on a grid.

    Attributes:
        mask: bool [z, y, x], inside the ball that may change.
        shape: as its source gave it.
        notes: the source's, and whether voxels were cut off.
    """

    mask: NDArray[np.bool_]
    shape: Shape
    notes: tuple[str, ...]


def told_shape(
    source: ShapeSource, wanted: NoduleAttributes, spec: PatchSpec, ball: NDArray[np.bool_], seed: int
) -> ToldShape:
    """Return a shape of a nodule like the one wanted, of its diameter, in the middle voxel of a patch.

    Args:
        wanted: its diameter is given.
        ball: bool [z, y, x], beyond which the shape is cut off.
    """
    shape = source(wanted, derive(seed, "outline"))
    grid = Volume(np.zeros(spec.size, np.float32), spec.spacing_mm)
    assert wanted.diameter_mm is not None
    whole = outlined(placed(shape.mask, grid, wanted.diameter_mm, generator(seed, "outline")), grid)
    return _cut_to(ball, whole, shape)


def told_mask(mask: NDArray[np.bool_], spec: PatchSpec, ball: NDArray[np.bool_]) -> ToldShape:
    """Return a nodule's own mask on a patch as its shape, neither scaled nor turned.

    Args:
        mask: bool [z, y, x] on the grid of the patch.
        ball: bool [z, y, x], beyond which the shape is cut off.
    """
    return _cut_to(ball, mask, Shape(Volume(mask, spec.spacing_mm)))


def _cut_to(ball: NDArray[np.bool_], whole: NDArray[np.bool_], shape: Shape) -> ToldShape:
    mask = whole & ball
    notes = shape.notes
    if (cut := 1 - mask.sum() / max(whole.sum(), 1)) > CUT_SHARE and whole.any():
        notes = (*notes, f"{cut:.0%} of the shape's voxels lie beyond what the method may change, and were cut off")
    return ToldShape(mask, shape, notes)
