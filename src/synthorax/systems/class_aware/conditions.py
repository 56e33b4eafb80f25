"""The condition of the class-aware in-painter."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from synthorax.nn.conditions import with_given


def conditions_of(malignant: Float[Tensor, " b"], attributes: Float[Tensor, "b a"]) -> Float[Tensor, "b k"]:
    """Return the condition: the class, and for each attribute its value and whether it is known.

    Args:
        malignant: 1 for malignant, -1 for benign.
        attributes: encoded (`nn.conditions`), NaN if unknown.
    """
    return torch.cat([malignant[:, None].float(), with_given(attributes)], 1)
