"""The grid to which all chests of a training are resampled. Free of torch, since configurations of networks use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChestRegion = Literal["lungs", "cube"]
"""The part of a case that becomes a chest: the box of the lungs, resized; or the middle of a cube, at one spacing."""


@dataclass(frozen=True)
class ChestGrid:
    """A grid of voxels, and the part of a case that is resampled to it.

    Attributes:
        size: voxels (z, y, x).
        region: part of a case.
        cube_mm: voxel size (z, y, x) for cubes; for lungs it follows from the size of their box.
    """

    size: tuple[int, int, int]
    region: ChestRegion = "lungs"
    cube_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
