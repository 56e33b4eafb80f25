"""Muscles of the chest wall and the fat between them."""

from __future__ import annotations

import numpy as np

from synthorax.phantom.build import Build
from synthorax.phantom.lattice import PITCH_MM, Field, axes, ellipsoid
from synthorax.phantom.raster import Grid
from synthorax.phantom.texture import texture
from synthorax.phantom.tubes import Tubes, chain, joined

FASCIA_MM = ((14.0, 2.0), (27.0, 1.6))
"""Layers of fat in the chest wall: distance from the pleura, and thickness."""


def back_muscles(build: Build) -> Tubes:
    """Make the long muscles on both sides of the spine."""
    heights = np.linspace(-260, 200, 30)
    return joined(
        [
            chain(build.to_world(np.column_stack([np.full(30, x), np.full(30, y), heights])), radius * build.size)
            for side in (-1, 1)
            for x, y, radius in ((side * 14, 92, 14), (side * 34, 100, 15), (side * 50, 106, 9))
        ]
    )


def armpits(build: Build, seed: int) -> Field:
    """Make the irregular fat of the armpits."""
    z, y, x = (c.ravel().astype(np.float64) for c in axes())
    grid = Grid(z, y, x, (PITCH_MM,) * 3)
    rough = texture(seed, "armpits", (15.0, 29.0), (0.5, 0.5)).on(grid)
    places = (((138, 0, 92), (19, 30, 52)), ((152, -18, 70), (14, 24, 40)))
    sides = [
        ellipsoid(build.to_world(np.multiply(center, (side, 1, 1))), np.array(half) * build.size)
        for side in (-1, 1)
        for center, half in places
    ]
    return np.minimum.reduce(sides) + 7 * rough
