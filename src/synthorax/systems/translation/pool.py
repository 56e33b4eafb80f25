"""The pool of painted windows of earlier steps, which critics see instead of new ones with probability one half."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SWAPPED = 0.5
"""Probability that a full pool gives an old window and keeps the new one (Shrivastava et al. 2017)."""


def exchanged(
    memory: dict[str, Tensor], name: str, made: Float[Tensor, "b ..."], size: int, random: np.random.Generator
) -> Float[Tensor, "b ..."]:
    """Return the windows that a critic sees: new ones until the pool is full, then each with one half an old one.

    Args:
        memory: memory of the training; its tensor `name` is the pool, which is changed.
        name: name of the pool.
        made: new windows, detached.
        size: largest number of windows in the pool; 0 uses no pool and returns the new windows.
        random: random numbers of the step.
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
