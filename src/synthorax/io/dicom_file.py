"""One DICOM file: whether it is one, what it is, and its data set, read within bounds."""

from __future__ import annotations

import mmap
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import ENCODED_VR, read_partial
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from synthorax.errors import InputError
from synthorax.io.contents import what_is
from synthorax.io.limits import MOST_BYTES, check_file
from synthorax.io.walk import not_regular

PREAMBLE_BYTES = 128
PREFIX = b"DICM"
MOST_FILE_BYTES = MOST_BYTES + 2**27
"""A DICOM file of more bytes is refused: the largest multi-frame CT has 1 GiB of pixels."""
MAPPED_BYTES = 2**26
"""A file of more bytes is mapped instead of read into memory."""
MOST_READS = 500_000
"""A data set of more reads is refused. A CT slice takes some 300, a multi-frame CT some 100 for each frame."""
MOST_ITEMS = 150_000
"""A data set of more sequence items is refused: pydicom takes 14 microseconds and a kilobyte for an empty one."""
FEW_BYTES = 2**20
"""A file of fewer bytes cannot hold `MOST_ITEMS` items, and they are not counted."""
MOST_HEADER_BYTES = 2**24
"""Bytes before the pixels at most: items are counted in them, and no more are inflated for a header."""
CHUNK_BYTES = 2**20
INFLATED_BYTES = 2**26
MOST_INFLATION = 50
"""A data set that inflates to more than 64 MiB and 50 times its file is refused; CT inflates 2 to 5 times."""
CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""SOP classes whose slices can be read as a volume."""
ABOUT_TAGS: list[Any] = [
    Tag(keyword)
    for keyword in (
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "Modality",
        "SeriesDescription",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "FrameOfReferenceUID",
        "NumberOfFrames",
        "Rows",
        "ReferencedSeriesSequence",
        "ReferencedFrameOfReferenceSequence",
    )
]
REFERENCES = {
    "SEG": ("ReferencedSeriesSequence",),
    "RTSTRUCT": ("ReferencedFrameOfReferenceSequence", "RTReferencedStudySequence", "RTReferencedSeriesSequence"),
}
"""Where masks name the series that they were drawn on."""
BARE_GROUPS = (0x0002, 0x0008)
"""Groups of elements that a data set without preamble begins with."""
BINARY_VRS = ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UN")


@dataclass(frozen=True)
class About:
    """What a DICOM file is. Text that is missing or cannot be read is empty.

    Attributes:
        modality: such as CT, MR, SEG; empty for a directory of other files. A CT image that does not say so is CT.
        refers_to: UID of the series that a SEG or RTSTRUCT was drawn on.
        patient_name, birth_date: of the patient, to tell patients apart whose ids are alike.
        sop_class: UID of the kind of object.
        orientation: ImageOrientationPatient; empty where it has none, as multi-frame images, or no usable one.
        position_mm: ImagePositionPatient as written.
        series_number: SeriesNumber as written, to tell series apart whose UIDs are alike.
        number: InstanceNumber as written.
        is_localizer: whether it is an overview image, which is no slice.
    """

    series_uid: str
    patient_id: str
    modality: str
    description: str
    refers_to: str
    study_uid: str = ""
    frame_of_reference: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sop_class: str = ""
    sop_uid: str = ""
    orientation: tuple[float, ...] = ()
    position_mm: str = ""
    series_number: str = ""
    number: str = ""
    is_localizer: bool = False


class _Deflated(Exception):
    """What follows is deflated; raised instead of inflating it without bounds."""


class _TooMuch(Exception):
    """More elements than a data set has."""


class _Counted:
    """Counts reads, and refuses to read to the end, which pydicom does only to inflate."""

    left = MOST_READS
    plain_read: Callable[..., bytes]

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise _Deflated
        self.left -= 1
        if self.left < 0:
            raise _TooMuch
        return self.plain_read(size)


class _Memory(_Counted, BytesIO):
    plain_read = BytesIO.read


class _Opened(_Counted, BufferedReader):
    plain_read = BufferedReader.read


class _Mapped(_Counted, mmap.mmap):
    plain_read = mmap.mmap.read


def is_dicom(path: Path) -> bool:
    """Whether a regular file has the DICOM preamble, or begins as a data set that is stored without one."""
    if not_regular(path):
        return False
    with open(path, "rb") as file:
        return _is_dicom(file.read(PREAMBLE_BYTES + len(PREFIX)))


def what_else(path: Path) -> str:
    """What a file is that is no DICOM, in words: `an empty file`, `a PDF document`, `text`."""
    if kind := what_is(path):
        return kind
    size = path.stat().st_size
    return (
        f"{size} bytes that are no DICOM; it was cut off" if size <= PREAMBLE_BYTES + len(PREFIX) else "no DICOM file"
    )


def read_about(path: Path) -> About:
    """What a DICOM file is, without reading all of it.

    Raises:
        InputError: it is no DICOM file, or cannot be read.
    """
    header = _read(path, pixels=False, only=ABOUT_TAGS)
    sop_class = text(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")
    modality = text(header, "Modality").upper().split("\\")[0]
    if sop_class in CT_CLASSES:
        modality = modality or "CT"
        if "Rows" not in header:
            raise InputError(path, "a CT image without rows; its header was cut off or damaged", "a whole one")
    if not modality and sop_class != MediaStorageDirectoryStorage:
        name = brief(UID(sop_class).name) if sop_class else "no SOP class"
        raise InputError(path, f"no Modality ({name}); it was cut off, or is no image", "a CT, SEG or RTSTRUCT")
    return About(
        series_uid=text(header, "SeriesInstanceUID"),
        patient_id=text(header, "PatientID"),
        modality=modality,
        description=text(header, "SeriesDescription"),
        refers_to=_referred(header, REFERENCES.get(modality, ())),
        study_uid=text(header, "StudyInstanceUID"),
        frame_of_reference=text(header, "FrameOfReferenceUID"),
        patient_name=text(header, "PatientName"),
        birth_date=text(header, "PatientBirthDate"),
        sop_class=sop_class,
        sop_uid=text(header, "SOPInstanceUID"),
        orientation=_orientation(header),
        position_mm=text(header, "ImagePositionPatient"),
        series_number=text(header, "SeriesNumber"),
        number=text(header, "InstanceNumber"),
        is_localizer=is_localizer(header),
    )


def read_header(path: Path) -> Dataset:
    """The header of a DICOM file, without pixels.

    Raises:
        InputError: it is no DICOM file, or cannot be read.
    """
    return _read(path, pixels=False)


def read_whole(path: Path) -> Dataset:
    """The data set of a DICOM file, with its pixels as they are stored.

    Raises:
        InputError: it is no DICOM file, cannot be read, or inflates beyond all measure.
    """
    return _read(path, pixels=True)


def is_localizer(header: Dataset) -> bool:
    """Whether an image is an overview, not a slice."""
    return "LOCALIZER" in text(header, "ImageType").upper().split("\\")


def text(header: Dataset, keyword: str) -> str:
    r"""An element as text, as it is written: several values with `\` between them; empty if there is none.

    Bytes that its character set does not have, and characters that a terminal obeys, become `?`.
    """
    tag = tag_for_keyword(keyword) or 0
    raw: Any = header.get_item(tag)
    stored = raw.value if isinstance(raw, RawDataElement) else None
    is_plain = isinstance(stored, bytes) and stored.isascii() and b"\x1b" not in stored
    if stored is not None and is_plain and (raw.VR or dictionary_VR(tag)) not in BINARY_VRS:
        return _printable(stored.decode("ascii"))
    try:
        value = header.get(keyword)
        if value is None:
            return ""
        return _printable("\\".join(str(part) for part in value) if isinstance(value, MultiValue) else str(value))
    except Exception:  # pydicom raises whatever its conversion stumbles over.
        return _printable((stored or b"").decode("ascii", "replace"))


def brief(text: str, most: int = 64) -> str:
    """The start of a text, for a message."""
    return text if len(text) <= most else text[: most - 3] + "..."


def _printable(text: str) -> str:
    """Text without the characters that a terminal obeys and those that were not decoded: `?` in their place."""
    text = text.strip(" \0")
    if text.isprintable() and "\ufffd" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text)


def numbers(file: Path, header: Dataset, keyword: str, count: int) -> NDArray[np.float64]:
    """The numbers of an element.

    Raises:
        InputError: it is missing, or does not hold `count` finite numbers.
    """
    plural = f"{count} number{'s' * (count > 1)}"
    try:
        value = header.get(keyword)
        value = [] if value is None else [value] if isinstance(value, (str, int, float)) else list(value)
        values = np.array([float(v) for v in value])
    except Exception as error:  # pydicom raises whatever its conversion stumbles over.
        written = text(header, keyword)
        raise InputError(file, f"{keyword} {brief(written)!r}", f"{plural} with decimal points") from error
    if not len(values):
        raise InputError(file, f"no {keyword}", "a slice that has it")
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(file, f"{keyword} {brief(str(values.tolist()))}", f"{plural}, and finite")
    return values


def _is_dicom(head: bytes) -> bool:
    return head[PREAMBLE_BYTES:] == PREFIX or head.startswith(PREFIX) or _begins_bare(head)


def _begins_bare(head: bytes) -> bool:
    """Whether bytes begin as the first element of a data set does: a known tag, then a VR or a short length."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[i : i + 2], order) for i in (0, 2))
        if group in BARE_GROUPS and (element == 0 or dictionary_has_tag(group << 16 | element)):
            return head[4:6] in ENCODED_VR or int.from_bytes(head[4:8], order) <= 1024
    return False


def _read(path: Path, *, pixels: bool, only: list[Any] | None = None) -> Dataset:
    size = check_file(path, "a DICOM file", most_bytes=MOST_FILE_BYTES)
    source: Any
    if size > MAPPED_BYTES:
        with open(path, "rb") as file:
            source = _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    else:
        # From memory: a damaged length then reads what there is instead of allocating what it says.
        source = _Memory(path.read_bytes()) if pixels else _Opened(FileIO(os.fspath(path)))
    with source, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _parsed(path, source, size, pixels=pixels, only=only)


def _parsed(path: Path, source: BinaryIO, size: int, *, pixels: bool, only: list[Any] | None) -> Dataset:
    head = source.read(PREAMBLE_BYTES + len(PREFIX))
    if not _is_dicom(head):
        raise InputError(path, what_else(path), "a DICOM file")
    try:
        source.seek(len(PREFIX) if head.startswith(PREFIX) else 0)
        if size > FEW_BYTES:
            _check_items(path, source)
        try:
            header = read_partial(source, _at_zeros if pixels else _at_pixels, force=True, specific_tags=only)
            if not len(header) and not only:  # pydicom drops all of a data set whose last element has no end
                raise InputError(path, "a DICOM file that was cut off", "a whole one")
            return header
        except _Deflated:
            start = source.tell()
            source.seek(0)
            meta = source.read(start)
            return _inflated(path, meta, source, pixels=pixels, only=only)
    except InputError:
        raise
    except OSError:
        raise
    except _TooMuch as error:
        raise InputError(path, f"more than {MOST_READS} elements", "a DICOM file of fewer") from error
    except Exception as error:  # pydicom lets through whatever its parser stumbles over.
        raise InputError(path, "a damaged DICOM file", "a readable one") from error


def _inflated(path: Path, meta: bytes, source: BinaryIO, *, pixels: bool, only: list[Any] | None) -> Dataset:
    """The data set that was deflated: its bytes behind a file meta group that says so no more."""
    inflater, data, taken, most = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), 0, MOST_HEADER_BYTES
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
        raise InputError(path, "a damaged DICOM file", "a readable one") from error
    if is_too_much and not stopped:
        raise InputError(path, f"{taken} bytes that inflate to more than {most}", "a CT, which inflates less")
    return header


def _check_items(path: Path, source: BinaryIO) -> None:
    """Refuse more sequence items than a data set has, before each becomes an object."""
    start = source.tell()
    head = source.read(MOST_HEADER_BYTES)
    source.seek(start)
    if max(head.count(b"\xfe\xff\x00\xe0"), head.count(b"\xff\xfe\xe0\x00")) > MOST_ITEMS:
        raise InputError(path, f"more than {MOST_ITEMS} sequence items", "a DICOM file of fewer")


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00010, 0x7FE00009, 0x7FE00008) or tag == 0


def _at_zeros(tag: int, vr: str | None, length: int) -> bool:
    """Whether zeros follow, which pad a file to a whole number of blocks."""
    return tag == 0


def _orientation(header: Dataset) -> tuple[float, ...]:
    """The six direction cosines of an image, if they are of two orthogonal directions; else none."""
    try:
        cosines = tuple(float(v) for v in header.get("ImageOrientationPatient") or ())
        a, b, c, d, e, f = cosines
    except Exception:  # too few numbers, or whatever pydicom's conversion stumbles over
        return ()
    is_orthogonal = max(abs(a * d + b * e + c * f), abs(a**2 + b**2 + c**2 - 1), abs(d**2 + e**2 + f**2 - 1)) < 1e-3
    return cosines if is_orthogonal else ()


def _referred(header: Dataset, sequences: Sequence[str]) -> str:
    """The series UID at the end of a chain of sequences; empty if the chain is broken."""
    try:
        for name in sequences:
            header = header.get(name)[0]
    except Exception:  # no such sequence, an empty one, or a damaged one
        return ""
    return text(header, "SeriesInstanceUID") if sequences else ""
