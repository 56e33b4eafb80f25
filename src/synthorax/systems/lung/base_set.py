"""LuNG's base set, and the maps between occupancy and its network's grey values (LuNG's paper, III-A)."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.shapes.reconnection import ON_LEAST, ON_THRESHOLD
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.depth import signed_depth, soft_field

CUTOFF = 0.225
"""Lower occupancies, which a half-pixel shift produces, are background."""
OCCUPANCY_LEAST = 0.25
"""Least occupancy of a nodule's voxel."""
LIFT = ON_LEAST - OCCUPANCY_LEAST
"""Added to the occupancy of a nodule's voxel in the network's input, to separate it from the background."""


def base_set(occupancy: NDArray[np.float32], *, reflected: bool = True) -> NDArray[np.float32]:
    """Return the training samples made from seed nodules: their 8 reflections, each also shifted by half a pixel.

    Args:
        occupancy: [n, z, y, x], values 0 to 1.
        reflected: make the reflections; with many nodules, a small latent space cannot hold them.

    Returns:
        The network's inputs (`to_input`), [16 n, z, y, x], or [2 n, z, y, x] without reflections. The samples of a
        nodule are adjacent, the nodule itself first; each sample is followed by its shifted variant.
    """
    variants = to_input(np.stack([occupancy, half_pixel_shift(occupancy)], axis=1))
    signs = list(product((1, -1), repeat=3))[: 8 if reflected else 1]
    samples = np.empty((len(occupancy), len(signs), *variants.shape[1:]), np.float32)
    for i, (z, y, x) in enumerate(signs):
        samples[:, i] = variants[..., ::z, ::y, ::x]
    return samples.reshape(-1, *occupancy.shape[1:])


def learned_fields(grey: NDArray[np.float32], config: LungConfig) -> NDArray[np.float32]:
    """Return the network's targets for grey values [n, z, y, x]: the grey values, or soft fields of the same shapes."""
    if config.field_edge_mm is None:
        return grey
    return soft_field(signed_depth(grey, config.spacing_mm), config.field_edge_mm)


def half_pixel_shift(occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a stack [..., y, x] shifted by half a pixel in x and y: the mean of each voxel and three neighbours."""
    before = np.pad(occupancy, [(0, 0)] * (occupancy.ndim - 2) + [(1, 0), (1, 0)])
    total = before[..., 1:, 1:] + before[..., 1:, :-1] + before[..., :-1, 1:] + before[..., :-1, :-1]
    return total / np.float32(4)


def to_input(occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map occupancy to the network's grey values: 0, or `ON_LEAST` to 1."""
    lifted = np.minimum(1, np.maximum(OCCUPANCY_LEAST, occupancy) + np.float32(LIFT))
    return np.where(occupancy < CUTOFF, np.float32(0), lifted).astype(np.float32)


def to_occupancy(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map the network's grey values back to occupancy: 0, or `OCCUPANCY_LEAST` to about 0.6."""
    lowered = np.maximum(output, np.float32(ON_LEAST)) - np.float32(LIFT)
    return np.where(output < ON_THRESHOLD, np.float32(0), lowered).astype(np.float32)


def repair_inverted(fields: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Invert fields with a dark nodule on a bright background.

    A field counts as inverted if both ends of any of its four space diagonals are on.

    Returns:
        The fields [n, z, y, x], and whether each was inverted, bool [n].
    """
    inverted = np.zeros(len(fields), bool)
    for y, x in product((0, -1), repeat=2):
        inverted |= (fields[:, 0, y, x] > ON_THRESHOLD) & (fields[:, -1, -1 - y, -1 - x] > ON_THRESHOLD)
    return np.where(inverted[:, None, None, None], 1 - fields, fields), inverted


def check_seeds(occupancy: NDArray[np.floating], grid: tuple[int, int, int], subject: object) -> None:
    """Refuse an array that is not a stack of nodules on the grid.

    Args:
        occupancy: [n, z, y, x].
        grid: voxels (z, y, x) of the model.
        subject: name of the data in an error.

    Raises:
        InputError: the shape is wrong, values are not from 0 to 1, or a nodule is empty.
    """
    if occupancy.ndim != 4 or occupancy.shape[1:] != grid:
        raise InputError(subject, f"shape {occupancy.shape}", f"[n, {', '.join(map(str, grid))}] of the model's grid")
    if not len(occupancy):
        raise InputError(subject, "no nodule", "at least one nodule")
    if not np.isfinite(occupancy).all():
        raise InputError(subject, "NaN or infinite voxels", "numbers from 0 to 1")
    if occupancy.min() < 0 or occupancy.max() > 1:
        raise InputError(subject, f"values from {occupancy.min():g} to {occupancy.max():g}", "numbers from 0 to 1")
    if len(empty := np.flatnonzero(~(occupancy >= CUTOFF).any((1, 2, 3)))):
        raise InputError(subject, f"nodule {empty[0]} with no voxel of {CUTOFF} or more", "a nodule in each row")
