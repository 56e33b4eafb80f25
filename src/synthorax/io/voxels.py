"""Voxels as bytes: read in full, once, into an array of the size that a checked header claims."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.limits import MOST_BYTES, check_claim, check_file

Encoding = Literal["raw", "deflate", "bzip2"]
PIECE_BYTES = 2**18
"""Read from a file at once."""
MOST_PIECE_BYTES = 2**22
"""Unpacked at once."""
GZIP_MAGIC = b"\x1f\x8b"
MOST_SKIPPED_LINES = 1000
"""Lines of text before the voxels of a data file."""
DEFLATE_LEVEL = 1
"""Level of compression by ISA-L, of 0 to 3; the higher ones gain 2 % in size."""
ZLIB_OR_GZIP = 47
"""Window bits by which zlib tells its two wrappings apart by their first bytes."""
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    isal_zlib.IsalError,  # type: ignore[assignment]  # its stubs take the class for an instance
)
"""What decompression raises on a file that was cut off or damaged."""


@dataclass(frozen=True)
class Stored:
    """Where and how a header says its voxels are stored.

    Attributes:
        path: the header's file, which errors name.
        shape: as the array lies in memory, the slowest axis first.
        dtype: with its byte order.
        files: one, or several that hold equal parts of the array one after the other.
        start: bytes of a header before the voxels of each file.
        skip_lines: lines of text after it.
        skip: bytes after those lines, of what is unpacked; -1 means that the voxels are the last bytes.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    files: tuple[Path, ...]
    encoding: Encoding = "raw"
    start: int = 0
    skip_lines: int = 0
    skip: int = 0


class Read(NamedTuple):
    """Voxels of native byte order, and a note where the file holds more of them than its header says."""

    voxels: NDArray
    notes: tuple[str, ...]


def read_voxels(stored: Stored) -> Read:
    """The voxels that a header describes.

    Raises:
        InputError: no such file, more bytes than are read, a file that was cut off or damaged.
    """
    for file in stored.files:
        _check_voxels_file(stored.path, file)
    if stored.shape[0] % len(stored.files):
        found = f"{len(stored.files)} files for {stored.shape[0]} slices"
        raise InputError(stored.path, found, "as many slices in each file")
    one = len(stored.files) == 1
    check_claim(
        stored.path,
        stored.shape,
        stored.dtype.itemsize,
        compressed=stored.encoding != "raw",
        stored_in=stored.files[0] if one and stored.encoding != "bzip2" else None,
    )
    voxels = np.empty(stored.shape, stored.dtype)
    extra = 0
    try:
        for file, part in zip(stored.files, np.split(voxels, len(stored.files)), strict=True):
            extra = max(extra, _fill(stored, file, part.reshape(-1).view(np.uint8).data))
    except DAMAGED as error:
        raise InputError(stored.path, "voxels that were cut off or damaged", "a whole file; copy it again") from error
    notes: tuple[str, ...] = ()
    if extra:
        whole = "x".join(map(str, stored.shape))
        notes = (f"{stored.path.name}: more voxels in the file than the {whole} of its header; the rest is left out",)
    if not stored.dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(stored.dtype.newbyteorder("="))
    return Read(voxels, notes)


def _check_voxels_file(path: Path, file: Path) -> None:
    """Refuse a header whose file of voxels is none; the header is named, which the user gave."""
    try:
        check_file(file)
    except InputError as error:
        if file == path:
            raise
        found = f"{error.args[1]} at {file.name!r}, where its voxels are to be"
        raise InputError(path, found, "the header and the file of its voxels side by side") from error


def _fill(stored: Stored, file: Path, into: memoryview) -> int:
    """Read the bytes of one file; 1 if as many bytes as a slice or more were left in it."""
    slice_bytes = math.prod(stored.shape[1:]) * stored.dtype.itemsize
    with open(file, "rb") as stream:
        stream.seek(stored.start)
        for _ in range(stored.skip_lines):
            if not stream.readline(PIECE_BYTES):
                raise EOFError("the lines before the voxels")
        if stored.encoding == "raw":
            stream.seek(*((-len(into), 2) if stored.skip < 0 else (stored.skip, 1)))
            _read_into(stream, into)
            return int(stored.skip >= 0 and len(stream.read(slice_bytes)) == slice_bytes)
        rest = Pieces(unpacked(stream, stored.encoding))
        if stored.skip < 0:
            rest.fill_with_last(into)
            return 0
        rest.skip(stored.skip)
        rest.fill(into)
        return int(rest.left_over(slice_bytes) >= slice_bytes)


def _read_into(stream: BinaryIO, into: memoryview) -> None:
    done = 0
    while done < len(into):
        count = stream.readinto(into[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("fewer bytes than the header says")
        done += count


def unpacked(stream: BinaryIO, encoding: Encoding) -> Iterator[bytes]:
    """The unpacked content of the rest of a stream in pieces of at most some megabytes.

    Check sums are compared where the format has them, when the last piece is asked for.
    """
    if encoding == "bzip2":
        file = bz2.BZ2File(stream)
        yield from iter(lambda: file.read(PIECE_BYTES), b"")
        return
    if encoding == "raw":
        yield from iter(lambda: stream.read(PIECE_BYTES), b"")
        return
    packed = stream.read(PIECE_BYTES)
    while packed:
        member = isal_zlib.decompressobj(wbits=ZLIB_OR_GZIP)
        while not member.eof:
            if made := member.decompress(packed, MOST_PIECE_BYTES):
                yield made
            packed = member.unconsumed_tail
            if not packed and not member.eof and not (packed := stream.read(PIECE_BYTES)) and not made:
                raise EOFError("the end of the compressed data")
        packed = member.unused_data or stream.read(PIECE_BYTES)
        if not packed.startswith(GZIP_MAGIC):  # zeros that fill up a block, or what another format puts there
            return


class Pieces:
    """Bytes that come in pieces, taken one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._at_hand = memoryview(b"")

    def _next(self) -> memoryview:
        if not self._at_hand:
            self._at_hand = memoryview(next(self._pieces, b""))
        return self._at_hand

    def fill(self, into: memoryview) -> None:
        """Fill a buffer.

        Raises:
            EOFError: the bytes end before it is full.
        """
        done = 0
        while done < len(into):
            piece = self._next()[: len(into) - done]
            if not piece:
                raise EOFError("fewer bytes than the header says")
            into[done : done + len(piece)] = piece
            self._at_hand = self._at_hand[len(piece) :]
            done += len(piece)

    def fill_with_last(self, into: memoryview) -> None:
        """Fill a buffer with the last bytes.

        Raises:
            EOFError: there are fewer than it holds.
            ValueError: there are more than are read.
        """
        kept = bytearray()
        total = 0
        while piece := self._next():
            kept += piece
            total += len(piece)
            del kept[: -len(into)]
            self._at_hand = memoryview(b"")
            if total > MOST_BYTES:
                raise ValueError("more than is read")
        if len(kept) < len(into):
            raise EOFError("fewer bytes than the header says")
        into[:] = kept

    def skip(self, count: int) -> None:
        """Pass over bytes.

        Raises:
            EOFError: there are fewer.
        """
        while count:
            piece = self._next()[:count]
            if not piece:
                raise EOFError("fewer bytes than the header says")
            self._at_hand = self._at_hand[len(piece) :]
            count -= len(piece)

    def left_over(self, most: int) -> int:
        """How many bytes are left, counted up to `most`; where the content ends, its check sum has been compared."""
        count = 0
        while count < most and (piece := self._next()):
            count += len(piece)
            self._at_hand = memoryview(b"")
        return count
