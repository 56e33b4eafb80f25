"""The pool of painted windows of earlier steps, which critics see in place of new ones half of the time."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SWAPPED = 0.5
"""Probability with which a full pool gives an old window and keeps the new one (Shrivastava et al. 2017)."""


def exchanged(
    memory: dict[str, Tensor], name: str, made: Float[Tensor, "b ..."], size: int, random: np.random.Generator
) -> Float[Tensor, "b ..."]:
    """What a critic sees of new windows: while the pool fills they themselves, later old ones half of the time.

    Args:
        memory: of the training; the pool is its tensor `name`, as many windows as it has so far; changed.
        made: detached; `size` 0 gives them back.
        random: of the step.
    """
    if not size:
        return made
    pool = list(memory[name].unbind(0)) if name in memory else []
    seen = []
    for window in made:
        draw, at = random.random(), int(random.integers(size))
        if len(pool) < size:
            pool.append(window)
            seen.append(window)
        elif draw < SWAPPED:
            seen.append(pool[at])
            pool[at] = window
        else:
            seen.append(window)
    memory[name] = torch.stack(pool)
    return torch.stack(seen)
