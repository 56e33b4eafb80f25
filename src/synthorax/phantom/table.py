"""The table on which the patient lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.tissue import Tissue
from synthorax.phantom.lattice import HALF_MM, PITCH_MM, Field
from synthorax.phantom.raster import Grid

HALF_WIDTH_MM, HOLLOW_MM, MATTRESS_MM, HEIGHT_MM, TABLE_SHELL_MM = 215.0, 700.0, 8.0, 34.0, 2.2
MATTRESS_HU, FOAM_HU, TABLE_SHELL_HU = -930.0, -960.0, -350.0


@dataclass(frozen=True)
class Table:
    """A carbon shell filled with foam, concave on the patient's side, and a mattress on it.

    Attributes:
        top_mm: world y of the lowest point of its upper side.
    """

    top_mm: float

    @classmethod
    def under(cls, skin: Field) -> Table:
        """Return the table under a body, at the height of its back beside the lungs."""
        middle = skin[len(skin) // 3 : -len(skin) // 3]
        rows = np.flatnonzero((middle < 0).any((0, 2)))
        return cls(float(rows[-1] * PITCH_MM - HALF_MM[1]) + MATTRESS_MM + 2)

    def plane(self, grid: Grid, air_hu: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the HU and the `Tissue` [y, x] of every slice without a patient."""
        y, x = grid.y[:, None], grid.x[None, :]
        below = np.hypot(x, y - (self.top_mm - HOLLOW_MM)) - HOLLOW_MM
        fade = np.clip((HALF_WIDTH_MM - np.abs(x)) / grid.spacing_mm[2] + 0.5, 0, 1)
        hu, tissues = np.full(below.shape, air_hu), np.zeros(below.shape, np.uint8)
        for low, high, value, tissue in (
            (-MATTRESS_MM, 0.0, MATTRESS_HU, Tissue.OUTSIDE),
            (0.0, HEIGHT_MM, FOAM_HU, Tissue.TABLE),
            (0.0, TABLE_SHELL_MM, TABLE_SHELL_HU, Tissue.TABLE),
            (HEIGHT_MM - TABLE_SHELL_MM, HEIGHT_MM, TABLE_SHELL_HU, Tissue.TABLE),
        ):
            share = np.clip((below - low) / grid.spacing_mm[1] + 0.5, 0, 1)
            share = share * np.clip((high - below) / grid.spacing_mm[1] + 0.5, 0, 1) * fade
            hu += share * (value - hu)
            tissues[share >= 0.5] = tissue
        return hu.astype(np.float32), tissues
