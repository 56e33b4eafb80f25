"""Simple synthetic chests, made in milliseconds, in which the lungs can be segmented."""

import numpy as np

from synthorax.anatomy.tissue import TissueClass
from synthorax.volume import Volume


def chest_of_two_lungs():
    """Return HU of a trunk with two ellipsoids of lung, in voxels of 4 mm around (0, 0, 0) mm.

    One lung has its centre near (-70, 0, 0) mm.
    """
    step = 4.0
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n in (60, 64, 96)], indexing="ij")
    lungs = (z / 100) ** 2 + (y / 70) ** 2 + ((abs(x) - 70) / 45) ** 2 <= 1
    hu = np.where((y / 110) ** 2 + (x / 160) ** 2 <= 1, np.where(lungs, -850, 40), -1000)
    hu = hu + np.random.default_rng(0).normal(0, 10, hu.shape)
    first = tuple(-(n - 1) / 2 * step for n in reversed(hu.shape))
    return Volume(np.rint(hu).astype(np.int16), (step,) * 3, first)


def small_chest(seed):
    """Return HU of a smaller trunk with two ellipsoids of lung, in voxels of 6 x 4.5 x 4.5 mm; the seed draws noise."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 72, 72)), indexing="ij")
    hu = np.where(x**2 + 1.4 * y**2 < 0.8, 40.0, -1000.0)
    for side in (-0.4, 0.4):
        hu[((x - side) / 0.3) ** 2 + (y / 0.55) ** 2 + (z / 0.9) ** 2 < 1] = -850
    noise = np.random.default_rng(seed).normal(0, 15, hu.shape)
    return Volume(np.rint(hu + noise).astype(np.int16), (6.0, 4.5, 4.5))


def labels_of_two_lungs():
    """Return the label map of `chest_of_two_lungs`, derived without noise."""
    ct = chest_of_two_lungs()
    body = np.broadcast_to(_trunk(ct), ct.shape)
    classes = np.where(body, np.where(ct.voxels < -400, TissueClass.OTHER, TissueClass.SOFT), TissueClass.OUTSIDE)
    return Volume(classes.astype(np.uint8), ct.spacing_mm, ct.origin_mm)


def _trunk(ct):
    """Return the elliptical trunk of a chest, bool [1, y, x]."""
    x, y, _ = np.moveaxis(ct.to_world(np.stack(np.indices((1, *ct.shape[1:])), -1)), -1, 0)
    return (y / 110) ** 2 + (x / 160) ** 2 <= 1
