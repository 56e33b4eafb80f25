"""The header elements that a derived DICOM series keeps of its source, in a form that may be written."""

from __future__ import annotations

import math
import re
import warnings
from datetime import datetime
from io import BytesIO
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import format_number_as_ds

from synthorax.io.dicom import CtSeries
from synthorax.io.dicom_elements import element_text

ACQUISITION = (
    "KVP",
    "SliceThickness",
    "DataCollectionDiameter",
    "ReconstructionDiameter",
    "ConvolutionKernel",
    "FilterType",
    "XRayTubeCurrent",
    "ExposureTime",
    "Exposure",
    "PatientPosition",
    "BodyPartExamined",
)
"""Elements that describe how a scan was acquired, without the patient's identity; always kept."""
IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)
"""Elements that are also kept if the patient's identity is to be kept."""
UID_CHARACTERS = re.compile(r"[0-9.]{1,64}")
"""A UID of these characters is kept. DICOM forbids parts that begin with 0, but other files refer to such UIDs too."""
ENUMERATED = {"PatientSex": ("M", "F", "O")}
"""Elements for which DICOM lists the only allowed values; no segmentation of a series with another can be written."""
SIMPLE_TEXT = ("AS", "CS", "DA", "DS", "IS", "TM", "UI")
"""Value representations (VRs) that hold only ASCII, so that the character set of the file does not matter."""


def kept_elements(source: CtSeries, *, keep_identity: bool) -> tuple[Dataset, tuple[str, ...]]:
    """Copy the header elements that a derived series keeps of its source.

    An element whose value DICOM does not allow, such as a tube voltage `120kV` or a birth date `anonymous`, is left
    out, with a note that does not repeat the value.

    Args:
        source: series from which the other is derived.
        keep_identity: copy `IDENTITY` too, not only `ACQUISITION`.

    Returns:
        A data set that can be written, and the notes.
    """
    kept, notes = Dataset(), []
    for keyword in ACQUISITION + IDENTITY * keep_identity:
        if not element_text(source.header, keyword):
            continue  # the writer sets a value of its own, or leaves the element out
        try:
            kept.add(_legal(source.header, keyword))
        except Exception:  # pydicom's conversion and its writer raise errors of any kind
            vr = dictionary_VR(tag_for_keyword(keyword) or 0)
            notes.append(f"{keyword} of the source is no legal value of DICOM's type {vr} and was not copied")
    return kept, tuple(notes)


def _legal(header: Dataset, keyword: str) -> DataElement:
    """Return the element in a form that may be written.

    Raises:
        Exception: of any kind, if there is no such form.
    """
    tag = tag_for_keyword(keyword) or 0
    vr = dictionary_VR(tag)
    with warnings.catch_warnings():
        # A warning means that pydicom could not decode text. It also warns of numbers and UIDs that can be kept.
        warnings.simplefilter("ignore" if vr in SIMPLE_TEXT else "error")
        value = header[keyword].value
        if vr not in SIMPLE_TEXT and not str(value or "").isascii():
            _check_character_set(header)
        if isinstance(value, MultiValue) and dictionary_VM(tag) == "1":
            raise ValueError("several values of one")
        values = list(value) if isinstance(value, MultiValue) else [] if value is None else [value]
        made = [_legal_value(vr, one) for one in values]
        if any(one and one not in ENUMERATED.get(keyword, (one,)) for one in made):
            raise ValueError("none of the values that are allowed")
        element = DataElement(
            tag,
            vr,
            made if len(made) > 1 else made[0] if made else None,
            validation_mode=config.IGNORE if vr == "UI" else config.RAISE,
        )
        trial = Dataset()
        trial.SpecificCharacterSet = "ISO_IR 192"
        trial.add(element)
        trial.save_as(BytesIO(), implicit_vr=False, little_endian=True, enforce_file_format=False)
    return element


def _check_character_set(header: Dataset) -> None:
    """Refuse a header with non-ASCII text whose character set is missing or unknown."""
    sets = element_text(header, "SpecificCharacterSet").split("\\")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert_encodings(sets)
    if set(sets) <= {"", "ISO_IR 6", "ISO 2022 IR 6"} or any("Unknown encoding" in str(one.message) for one in caught):
        raise ValueError("characters without a character set")


def _legal_value(vr: str, value: Any) -> str | int:
    """A value in legal form: a whole number for IS, text for other VRs. Raises ValueError if it has none."""
    written = str(value).strip(" \0")
    if "\ufffd" in written or not written.isprintable():
        raise ValueError("text that was not decoded")
    if not written:
        return written
    if vr in ("DS", "IS"):
        number = float(written)
        if not math.isfinite(number):
            raise ValueError("not a finite number")
        if vr == "IS":
            if number != int(number):
                raise ValueError("not a whole number")
            return int(number)
        return written if len(written) <= 16 else format_number_as_ds(number)
    if vr == "DA":
        datetime.strptime(written, "%Y%m%d")
    if vr == "UI" and not UID_CHARACTERS.fullmatch(written):
        raise ValueError("not a UID")
    return written
