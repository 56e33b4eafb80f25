"""Balls: nodules with a known volume and width."""

import numpy as np

from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM


def ball_mask(shape, diameter_mm, spacing_mm=(1.0, 1.0, 1.0), center=None):
    """Return the mask, bool [z, y, x], of the voxels whose centres lie in a ball.

    Args:
        center: centre of the ball in voxels (z, y, x); the centre of the grid if None.
    """
    center = [(n - 1) / 2 for n in shape] if center is None else center
    axes = np.ix_(*[(np.arange(n) - c) * s for n, c, s in zip(shape, center, spacing_mm, strict=True)])
    return sum(axis**2 for axis in axes) <= (diameter_mm / 2) ** 2


def ball_stack(radii_mm=(2.5, 4, 5.5, 7)):
    """Return occupancies of balls on LuNG's grid, float32 [n, 20, 40, 40] within 0 to 1, with edges one pixel wide."""
    z, y, x = (s * (i - n // 2) for s, i, n in zip(LUNG_SPACING_MM, np.indices(LUNG_GRID), LUNG_GRID, strict=True))
    distance = np.sqrt(z**2 + y**2 + x**2)
    return np.stack([np.clip((radius - distance) / 0.7 + 0.5, 0, 1) for radius in radii_mm]).astype(np.float32)
