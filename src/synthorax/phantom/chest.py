"""A procedural chest without a scanner's blur and noise, with exact masks, on the voxels of any scan."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.phantom.anatomy import make_anatomy
from synthorax.phantom.layers import ChestPainter
from synthorax.phantom.painting import Canvas
from synthorax.phantom.raster import Grid
from synthorax.volume import Volume, check_spacing

PAINTED_VOXELS = 900_000
"""The chest is painted in slabs of about this many voxels, to limit the memory."""


@dataclass(frozen=True, eq=False)
class Chest:
    """A chest on the voxels of a scan, without the scanner's blur and noise.

    Attributes:
        hu: HU, float32 [z, y, x]; a voxel at an edge has the mean of its tissues.
        lobes: uint8 [z, y, x]; 1 to 5 are RUL, RML, RLL, LUL and LLL with their vessels and bronchi, but without the
            main bronchi and the great vessels of the hilum.
        airways: lumen of trachea and bronchi, bool [z, y, x].
        vessels: arteries and veins inside the lungs, bool [z, y, x].
        body: everything inside the skin, bool [z, y, x].
        tissues: the `anatomy.tissue.Tissue` that fills most of each voxel, uint8 [z, y, x].
    """

    hu: Volume
    lobes: NDArray[np.uint8]
    airways: NDArray[np.bool_]
    vessels: NDArray[np.bool_]
    body: NDArray[np.bool_]
    tissues: NDArray[np.uint8]


def make_chest(
    seed: int,
    *,
    shape: tuple[int, int, int] = (224, 224, 224),
    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5),
) -> Chest:
    """Make the chest of the person with this seed, in the middle of the voxels, which is the origin of the world.

    The anatomy depends on the seed alone, not on shape and spacing. Voxels outside of it are air.

    Args:
        seed: seed of the person.
        shape: voxels along (z, y, x).
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: the spacing is not three positive numbers.
    """
    check_spacing(spacing_mm)
    z, y, x = ((np.arange(n, dtype=np.float64) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True))
    painter = ChestPainter(make_anatomy(seed), seed, spacing_mm)
    voxels = np.empty(shape, np.float32)
    lobes, tissues = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    airways, vessels, body = (np.zeros(shape, np.bool_) for _ in range(3))
    planes = max(1, PAINTED_VOXELS // (shape[1] * shape[2]))

    def paint(first: int) -> None:
        slab = slice(first, first + planes)
        canvas = Canvas(
            Grid(z[slab], y, x, spacing_mm),
            voxels[slab], tissues[slab], lobes[slab], airways[slab], vessels[slab], body[slab],
        )  # fmt: skip
        painter.paint(canvas)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(paint, range(0, shape[0], planes)))
    hu = Volume(voxels, spacing_mm, (float(x[0]), float(y[0]), float(z[0])))
    return Chest(hu, lobes, airways, vessels, body, tissues)
