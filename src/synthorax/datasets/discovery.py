"""What a folder holds: its scans, and the sources of a store that they make."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from synthorax.annotations.lidc_table import read_lidc_scans
from synthorax.annotations.lidc_xml import read_lidc_xml
from synthorax.annotations.luna16 import read_findings
from synthorax.annotations.nodule_table import TableImage, read_nodule_table
from synthorax.datasets.sources import Files, LidcSource, LunaSource, ScanSource, Source, TableSource, Unreadable
from synthorax.errors import InputError
from synthorax.io import dicom
from synthorax.io.images import image_stem, is_image
from synthorax.io.walk import files_below

HEAD_BYTES = 4096
SEGMENTED_LUNGS = "seg-lungs-LUNA16"
"""A folder of LUNA16 that holds lung masks by the names of the scans."""


@dataclass(frozen=True)
class FoundScans:
    """What a folder holds.

    Attributes:
        refused: files that are damaged, or masks of series that are not there.
    """

    scans: tuple[Files, ...]
    refused: tuple[Unreadable, ...]


class XmlFile(NamedTuple):
    """An annotation file and the series it is of; empty where it is damaged. What it says is read with its scan."""

    path: Path
    series_uid: str


def find_scans(folder: Path) -> FoundScans:
    """The CT series and images of a folder and its subfolders, in the order of their names.

    Raises:
        InputError: there is none, or nothing there.
    """
    if not folder.exists():
        raise InputError(folder, "nothing", "a folder of scans")
    paths = [folder] if folder.is_file() else files_below(folder)
    images = [Files(path) for path in paths if is_image(path) and SEGMENTED_LUNGS not in path.parts]
    series: dict[str, Files] = {}
    slices: dict[str, list[Path]] = defaultdict(list)
    masks: dict[str, list[Path]] = defaultdict(list)
    refused = []
    for path in paths:
        if is_image(path) or not dicom.is_dicom(path):
            continue
        try:
            about = dicom.read_about(path)
        except InputError as error:
            refused.append(Unreadable(path.name, error))
            continue
        if about.modality == "CT":
            series.setdefault(about.series_uid, Files(path.parent, about.series_uid, about.patient_id))
            slices[about.series_uid].append(path)
        elif about.modality in dicom.REFERENCES:
            masks[about.refers_to].append(path)
    found = [
        replace(s, files=tuple(slices[uid]), masks=tuple(masks.pop(uid, ()))) for uid, s in series.items()
    ] + images
    for uid, orphans in masks.items():
        for path in orphans:
            reason = InputError(path, f"a mask of series {uid or 'unknown'}", "a series of that UID beside it")
            refused.append(Unreadable(path.name, reason))
    if not found and not refused:
        raise InputError(folder, f"{len(paths)} files, none of them a CT scan", "DICOM, NIfTI, MHA, MHD or NRRD")
    return FoundScans(tuple(sorted(found, key=lambda f: (str(f.path), f.series_uid))), tuple(refused))


def scan_sources(folder: Path, table: Path | None, structures: str) -> list[Source]:
    """Whole scans: those of the table, and those of the folder that it does not name, which have no nodules."""
    found = find_scans(folder)
    listed = {image.image.resolve(): image for image in read_nodule_table(table)} if table else {}
    by_name = {image.image.name: image for image in listed.values()}
    masks = {row.mask.resolve() for image in listed.values() for row in image.nodules if row.mask}
    scans = [scan for scan in found.scans if scan.path.resolve() not in masks]
    images = [
        listed.get(scan.path.resolve()) or by_name.get(scan.series_uid) or by_name.get(scan.stem) for scan in scans
    ]
    missing = [image for image in listed.values() if image not in images]
    ids = iter(_case_ids([*(scan.stem for scan in scans), *(image.image.name for image in missing)]))
    made: list[Source] = []
    for scan, image in zip(scans, images, strict=True):
        case_id = next(ids)
        made.append(_table_source(case_id, scan, image) if image else ScanSource(case_id, scan, structures))
    for image in missing:
        reason = InputError(table, f"image {image.image.name}, which is not in {folder}", "images of that folder")
        made.append(Unreadable(next(ids), reason))
    return [*made, *found.refused]


def patch_sources(table: Path) -> list[Source]:
    """The images of a table."""
    images = read_nodule_table(table)
    made: list[Source] = []
    for case_id, image in zip(_case_ids([image_stem(i.image) for i in images]), images, strict=True):
        try:
            made.append(_table_source(case_id, _files_at(image.image), image))
        except InputError as error:
            made.append(Unreadable(case_id, error))
    return made


def lidc_sources(folder: Path, readers: int) -> list[Source]:
    """LIDC-IDRI as downloaded: every CT series with its XML file, or with the readings of the package's table."""
    known = read_lidc_scans()
    by_uid, by_folder = _xml_files(folder)
    found = []
    scans = find_scans(folder)
    for files in scans.scans:
        xml = by_uid.get(files.series_uid) if files.series_uid else by_folder.get(files.path.parent)
        uid = files.series_uid or (xml.series_uid if xml else "")
        listed = known.get(uid)
        if xml is None and listed is None:
            xml = by_folder.get(files.path.parent)
        patient = files.patient_id or (listed.scan.patient_id if listed else files.path.parent.name)
        found.append((replace(files, series_uid=uid, masks=()), patient, xml, listed))
    ids = _case_ids([patient for _, patient, _, _ in found])
    made = [
        LidcSource(
            case_id=case_id,
            files=files,
            patient_id=patient,
            xml=xml.path if xml else None,
            readings=listed.readings if listed and not xml else (),
            is_annotated=bool(xml or listed),
            readers=readers,
        )
        for case_id, (files, patient, xml, listed) in zip(ids, found, strict=True)
    ]
    return [*made, *scans.refused]


