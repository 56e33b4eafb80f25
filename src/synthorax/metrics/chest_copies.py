"""Whether made chests are copies of training chests: distances after alignment, against those of chests to each other.

All chests are the box of their lungs, which aligns them; what is left is looked for by shifts of whole voxels of a
coarse grid. A made chest that is nearer to a training chest than any chest of another patient is, is called a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.geometry import resized_box
from synthorax.volume import Volume

COPY_GRID = 24
"""Voxels along each axis of the grid on which chests are compared."""
COPY_SHIFT = 2
"""Voxels of that grid by which one of two chests is moved at most along each axis."""
COPY_WINDOW_HU = (-1000.0, 400.0)
"""HU beyond this window count as its ends."""


@dataclass(frozen=True)
class Copies:
    """How near made chests are to training chests.

    Attributes:
        made: root mean square distance in HU of each made chest to its nearest training chest, [n].
        nearest: number of that training chest, [n].
        fresh: the same distance of chests of other patients, [m].
    """

    made: NDArray[np.float64]
    nearest: NDArray[np.int64]
    fresh: NDArray[np.float64]

    @property
    def copies(self) -> NDArray[np.bool_]:
        """Which made chests are nearer to a training chest than any chest of another patient is, [n]."""
        return self.made < self.fresh.min()


def chest_copies(
    made: Sequence[NDArray[np.number]], training: Sequence[NDArray[np.number]], fresh: Sequence[NDArray[np.number]]
) -> Copies:
    """Compare made chests, and those of patients who were not trained on, with the training chests.

    Args:
        made, training, fresh: HU [z, y, x] each.

    Raises:
        InputError: none of a kind.
    """
    for name, chests in (("made chests", made), ("training chests", training), ("fresh chests", fresh)):
        if not len(chests):
            raise InputError(name, "none", "one or more")
    known = coarse(training)
    to_made, to_fresh = aligned_distances(coarse(made), known), aligned_distances(coarse(fresh), known)
    return Copies(to_made.min(1), to_made.argmin(1), to_fresh.min(1))


def coarse(chests: Sequence[NDArray[np.number]], edge: int = COPY_GRID) -> NDArray[np.float32]:
    """Chests on the grid on which they are compared, or on a cube of another edge in voxels, [n, z, y, x]."""
    found = []
    for hu in chests:
        volume = Volume(np.ascontiguousarray(hu), (1.0, 1.0, 1.0))
        found.append(resized_box(volume, (0, 0, 0), volume.shape, (edge,) * 3).voxels)
    return np.clip(np.stack(found).astype(np.float32), *COPY_WINDOW_HU)


def aligned_distances(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square distances [n, m] of volumes [n, z, y, x] and [m, z, y, x] at the best shift of the second."""
    inner = slice(COPY_SHIFT, -COPY_SHIFT)
    a = first[:, inner, inner, inner].reshape(len(first), -1).astype(np.float64)
    of_a = (a**2).sum(1)[:, None]
    best = np.full((len(first), len(second)), np.inf)
    for shift in product(range(2 * COPY_SHIFT + 1), repeat=3):
        z, y, x = (slice(s, n - 2 * COPY_SHIFT + s) for s, n in zip(shift, second.shape[1:], strict=True))
        b = second[:, z, y, x].reshape(len(second), -1).astype(np.float64)
        np.minimum(best, of_a + (b**2).sum(1) - 2 * a @ b.T, out=best)
    return np.sqrt(np.maximum(best, 0) / a.shape[1])
