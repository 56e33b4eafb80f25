"""A chest as it is, with exact truth, on the voxels of any scan."""

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
"""The chest is painted in slabs of about this many voxels, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Chest:
    """A chest as it is, before a scanner looks at it, on the voxels of a scan.

    Attributes:
        hu: float32 HU, without noise; voxels at edges hold their mixture.
        lobes: uint8 [z, y, x]: 1..5 are RUL, RML, RLL, LUL, LLL, with the vessels and bronchi in them;
            the main bronchi and the great vessels of the hilum are outside.
        airways: bool [z, y, x], lumen of trachea and bronchi.
        vessels: bool [z, y, x], arteries and veins within the lungs.
        body: bool [z, y, x], all within the skin.
        tissues: uint8 [z, y, x] of `anatomy.tissue.Tissue`, what fills most of each voxel.
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
    """The chest of a seed, its middle in the middle of the voxels and at the origin of the world.

    A seed is a person: the anatomy is the same for any shape and spacing. Voxels beyond it are air.

    Args:
        shape: voxels along (z, y, x).
        spacing_mm: (z, y, x).

    Raises:
        InputError: a spacing that is not three positive numbers.
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
