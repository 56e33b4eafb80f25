"""What a series that is made from another keeps of its header, in a form that may be written."""

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
"""How a scan was acquired; nothing of whose it is."""
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
"""What is kept besides where the patient's identity is asked for."""
UID_CHARACTERS = re.compile(r"[0-9.]{1,64}")
"""UIDs are kept if they are of these, although a part that begins with 0 is not legal: others refer to them so."""
ENUMERATED = {"PatientSex": ("M", "F", "O")}
"""Values that DICOM allows where it allows no others; segmentations of a series with others cannot be written."""
SIMPLE_TEXT = ("AS", "CS", "DA", "DS", "IS", "TM", "UI")
"""VRs of digits and Latin letters, which no character set changes."""


def kept_elements(source: CtSeries, *, keep_identity: bool) -> tuple[Dataset, tuple[str, ...]]:
    """Copy the elements that a series made from another keeps.

    An element whose value DICOM does not allow, such as a tube voltage `120kV` or a birth date `anonymous`, is left
    out, and a note says so without the value.

    Returns:
        A data set that can be written, and the notes.
    """
    kept, notes = Dataset(), []
    for keyword in ACQUISITION + IDENTITY * keep_identity:
        if not element_text(source.header, keyword):
            continue  # what is written has a value of its own, or none
        try:
            kept.add(_legal(source.header, keyword))
        except Exception:  # pydicom raises whatever its conversion and its writer stumble over.
            vr = dictionary_VR(tag_for_keyword(keyword) or 0)
            notes.append(f"{keyword} of the source is no legal value of DICOM's type {vr} and was not copied")
    return kept, tuple(notes)


def _legal(header: Dataset, keyword: str) -> DataElement:
    """An element as it may be written.

    Raises:
        Exception: it may not; of whatever kind pydicom raises.
    """
    tag = tag_for_keyword(keyword) or 0
    vr = dictionary_VR(tag)
    with warnings.catch_warnings():
        # pydicom warns of text that it cannot decode, and goes on; of numbers and UIDs it warns too often.
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
    """Refuse characters beyond ASCII whose character set is not named, or is not known."""
    sets = element_text(header, "SpecificCharacterSet").split("\\")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        convert_encodings(sets)
    if set(sets) <= {"", "ISO_IR 6", "ISO 2022 IR 6"} or any("Unknown encoding" in str(one.message) for one in told):
        raise ValueError("characters without a character set")


def _legal_value(vr: str, value: Any) -> str | int:
    """One value as text or whole number."""
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
