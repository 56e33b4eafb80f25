"""Reading the voxels of an image file into an array whose size is checked against the file first."""

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
"""Coding of the voxels in a file; `deflate` stands for gzip and zlib."""
PIECE_BYTES = 2**18
"""Bytes that are read from a file at once."""
MOST_PIECE_BYTES = 2**22
"""Most bytes that are decompressed at once."""
GZIP_MAGIC = b"\x1f\x8b"
"""First bytes of a gzip file."""
MOST_SKIPPED_LINES = 1000
"""Most lines of text before the voxels of a data file."""
DEFLATE_LEVEL = 1
"""Compression level of ISA-L, from 0 to 3; higher levels save 2 % of the size."""
ZLIB_OR_GZIP = 47
"""Window bits by which zlib recognises the wrapping, zlib or gzip, by its first bytes."""
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    isal_zlib.IsalError,  # type: ignore[assignment]  # its stubs take the class for an instance
)
"""Errors that decompression raises over a file that was cut off or damaged."""


@dataclass(frozen=True)
class Stored:
    """The files and the coding of an image's voxels, as its header gives them.

    Attributes:
        path: path of the header, which errors name.
        shape: shape of the array in memory, the slowest axis first.
        dtype: type of the voxels, with its byte order.
        files: one file, or several that hold equal parts of the array one after the other.
        encoding: encoding of the voxels.
        start: bytes of the header at the beginning of each file.
        skip_lines: lines of text to skip after the header.
        skip: bytes to skip after those lines, counted after decompression; -1 if the voxels are the last bytes.
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
    """Voxels in native byte order, and a note if the file holds more voxels than its header says."""

    voxels: NDArray
    notes: tuple[str, ...]


def read_voxels(stored: Stored) -> Read:
    """Read the voxels that a header describes.

    Raises:
        InputError: a file is missing, too large, was cut off or is damaged.
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
        notes = (f"{stored.path.name}: the file has more voxels than the {whole} of its header; the rest is ignored",)
    if not stored.dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(stored.dtype.newbyteorder("="))
    return Read(voxels, notes)


def _check_voxels_file(path: Path, file: Path) -> None:
    """Refuse a header whose data file cannot be read; the error names the header, which is the file the user gave."""
    try:
        check_file(file)
    except InputError as error:
        if file == path:
            raise
        found = f"{error.args[1]} at {file.name!r}, where its voxels should be"
        raise InputError(path, found, "the header and its data file side by side") from error


def _fill(stored: Stored, file: Path, into: memoryview) -> int:
    """Read the bytes of one data file; returns 1 if at least a slice's bytes were left in it, otherwise 0."""
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
    """Yield the decompressed rest of a stream in pieces of at most a few megabytes.

    If the format has a check sum, it is compared when the last piece is taken.
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
        if not packed.startswith(GZIP_MAGIC):  # bytes after the last member, such as zeros that fill up a block
            return


class Pieces:
    """A reader of bytes that arrive in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._at_hand = memoryview(b"")

    def _next(self) -> memoryview:
        if not self._at_hand:
            self._at_hand = memoryview(next(self._pieces, b""))
        return self._at_hand

    def fill(self, into: memoryview) -> None:
        """Fill a buffer with the next bytes.

        Raises:
            EOFError: there are fewer bytes than the buffer holds.
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
            EOFError: there are fewer bytes than the buffer holds.
            ValueError: there are more than `MOST_BYTES`.
        """
        kept = bytearray()
        total = 0
        while piece := self._next():
            kept += piece
            total += len(piece)
            del kept[: -len(into)]
            self._at_hand = memoryview(b"")
            if total > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
        if len(kept) < len(into):
            raise EOFError("fewer bytes than the header says")
        into[:] = kept

    def skip(self, count: int) -> None:
        """Skip the next `count` bytes.

        Raises:
            EOFError: there are fewer bytes.
        """
        while count:
            piece = self._next()[:count]
            if not piece:
                raise EOFError("fewer bytes than the header says")
            self._at_hand = self._at_hand[len(piece) :]
            count -= len(piece)

    def left_over(self, most: int) -> int:
        """Take remaining bytes until there are `most` or no more, and return their number.

        Where the content ends, its check sum has been compared.
        """
        count = 0
        while count < most and (piece := self._next()):
            count += len(piece)
            self._at_hand = memoryview(b"")
        return count