def luna16_sources(folder: Path, readers: int) -> list[Source]:
    """LUNA16 as downloaded: every scan that its tables may tell of, with nodules, candidates, voxels and ratings."""
    tables = {path.name: path for path in files_below(folder) if path.suffix.lower() == ".csv"}
    if "annotations.csv" not in tables:
        raise InputError(folder, "no annotations.csv", "LUNA16's scans and its tables")
    findings = read_findings(tables["annotations.csv"])
    if any(finding.diameter_mm is None for found in findings.values() for finding in found):
        raise InputError(tables["annotations.csv"], "no diameter_mm", "LUNA16's annotations")
    candidates = next((tables[n] for n in ("candidates_V2.csv", "candidates.csv") if n in tables), None)
    points = read_findings(candidates) if candidates else {}
    known = read_lidc_scans()
    found = find_scans(folder)
    made: list[Source] = []
    ids = _case_ids([files.stem for files in found.scans])
    for case_id, files in zip(ids, found.scans, strict=True):
        listed = known.get(files.stem)
        made.append(
            LunaSource(
                case_id=case_id,
                files=files,
                patient_id=listed.scan.patient_id if listed else files.stem,
                findings=tuple(findings.get(files.stem, ())),
                candidates=tuple(points.get(files.stem, ())),
                readings=listed.readings if listed else (),
                readers=readers,
            )
        )
    return [*made, *found.refused]


def _table_source(case_id: str, files: Files, image: TableImage) -> TableSource:
    return TableSource(case_id, files, image.nodules, image.patient_id, image.split)  # type: ignore[arg-type]


def _files_at(path: Path) -> Files:
    """The scan of a path in a table, which need not exist."""
    if path.is_dir():
        series = dicom.choose_series(path)
        return Files(path, series.uid, series.patient_id, series.files)
    return Files(path)


def _xml_files(folder: Path) -> tuple[dict[str, XmlFile], dict[Path, XmlFile]]:
    """The annotation files of CT scans, by the series that they are of; and by folder, those that are damaged too."""
    by_uid: dict[str, XmlFile] = {}
    by_folder: dict[Path, XmlFile] = {}
    for path in [path for path in files_below(folder) if path.suffix.lower() == ".xml"]:
        try:
            uid = read_lidc_xml(path).series_uid
            by_uid[uid] = by_folder[path.parent] = XmlFile(path, uid)
        except InputError:
            with open(path, "rb") as file:
                if b"<IdriReadMessage" not in file.read(HEAD_BYTES):  # which is of a chest radiograph
                    by_folder.setdefault(path.parent, XmlFile(path, ""))
    return by_uid, by_folder


def _case_ids(stems: Sequence[str]) -> list[str]:
    """Names of folders, one a case: the stems, numbered where several are the same."""
    clean = [re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "case" for stem in stems]
    often = {name for name, count in Counter(clean).items() if count > 1}
    used = set(clean) - often
    made = []
    for name in clean:
        number = 1
        while name in often and f"{name}-{number:02d}" in used:
            number += 1
        made.append(f"{name}-{number:02d}" if name in often else name)
        used.add(made[-1])
    return made
