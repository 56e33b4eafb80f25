"""Random texture that is fixed in world coordinates, so that it does not depend on the voxels of a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthorax.phantom.raster import Grid
from synthorax.seeding import generator

TILE = 64


def texture(seed: int, name: str, pitches_mm: tuple[float, ...], weights: tuple[float, ...]) -> Texture:
    """Make correlated noise of about unit standard deviation, a sum of noises of several grain sizes.

    Args:
        seed: seed of the person.
        name: name of the texture, which names its random stream.
        pitches_mm: distance between the random values of each noise.
        weights: share of each noise in the variance.
    """
    rng = generator(seed, "phantom", "texture", name)
    tiles = [rng.standard_normal((TILE,) * 3, np.float32) for _ in pitches_mm]
    # Trilinear interpolation lowers the mean variance to (2/3)^3.
    shares = np.sqrt(np.array(weights) / sum(weights)) * 1.5**1.5
    return Texture(tuple(tile * np.float32(share) for tile, share in zip(tiles, shares, strict=True)), pitches_mm)


class Texture:
    """A sum of noise tiles that repeat at different periods, so that the sum does not repeat within a body."""

    def __init__(self, tiles: tuple[NDArray[np.float32], ...], pitches_mm: tuple[float, ...]) -> None:
        self._tiles, self._pitches_mm = tiles, pitches_mm

    def on(self, grid: Grid) -> NDArray[np.float32]:
        """Return the texture at the voxels of a grid, float32 [z, y, x]."""
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
