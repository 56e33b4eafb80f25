"""Writing an edited scan in the format of its source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from synthorax.annotations.nodule_table import NODULE_TABLE, nodule_cells
from synthorax.editing.edited import Edited
from synthorax.editing.plan import ball_around
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU, orient
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import WRITTEN_SUFFIXES, image_stem, write_image
from synthorax.io.mappings import read_mapping
from synthorax.io.scans import Scan
from synthorax.io.tables import even_rows, write_table
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.provenance import MANIFEST, Origin, fingerprint, sha256, synthetic_patient, write_manifest
from synthorax.region import Region, paint_labels
from synthorax.volume import Volume

SERIES = "ct"
BEFORE_AFTER = "before-after.png"
"""File name of the picture of the nodules before and after the edit."""
PictureWriter = Callable[[Path], Collection[str]]
"""Writes a picture of nodules to a PNG file, and returns the ids of the nodules that it shows."""
EditedLayout = Literal["as read", "images", "dicom"]
"""Files of an edited scan: as its source came; images; or a DICOM series with segmentations."""


def write_edited(
    out: Path,
    edited: Edited,
    origin: Origin,
    *,
    source: Scan | None = None,
    about: Mapping[str, Any] | None = None,
    patient_id: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    alone: bool = True,
    layout: EditedLayout = "as read",
    picture: PictureWriter | None = None,
) -> None:
    """Write an edited scan, all or nothing.

    The folder gets the scan, as an image or a DICOM series; the nodules' masks (`mask`) and the edit region (`region`),
    as images or DICOM segmentations; nodules.csv, from which `prepare` makes a store; and manifest.json. After an
    erasure, mask and table are of the nodules that stay, and are missing if none is known. Scan and masks are marked
    as synthetic in their headers. A nodule that is partly hidden by others in an image of labels also gets an image of
    its own; a DICOM segmentation has one segment for each nodule.

    Args:
        out: folder to write.
        edited: the scan after the edit.
        origin: maker and seed, for the mark of generated voxels.
        source: the scan before the edit; the written DICOM series keeps the acquisition of its source.
        about: the request, for the manifest.
        patient_id: patient of an image, after whom the synthetic patient is named; by default from the manifest beside
            the image, or the image's name.
        keep_identity: whether to keep the patient and study of a DICOM series.
        overwrite: replace a folder that an earlier call wrote.
        alone: see `atomic_folder`.
        layout: layout of the files. A DICOM series that is written as images keeps nothing of its header.
        picture: writes a picture of the nodules, which the table names for each nodule that it shows; None for none.

    Raises:
        InputError: the folder holds something else.
        OutputError: a file cannot be written.
    """
    came_as_dicom = source is not None and source.dicom is not None
    to_dicom = layout == "dicom" or (layout == "as read" and came_as_dicom)
    if to_dicom:
        edited = _without_blanks(edited)
    region = replace(edited.region, voxels=edited.region.voxels.astype(np.uint8))
    earlier = _earlier(edited)
    present = [*earlier, *edited.nodules] if edited.kind == "inject" else earlier
    with atomic_folder(out, overwrite=overwrite, alone=alone) as folder:
        masks: dict[int, str] = {}
        if to_dicom:
            files, patient = _write_dicom(folder, edited, origin, source, patient_id, keep_identity)
            present = _by_segments(present, edited.regions)
        else:
            files, masks = _write_images(folder, edited, region, origin, None if came_as_dicom else source)
            patient = _synthetic_patient_of(source, patient_id)
        pictured: dict[str, str] = {}
        if picture is not None:
            shown = picture(folder / BEFORE_AFTER)
            pictured = dict.fromkeys(shown if edited.kind == "inject" else (), BEFORE_AFTER)
            files["picture"] = BEFORE_AFTER
        if present:
            write_table(folder / NODULE_TABLE, _rows(present, files, masks, pictured, patient))
        manifest = {
            "synthetic": origin.mark,
            "method": origin.system,
            "model_sha256": origin.model_sha256,
            "seed": origin.seed,
            "patient_id": patient,
            "source": about_source(source, keep_identity),
            "request": dict(about or {}),
            "files": files,
            **({"nodules": [nodule.row() for nodule in present]} if present or edited.kind == "inject" else {}),
            **_of_erasure(edited),
            "region_voxels": int(region.voxels.sum()),
            "lineage": edited.lineage.row(),
            "notes": list(edited.notes),
        }
        write_manifest(folder / MANIFEST, manifest)


def _without_blanks(edited: Edited) -> Edited:
    """Return the same with air where the scanner saw nothing, and a note on it: DICOM has no blank voxels."""
    voxels = edited.ct.voxels
    blanks = int(np.isnan(voxels).sum()) if voxels.dtype.kind == "f" else 0
    if not blanks:
        return edited
    filled = replace(edited.ct, voxels=np.nan_to_num(voxels, nan=AIR_HU))
    return replace(edited, ct=filled).noting([f"{blanks} voxels without a value are written as {AIR_HU} HU"])


def _write_dicom(
    folder: Path, edited: Edited, origin: Origin, source: Scan | None, patient_id: str, keep_identity: bool
) -> tuple[dict[str, str], str]:
    """Write a DICOM series and segmentations; return the files by kind, and the patient id of the series.

    A series that is made from an image has axial slices, whatever the axes of the image.
    """
    from synthorax.io.dicom_out import write_ct_series, write_segmentation

    series = None if source is None else source.dicom
    if series is None:
        edited = edited.turned_like(orient(edited.ct, "LPS"))
    headers = write_ct_series(
        folder / SERIES,
        edited.ct,
        mark=origin.mark,
        source=series,
        patient_id=_synthetic_patient_of(source, patient_id) if series is None else "",
        keep_identity=keep_identity,
        description="Synthetic nodules" if edited.kind == "inject" else "Nodules taken out",
    )
    files = {"scan": SERIES, "region": "region.dcm"}
    if edited.mask.voxels.any():
        files["mask"] = "mask.dcm"
        names = [f"Nodule {label}" for label, own in enumerate(edited.regions, start=1) if own.voxels]
        regions = [own for own in edited.regions if own.voxels]
        mask = replace(edited.mask, voxels=paint_labels(regions, edited.mask.shape))
        write_segmentation(folder / files["mask"], mask, headers, names, mark=origin.mark, regions=regions)
    whole = ("Edit region",)
    region = replace(edited.region, voxels=edited.region.voxels.astype(np.uint8))
    write_segmentation(folder / files["region"], region, headers, whole, mark=origin.mark, what="Edit region")
    return files, str(headers[0].PatientID)


def _write_images(
    folder: Path, edited: Edited, region: Volume, origin: Origin, source: Scan | None
) -> tuple[dict[str, str], dict[int, str]]:
    """Write images; return the files by kind, and the file of each nodule that has a mask of its own, by label."""
    name = source.path.name if source is not None and source.path is not None else "scan.nii.gz"
    stem = image_stem(name)
    suffix = name[len(stem) :].lower()
    stem = stem.encode("utf-8", "replace").decode().replace("?", "_")  # the table must be valid Unicode
    suffix = suffix if suffix in WRITTEN_SUFFIXES else ".nrrd" if suffix == ".nhdr" else ".nii.gz"
    files = {"scan": stem + suffix, "mask": f"{stem}_mask{suffix}", "region": f"{stem}_region{suffix}"}
    volumes = {"scan": edited.ct, "mask": edited.mask, "region": region}
    if edited.kind == "erase" and not edited.mask.voxels.any():
        del files["mask"]
    for what, file in files.items():
        write_image(folder / file, volumes[what], mark=origin.mark)
    masks = {}
    for label, own in enumerate(edited.regions, start=1):
        if own.voxels and edited.hidden(label):
            masks[label] = f"{stem}_mask_{label:02d}{suffix}"
            alone = np.zeros(edited.mask.shape, np.uint8)
            own.paint(alone, label)
            write_image(folder / masks[label], replace(edited.mask, voxels=alone), mark=origin.mark)
    return files, masks


def _synthetic_patient_of(source: Scan | None, patient_id: str) -> str:
    """Return the patient id of a scan made from an image, or from a series that is written as images.

    An image's name is its patient, as `prepare` has it, unless `patient_id`, the scan or the folder of an injection
    names another; voxels without a file are known by their hash.
    """
    if patient_id or (source is not None and source.dicom is not None):
        return synthetic_patient(patient_id or source.dicom.patient)  # type: ignore[union-attr]
    if source is not None and source.patient_id:
        return synthetic_patient(source.patient_id)
    if source is None or source.path is None:
        voxels = b"" if source is None else np.ascontiguousarray(source.ct.voxels).tobytes()
        return synthetic_patient(fingerprint(voxels))
    try:
        beside = read_mapping(source.path.parent / MANIFEST)
        if beside["files"]["scan"] == source.path.name and beside["patient_id"]:
            return synthetic_patient(str(beside["patient_id"]))
    except (InputError, LookupError, TypeError):
        pass  # the folder is not that of an injection
    return synthetic_patient(image_stem(source.path.name))


def _earlier(edited: Edited) -> list[Nodule]:
    """Return the nodules that the scan had before the edit, measured on their voxels where nothing else is known.

    A nodule keeps the diameter of its table, as in a store: a reader's diameter may differ from the width of the mask.
    """
    new = {nodule.label for nodule in edited.nodules} if edited.kind == "inject" else set()
    known = {nodule.label: nodule for nodule in edited.known}
    made = []
    for label, own in enumerate(edited.regions, start=1):
        if label not in new and own.voxels:
            ball = ball_around(own, edited.mask)
            facts = known.get(label) or Nodule("", ball.center_mm, NoduleAttributes())
            own_mm = facts.attributes.diameter_mm
            sized = replace(facts.attributes, diameter_mm=ball.diameter_mm if own_mm is None else own_mm)
            made.append(
                replace(facts, nodule_id=f"{label:02d}", center_mm=ball.center_mm, attributes=sized, label=label)
            )
    return made


def _of_erasure(edited: Edited) -> dict[str, Any]:
    """Return the entries on the erased nodules; none after an injection."""
    if edited.kind == "inject":
        return {}
    return {"erased": [nodule.row() for nodule in edited.nodules], "gone": list(edited.gone)}


def _by_segments(nodules: Sequence[Nodule], regions: Sequence[Region]) -> list[Nodule]:
    """Return nodules with the numbers of their DICOM segments as labels."""
    segments = _segment_numbers(regions)
    return [replace(one, label=segments.get(one.label, 0)) for one in nodules]


def _segment_numbers(regions: Sequence[Region]) -> dict[int, int]:
    """Return the DICOM segment of each label that has voxels; DICOM numbers segments from 1, without gaps."""
    labels = [label for label, own in enumerate(regions, start=1) if own.voxels]
    return {label: number for number, label in enumerate(labels, start=1)}


def notes_on_segments(regions: Sequence[Region]) -> tuple[str, ...]:
    """Return a note on the labels of nodules that a DICOM segmentation changes, if any.

    Args:
        regions: mask of each label, empty for labels without a nodule.
    """
    new = [f"nodule {old:02d} has label {new}" for old, new in _segment_numbers(regions).items() if old != new]
    return (f"DICOM numbers segments without gaps: in mask.dcm {', '.join(new)}",) if new else ()


def about_source(source: Scan | None, keep_identity: bool) -> dict[str, str]:
    """Return name and hash of an image; of a DICOM series the hash of its UID, and with `keep_identity` the UID too."""
    if source is None:
        return {}
    if source.dicom is not None:
        hashed = {"series_uid_sha256": fingerprint(source.series_uid)} if source.series_uid else {}
        return hashed | ({"series_uid": source.series_uid} if keep_identity else {})
    return {} if source.path is None else {"name": source.path.name, "sha256": sha256(source.path)}


def _rows(
    nodules: Sequence[Nodule],
    files: Mapping[str, str],
    masks: Mapping[int, str],
    pictured: Mapping[str, str],
    patient: str,
) -> list[dict[str, Any]]:
    """Return the rows of a table of nodules for `prepare`; a label is a value in an image, or a segment in DICOM.

    Args:
        nodules: the nodules.
        files: files by kind.
        masks: label of each nodule with a mask of its own to the file.
        pictured: id of each nodule that a picture shows to the picture's file.
        patient: the patient id.
    """
    rows = []
    for nodule in nodules:
        mask = {"mask": masks.get(nodule.label, files["mask"]), "mask_label": nodule.label}
        mask |= {"picture": pictured.get(nodule.nodule_id, "")}
        own = {"image": files["scan"], "patient_id": patient, "nodule_id": nodule.nodule_id}
        readers = {name: " ".join(f"{v:g}" for v in given) for name, given in nodule.ratings.items() if len(given) > 1}
        rows.append(own | mask | nodule_cells(nodule) | readers | dict(nodule.extra))
    return even_rows(rows)
