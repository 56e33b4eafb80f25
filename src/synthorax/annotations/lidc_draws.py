"""Drawing the number and the diameters of a scan's nodules from the annotations of LIDC-IDRI in the package."""

from __future__ import annotations

from functools import cache

import numpy as np

from synthorax.annotations.clustering import cluster
from synthorax.annotations.lidc_table import readings_of_scan, scans_with_readings
from synthorax.seeding import generator


def draw_lidc_diameters(seed: int) -> tuple[float, ...]:
    """Return the diameters in mm of all nodules of a randomly drawn scan of LIDC-IDRI, each the mean over its readers.

    The scan is drawn from the scans with at least one outlined nodule of 3 mm or more. On average they have three
    nodules; half of them have one or two.
    """
    scans = scans_with_readings()
    return _diameters(int(scans[generator(seed, "scan of LIDC-IDRI").integers(len(scans))]))


@cache
def _diameters(scan: int) -> tuple[float, ...]:
    nodules = cluster(readings_of_scan(scan))
    return tuple(float(np.mean([reading.diameter_mm for reading in nodule.readings])) for nodule in nodules)
