"""Random texture fixed in the world: the same grain at the same place whatever the voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthorax.phantom.raster import Grid
from synthorax.seeding import generator

TILE = 64


def texture(seed: int, name: str, pitches_mm: tuple[float, ...], weights: tuple[float, ...]) -> Texture:
    """Correlated noise of several grains, of about unit standard deviation.

    Args:
        seed: of the person.
        name: of the texture.
        pitches_mm: distance between random values of each grain.
        weights: share of each grain in the variance.
    """
    rng = generator(seed, "phantom", "texture", name)
    tiles = [rng.standard_normal((TILE,) * 3, np.float32) for _ in pitches_mm]
    # Linear interpolation leaves (2/3)^3 of the variance, on average over the cell.
    shares = np.sqrt(np.array(weights) / sum(weights)) * 1.5**1.5
    return Texture(tuple(tile * np.float32(share) for tile, share in zip(tiles, shares, strict=True)), pitches_mm)


class Texture:
    """Noise tiles of different pitch, repeated through the world; together they do not repeat."""

    def __init__(self, tiles: tuple[NDArray[np.float32], ...], pitches_mm: tuple[float, ...]) -> None:
        self._tiles, self._pitches_mm = tiles, pitches_mm

    def on(self, grid: Grid) -> NDArray[np.float32]:
        """The texture at the voxels [z, y, x] of a grid."""
        found = np.zeros(grid.shape, np.float32)
        for tile, pitch in zip(self._tiles, self._pitches_mm, strict=True):
            made = tile
            for axis, centres in enumerate((grid.z, grid.y, grid.x)):
                place = centres / pitch
                first = np.floor(place)
                shape = [1, 1, 1]
                shape[axis] = len(centres)
                weight = (place - first).astype(np.float32).reshape(shape)
                index = first.astype(np.int64)
                a, b = np.take(made, index % TILE, axis), np.take(made, (index + 1) % TILE, axis)
                b -= a
                b *= weight
                a += b
                made = a
            found += made
        return found
