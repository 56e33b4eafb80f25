"""Chests that cost nothing, for tests that need lungs to be found and no more."""

import numpy as np

from synthorax.volume import Volume


def chest(seed):
    """Two ellipsoids of lung in a cylinder of tissue, with noise."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 72, 72)), indexing="ij")
    hu = np.where(x**2 + 1.4 * y**2 < 0.8, 40.0, -1000.0)
    for side in (-0.4, 0.4):
        hu[((x - side) / 0.3) ** 2 + (y / 0.55) ** 2 + (z / 0.9) ** 2 < 1] = -850
    noise = np.random.default_rng(seed).normal(0, 15, hu.shape)
    return Volume(np.rint(hu + noise).astype(np.int16), (6.0, 4.5, 4.5))
