"""The arrays of a store: Zarr 3 with one fixed layout; every chunk is checked against its hash before it is decoded.

Any Zarr 3 library reads them. This module writes and reads them without one. So no claim of a damaged or malicious file
(another codec, a larger chunk) is trusted, and a chunk's bytes are hashed between the disk and the decoder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from synthorax.datasets.rows import json_object
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.limits import read_bounded

METADATA = "zarr.json"
MOST_METADATA_BYTES = 2**16
CODEC, CODEC_LEVEL = "zstd", 1
"""Blosc's codec, and its compression level."""
BLOSC_HEADER_BYTES = 16
ZSTD_FORMAT = 4
"""Blosc's number for Zstandard, in the upper three bits of the flags in its header."""
Hashes = Mapping[str, str]
"""Key of each file of an array, such as `c/0/0/0`, to the file's SHA-256."""

blosc.use_threads = False  # with threads, the order of blocks in a chunk, and so its hash, would vary between runs


@dataclass(frozen=True)
class Layout:
    """The layout of an array on disk.

    Attributes:
        dtype: type of the values.
        chunk: values of a chunk along each axis; a smaller array is one chunk.
        axes: names of the axes.
        outside: value returned for voxels of a box that lie outside the scan.
    """

    dtype: str
    chunk: tuple[int, ...]
    axes: tuple[str, ...]
    outside: int = 0

    @property
    def shuffle(self) -> str:
        """Blosc's filter that reorders the bits of values before compression."""
        return "bitshuffle" if np.dtype(self.dtype).itemsize > 1 else "noshuffle"

    def compressed(self, chunk: NDArray) -> bytes:
        """Return the bytes of a chunk on disk."""
        shuffle = {"bitshuffle": blosc.BITSHUFFLE, "noshuffle": blosc.NOSHUFFLE}[self.shuffle]
        data: bytes = blosc.compress(np.ascontiguousarray(chunk, self.dtype), CODEC.encode(), CODEC_LEVEL, shuffle)
        return data

    def chunk_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the chunks of an array with a given shape."""
        return tuple(min(n, c) for n, c in zip(shape, self.chunk, strict=True))

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the number of chunks along each axis of an array with a given shape."""
        return tuple(-(-n // c) for n, c in zip(shape, self.chunk_of(shape), strict=True))

    def metadata(self, shape: Sequence[int]) -> dict[str, Any]:
        """Return the content of `zarr.json` for an array with a given shape."""
        item = np.dtype(self.dtype).itemsize
        blosc_ = {"typesize": item, "cname": CODEC, "clevel": CODEC_LEVEL, "shuffle": self.shuffle, "blocksize": 0}
        little = {"configuration": {"endian": "little"}} if item > 1 else {}
        return {
            "shape": list(shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_of(shape))}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "bytes"} | little, {"name": "blosc", "configuration": blosc_}],
            "attributes": {},
            "dimension_names": list(self.axes),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }


CASE_ARRAYS = {
    "ct": Layout("int16", (32, 128, 128), ("z", "y", "x"), outside=AIR_HU),
    "regions": Layout("uint8", (2**20,), ("byte",)),
    "tissue": Layout("uint8", (32, 128, 128), ("z", "y", "x")),
}
"""The arrays of a case. Chunks are small enough that a nodule's cube touches few of them, and large enough that a scan
has few."""


def write_array(folder: Path, layout: Layout, values: NDArray) -> dict[str, str]:
    """Write an array into a new folder.

    Returns:
        Key of each file to its SHA-256.

    Raises:
        OSError: a file cannot be written.
    """
    hashes = {}
    chunk = layout.chunk_of(values.shape)

    def put(key: str, data: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        hashes[key] = hashlib.sha256(data).hexdigest()

    put(METADATA, json.dumps(layout.metadata(values.shape), indent=1).encode())
    for place in np.ndindex(layout.grid(values.shape)):
        part = values[tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, chunk, strict=True))]
        if part.shape != chunk:
            padded = np.zeros(chunk, layout.dtype)
            padded[tuple(slice(n) for n in part.shape)] = part
            part = padded
        put(_key(place), layout.compressed(part))
    return hashes


def keys_of(layout: Layout, shape: Sequence[int]) -> Iterator[str]:
    """Yield the keys of all files of an array with a given shape."""
    yield METADATA
    yield from (_key(place) for place in np.ndindex(layout.grid(shape)))


