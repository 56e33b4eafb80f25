"""How many nodules of which diameters a scan of LIDC-IDRI has, drawn from the annotations in the package."""

from __future__ import annotations

from functools import cache

import numpy as np

from synthorax.annotations.clustering import cluster
from synthorax.annotations.lidc_table import readings_of_scan, scans_with_readings
from synthorax.seeding import generator


def draw_lidc_diameters(seed: int) -> tuple[float, ...]:
    """Return the diameters in mm, each the mean of its readers, of all nodules of a scan of LIDC-IDRI.

    The scan is drawn evenly from those with a nodule of 3 mm or more that a reader outlined. They have three in the
    mean, and half of all have one or two.
    """
    scans = scans_with_readings()
    return _diameters(int(scans[generator(seed, "scan of LIDC-IDRI").integers(len(scans))]))


@cache
def _diameters(scan: int) -> tuple[float, ...]:
    nodules = cluster(readings_of_scan(scan))
    return tuple(float(np.mean([reading.diameter_mm for reading in nodule.readings])) for nodule in nodules)
