"""Shapes half-way between two nodules, as training targets for latent vectors between the seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from synthorax.shapes.reconnection import ON_LEAST
from synthorax.systems.lung.depth import signed_depth, soft_field

CANDIDATES = 16
"""Neighbours are searched among this many nearest nodules in the latent space."""


def neighbour_pairs(latents: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the pairs [p, 2] of nodules without a third between them (Gabriel and Sokal 1969), each pair once.

    Args:
        latents: latent vectors of the nodules, [n, latent].
    """
    count = min(CANDIDATES, len(latents) - 1)
    if not count:
        return np.zeros((0, 2), np.int64)
    tree = cKDTree(latents)
    _, nearest = tree.query(latents, count + 1)
    own = np.repeat(np.arange(len(latents)), count + 1)
    pairs = np.unique(np.sort(np.stack([own, nearest.ravel()], axis=1), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    gap = np.linalg.norm(latents[pairs[:, 0]] - latents[pairs[:, 1]], axis=1)
    to_nearest, _ = tree.query(latents[pairs].mean(1))
    return pairs[to_nearest >= gap / 2 * (1 - 1e-6)]


def morph(
    fields: NDArray[np.float32],
    pairs: NDArray[np.int64],
    spacing_mm: tuple[float, float, float],
    thickening_mm: float,
    edge_mm: float | None = None,
) -> NDArray[np.float32]:
    """Return the mean shape of each pair of nodules (shape-based interpolation, Raya and Udupa 1990).

    Args:
        fields: grey values, or soft fields if `edge_mm` is given, [n, z, y, x].
        pairs: rows of `fields`, [p, 2].
        spacing_mm: voxel size (z, y, x).
        thickening_mm: added all around, because the mean shape of two thin nodules may have no voxel at all.
        edge_mm: edge width of soft fields; None for grey values.

    Returns:
        Fields of the same kind, [p, z, y, x].
    """
    depth = signed_depth(fields, spacing_mm)
    made = np.zeros((len(pairs), *fields.shape[1:]), np.float32)
    for field, (one, other) in zip(made, pairs, strict=True):
        between = (depth[one] + depth[other]) / 2 + np.float32(thickening_mm)
        if edge_mm is None:
            inside = between > 0
            field[inside] = np.maximum((fields[one] + fields[other])[inside] / 2, ON_LEAST)
        else:
            field[:] = soft_field(between, edge_mm)
    return made
