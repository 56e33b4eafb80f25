"""What the in-painter is told beside the patch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from synthorax.nn.conditions import with_given


def conditions_of(malignant: Float[Tensor, " b"], attributes: Float[Tensor, "b a"]) -> Float[Tensor, "b k"]:
    """Return the condition: the class, and each attribute with a mark of whether it is known.

    Args:
        malignant: 1 malignant, -1 benign.
        attributes: encoded, NaN where not known.
    """
    return torch.cat([malignant[:, None].float(), with_given(attributes)], 1)
