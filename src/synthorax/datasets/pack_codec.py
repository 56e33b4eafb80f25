"""Coding of a pack's voxels: HU by one wavelet step along z and lossless JPEG 2000, masks as deflated bits.

Before memory is allocated, the sizes that coded voxels claim are compared with the shape that the caller knows.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthorax.datasets import rows
from synthorax.datasets.case import VoxelBox, pack_regions, packed_bytes, unpack_regions
from synthorax.region import Region

SLAB_VOXELS = 2**24
"""Most voxels of one picture; Pillow warns about larger ones."""
MOST_SLICE_VOXELS = 2**26
"""Most voxels of a slice; no CT has larger slices."""
MOST_PICTURE_HEADER_BYTES = 2**20
"""Largest size in bytes of the header before the pictures of a case."""
MOST_PLANE_BITS = 2**30
"""Most bits of a label map of format 1, in all its bit planes."""
PICTURE_MODES = ("I;16", "I;16L", "I")
"""Names of the mode of 16-bit pictures in different versions of Pillow."""


def encode_ct(voxels: NDArray[np.integer]) -> bytes:
    """Encode HU [z, y, x] without loss."""
    z, y, x = voxels.shape
    depth = max(SLAB_VOXELS // (y * x), 1)
    pictures = [_encode_slab(voxels[start : start + depth].astype(np.int32)) for start in range(0, z, depth)]
    header = [[depth], *[[lifted, least, len(picture)] for lifted, least, picture in pictures]]
    return json.dumps(header).encode() + b"\n" + b"".join(picture for *_, picture in pictures)


def decode_ct(data: bytes, shape: Sequence[int], step: int = 1) -> NDArray[np.int16]:
    """Decode HU that `encode_ct` encoded.

    Args:
        data: the encoded voxels.
        shape: voxels (z, y, x).
        step: factor by which voxels are multiplied, the `hu_step` of the pack.

    Raises:
        ValueError: the data was not encoded by `encode_ct`, or has another shape.
        OSError: a picture cannot be read.
    """
    first = data[:MOST_PICTURE_HEADER_BYTES].partition(b"\n")[0]
    start = len(first) + 1
    (depth,), *headers = rows.items(json.loads(first), "pictures")
    z, y, x = shape
    depth = rows.whole(depth, "slices of a picture", 1, max(SLAB_VOXELS // (y * x), 1))
    if y * x > MOST_SLICE_VOXELS or len(headers) != -(-z // depth):
        raise ValueError(f"{len(headers)} pictures of {depth} slices where there are {z} slices of {y} x {x} voxels")
    made = np.empty((z, y, x), np.int16)
    for low, (lifted, least, length) in zip(range(0, z, depth), headers, strict=True):
        own = made[low : low + depth]
        length = rows.whole(length, "bytes of a picture", 1, len(data) - start)
        with Image.open(BytesIO(data[start : start + length]), formats=["JPEG2000"]) as picture:
            if picture.size != (x, len(own) * y) or picture.mode not in PICTURE_MODES:
                raise ValueError(f"a picture of {picture.size} pixels where {(x, len(own) * y)} were expected")
            slab = np.asarray(picture).astype(np.int32).reshape(own.shape)
        slab += rows.whole(least, "least value of a picture", -(2**18), 2**18)
        own[:] = np.clip((_unlift(slab) if lifted else slab) * step, -(2**15), 2**15 - 1)
        start += length
    return made


def encode_regions(regions: Sequence[Region]) -> bytes:
    """Encode masks: their packed bits, deflated."""
    return zlib.compress(pack_regions(regions).tobytes(), 9)


def decode_regions(data: bytes, boxes: Sequence[VoxelBox]) -> tuple[Region, ...]:
    """Decode masks with known boxes that `encode_regions` encoded.

    Raises:
        ValueError, zlib.error: the data was not encoded by `encode_regions` from masks with these boxes.
    """
    bits = _inflated(data, sum(map(packed_bytes, boxes)))
    return unpack_regions(np.frombuffer(bits, np.uint8), boxes)


def encode_classes(tissue: NDArray[np.uint8]) -> bytes:
    """Encode the tissue class of each voxel, [z, y, x]: deflated bytes."""
    return zlib.compress(np.ascontiguousarray(tissue).tobytes(), 6)


def decode_classes(data: bytes, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Decode tissue classes of a known shape that `encode_classes` encoded.

    Raises:
        ValueError, zlib.error: the data was not encoded by `encode_classes`, or has another shape.
    """
    return np.frombuffer(_inflated(data, math.prod(shape)), np.uint8).reshape(tuple(shape))


def decode_mask(data: bytes, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Decode the label map [z, y, x] of a case of format 1: a byte with the number of bit planes, and these, deflated.

    Raises:
        ValueError, zlib.error: the data is not such a label map.
    """
    planes, count = data[0], math.prod(shape)
    if planes > 8 or planes * count > MOST_PLANE_BITS:
        raise ValueError(f"a mask of {planes} bit planes of {count:,} voxels")
    bits = np.frombuffer(_inflated(data[1:], -(-planes * count // 8)), np.uint8)
    made = np.zeros(count, np.uint8)
    for plane in range(planes):
        first, last = plane * count, (plane + 1) * count
        own = np.unpackbits(bits[first // 8 : -(-last // 8)])[first % 8 :][:count]
        made |= own << plane
    return made.reshape(shape)


def _inflated(data: bytes, size: int) -> bytes:
    """Inflate data whose inflated size is known."""
    inflater = zlib.decompressobj()
    bits = inflater.decompress(data, size + 1)
    if len(bits) != size or not inflater.eof:
        raise ValueError(f"masks of another size than {size:,} bytes")
    return bits


def _encode_slab(slab: NDArray[np.int32]) -> tuple[bool, int, bytes]:
    """Encode slices as one picture, one slice below the other.

    Returns:
        Whether the wavelet step was applied, the value subtracted from all voxels, and the picture.
    """
    lifted = _lift(slab)
    is_lifted = int(lifted.max()) - int(lifted.min()) < 2**16
    values = lifted if is_lifted else slab
    least = int(values.min())
    picture = Image.fromarray((values - least).astype(np.uint16).reshape(-1, slab.shape[2]))
    written = BytesIO()
    picture.save(written, "JPEG2000", irreversible=False, no_jp2=True)
    return is_lifted, least, written.getvalue()


def _lift(slab: NDArray[np.int32]) -> NDArray[np.int32]:
    """Apply the 5/3 wavelet along z: smoothed even slices, then the differences of odd slices from their neighbours."""
    even, odd = slab[0::2], slab[1::2].copy()
    odd -= _between(even, len(odd))
    return np.concatenate([even + _beside(odd, len(even)), odd])


def _unlift(slab: NDArray[np.int32]) -> NDArray[np.int32]:
    made = np.empty_like(slab)
    even, odd = np.split(slab, [-(-len(slab) // 2)])
    made[0::2] = even - _beside(odd, len(even))
    made[1::2] = odd + _between(made[0::2], len(odd))
    return made


def _between(even: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Return the mean of the even slices before and after each of `n` odd ones; the last one is repeated."""
    after = np.concatenate([even[1:], even[-1:]])
    return (even[:n] + after[:n]) >> 1


def _beside(odd: NDArray[np.int32], n: int) -> NDArray[np.int32] | int:
    """Return a quarter of the sum of the odd slices' differences before and after each of `n` even slices."""
    if not len(odd):
        return 0
    around = np.concatenate([odd[:1], odd, odd[-1:]])
    return (around[:n] + around[1 : n + 1] + 2) >> 2
