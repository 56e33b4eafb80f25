"""CT series and segmentations written as DICOM, which say inside that they are synthetic."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file, atomic_folder
from synthorax.io.dicom import CtSeries
from synthorax.io.dicom_elements import element_text
from synthorax.io.dicom_kept import kept_elements
from synthorax.provenance import (
    ANONYMOUS_PATIENT,
    MANIFEST,
    SYNTHETIC_PATIENT,
    fingerprint,
    patient_key,
    write_manifest,
)
from synthorax.region import Region
from synthorax.volume import Volume

MANUFACTURER = "synthorax"
NO_DATE = "19700101"
"""Date of a segmentation, which must have one; today's would make it differ from the same one made tomorrow."""
MOST_SEG_LABELS = 255
SAME_GRID_MM = 0.01
"""Distance within which the ends of a segmentation must lie at the ends of its series."""
CONTRIBUTING_EQUIPMENT = 0x0018A001


def write_ct_series(
    folder: Path,
    volume: Volume,
    *,
    mark: str | None,
    source: CtSeries | None = None,
    keep_identity: bool = False,
    description: str = "",
    sidecar: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Dataset]:
    """Write a volume as a CT series, a file a slice, all or nothing; the same volume gives the same bytes.

    Without `keep_identity`, the patient is named by `patient_key` of the source's patient, and the UIDs of study and
    frame of reference are hashes of the source's: what is made from one study lies together, and what is made from
    one patient's scans is one patient's. Series and slices have UIDs of their own, by the voxels.

    Args:
        volume: HU, rounded to whole numbers.
        mark: the synthetic mark; None for voxels that are a patient's.
        source: the series that the volume was made from. `dicom_kept.kept_elements` tells what of its header is kept.
        keep_identity: keep its patient, study and frame of reference, so that it lies beside the source in a PACS.
        description: of the series.
        sidecar: written into the folder as manifest.json.

    Returns:
        The slices' headers, without pixels, as a segmentation refers to them.

    Raises:
        InputError: the folder is not ours to replace.
        OutputError: it cannot be written.
    """
    hu = np.clip(np.rint(volume.voxels), -(2**15), 2**15 - 1).astype("<i2")
    whose = "" if source is None else source.series_uid if keep_identity else patient_key(source.patient)
    content = fingerprint(hu.tobytes() + repr((volume.affine.tolist(), mark, whose)).encode())
    with _quiet():
        common = _common(volume, content, mark, source, keep_identity, description)
    headers: list[Dataset] = []
    with atomic_folder(folder, overwrite=overwrite) as target, _quiet():
        for index, pixels in enumerate(hu):
            header = _sharing(common)
            header.SOPInstanceUID = generate_uid(entropy_srcs=[content, "slice", str(index)])
            header.InstanceNumber = index + 1
            header.ImagePositionPatient = _decimals(volume.to_world([index, 0, 0]))
            headers.append(header)
            whole = _sharing(header)
            whole.PixelData = pixels.tobytes()
            whole.save_as(target / f"{index + 1:04d}.dcm", enforce_file_format=True)
        if sidecar is not None:
            write_manifest(target / MANIFEST, dict(sidecar))
    return headers


def write_segmentation(
    path: Path,
    labels: Volume,
    series: Sequence[Dataset],
    names: Sequence[str],
    *,
    mark: str | None,
    what: Literal["Nodules", "Edit region"] = "Nodules",
    regions: Sequence[Region] = (),
) -> None:
    """Write a label map as a DICOM segmentation of a CT series, a binary segment a label.

    Args:
        labels: whole numbers; 1 is the first of `names`, and so on; 0 is none. The voxels of the series.
        series: headers of its slices, in the order of the labels' z axis.
        what: they are; an edit region is not to be taken for a nodule.
        regions: the voxels of each label, where they overlap; those of the label map if not given.

    Raises:
        InputError: no label set, labels without names, or another grid than the series'.
        OutputError: the file cannot be written.
    """
    import highdicom as hd

    if not labels.voxels.any():
        raise InputError("segmentation", "no label set", "a label map")
    low, high = int(labels.voxels.min()), int(labels.voxels.max())
    if not 0 <= low <= high <= min(len(names), MOST_SEG_LABELS):
        raise InputError("segmentation", f"labels {low} to {high}", f"0 to {len(names)}, the names")
    _check_on_series(labels, series)
    marked = np.flatnonzero(labels.voxels.any((1, 2)))
    covered = slice(int(marked[0]), int(marked[-1]) + 1)  # slices without a label have no frame and cost time
    series, values = series[covered], np.asarray(labels.voxels[covered], np.uint8)
    segments_zyx = [
        regions[number - 1].within((covered.start, 0, 0), values.shape) if regions else values == number
        for number in range(1, len(names) + 1)
    ]
    content = fingerprint(values.tobytes() + str(series[0].SeriesInstanceUID).encode())
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MANUFACTURER, family=codes.DCM.ArtificialIntelligence, version=version("synthorax")
    )
    category, property_type, offset = (
        (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Nodule, 1)
        if what == "Nodules"
        else (codes.SCT.SpatialAndRelationalConcept, codes.DCM.ImageRegion, 2)
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=category,
            segmented_property_type=property_type,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=generate_uid(entropy_srcs=[content, "track", str(number)]),
            tracking_id=name[:64],
        )
        for number, name in enumerate(names, start=1)
    ]
    with _quiet():
        made = hd.seg.Segmentation(
            source_images=list(series),
            pixel_array=np.stack(segments_zyx, axis=-1).astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=generate_uid(entropy_srcs=[content, "series"]),
            series_number=int(series[0].SeriesNumber) + offset,
            sop_instance_uid=generate_uid(entropy_srcs=[content, "instance"]),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=version("synthorax"),
            device_serial_number="0",
            content_label=what.upper().replace(" ", "_"),
            series_description=what,
        )
    _without_chance(made, content)
    if mark:
        made.SyntheticData = "YES"
        made.add(DataElement(CONTRIBUTING_EQUIPMENT, "SQ", [_equipment(mark)]))
    with atomic_file(path) as file, _quiet():
        made.save_as(file, enforce_file_format=True)


