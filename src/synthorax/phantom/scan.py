"""A chest as a scanner shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.scanner import Scanner
from synthorax.volume import Volume

LEAST_STORED_HU, MOST_STORED_HU = -1024, 3071
"""Range of HU that a scan of 12 bits stores; other values are clipped to it."""
WATER_PER_MM = 0.019
"""Attenuation at the mean energy of a chest scan."""
MAP_MM = 8.0
"""Noise changes over centimetres; its map is made on voxels about so wide."""


def scan(hu: Volume, body: NDArray[np.bool_], scanner: Scanner, seed: int) -> Volume:
    """A noise-free chest in HU as an int16 scan: blurred, then noisy as its paths through the body are long.

    Args:
        hu: float32 [z, y, x].
        body: bool [z, y, x], what is inside the skin.
        scanner: its blur and its mean noise in the body.
        seed: of the noise.
    """
    made = scanner.blurred(hu.voxels, hu.spacing_mm).astype(np.float32)
    noise = scanner.noise(hu.shape, hu.spacing_mm, seed)
    noise *= loudness(hu, body)
    made += noise
    np.clip(np.rint(made, out=made), LEAST_STORED_HU, MOST_STORED_HU, out=made)
    return replace(hu, voxels=made.astype(np.int16))


def loudness(hu: Volume, body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How loud the noise is at each voxel [z, y, x], about 1 in the mean of the body.

    Its variance grows with the attenuation on the rays through a place, here those straight across and
    straight through, half of it compensated by the modulation of the tube's current (Gies et al. 1999).
    """
    step = [max(1, round(MAP_MM / s)) for s in hu.spacing_mm]
    some = tuple(slice(n // 2, None, n) for n in step)
    if min(len(range(*s.indices(n))) for s, n in zip(some, hu.shape, strict=True)) == 0:
        return np.ones(hu.shape, np.float32)
    inside = body[some]
    water = np.clip(hu.voxels[some] / 1000 + 1, 0, 2.5) * inside
    power = np.zeros(inside.shape, np.float32)
    for axis in (1, 2):
        length_mm = water.sum(axis, keepdims=True) * step[axis] * hu.spacing_mm[axis]
        power += np.exp(WATER_PER_MM * 0.5 * np.minimum(length_mm, 420))
    # The rays of all other angles spread it; towards the skin they are short.
    smooth = gaussian_filter(np.sqrt(power) * (0.45 + 0.55 * gaussian_filter(inside.astype(np.float32), (0, 5, 5))), 2)
    mean = float(smooth[inside].mean()) if inside.any() else float(smooth.mean())
    coarse = np.clip(smooth / max(mean, 1e-6), 0.4, 2.5).astype(np.float32)
    found = coarse
    for axis, (n, every) in enumerate(zip(hu.shape, step, strict=True)):
        place = np.clip((np.arange(n) - every // 2) / every, 0, coarse.shape[axis] - 1)
        first = np.minimum(place.astype(int), max(coarse.shape[axis] - 2, 0))
        after = np.minimum(first + 1, coarse.shape[axis] - 1)
        shape = [1, 1, 1]
        shape[axis] = n
        weight = (place - first).astype(np.float32).reshape(shape)
        found = np.take(found, first, axis) * (1 - weight) + np.take(found, after, axis) * weight
    return found
