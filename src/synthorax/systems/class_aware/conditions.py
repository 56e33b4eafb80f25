"""What the in-painter is told, as channels beside the patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from synthorax.anatomy.morphology import distance_inside
from synthorax.nn.conditions import with_given
from synthorax.shapes.diameter import axial_diameter_mm

UNION_CHORD = 1.14
"""The longest chord of all that any reader outlined, which stores of LUNA16's nodules have as mask, in that of one
reader's outline: the median over luna16-nodules."""


def condition_maps(
    malignant: Float[Tensor, " b"],
    attributes: Float[Tensor, "b a"],
    outline: Float[Tensor, "b 1 z y x"] | None,
    size: Sequence[int],
) -> Float[Tensor, "b m z y x"]:
    """Return the condition as maps: the class, each attribute with a mark of whether it is known, and the outline.

    Args:
        malignant: 1 malignant, -1 benign.
        attributes: encoded, NaN where not known.
        outline: 1 inside the nodule; None for a network that is not told.
        size: voxels of the maps (z, y, x).
    """
    told = torch.cat([malignant[:, None].float(), with_given(attributes)], 1)
    maps = told[:, :, None, None, None].expand(-1, -1, *size)
    return maps if outline is None else torch.cat([maps, outline.to(maps.dtype)], 1)


def one_readers(
    masks: Float[Tensor, "b 1 z y x"], spacing_mm: tuple[float, float, float]
) -> Float[Tensor, "b 1 z y x"]:
    """Return masks of all that any reader outlined, shrunk to about what one reader outlined.

    A nodule that a user asks for has the diameter of its mask, and readers measure one outline.
    """
    found = [_shrunk(mask > 0, spacing_mm) for mask in masks[:, 0].numpy()]
    return torch.from_numpy(np.stack(found)).to(masks.dtype)[:, None]


def _shrunk(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """A mask [z, y, x] without the shell by which all readers' outlines reach beyond one's."""
    if not mask.any():
        return mask
    chord = axial_diameter_mm(np.argwhere(mask), spacing_mm)
    # Distances count from the middles of voxels outside, half a voxel beyond the edge.
    shell = chord / 2 * (1 - 1 / UNION_CHORD) + min(spacing_mm) / 2
    inside: NDArray[np.bool_] = distance_inside(mask, spacing_mm, border_is_outside=False) >= shell
    return inside if inside.any() else mask
