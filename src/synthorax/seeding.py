"""Random numbers as a pure function of a seed and an index.

Nothing in the package draws from a global generator. Sample 17 of seed 7 is the same numbers
whether it is drawn alone, in a shard or in a whole run, and step 300 of a training run sees the
same batch before and after a kill.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

NOISE_BLOCK = 32
"""Voxels along each axis that share a stream of `voxel_noise`."""
MOST_NOISE_BLOCKS = 2**20
"""Blocks from the origin in each direction that have a stream of their own."""


def derive(seed: int, *index: int | str) -> int:
    """A 63-bit seed for the stream named by `index`; torch generators take it directly."""
    state = _sequence(seed, *index).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def generator(seed: int, *index: int | str) -> np.random.Generator:
    """A NumPy generator for the stream named by `index`, independent of every other stream.

    >>> generator(7, "sample", 17).integers(100, size=3).tolist()
    [46, 78, 88]
    >>> generator(7, "sample", 17).integers(100, size=3).tolist()  # the same stream again, from its start
    [46, 78, 88]
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, *index)))


def voxel_noise(
    seed: int, start: Sequence[int], shape: Sequence[int], *index: int | str, uniform: bool = False
) -> NDArray[np.float32]:
    """White noise on a box of an endless grid: the number at a voxel depends on the seed, `index` and its place alone.

    Args:
        start: place (z, y, x) of the box's first voxel; may be negative.
        shape: voxels (z, y, x).
        uniform: from 0 to 1; else standard normal.

    >>> whole = voxel_noise(7, (-3, 0, 0), (40, 50, 6))
    >>> bool((voxel_noise(7, (10, 20, 2), (5, 6, 3)) == whole[13:18, 20:26, 2:5]).all())
    True
    """
    made = np.empty(tuple(shape), np.float32)
    low, high = np.floor_divide(start, NOISE_BLOCK), -np.floor_divide(-np.add(start, shape), NOISE_BLOCK)
    for place in product(*(range(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))):
        random = generator(seed, *index, *(MOST_NOISE_BLOCKS + i for i in place))
        draw = random.random if uniform else random.standard_normal
        block = draw((NOISE_BLOCK,) * 3, np.float32)
        first = np.multiply(place, NOISE_BLOCK)
        mine = [slice(max(f - s, 0), f - s + NOISE_BLOCK) for f, s in zip(first.tolist(), start, strict=True)]
        own = [slice(max(s - f, 0), s + n - f) for f, s, n in zip(first.tolist(), start, shape, strict=True)]
        made[tuple(mine)] = block[tuple(own)]
    return made


def _sequence(seed: int, *index: int | str) -> np.random.SeedSequence:
    if seed < 0:
        raise InputError("seed", str(seed), "0 or more")
    words = [zlib.crc32(part.encode("utf-8", "surrogatepass")) if isinstance(part, str) else part for part in index]
    return np.random.SeedSequence(seed, spawn_key=words)
