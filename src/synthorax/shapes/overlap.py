"""The Dice overlap of nodules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(masks: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice overlap [n] of each mask with the mask at the same index of `others`; 0 if both are empty.

    Args:
        masks, others: bool [n, z, y, x].

    >>> mask = np.zeros((1, 4, 4, 4), bool)
    >>> mask[:, :2] = True
    >>> dice(mask, np.ones((1, 4, 4, 4), bool)).round(3).tolist()
    [0.667]
    """
    both = (masks & others).sum((1, 2, 3))
    return 2 * both / np.maximum(masks.sum((1, 2, 3)) + others.sum((1, 2, 3)), 1)


def greatest_dice(masks: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the largest Dice overlap [n] of each mask [n, z, y, x] with any of the `known` masks [m, z, y, x]."""
    made, others = (m.reshape(len(m), -1).astype(np.float32) for m in (masks, known))
    both = made @ others.T
    return (2 * both / np.maximum(made.sum(1)[:, None] + others.sum(1), 1)).max(1)
