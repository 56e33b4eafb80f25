"""Random numbers as a pure function of a seed and an index.

Nothing in the package draws from a global generator. Sample 17 of seed 7 is the same whether it is drawn alone, in a
shard or in a whole run, and step 300 of a training run gets the same batch before and after a kill.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

NOISE_BLOCK = 32
"""`voxel_noise` draws the numbers of a cube of this many voxels along each axis from one stream."""
MOST_NOISE_BLOCKS = 2**20
"""Most blocks of `voxel_noise` between the origin and a voxel, along each axis and in each direction."""


def derive(seed: int, *index: int | str) -> int:
    """Return a 63-bit seed for the stream named by `index`; a torch generator takes it as it is."""
    state = _sequence(seed, *index).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def generator(seed: int, *index: int | str) -> np.random.Generator:
    """Return a NumPy generator for the stream named by `index`, independent of every other stream.

    >>> generator(7, "sample", 17).integers(100, size=3).tolist()
    [46, 78, 88]
    >>> generator(7, "sample", 17).integers(100, size=3).tolist()  # the same stream again, from its start
    [46, 78, 88]
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, *index)))


def voxel_noise(
    seed: int, start: Sequence[int], shape: Sequence[int], *index: int | str, uniform: bool = False
) -> NDArray[np.float32]:
    """Draw white noise on a box of an endless grid; each voxel depends on `seed`, `index` and its place alone.

    Args:
        seed: 0 or more.
        start: place (z, y, x) of the box's first voxel; may be negative.
        shape: voxels (z, y, x).
        index: names the stream.
        uniform: draw uniformly from 0 to 1 instead of standard normally.

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


def check_seed(seed: int) -> None:
    """Refuse a seed from which no random numbers can be drawn.

    Raises:
        InputError: the seed is not a whole number, or is below 0.
    """
    if not isinstance(seed, int | np.integer):
        raise InputError("seed", repr(seed), "a whole number, 0 or more")
    if seed < 0:
        raise InputError("seed", str(seed), "0 or more")


def _sequence(seed: int, *index: int | str) -> np.random.SeedSequence:
    check_seed(seed)
    words = [zlib.crc32(part.encode("utf-8", "surrogatepass")) if isinstance(part, str) else part for part in index]
    return np.random.SeedSequence(seed, spawn_key=words)
