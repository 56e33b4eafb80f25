"""Arranging nodules in the latent cube so that neighbours are alike and no part of the cube is empty.

The published training leaves the arrangement to chance. Samples are drawn uniformly from the cube, so that a good
arrangement has the same density of nodules everywhere, and neighbours of similar shape. That is a quadratic assignment
of nodules to evenly spread places, which minimises the sum over near places of the distance between their nodules.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from scipy.spatial.distance import cdist
from scipy.stats import qmc

from synthorax.seeding import derive, generator

REACH = 0.97
"""Largest coordinate of a place on every axis; below 1, because the latent layer's tanh does not reach 1."""
BLUR_MM = 0.7
"""Standard deviation of the Gaussian that blurs nodules before they are compared, so that small shifts count little."""
NEARNESS = 2 / 3
"""Standard deviation of the neighbourhood in which nodules should be alike, in mean distances between places."""
LANDMARKS = 512
"""Most nodules of the quadratic assignment; further nodules are placed near the landmarks most similar to them."""
ALIKE_LANDMARKS = 3
"""The wanted place of a nodule that is no landmark is the mean place of this many most similar landmarks."""


def arrange(
    fields: NDArray[np.float32], latent_size: int, spacing_mm: tuple[float, float, float], seed: int
) -> NDArray[np.float64]:
    """Return a place in the latent cube for each nodule.

    Args:
        fields: grey values [n, z, y, x].
        latent_size: axes of the latent cube.
        spacing_mm: voxel size (z, y, x).
        seed: seed of the places.

    Returns:
        float64 [n, latent], from -`REACH` to `REACH` on every axis.
    """
    blurred = np.stack([gaussian_filter(field, [BLUR_MM / edge for edge in spacing_mm]) for field in fields])
    vectors = blurred.reshape(len(fields), -1)
    if len(fields) <= LANDMARKS:
        return _assign(_distances(vectors, vectors), latent_size, seed)
    landmarks = generator(seed, "landmarks").permutation(len(fields))[:LANDMARKS]
    distances = _distances(vectors, vectors[landmarks])
    places = _assign(distances[landmarks], latent_size, seed)
    alike = np.argsort(distances, axis=1)[:, :ALIKE_LANDMARKS]
    weights = 1 / (np.take_along_axis(distances, alike, 1) + 1e-3)
    wanted = (places[alike] * weights[..., None]).sum(1) / weights.sum(1, keepdims=True)
    spread = _spread(len(fields), latent_size, seed)
    _, chosen = linear_sum_assignment(cdist(wanted, spread, "sqeuclidean"))
    return spread[chosen]


def _distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean distances [n, m] between vectors [n, v] and [m, v], by one matrix product."""
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0)).astype(np.float64)


def _assign(distances: NDArray[np.float64], latent_size: int, seed: int) -> NDArray[np.float64]:
    """The places of nodules with distances [n, n]: by FAQ (Vogelstein 2015), then by exchanges of two nodules."""
    n = len(distances)
    places = _spread(n, latent_size, seed)
    width = NEARNESS * 2 * REACH / n ** (1 / latent_size)
    near = np.exp(-cdist(places, places, "sqeuclidean") / (2 * width**2))
    np.fill_diagonal(near, 0)
    options = {"rng": np.random.default_rng(derive(seed, "arrangement")), "maxiter": 60}
    at = quadratic_assignment(near, distances, method="faq", options=options).col_ind
    while True:
        here = distances[np.ix_(at, at)]
        cost = near @ here
        own = np.diag(cost)
        gain = own[:, None] + own[None] - cost - cost.T - 2 * near * here
        first, second = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[first, second] <= 1e-9:
            break
        at[[first, second]] = at[[second, first]]
    arranged = np.empty_like(places)
    arranged[at] = places
    return arranged


def _spread(n: int, latent_size: int, seed: int) -> NDArray[np.float64]:
    """`n` places that fill the cube evenly, a Sobol sequence."""
    sequence = qmc.Sobol(latent_size, rng=np.random.default_rng(derive(seed, "places")))
    return (2 * sequence.random_base2(max(n - 1, 1).bit_length())[:n] - 1) * REACH
