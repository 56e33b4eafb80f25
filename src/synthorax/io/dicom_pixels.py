"""Decoding the pixels of CT slices to HU, after the sizes in the header were checked against the stored bytes."""

from __future__ import annotations

import math
import os
import re
import struct
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder, iter_pixels, pixel_array
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.dicom_elements import brief
from synthorax.io.dicom_planes import MOST_SCAN_VOXELS, Plane, Size, claimed_size, stored_pixels

LARGEST_EXPANSION = 100
"""Slices whose voxels take more than this many times their stored bytes are refused, beyond `FREE_BYTES`."""
FREE_BYTES = 2**28
"""Voxels of up to this many bytes (256 MiB) are decoded, whatever is stored."""
MOST_FRAME_BYTES = 2
"""A compressed frame may take this many times the bytes of its pixels, plus `FRAME_HEADER_BYTES`. More is refused,
because run-length coding can make 64 bytes of one."""
FRAME_HEADER_BYTES = 65_536
LOW, HIGH = -(2**15), 2**15 - 1
"""Range of int16."""
SIZE_OF_JPEG2000 = b"\xff\x4f\xff\x51"
"""First bytes of a JPEG 2000 codestream; the size of the picture follows."""
MOST_TILES = 4096
"""Most tiles of a JPEG 2000 picture; the largest slice has this many tiles of 64 x 64 pixels."""
STDERR = 2
HARMLESS_WARNING = re.compile("extraneous bytes before marker")
"""Warning of a decoder about bytes that it skips; the pixels are not affected."""
STARTS_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers of JPEG and JPEG-LS after which the size of the picture follows."""


def check_claims(planes: Sequence[Plane]) -> tuple[int, int]:
    """Check the sizes that headers claim, and return the rows and columns, which are the same in all slices.

    Raises:
        InputError: slices differ in size, have too many voxels together, or have more than their files can hold.
    """
    first, stored = planes[0], 0
    rows, columns = int(first.header.Rows), int(first.header.Columns)
    for header, plane in {id(plane.header): (plane.header, plane) for plane in planes}.values():
        size = claimed_size(plane.file, header)
        if (size.rows, size.columns) != (rows, columns):
            found = f"{size.rows} x {size.columns} pixels"
            raise InputError(plane.file, found, f"{rows} x {columns} pixels, as {first.file.name} has")
        stored += len(stored_pixels(header))
    voxels = len(planes) * rows * columns
    if voxels > MOST_SCAN_VOXELS:
        found = f"{len(planes)} slices of {rows} x {columns} pixels"
        raise InputError(first.file.parent, found, f"at most {MOST_SCAN_VOXELS} voxels")
    if 2 * voxels > max(FREE_BYTES, LARGEST_EXPANSION * stored):
        found = f"{stored} bytes of pixels for {voxels} voxels"
        raise InputError(first.file.parent, found, "a CT, whose voxels take more bytes")
    return rows, columns


def hounsfield(planes: Sequence[Plane]) -> tuple[NDArray[np.int16], list[str]]:
    """Decode slices to HU. HU are rounded, values beyond int16 are clipped, and padding becomes air.

    The stored pixels of each file are freed as soon as they are decoded.

    Args:
        planes: planes in the order of the z axis.

    Returns:
        HU, int16 [z, y, x], and notes on harmless warnings of decoders.

    Raises:
        InputError: pixels are damaged, were cut off, have another size than the header says, or have a coding that
            cannot be decoded.
    """
    rows, columns = check_claims(planes)
    voxels = np.empty((len(planes), rows, columns), np.int16)
    of_file: dict[int, list[int]] = {}
    complaints: Counter[str] = Counter()
    for index, plane in enumerate(planes):
        of_file.setdefault(id(plane.header), []).append(index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of faults that it mends
        for indices in of_file.values():
            complaints.update(_decode_file(planes, indices, voxels))
    return voxels, [f"the decoder warned about {count} files: {said}" for said, count in complaints.items()]


def _decode_file(planes: Sequence[Plane], indices: Sequence[int], voxels: NDArray[np.int16]) -> set[str]:
    """Decode the slices of one file into their places in `voxels`; return harmless warnings of the decoder."""
    file, header = planes[indices[0]].file, planes[indices[0]].header
    try:
        size = claimed_size(file, header)
        _check_stored(file, header, size)
        by_frame = {planes[index].frame or 0: index for index in indices}
        with overheard() as complaints:
            frames: Iterator[NDArray] = iter((pixel_array(header),)) if size.frames == 1 else iter_pixels(header)
            for frame, stored in enumerate(frames):
                if (index := by_frame.get(frame)) is None:
                    continue
                if stored.shape != voxels.shape[1:]:
                    raise InputError(file, f"pixels of shape {stored.shape}", f"{voxels.shape[1:]}, as its header says")
                padding = _padding(file, header, stored.dtype)
                _rescale(stored, planes[index].slope, planes[index].intercept, padding, out=voxels[index])
        harmful = [said for said in complaints if not HARMLESS_WARNING.search(said)]
        if harmful:
            raise InputError(file, f"pixels that are damaged ({brief(harmful[0], 120)})", "a readable CT slice")
    except InputError:
        raise
    except Exception as error:  # decoders raise errors of any kind over damaged pixels
        reason = brief(str(error).split("\n")[0], 120)
        raise InputError(file, f"pixels that cannot be decoded ({reason})", "a readable CT slice") from error
    header.pop("PixelData", None)
    return {re.sub("[0-9]+", "some", brief(said, 120)) for said in complaints}


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collect the lines that C libraries write to the standard error output instead of raising them."""
    said: list[str] = []
    try:
        kept = os.dup(STDERR)
    except OSError:  # it is closed
        yield said
        return
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), STDERR)
            try:
                yield said
            finally:
                os.dup2(kept, STDERR)
                file.seek(0)
                said += [line for line in file.read(4096).decode("ascii", "replace").splitlines() if line.strip()]
    finally:
        os.close(kept)


