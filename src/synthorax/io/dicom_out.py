"""Writing CT series and segmentations as DICOM, with the synthetic mark in their headers."""

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
"""Date of every segmentation. DICOM requires a date, and today's would change the bytes from one day to the next."""
MOST_SEG_LABELS = 255
SAME_GRID_MM = 0.01
"""The first and the last slice of a segmentation must lie within this distance of those of its series."""
CONTRIBUTING_EQUIPMENT = 0x0018A001


def write_ct_series(
    folder: Path,
    volume: Volume,
    *,
    mark: str | None,
    source: CtSeries | None = None,
    patient_id: str = "",
    keep_identity: bool = False,
    description: str = "",
    sidecar: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Dataset]:
    """Write a volume as a CT series with a file for each slice, whole or not at all; same volume, same bytes.

    Without `keep_identity`, the patient is named by the `patient_key` of the source's patient, and the UIDs of study
    and frame of reference are hashes of the source's UIDs. So series made from one study belong to one study, and
    series made from one patient's scans to one patient. The UIDs of series and slices are hashes of the voxels.

    Args:
        folder: folder to write.
        volume: HU [z, y, x], rounded to whole numbers.
        mark: the synthetic mark; None for a patient's own voxels.
        source: series from which the volume was made; `dicom_kept.kept_elements` copies elements of its header.
        patient_id: patient whose image the volume was made from, if there is no `source`.
        keep_identity: keep the patient, study and frame of reference of the source, to lie beside it in a PACS.
        description: description of the series.
        sidecar: content of the folder's `manifest.json`; not written if None.
        overwrite: replace a folder that an earlier call made.

    Returns:
        The slices' headers, without pixels, to which a segmentation refers.

    Raises:
        InputError: the folder may not be replaced.
        OutputError: the folder cannot be written.
    """
    hu = np.clip(np.rint(volume.voxels), -(2**15), 2**15 - 1).astype("<i2")
    patient = patient_id if source is None else source.patient
    whose = source.series_uid if source is not None and keep_identity else patient_key(patient)
    content = fingerprint(hu.tobytes() + repr((volume.affine.tolist(), mark, whose)).encode())
    with _quiet():
        common = _common(volume, content, mark, source, patient, keep_identity, description)
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
    """Write a label map as a DICOM segmentation of a CT series, with a binary segment for each label.

    Args:
        path: file to write.
        labels: whole numbers [z, y, x] on the voxels of the series; label 1 has the first of `names`, and so on.
        series: headers of the series' slices, in the order of the labels' z axis.
        names: names of the labels.
        mark: the synthetic mark; None for a patient's own nodules.
        what: kind of the segments; edit regions are coded so that no program takes them for nodules.
        regions: voxels of each label, for labels that overlap; taken from the label map if not given.

    Raises:
        InputError: no voxel has a label, a label has no name, or the labels' grid is not that of the series.
        OutputError: the file cannot be written.
    """
    import highdicom as hd

    if not labels.voxels.any():
        raise InputError("segmentation", "no labelled voxel", "a label map with labels")
    low, high = int(labels.voxels.min()), int(labels.voxels.max())
    if not 0 <= low <= high <= min(len(names), MOST_SEG_LABELS):
        raise InputError("segmentation", f"labels {low} to {high}", f"labels 0 to {len(names)}, one for each name")
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
    """Replace the random UID of the dimensions and the time of writing, so that the same labels give the same bytes."""
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
    """Ignore warnings about values that are kept as the source has them, such as a UID with a leading zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_on_series(labels: Volume, series: Sequence[Dataset]) -> None:
    """Refuse labels that do not lie on the slices of a series."""
    slices, rows, columns = labels.shape
    if (len(series), int(series[0].Rows), int(series[0].Columns)) != (slices, rows, columns):
        found = f"{slices} slices of {rows} x {columns}"
        expected = f"{len(series)} slices of {series[0].Rows} x {series[0].Columns}, as the series has"
        raise InputError("segmentation", found, expected)
    places = labels.to_world([[0, 0, 0], [slices - 1, 0, 0]])
    theirs = np.array([header.ImagePositionPatient for header in (series[0], series[-1])], float)
    if np.abs(places - theirs).max() > SAME_GRID_MM:
        raise InputError(
            "segmentation", f"slices from {places[0].tolist()} mm", f"{theirs[0].tolist()} mm, as the series has"
        )


def _sharing(header: Dataset) -> Dataset:
    """A header that shares the elements of another, to which some are added; copying them would double the time."""
    new = Dataset(dict(header.items()))
    new.file_meta = FileMetaDataset()
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return new


def _common(
    volume: Volume,
    content: str,
    mark: str | None,
    source: CtSeries | None,
    patient: str,
    keep_identity: bool,
    description: str,
) -> Dataset:
    """Return the header that all slices share."""
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
    key = patient_key(patient) or content[:12]
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
    """An item of the Contributing Equipment Sequence that names synthorax as the synthesizing equipment (CID 7005)."""
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
    """Numbers as decimal strings of at most 16 characters, as DICOM requires."""
    return [format_number_as_ds(float(v)) for v in values]
