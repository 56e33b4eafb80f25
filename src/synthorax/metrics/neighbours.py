"""Nearest neighbours among known patches, by features or by voxels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError
from synthorax.metrics import checks

QUERIES_AT_ONCE = 64
"""Queries that are compared at once, to limit the memory."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest known patch of each of n queries.

    Attributes:
        index: index of the nearest known patch, int64 [n].
        distance: to it, float64 [n].
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]


def nearest(queries: ArrayLike, known: ArrayLike) -> Neighbours:
    """Find the nearest row of `known` to each query by Euclidean distance.

    Args:
        queries: features [n, d].
        known: features [m, d].

    Raises:
        InputError: an array is empty, values are not finite, or the numbers of columns differ.
    """
    from sklearn.metrics import pairwise_distances_argmin

    rows, others = checks.matrix("queries", queries), checks.matrix("known features", known)
    _check_same(rows.shape[1:], others.shape[1:])
    index = pairwise_distances_argmin(rows, others).astype(np.int64)
    # The search uses |a|^2 - 2 ab + |b|^2, which rounds. The distance is taken anew, so that it is 0 for a copy.
    return Neighbours(index, np.linalg.norm(rows - others[index], axis=1))


def nearest_volume(queries: ArrayLike, known: ArrayLike, *, flips: bool = True) -> Neighbours:
    """Find the nearest volume of `known` to each query by the root mean square difference of voxels.

    Args:
        queries: [n, z, y, x].
        known: [m, z, y, x].
        flips: compare all 8 mirror images of each query.

    Raises:
        InputError: an array is empty, values are not finite, or shapes differ.
    """
    wanted, others = checks.volumes("queries", queries), checks.volumes("known volumes", known)
    _check_same(wanted.shape[1:], others.shape[1:])
    middle = others.mean()  # the products below lose digits if HU are far from 0
    wanted, flat = wanted - middle, (others - middle).reshape(len(others), -1)
    squares = np.einsum("mv,mv->m", flat, flat, dtype=np.float64)
    index, distance = np.zeros(len(wanted), np.int64), np.full(len(wanted), np.inf)
    for start in range(0, len(wanted), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        for flip in product((1, -1), repeat=3) if flips else [(1, 1, 1)]:
            z, y, x = flip
            rows = wanted[part, ::z, ::y, ::x].reshape(-1, flat.shape[1])
            best = (squares - 2.0 * (rows @ flat.T)).argmin(1)
            gap = np.sqrt(np.mean((rows - flat[best]) ** 2, 1, dtype=np.float64))
            nearer = gap < distance[part]
            index[part] = np.where(nearer, best, index[part])
            distance[part] = np.where(nearer, gap, distance[part])
    return Neighbours(index, distance)


def _check_same(found: tuple[int, ...], known: tuple[int, ...]) -> None:
    if found != known:
        raise InputError("queries", f"shape {found} each", f"{known}, the shape of the known ones")