def _check_stored(file: Path, header: Dataset, size: Size) -> None:
    """Check the header's claims against the stored pixels, before memory is allocated for the decoded ones.

    Raises:
        InputError: there are too few bytes, the coding cannot be decoded, or a compressed picture has another size.
    """
    allocated, bits = int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)
    high_bit = int(header.get("HighBit", bits - 1))
    if allocated not in (8, 16, 32) or not 0 < bits <= allocated or high_bit != bits - 1:
        found = f"{bits} bits of {allocated}, the highest at {high_bit}"
        raise InputError(file, found, "pixels of 8, 16 or 32 bits, with HighBit = BitsStored - 1")
    if not (pixels := stored_pixels(header)):
        found = "no whole-number pixels; the file was cut off, or its pixels are floats"
        raise InputError(file, found, "a CT slice with pixels")
    frame_bytes = size.rows * size.columns * allocated // 8
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        syntax = header.file_meta.TransferSyntaxUID = _bare_syntax(header)
    if not _can_decode(UID(syntax)):
        expected = "a syntax that can be decoded; decompress it first, such as by `gdcmconv --raw IN OUT`"
        raise InputError(file, f"the transfer syntax {brief(UID(syntax).name)}", expected)
    if not UID(syntax).is_encapsulated:
        if len(pixels) < frame_bytes * size.frames:
            found = f"{len(pixels)} bytes of pixels; the file was cut off"
            raise InputError(file, found, f"{frame_bytes * size.frames} bytes, as its header says")
        return
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        header.pop(keyword, None)  # so that the decoder finds the same frames as the check below
    if not _is_whole(pixels):
        found = "compressed pixels of another length than they state; the file was cut off or damaged"
        raise InputError(file, found, "a whole slice; copy it again")
    for frame in generate_frames(pixels, number_of_frames=size.frames):
        if len(frame) > MOST_FRAME_BYTES * frame_bytes + FRAME_HEADER_BYTES:
            found = f"{len(frame)} compressed bytes for a slice of {frame_bytes} bytes"
            raise InputError(file, found, "a compressed slice")
        found_size = _picture_size(frame, UID(syntax))
        if found_size is not None and found_size != (size.rows, size.columns):
            found = f"a compressed picture of {found_size[0]} x {found_size[1]} pixels"
            raise InputError(file, found, f"{size.rows} x {size.columns} pixels, as its header says")


