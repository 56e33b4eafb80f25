"""The patient, series and kind of a DICOM file, read from its header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from synthorax.errors import InputError
from synthorax.io.dicom_bounds import read_data_set
from synthorax.io.dicom_elements import brief, element_text, is_localizer

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
    )
]


@dataclass(frozen=True)
class About:
    """The patient, series and kind of a DICOM file. Text that is missing or cannot be read is empty.

    Attributes:
        series_uid, study_uid, sop_uid: SeriesInstanceUID, StudyInstanceUID and SOPInstanceUID.
        patient_id: PatientID.
        modality: such as CT, MR or SEG; empty for a DICOMDIR. An image of a CT class without Modality counts as CT.
        description: SeriesDescription.
        frame_of_reference: FrameOfReferenceUID.
        patient_name, birth_date: distinguish patients that share a patient id.
        sop_class: UID of the kind of object.
        orientation: ImageOrientationPatient; empty if it is missing, as in multi-frame images, or not usable.
        position_mm: ImagePositionPatient as written.
        series_number: SeriesNumber as written; distinguishes series that share a UID.
        number: InstanceNumber as written.
        is_localizer: whether the image is a localizer (an overview), not a slice.
    """

    series_uid: str
    patient_id: str
    modality: str
    description: str
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


def read_about(path: Path) -> About:
    """Read the patient, series and kind of a DICOM file, without its pixels.

    Raises:
        InputError: the file is not DICOM, cannot be read, or has no Modality.
    """
    header = read_data_set(path, pixels=False, only=ABOUT_TAGS)
    sop_class = element_text(header, "SOPClassUID") or element_text(header.file_meta, "MediaStorageSOPClassUID")
    modality = element_text(header, "Modality").upper().split("\\")[0]
    if sop_class in CT_CLASSES:
        modality = modality or "CT"
        if "Rows" not in header:
            raise InputError(path, "a CT image without Rows; its header was cut off or damaged", "a whole CT image")
    if not modality and sop_class != MediaStorageDirectoryStorage:
        name = brief(UID(sop_class).name) if sop_class else "no SOP class"
        raise InputError(path, f"no Modality ({name}); it was cut off or is not an image", "a CT, SEG or RTSTRUCT")
    return About(
        series_uid=element_text(header, "SeriesInstanceUID"),
        patient_id=element_text(header, "PatientID"),
        modality=modality,
        description=element_text(header, "SeriesDescription"),
        study_uid=element_text(header, "StudyInstanceUID"),
        frame_of_reference=element_text(header, "FrameOfReferenceUID"),
        patient_name=element_text(header, "PatientName"),
        birth_date=element_text(header, "PatientBirthDate"),
        sop_class=sop_class,
        sop_uid=element_text(header, "SOPInstanceUID"),
        orientation=_orientation(header),
        position_mm=element_text(header, "ImagePositionPatient"),
        series_number=element_text(header, "SeriesNumber"),
        number=element_text(header, "InstanceNumber"),
        is_localizer=is_localizer(header),
    )


def read_header(path: Path) -> Dataset:
    """Read the header of a DICOM file, without pixels.

    Raises:
        InputError: the file is not DICOM, or cannot be read.
    """
    return read_data_set(path, pixels=False)


def read_whole(path: Path) -> Dataset:
    """Read the data set of a DICOM file, with its pixels as they are stored.

    Raises:
        InputError: the file is not DICOM, cannot be read, or inflates to too many bytes.
    """
    return read_data_set(path, pixels=True)


def _orientation(header: Dataset) -> tuple[float, ...]:
    """Return the six direction cosines of an image if they are two orthogonal unit vectors, otherwise ()."""
    try:
        cosines = tuple(float(v) for v in header.get("ImageOrientationPatient") or ())
        a, b, c, d, e, f = cosines
    except Exception:  # too few numbers, or any error of pydicom's conversion
        return ()
    is_orthogonal = max(abs(a * d + b * e + c * f), abs(a**2 + b**2 + c**2 - 1), abs(d**2 + e**2 + f**2 - 1)) < 1e-3
    return cosines if is_orthogonal else ()
