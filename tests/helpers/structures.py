"""A scan of noise with a ball in it, as a mask and as contours."""

import numpy as np

from synthorax.volume import Volume
from tests.helpers.balls import ball_mask
from tests.helpers.foreign_files import circle

SHAPE = (12, 40, 42)
SPACING = (2.0, 1.0, 1.0)


def lung(seed=0):
    """Return a scan of noise with the HU of lung, [z, y, x], of `SHAPE`."""
    hu = np.random.default_rng(seed).normal(-850, 10, SHAPE)
    return Volume(np.rint(hu).astype(np.int16), SPACING, (-20.0, -20.0, 100.0))


def ball(radius, center=(6, 20, 15)):
    """Return the mask of a ball in the scan: radius in mm, centre in voxels (z, y, x)."""
    return ball_mask(SHAPE, 2 * radius, SPACING, center)


def drawn_ball(cx, cy, cz, r):
    """Return the contours of a ball around a point in mm, one for each slice that it crosses."""
    return [
        circle(cx, cy, np.sqrt(r * r - (z - cz) ** 2), z) for z in 100 + 2.0 * np.arange(12) if abs(z - cz) < r - 0.3
    ]


NODULE = drawn_ball(-5, 0, 112, 6)
"""Contours of a ball of 6 mm radius about the place of `ball`."""
