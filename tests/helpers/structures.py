"""A scan of noise with a ball in it, as a mask and as contours."""

import numpy as np

from synthorax.volume import Volume
from tests.helpers.foreign_files import circle

SHAPE = (12, 40, 42)
SPACING = (2.0, 1.0, 1.0)


def lung(seed=0):
    hu = np.random.default_rng(seed).normal(-850, 10, SHAPE)
    return Volume(np.rint(hu).astype(np.int16), SPACING, (-20.0, -20.0, 100.0))


def ball(radius, center=(6, 20, 15)):
    z, y, x = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    return ((z - center[0]) * 2.0) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 <= radius**2


def drawn_ball(cx, cy, cz, r):
    return [
        circle(cx, cy, np.sqrt(r * r - (z - cz) ** 2), z) for z in 100 + 2.0 * np.arange(12) if abs(z - cz) < r - 0.3
    ]


NODULE = drawn_ball(-5, 0, 112, 6)
