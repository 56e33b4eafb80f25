"""The condition vector of the network, its input in addition to the patch, the region and the outline."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from synthorax.nn.conditions import with_given

HAS_NONE, HAS_NODULE, NOT_GIVEN = -1.0, 1.0, math.nan
"""Values of `presence`: the region has no nodule, has a nodule, or neither is given to the network."""


def width_of(attributes: int) -> int:
    """Return the length of the condition vector with a number of attributes."""
    return 2 + 2 * (1 + attributes)


def flow_conditions(
    scale: Float[Tensor, " b"],
    presence: Float[Tensor, " b"],
    outlined: Bool[Tensor, " b"],
    attributes: Float[Tensor, "b a"],
) -> Float[Tensor, "b k"]:
    """Return the condition vectors; presence and each attribute have a further entry, 1 if the value is given, else 0.

    Args:
        scale: size of the patch's voxels relative to the smallest ones. It is always given.
        presence: `HAS_NODULE`, `HAS_NONE` or `NOT_GIVEN`.
        outlined: whether an outline is given; if not, an empty outline has no meaning.
        attributes: encoded attributes; NaN if not given.
    """
    marked = with_given(torch.cat([presence[:, None], attributes], 1))
    return torch.cat([scale[:, None].log2(), outlined[:, None].float(), marked], 1)


def no_condition(scale: Float[Tensor, " b"], attributes: int) -> Float[Tensor, "b k"]:
    """Return condition vectors that give the size of the voxels only.

    Args:
        scale: size of the patch's voxels relative to the smallest ones.
        attributes: number of attributes.
    """
    unknown = torch.full((len(scale), attributes), NOT_GIVEN)
    return flow_conditions(scale, torch.full_like(scale, NOT_GIVEN), torch.zeros(len(scale), dtype=torch.bool), unknown)
