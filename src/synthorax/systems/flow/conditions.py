"""What the network is told beside the patch, its region and an outline."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from synthorax.nn.conditions import with_given

HAS_NONE, HAS_NODULE, NOT_TOLD = -1.0, 1.0, math.nan
"""Whether there is a nodule in the region."""


def width_of(attributes: int) -> int:
    """Numbers of a condition with some attributes."""
    return 2 + 2 * (1 + attributes)


def flow_conditions(
    scale: Float[Tensor, " b"],
    presence: Float[Tensor, " b"],
    outlined: Bool[Tensor, " b"],
    attributes: Float[Tensor, "b a"],
) -> Float[Tensor, "b k"]:
    """Return the condition; presence and each attribute come with a mark of whether they are told.

    Args:
        scale: how many times as large as the smallest ones the patch's voxels are. It is always told.
        presence: `HAS_NODULE`, `HAS_NONE` or `NOT_TOLD`.
        outlined: whether an outline is told; if not, an outline without a voxel says nothing.
        attributes: encoded, NaN where not told.
    """
    marked = with_given(torch.cat([presence[:, None], attributes], 1))
    return torch.cat([scale[:, None].log2(), outlined[:, None].float(), marked], 1)


def nothing_told(scale: Float[Tensor, " b"], attributes: int) -> Float[Tensor, "b k"]:
    """Return the condition that tells nothing but the size of the voxels."""
    unknown = torch.full((len(scale), attributes), NOT_TOLD)
    return flow_conditions(scale, torch.full_like(scale, NOT_TOLD), torch.zeros(len(scale), dtype=torch.bool), unknown)
