"""LuNG's base set and the maps of grey values in and out of its network (section III-A)."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.shapes.reconnection import ON_LEAST, ON_THRESHOLD
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.depth import signed_depth, soft_field

CUTOFF = 0.225
"""Occupancies below are background; a half-pixel shift makes such values."""
OCCUPANCY_LEAST = 0.25
"""Least occupancy of a nodule voxel."""
LIFT = ON_LEAST - OCCUPANCY_LEAST
"""What the input map adds to a nodule voxel, to set it well apart from the background."""


def base_set(occupancy: NDArray[np.float32], *, reflected: bool = True) -> NDArray[np.float32]:
    """The training samples of some seeds: 8 reflections, each as it is and shifted by half a pixel.

    Args:
        occupancy: [n, z, y, x], values 0 to 1.
        reflected: make the reflections; of many nodules they are too much for few latent numbers.

    Returns:
        [16 n, z, y, x], or [2 n, z, y, x] without reflections, already through `to_input`. The samples of
        a seed are adjacent, its own first, and each is followed by its shifted variant.
    """
    variants = to_input(np.stack([occupancy, half_pixel_shift(occupancy)], axis=1))
    signs = list(product((1, -1), repeat=3))[: 8 if reflected else 1]
    samples = np.empty((len(occupancy), len(signs), *variants.shape[1:]), np.float32)
    for i, (z, y, x) in enumerate(signs):
        samples[:, i] = variants[..., ::z, ::y, ::x]
    return samples.reshape(-1, *occupancy.shape[1:])


def learned_fields(grey: NDArray[np.float32], config: LungConfig) -> NDArray[np.float32]:
    """What the network learns grey values [n, z, y, x] as: themselves, or soft fields of the same shapes."""
    if config.field_edge_mm is None:
        return grey
    return soft_field(signed_depth(grey, config.spacing_mm), config.field_edge_mm)


def half_pixel_shift(occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The stack [..., y, x] moved by half a pixel in x and y: means of a voxel and its -x, -y, -xy neighbours."""
    before = np.pad(occupancy, [(0, 0)] * (occupancy.ndim - 2) + [(1, 0), (1, 0)])
    total = before[..., 1:, 1:] + before[..., 1:, :-1] + before[..., :-1, 1:] + before[..., :-1, :-1]
    return total / np.float32(4)


def to_input(occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Occupancy to the network's grey values: 0, or `ON_LEAST` to 1."""
    lifted = np.minimum(1, np.maximum(OCCUPANCY_LEAST, occupancy) + np.float32(LIFT))
    return np.where(occupancy < CUTOFF, np.float32(0), lifted).astype(np.float32)


def to_occupancy(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network's grey values back to occupancy: 0, or `OCCUPANCY_LEAST` to about 0.6."""
    lowered = np.maximum(output, np.float32(ON_LEAST)) - np.float32(LIFT)
    return np.where(output < ON_THRESHOLD, np.float32(0), lowered).astype(np.float32)


def repair_inverted(fields: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Turn fields of a dark nodule on a bright ground the right way round.

    A field is inverted if both ends of any of its four body diagonals are on.

    Returns:
        The fields [n, z, y, x] and which of them [n] were inverted.
    """
    inverted = np.zeros(len(fields), bool)
    for y, x in product((0, -1), repeat=2):
        inverted |= (fields[:, 0, y, x] > ON_THRESHOLD) & (fields[:, -1, -1 - y, -1 - x] > ON_THRESHOLD)
    return np.where(inverted[:, None, None, None], 1 - fields, fields), inverted


def check_seeds(occupancy: NDArray[np.floating], grid: tuple[int, int, int], subject: object) -> None:
    """Refuse what is no stack of seeds for the grid.

    Raises:
        InputError: wrong shape or dtype, NaN, values outside 0 to 1, or an empty nodule.
    """
    if occupancy.ndim != 4 or occupancy.shape[1:] != grid:
        raise InputError(subject, f"shape {occupancy.shape}", f"[n, {', '.join(map(str, grid))}] of the model's grid")
    if not len(occupancy):
        raise InputError(subject, "no nodule", "at least one")
    if not np.isfinite(occupancy).all():
        raise InputError(subject, "NaN or infinite voxels", "numbers from 0 to 1")
    if occupancy.min() < 0 or occupancy.max() > 1:
        raise InputError(subject, f"values from {occupancy.min():g} to {occupancy.max():g}", "numbers from 0 to 1")
    if len(empty := np.flatnonzero(~(occupancy >= CUTOFF).any((1, 2, 3)))):
        raise InputError(subject, f"nodule {empty[0]} with no voxel of {CUTOFF} or more", "a nodule in each row")