@dataclass(frozen=True)
class StoredArray:
    """An array on disk.

    Attributes:
        folder: folder of the array.
        layout: its layout.
        shape: its shape in the index of the store; the array's own `zarr.json` must agree.
        hashes: hash of each file; None in a store of format 1, which has no hashes.
        remedy: what a user can do about damage, the end of errors.
        may_miss: whether chunks of zeros may be missing, as in the masks of format 1.
    """

    folder: Path
    layout: Layout
    shape: tuple[int, ...]
    hashes: Hashes | None
    remedy: str
    may_miss: bool = False

    def read(self, start: Sequence[int], stop: Sequence[int]) -> NDArray:
        """Read the values from index `start` up to `stop`, excluded; both lie within the array.

        Raises:
            InputError: a file is missing, truncated, damaged or exchanged, or the array has another layout.
        """
        self._check_metadata()
        made = np.empty([b - a for a, b in zip(start, stop, strict=True)], self.layout.dtype)
        chunk = self.layout.chunk_of(self.shape)
        for place in product(*[range(a // c, -(-b // c)) for a, b, c in zip(start, stop, chunk, strict=True)]):
            first = [i * c for i, c in zip(place, chunk, strict=True)]
            low = [max(a, f) for a, f in zip(start, first, strict=True)]
            high = [min(b, f + c) for b, f, c in zip(stop, first, chunk, strict=True)]
            there = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
            here = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
            made[there] = self._decoded(place, chunk)[here]
        return made

    def check(self) -> tuple[int, list[InputError]]:
        """Check all files; return their number, and an error for each that differs from what was written.

        Without hashes, every chunk is decoded, which finds missing and truncated files.
        """
        errors = []
        keys = list(keys_of(self.layout, self.shape))
        for key in keys:
            try:
                if self.hashes is not None:
                    self._bytes(key, self._most())
                elif key == METADATA:
                    self._check_metadata()
                else:
                    self._decoded([int(i) for i in key.split("/")[1:]], self.layout.chunk_of(self.shape))
            except InputError as error:
                errors.append(error)
        return len(keys), errors

    def _most(self) -> int:
        """Return the largest size in bytes of a file; Blosc stores values that it cannot compress without change."""
        size = math.prod(self.layout.chunk_of(self.shape)) * np.dtype(self.layout.dtype).itemsize
        return max(size + BLOSC_HEADER_BYTES, MOST_METADATA_BYTES)

    def _check_metadata(self) -> None:
        expected = self.layout.metadata(self.shape)
        data = self._bytes(METADATA, MOST_METADATA_BYTES)
        try:
            found = json_object(data)
        except ValueError as error:
            raise self._damage(METADATA, f"no valid metadata of an array ({error})") from error
        for name in ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs"):
            if found.get(name) != expected[name]:
                raise self._damage(METADATA, f"{name} {json.dumps(found.get(name))[:80]}")
        if found.get("storage_transformers") or found.get("fill_value") != 0:
            raise self._damage(METADATA, "an array of another kind")

    def _decoded(self, place: Sequence[int], chunk: tuple[int, ...]) -> NDArray:
        key = _key(place)
        made = np.empty(chunk, self.layout.dtype)
        if self.may_miss and not (self.folder / key).exists():
            return np.zeros(chunk, self.layout.dtype)
        data = self._bytes(key, self._most())
        claims = len(data) >= BLOSC_HEADER_BYTES and (
            int.from_bytes(data[4:8], "little") == made.nbytes
            and int.from_bytes(data[12:16], "little") == len(data)
            and data[2] >> 5 == ZSTD_FORMAT
        )
        if not claims:
            raise self._damage(key, f"{len(data)} bytes that are no chunk of {made.nbytes:,} bytes")
        try:
            blosc.decompress(data, made)
        except (RuntimeError, ValueError) as error:
            raise self._damage(key, f"a damaged chunk ({error})") from error
        return made

    def _bytes(self, key: str, most: int) -> bytes:
        try:
            data = read_bounded(self.folder / key, most)
        except InputError as error:
            raise self._damage(key, error.args[1]) from error
        if self.hashes is not None and hashlib.sha256(data).hexdigest() != self.hashes[key]:
            raise self._damage(key, f"{len(data)} bytes whose hash differs from that of the file that was written")
        return data

    def _damage(self, key: str, found: str) -> InputError:
        return InputError(self.folder / key, found, f"what was written; {self.remedy}")


def _key(place: Sequence[int]) -> str:
    return "c/" + "/".join(map(str, place))
