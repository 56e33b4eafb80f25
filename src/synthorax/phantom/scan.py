"""Scanning a procedural chest: blur, noise and rounding to int16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.scanner import Scanner
from synthorax.volume import Volume

LEAST_STORED_HU, MOST_STORED_HU = -1024, 3071
"""Range of HU in a scan of 12 bits; other values are clipped to it."""
WATER_PER_MM = 0.019
"""Attenuation of water per mm at the mean energy of a chest scan."""
MAP_MM = 8.0
"""The noise level changes over centimetres; its map is computed on voxels of about this width."""


def scan(hu: Volume, body: NDArray[np.bool_], scanner: Scanner, seed: int) -> Volume:
    """Scan a chest: blur it, and add noise that is stronger where rays take a longer way through the body.

    Args:
        hu: HU without noise, float32 [z, y, x].
        body: everything inside the skin, bool [z, y, x].
        scanner: blur, and mean noise in the body.
        seed: seed of the noise.

    Returns:
        HU, int16 [z, y, x].
    """
    made = scanner.blurred(hu.voxels, hu.spacing_mm).astype(np.float32)
    noise = scanner.noise(hu.shape, hu.spacing_mm, seed)
    noise *= loudness(hu, body)
    made += noise
    np.clip(np.rint(made, out=made), LEAST_STORED_HU, MOST_STORED_HU, out=made)
    return replace(hu, voxels=made.astype(np.int16))


def loudness(hu: Volume, body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the standard deviation of the noise at each voxel, relative to its mean in the body, float32 [z, y, x].

    The variance grows with the attenuation along the rays through a voxel; here these are the rays along x and along y.
    Modulation of the tube current compensates half of it (Gies et al. 1999).
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
    # Rays of other angles smooth the map, and lower the noise towards the skin, where they are short.
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
