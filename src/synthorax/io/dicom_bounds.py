"""Reading a DICOM data set within bounds on its bytes, elements and sequence items, and on the bytes it inflates to."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Callable
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.filereader import ENCODED_VR, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from synthorax.errors import InputError
from synthorax.io.contents import what_is
from synthorax.io.limits import MOST_BYTES, check_file
from synthorax.io.walk import not_regular

PREAMBLE_BYTES = 128
DICOM_PREFIX = b"DICM"
DICOM_HEAD_BYTES = PREAMBLE_BYTES + len(DICOM_PREFIX)
MOST_FILE_BYTES = MOST_BYTES + 2**27
"""Most bytes of a DICOM file; the largest multi-frame CT has 1 GiB of pixels."""
MOST_READS = 500_000
"""Most reads that parsing a data set may take. A CT slice takes some 300, a multi-frame CT some 100 for each frame."""
LONG_READ = 2**20
"""Reads of more bytes are limited to the size of the file, because a damaged length may claim gigabytes."""
MOST_ITEMS = 150_000
"""Most sequence items of a data set; pydicom takes 14 microseconds and a kilobyte for an empty item."""
FEW_BYTES = 2**20
"""A file of fewer bytes cannot hold `MOST_ITEMS` items, so its items are not counted."""
MOST_DICOM_HEADER_BYTES = 2**24
"""Most bytes before the pixels. Items are counted in them, and for a header no more bytes are inflated."""
CHUNK_BYTES = 2**20
"""Bytes of a deflated file that are read at once."""
INFLATED_BYTES = 2**26
"""Every data set may inflate to this many bytes (64 MiB); beyond, `MOST_INFLATION` holds."""
MOST_INFLATION = 50
"""A data set may inflate to this many times the bytes of its file; CT inflates 2 to 5 times."""
BARE_GROUPS = (0x0002, 0x0008)
"""Groups of the first element of a data set that is stored without preamble."""


class _Deflated(Exception):
    """The rest of the file is deflated; raised instead of inflating it without bounds."""


class _TooMuch(Exception):
    """More elements than a data set has."""


class _Counted:
    """Count the reads of a stream; refuse a read to the end, which pydicom does only to inflate."""

    reads = 0
    bytes_of_file = MOST_FILE_BYTES
    plain_read: Callable[..., bytes]

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise _Deflated
        self.reads += 1
        if self.reads > MOST_READS:
            raise _TooMuch
        return self.plain_read(size if size < LONG_READ else min(size, self.bytes_of_file))


class _Memory(_Counted, BytesIO):
    plain_read = BytesIO.read


class _Opened(_Counted, BufferedReader):
    plain_read = BufferedReader.read


def is_dicom(path: Path) -> bool:
    """Whether a path is a regular file with the DICOM preamble, or one that begins as a data set without preamble."""
    if not_regular(path):
        return False
    try:
        with open(path, "rb") as file:
            return _is_dicom(file.read(DICOM_HEAD_BYTES))
    except OSError:
        return False


def what_else(path: Path) -> str:
    """Return the kind of a file that is not DICOM, in words: `an empty file`, `a PDF document`, `text`."""
    if kind := what_is(path):
        return kind
    size = path.stat().st_size
    return f"{size} bytes that are no DICOM; it was cut off" if size <= DICOM_HEAD_BYTES else "no DICOM file"


def read_data_set(path: Path, *, pixels: bool, only: list[Any] | None = None) -> Dataset:
    """Read the data set of a DICOM file, with or without preamble.

    Args:
        path: path of the file.
        pixels: read to the end, instead of only up to the pixels.
        only: tags of the elements to read; all if not given.

    Raises:
        InputError: the file is not DICOM, cannot be read, was cut off, or exceeds the bounds of this module.
    """
    size = check_file(path, "a DICOM file", most_bytes=MOST_FILE_BYTES)
    try:
        # A small file is parsed in memory, because parsing takes many small reads.
        is_small = pixels and size <= INFLATED_BYTES
        source: Any = _Memory(path.read_bytes()) if is_small else _Opened(FileIO(os.fspath(path)))
        source.bytes_of_file = size
        with source, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _parsed(path, source, size, pixels=pixels, only=only)
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror})" if error.strerror else "a damaged DICOM file"
        raise InputError(path, found, "a readable DICOM file") from error


def _parsed(path: Path, source: BinaryIO, size: int, *, pixels: bool, only: list[Any] | None) -> Dataset:
    head = source.read(DICOM_HEAD_BYTES)
    if not _is_dicom(head):
        raise InputError(path, what_else(path), "a DICOM file")
    try:
        source.seek(len(DICOM_PREFIX) if head.startswith(DICOM_PREFIX) else 0)
        if size > FEW_BYTES:
            _check_items(path, source)
        try:
            header = read_partial(source, _at_zeros if pixels else _at_pixels, force=True, specific_tags=only)
            if not len(header) and not only:  # pydicom drops all of a data set whose last element has no end
                raise InputError(path, "a DICOM file that was cut off", "a whole DICOM file")
            return header
        except _Deflated:
            start = source.tell()
            source.seek(0)
            meta = source.read(start)
            return _inflated(path, meta, source, pixels=pixels, only=only)
    except (InputError, OSError):
        raise
    except _TooMuch as error:
        raise InputError(path, f"more than {MOST_READS} elements", "a DICOM file with fewer elements") from error
    except Exception as error:  # pydicom raises whatever error a damaged file causes in its parser
        raise InputError(path, "a damaged DICOM file", "a readable DICOM file") from error


def _inflated(path: Path, meta: bytes, source: BinaryIO, *, pixels: bool, only: list[Any] | None) -> Dataset:
    """The data set of a deflated file, parsed from inflated bytes after a file meta group that is changed to plain."""
    inflater, data, taken, most = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), 0, MOST_DICOM_HEADER_BYTES
    while not inflater.eof and len(data) <= most and (chunk := source.read(CHUNK_BYTES)):
        taken += len(chunk)
        if pixels:
            most = min(max(INFLATED_BYTES, MOST_INFLATION * taken), MOST_FILE_BYTES)
        data += inflater.decompress(chunk, most + 1 - len(data))
    plain = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")
    is_too_much = len(data) > most
    if is_too_much and pixels:
        raise InputError(path, f"{taken} bytes that inflate to more than {most}", "a CT, which inflates less")
    plain_source = _Memory(meta.replace(DeflatedExplicitVRLittleEndian.encode(), plain) + data)
    if len(data) > FEW_BYTES:
        _check_items(path, plain_source)
    del data
    stopped = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if _at_pixels(tag, vr, length):
            stopped.append(tag)
        return bool(stopped)

    try:
        header = read_partial(plain_source, _at_zeros if pixels else at_pixels, force=True, specific_tags=only)
    except _Deflated as error:
        raise InputError(path, "a damaged DICOM file", "a readable DICOM file") from error
    if is_too_much and not stopped:
        raise InputError(path, f"{taken} bytes that inflate to more than {most}", "a CT, which inflates less")
    return header


def _check_items(path: Path, source: BinaryIO) -> None:
    """Refuse more than `MOST_ITEMS` sequence items, before pydicom makes an object of each."""
    start = source.tell()
    head = source.read(MOST_DICOM_HEADER_BYTES)
    source.seek(start)
    if max(head.count(b"\xfe\xff\x00\xe0"), head.count(b"\xff\xfe\xe0\x00")) > MOST_ITEMS:
        raise InputError(path, f"more than {MOST_ITEMS} sequence items", "a DICOM file with fewer items")


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00010, 0x7FE00009, 0x7FE00008) or tag == 0


def _at_zeros(tag: int, vr: str | None, length: int) -> bool:
    """Return whether zeros follow, which pad a file to a whole number of blocks."""
    return tag == 0


def _is_dicom(head: bytes) -> bool:
    return head[PREAMBLE_BYTES:] == DICOM_PREFIX or head.startswith(DICOM_PREFIX) or _begins_bare(head)


def _begins_bare(head: bytes) -> bool:
    """Return whether bytes begin as the first element of a data set does: a known tag, then a VR or a short length."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[i : i + 2], order) for i in (0, 2))
        if group in BARE_GROUPS and (element == 0 or dictionary_has_tag(group << 16 | element)):
            return head[4:6] in ENCODED_VR or int.from_bytes(head[4:8], order) <= 1024
    return False