ITEM, SEQUENCE_DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


def _is_whole(fragments: bytes) -> bool:
    """Whether the fragments are whole: items that follow each other by their stated lengths (PS3.5, annex A.4)."""
    at = 0
    while at + 8 <= len(fragments):
        tag, length = fragments[at : at + 4], int.from_bytes(fragments[at + 4 : at + 8], "little")
        if tag == SEQUENCE_DELIMITER:
            return True
        if tag != ITEM:
            return False
        at += 8 + length
    return at == len(fragments)


def _can_decode(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _bare_syntax(header: Dataset) -> UID:
    """Return the transfer syntax of a data set whose file does not name one."""
    implicit, little = header.original_encoding
    return UID("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")


def _picture_size(frame: bytes, syntax: UID) -> tuple[int, int] | None:
    """Rows and columns stated inside a compressed picture; None for RLE, which states none.

    Raises:
        ValueError: the picture has colours or too many tiles, or is damaged.
    """
    if syntax in JPEG2000TransferSyntaxes:
        if not frame.startswith(SIZE_OF_JPEG2000):
            raise ValueError("no JPEG 2000 codestream")
        right, bottom, left, top, wide, high, tiles_left, tiles_top, colours = struct.unpack(">8IH", frame[8:42])
        tiles = math.prod(
            -(-(end - start) // max(size, 1))
            for end, start, size in ((right, tiles_left, wide), (bottom, tiles_top, high))
        )
        if colours != 1 or not 0 < tiles <= MOST_TILES:
            raise ValueError(f"a JPEG 2000 picture of {colours} colours and {tiles} tiles")
        return bottom - top, right - left
    if syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        return _jpeg_size(frame)
    return None


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns in the header of a grey JPEG or JPEG-LS picture; raises ValueError if there are none."""
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in STARTS_OF_FRAME:
            rows, columns, colours = struct.unpack(">HHB", frame[place + 5 : place + 10])
            if colours != 1:
                raise ValueError(f"a JPEG picture of {colours} colours")
            return rows, columns
        else:
            place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
    raise ValueError("no size in a JPEG picture")


def _rescale(
    stored: NDArray,
    slope: float,
    intercept: float,
    padding: tuple[int, int] | None,
    *,
    out: NDArray[np.int16],
) -> None:
    """Write stored values [y, x] into `out` as HU."""
    shift = int(intercept) if slope == 1 and float(intercept).is_integer() and abs(intercept) < 2**30 else None
    low, high = int(stored.min()), int(stored.max())
    if shift is not None and low + shift >= LOW and high + shift <= HIGH and stored.dtype.kind in "iu":
        # The sum may wrap in int16, but the result lies within int16, so that it is right.
        np.add(stored.astype(np.int16, copy=False), np.uint16(shift & 0xFFFF).astype(np.int16), out=out)
    else:
        with np.errstate(over="ignore"):
            values: NDArray[Any] = stored * np.float64(slope) + intercept
        np.clip(np.rint(values), LOW, HIGH, out=values)
        out[:] = values
    if padding is not None:
        first, last = padding
        if low <= last and high >= first:
            out[(stored >= first) & (stored <= last)] = AIR_HU


def _padding(file: Path, header: Dataset, dtype: np.dtype) -> tuple[int, int] | None:
    """Return the first and the last stored value that mark padding; None if values of `dtype` cannot be padding."""
    if "PixelPaddingValue" not in header:
        return None
    try:
        value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
        if value is None:
            return None
        if isinstance(value, bytes) and len(value) == 2:
            value = int.from_bytes(value, "little")  # written as OW
        ends = [int(value), int(value if limit is None else limit)]
    except Exception as error:  # pydicom raises errors of any kind over a damaged element
        raise InputError(file, "a PixelPaddingValue that cannot be read", "a whole number, or no element") from error
    # Some files write the element unsigned although pixels are signed, or signed although they are unsigned.
    bounds = np.iinfo(dtype)
    span = int(bounds.max) - int(bounds.min) + 1
    ends = [end - span if end > bounds.max else end + span if end < bounds.min else end for end in ends]
    return (min(ends), max(ends)) if all(bounds.min <= end <= bounds.max for end in ends) else None
