"""The voxels that every chest of a training is put on. No torch here: configurations of networks have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChestRegion = Literal["lungs", "cube"]
"""What of a case becomes a chest: the box of its lungs, resized; or, of a cube, its middle at one spacing."""


@dataclass(frozen=True)
class ChestGrid:
    """A grid of voxels, and what of a case is put on it.

    Attributes:
        size: voxels (z, y, x).
        region: what of a case is put on them.
        cube_mm: spacing (z, y, x) of the voxels of a cube's middle; of the box of the lungs it follows from the box.
    """

    size: tuple[int, int, int]
    region: ChestRegion = "lungs"
    cube_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