def _without_chance(segmentation: Dataset, content: str) -> None:
    """Take out what differs each time the same segmentation is made: its UID of dimensions, and the time of day."""
    uid = generate_uid(entropy_srcs=[content, "dimensions"])
    for sequence in (segmentation.DimensionOrganizationSequence, segmentation.DimensionIndexSequence):
        for item in sequence:
            item.DimensionOrganizationUID = uid
    segmentation.ContentDate, segmentation.ContentTime = NO_DATE, "000000"
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        if name in segmentation:
            delattr(segmentation, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore warnings of values that are kept as the source has them, such as a UID with a leading zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_on_series(labels: Volume, series: Sequence[Dataset]) -> None:
    """Refuse labels that do not lie on the slices of a series."""
    slices, rows, columns = labels.shape
    if (len(series), int(series[0].Rows), int(series[0].Columns)) != (slices, rows, columns):
        found = f"{slices} slices of {rows} x {columns}"
        raise InputError("segmentation", found, f"{len(series)} of {series[0].Rows} x {series[0].Columns}, the series'")
    places = labels.to_world([[0, 0, 0], [slices - 1, 0, 0]])
    theirs = np.array([header.ImagePositionPatient for header in (series[0], series[-1])], float)
    if np.abs(places - theirs).max() > SAME_GRID_MM:
        raise InputError(
            "segmentation", f"slices from {places[0].tolist()} mm", f"{theirs[0].tolist()} mm, the series'"
        )


def _sharing(header: Dataset) -> Dataset:
    """A header with the very elements of another, to add some to; copies of them would take half of the time."""
    new = Dataset(dict(header.items()))
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return new


def _common(
    volume: Volume, content: str, mark: str | None, source: CtSeries | None, keep_identity: bool, description: str
) -> Dataset:
    """The header that all slices share."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = CTImageStorage
    header.Modality = "CT"
    header.Manufacturer = header.ManufacturerModelName = MANUFACTURER
    header.SoftwareVersions = version("synthorax")
    header.InstitutionName = ""
    for name in ("StudyDate", "StudyTime", "ContentDate", "ContentTime", "AccessionNumber", "ReferringPhysicianName"):
        setattr(header, name, "")
    header.StudyID = ""
    key = content[:12] if source is None else patient_key(source.patient) or content[:12]
    prefix = SYNTHETIC_PATIENT if mark else ANONYMOUS_PATIENT
    header.PatientID, header.PatientName = prefix + key, prefix.replace("-", "^") + key
    header.PatientBirthDate = header.PatientSex = ""
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = f"identity replaced by {MANUFACTURER}"
    study = content if source is None else source.study_uid or source.series_uid or content
    frame = study if source is None else element_text(source.header, "FrameOfReferenceUID") or study
    header.StudyInstanceUID = generate_uid(entropy_srcs=[key, study, "study"])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[key, study, frame, "frame"])
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[content, "series"])
    header.SeriesNumber = 9001
    header.SeriesDescription = (description or ("Synthetic" if mark else "Derived"))[:64]
    header.PositionReferenceIndicator = ""
    header.PatientPosition = "HFS"
    header.BodyPartExamined = "CHEST"
    header.KVP = None
    header.AcquisitionNumber = None
    header.SliceThickness = _decimals(volume.spacing_mm[:1])[0]
    if source is not None:
        header.update(kept_elements(source, keep_identity=keep_identity)[0])
        if keep_identity:
            del header.PatientIdentityRemoved, header.DeidentificationMethod
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    if mark:
        header.SyntheticData = "YES"
        header.DerivationDescription = mark
        header.ImageComments = mark
        header.add(DataElement(CONTRIBUTING_EQUIPMENT, "SQ", [_equipment(mark)]))
    rows, columns = volume.shape[1:]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = rows, columns
    header.PixelSpacing = _decimals(volume.spacing_mm[1:])
    header.SpacingBetweenSlices = _decimals(volume.spacing_mm[:1])[0]
    header.ImageOrientationPatient = _decimals(volume.direction[:, :2].T.ravel())
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = 0, 1, "HU"
    header.WindowCenter, header.WindowWidth = -600, 1500
    return header


def _equipment(mark: str) -> Dataset:
    """An item of the Contributing Equipment Sequence: what synthesised these voxels (CID 7005)."""
    purpose, item = Dataset(), Dataset()
    code = codes.cid7005.SynthesizingEquipment
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = (
        code.value,
        code.scheme_designator,
        code.meaning,
    )
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = item.ManufacturerModelName = MANUFACTURER
    item.SoftwareVersions = version("synthorax")
    item.ContributionDescription = mark
    return item


def _decimals(values: Iterable[float]) -> list[str]:
    """Numbers as DICOM's decimal strings of at most 16 characters."""
    return [format_number_as_ds(float(v)) for v in values]
