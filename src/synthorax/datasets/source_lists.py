"""The sources of a store: what each kind of folder holds, with the patient of each case."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from synthorax.annotations.lidc_table import read_lidc_scans
from synthorax.annotations.lidc_xml import read_lidc_xml
from synthorax.annotations.luna16 import read_findings
from synthorax.annotations.nodule_table import TABLE, TableImage, read_nodule_table
from synthorax.datasets.case import ANNOTATED, Annotated
from synthorax.datasets.case_ids import case_ids
from synthorax.datasets.discovery import MOST_NAMED, find_scans, masks_by_name
from synthorax.datasets.patients import Person, linked, patients_of
from synthorax.datasets.reader_sources import LidcSource, LunaSource
from synthorax.datasets.sources import Files, ScanSource, Source, TableSource, Unreadable, Whose
from synthorax.errors import InputError
from synthorax.io.dicom_file import read_about
from synthorax.io.dicom_series import choose_series
from synthorax.io.images import image_stem
from synthorax.io.walk import files_below
from synthorax.provenance import MANIFEST, SYNTHETIC_PATIENT, sha256, synthetic_patient

HEAD_BYTES = 4096
MOST_MANIFEST_BYTES = 2**24
"""A manifest of more bytes is not ours."""


@dataclass(frozen=True)
class Found:
    """The sources of a store.

    Attributes:
        notes: how patients were told apart, and what was found and not read.
    """

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()


class XmlFile(NamedTuple):
    """An annotation file and the series it is of; empty where it is damaged. What it says is read with its scan."""

    path: Path
    series_uid: str


def scan_sources(
    folder: Path,
    table: Path | None = None,
    structures: str | None = None,
    *,
    stated: Annotated | None = None,
    patient_from: str = "auto",
) -> Found:
    """Whole scans: those of tables, with the nodules of their rows, and others, with those of the DICOM masks beside.

    Args:
        table: of nodules; every `nodules.csv` of the folder and its subfolders if not given.
        structures: regular expression of the segments and structures that are nodules.
        stated: whether every nodule of the scans is known, if the user says so.
        patient_from: how patients are told apart (`patients.patients_of`).

    Raises:
        InputError: no scan, a table that does not fit, or a patient in two splits.
    """
    found = find_scans(folder)
    images, notes = _joined([table] if table else found.tables)
    manifests = _Manifests()
    masks = {_real(row.mask) for image in images for row in image.nodules if row.mask}
    masks |= {_real(path) for files in found.scans for path in manifests.masks_beside(files.path)}
    pairs = [
        (files, person)
        for files, person in zip(found.scans, found.people, strict=True)
        if files.files or _real(files.path) not in masks
    ]
    rows = _rows_of([files for files, _ in pairs], images, table or folder)
    scans = _doubted([files for files, _ in pairs], rows)
    whose, told = _whose(scans, [person for _, person in pairs], rows, manifests, patient_from, stated)
    missing = [image for image in images if not any(image is row for row in rows)]
    stems = [of_case.patient_id if files.files else files.stem for files, of_case in zip(scans, whose, strict=True)]
    paths = [None if files.files else person.path for files, person in pairs]
    ids = case_ids([*stems, *(image.image.name for image in missing)], [*paths, *[None] * len(missing)])
    made: list[Source] = []
    for case_id, files, image, of_case in zip(ids, scans, rows, whose, strict=False):
        if image is not None:
            made.append(TableSource(case_id, files, image.nodules, structures, of_case, manifests.usual(image.table)))
        else:
            made.append(ScanSource(case_id, files, structures, of_case))
    for case_id, image in zip(ids[len(pairs) :], missing, strict=True):
        reason = InputError(image.table, f"image {image.image.name}, which is not in {folder}", "images of that folder")
        made.append(Unreadable(case_id, reason))
    return Found((*made, *found.refused), (*told, *notes, *found.notes))


def patch_sources(
    tables: Sequence[Path],
    structures: str | None = None,
    *,
    stated: Annotated | None = None,
    patient_from: str = "auto",
) -> Found:
    """The images of tables.

    Args:
        tables: each beside the images that it names, or above them.
        structures: of DICOM masks beside a series, as in `scan_sources`.

    Raises:
        InputError: a table that does not fit, or a patient in two splits.
    """
    images, notes = _joined(tables)
    top = _common(tables)
    files = [_files_at(image.image) for image in images]
    people = [_person(image.image, one, top) for image, one in zip(images, files, strict=True)]
    read = [one if isinstance(one, Files) else Files(image.image) for one, image in zip(files, images, strict=True)]
    manifests = _Manifests()
    whose, told = _whose(read, people, images, manifests, patient_from, stated)
    ids = case_ids([image_stem(image.image) for image in images], [person.path for person in people])
    made: list[Source] = []
    for case_id, image, one, of_case in zip(ids, images, files, whose, strict=True):
        if isinstance(one, InputError):
            made.append(Unreadable(case_id, one))
        else:
            made.append(TableSource(case_id, one, image.nodules, structures, of_case, manifests.usual(image.table)))
    return Found(tuple(made), (*told, *notes))


def lidc_sources(folder: Path, readers: int) -> Found:
    """LIDC-IDRI as downloaded: every CT series with its XML file, or with the readings of the package's table."""
    known = read_lidc_scans()
    by_uid, by_folder = _xml_files(folder)
    found = []
    scans = find_scans(folder)
    used = set()
    for files in scans.scans:
        place = files.path if files.files else files.path.parent
        xml = by_uid.get(files.series_uid) if files.series_uid else by_folder.get(place)
        uid = files.series_uid or (xml.series_uid if xml else "")
        listed = known.get(uid)
        if xml is None and listed is None:
            xml = by_folder.get(place) or by_folder.get(place.parent)
        used |= {xml.path} if xml else set()
        patient = files.patient_id or (listed.scan.patient_id if listed else place.name)
        found.append((replace(files, series_uid=uid, masks=(), doubts=()), patient, xml, listed))
    patients, keys, notes = linked([patient for _, patient, _, _ in found])
    made = [
        LidcSource(
            case_id=case_id,
            files=files,
            whose=Whose(patient, key),
            xml=xml.path if xml else None,
            readings=listed.readings if listed and not xml else (),
            is_annotated=bool(xml or listed),
            readers=readers,
        )
        for case_id, patient, key, (files, _, xml, listed) in zip(
            case_ids(patients), patients, keys, found, strict=True
        )
    ]
    alone = {xml.path for xml in (*by_uid.values(), *by_folder.values())} - used
    if alone:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in alone)[:MOST_NAMED])
        notes.append(
            f"{len(alone)} XML files are of scans that are not here: {names}{', ...' * (len(alone) > MOST_NAMED)}"
        )
    return Found((*made, *scans.refused), tuple(notes))


def luna16_sources(folder: Path, readers: int) -> Found:
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
    stems = [files.stem for files in found.scans]
    listed = [known.get(stem) for stem in stems]
    patients, keys, notes = linked(
        [one.scan.patient_id if one else stem for one, stem in zip(listed, stems, strict=True)]
    )
    made = [
        LunaSource(
            case_id=case_id,
            files=files,
            whose=Whose(patient, key),
            findings=tuple(findings.get(files.stem, ())),
            candidates=tuple(points.get(files.stem, ())),
            readings=one.readings if one else (),
            readers=readers,
            is_listed=bool(one) or files.stem in findings or files.stem in points,
        )
        for case_id, files, one, patient, key in zip(case_ids(stems), found.scans, listed, patients, keys, strict=True)
    ]
    if absent := sorted(set(findings) - set(stems)):
        nodules = sum(len(findings[uid]) for uid in absent)
        notes.append(
            f"annotations.csv names {len(absent)} scans ({nodules} nodules) that are not here, {absent[0]} first"
        )
    return Found((*made, *found.refused), tuple(notes))


def find_tables(folder: Path) -> list[Path]:
    """The `nodules.csv` of a folder; where it has none, those of its subfolders.

    Raises:
        InputError: there is none.
    """
    if (folder / TABLE).is_file():
        return [folder / TABLE]
    found = [path for path in files_below(folder) if path.name == TABLE]
    if not found:
        raise InputError(folder, f"no {TABLE}", "a folder with its table, or --table FILE.csv")
    return found


class _Manifests:
    """The manifests of synthetic scans, each read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Mapping[str, Any]] = {}

    def of(self, scan: Path) -> Mapping[str, Any]:
        """What the manifest beside a scan says; empty if there is none of ours."""
        if scan.parent not in self._read:
            path, content = scan.parent / MANIFEST, {}
            try:
                if path.stat().st_size <= MOST_MANIFEST_BYTES:
                    content = dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, RecursionError):
                content = {}
            self._read[scan.parent] = content if content.get("synthorax") else {}
        return self._read[scan.parent]

    def masks_beside(self, scan: Path) -> list[Path]:
        """The images beside a synthetic scan that are no scans: masks and edit regions."""
        files = self.of(scan).get("files")
        return (
            [scan.parent / str(files[n]) for n in ("mask", "region") if n in files] if isinstance(files, dict) else []
        )

    def usual(self, table: Path) -> Annotated:
        """What a table tells of its images: all nodules; of an edited scan those put in, not those of its patient."""
        stated = self.of(table).get("annotated")
        if stated in ANNOTATED:
            return stated
        files = self.of(table).get("files")
        return "some" if isinstance(files, dict) and "region" in files else "all"

    def source_of(self, scan: Path) -> tuple[str, str]:
        """Name and SHA-256 of the image that a synthetic scan was made from; empty if not known."""
        source = self.of(scan).get("source")
        return (str(source.get("name", "")), str(source.get("sha256", ""))) if isinstance(source, dict) else ("", "")


def _real(path: Path) -> Path:
    """The path that links lead to; of a link that leads to itself, its own."""
    return Path(os.path.realpath(path))


def _joined(tables: Sequence[Path]) -> tuple[list[TableImage], list[str]]:
    """The images of several tables; an image that an earlier table names is not taken from a later one."""
    images: dict[Path, TableImage] = {}
    notes = []
    for table in tables:
        twice = 0
        for image in read_nodule_table(table):
            key = _real(image.image)
            twice += key in images
            images.setdefault(key, image)
        if twice:
            notes.append(f"{twice} images of {table.parent.name}/{table.name} are in a table above it, which counts")
    if len(tables) > 1:
        notes.append(f"{len(tables)} tables were read: {len(images)} images")
    return list(images.values()), notes


def _rows_of(scans: Sequence[Files], images: Sequence[TableImage], where: Path) -> list[TableImage | None]:
    """What the tables say of each scan, found by its path, series UID or patient id; None where they say nothing."""
    listed = {_real(image.image): image for image in images}
    by_name = {image.image.name: image for image in images}
    rows = [
        listed.get(_real(files.path)) or by_name.get(files.series_uid) or by_name.get(files.stem) for files in scans
    ]
    fits: dict[int, list[Files]] = defaultdict(list)
    for files, image in zip(scans, rows, strict=True):
        if image is not None:
            fits[id(image)].append(files)
            if len(fits[id(image)]) > 1:
                expected = "one; name a file, a folder of one series or a series UID in the column `image`"
                raise InputError(where, f"image {image.image.name}, which fits several scans", expected)
    return rows


def _doubted(scans: Sequence[Files], rows: Sequence[TableImage | None]) -> list[Files]:
    """The scans, with a doubt where an image beside may be a mask that no table names."""
    masks = masks_by_name([files.path for files in scans if not files.files])
    made = []
    for files, row in zip(scans, rows, strict=True):
        beside = masks.get(files.path, []) if row is None and not files.files else []
        if beside:
            names = ", ".join(path.name for path in beside[:MOST_NAMED])
            doubt = f"{names} may be its masks and were not read; name them in {TABLE}, columns image and mask"
            files = replace(files, doubts=(*files.doubts, doubt))
        made.append(files)
    return made


def _whose(
    scans: Sequence[Files],
    people: Sequence[Person],
    rows: Sequence[TableImage | None],
    manifests: _Manifests,
    patient_from: str,
    stated: Annotated | None,
) -> tuple[list[Whose], list[str]]:
    """Patient, source patient and split of each scan: by its table, else by the manifest beside it, header or path."""
    given = [image.patient_id if image else "" for image in rows]
    sources = [("", "") if files.files else manifests.source_of(files.path) for files in scans]
    if patient_from == "auto":
        for i, (name, _) in enumerate(sources):
            given[i] = given[i] or (synthetic_patient(image_stem(name)) if name else "")
    asked = [i for i, patient in enumerate(given) if not patient]
    found, notes = patients_of([people[i] for i in asked], patient_from)
    patients = list(given)
    told_apart: set[str] = set()
    for i, patient in zip(asked, found, strict=True):
        patients[i] = patient
    originals = _originals(scans, sources)
    for i, original in originals.items():
        patients[i] = synthetic_patient(patients[original])
    for i, patient in _namesakes(patients, sources, originals).items():
        patients[i] = patient
        told_apart.add(sources[i][0])
    if told_apart:
        names = ", ".join(sorted(told_apart)[:MOST_NAMED])
        notes.append(f"synthetic scans of different sources of one name ({names}) are taken for different patients'")
    patients, keys, told = linked(patients, people)
    splits: dict[str, tuple[str, Path]] = {}
    for patient, image in zip(patients, rows, strict=True):
        if image is not None and image.split is not None:
            split, other = splits.setdefault(patient, (image.split, image.image))
            if split != image.split:
                found_ = (
                    f"patient {patient} in two splits: {other.name} in {split}, {image.image.name} in {image.split}"
                )
                raise InputError(image.table, found_, "one split a patient; patient_id says whose an image is")
    whose = [
        Whose(patient, key, image.split if image else None, stated)  # type: ignore[arg-type]
        for patient, key, image in zip(patients, keys, rows, strict=True)
    ]
    return whose, [*notes, *told]


def _originals(scans: Sequence[Files], sources: Sequence[tuple[str, str]]) -> dict[int, int]:
    """For each synthetic scan whose source is here too, the number of that source, known by its bytes."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, files in enumerate(scans):
        if not files.files and not sources[i][0]:
            by_name[files.path.name].append(i)
    hashes: dict[int, str] = {}
    found = {}
    for i, (name, wanted) in enumerate(sources):
        for candidate in by_name.get(name, []) if wanted else []:
            if candidate not in hashes:
                hashes[candidate] = sha256(scans[candidate].path)
            if hashes[candidate] == wanted:
                found[i] = candidate
    return found


def _namesakes(
    patients: Sequence[str], sources: Sequence[tuple[str, str]], originals: Mapping[int, int]
) -> dict[int, str]:
    """New patient ids for synthetic scans whose sources have one name and different bytes, as `image.nii.gz` has."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for i, (patient, (_, digest)) in enumerate(zip(patients, sources, strict=True)):
        if digest and i not in originals and patient.startswith(SYNTHETIC_PATIENT):
            hashes[patient].add(digest)
    return {
        i: synthetic_patient(f"{patient} {sources[i][1]}")
        for i, patient in enumerate(patients)
        if len(hashes.get(patient, ())) > 1 and sources[i][1] and i not in originals
    }


def _files_at(path: Path) -> Files | InputError:
    """The scan of a path in a table, with the DICOM masks beside it; or why there is none."""
    if not path.is_dir():
        return Files(path)
    try:
        series = choose_series(path)
        found = find_scans(path.parent)
    except InputError as error:
        return error
    mine = next((files for files in found.scans if files.files and set(files.files) == set(series.files)), None)
    return mine or Files(path, series.uid, series.patient_id, series.files, left_out=series.left_out)


def _person(path: Path, files: Files | InputError, top: Path) -> Person:
    """Whose an image of a table is, as far as its path and header tell."""
    below = path.relative_to(top) if path.is_relative_to(top) else Path(path.name)
    if not isinstance(files, Files) or not files.files:
        return Person(below)
    about = read_about(files.files[0])
    return Person(
        below,
        is_series=True,
        patient_id=about.patient_id,
        name=about.patient_name,
        birth_date=about.birth_date,
        study_uid=about.study_uid,
        frame_uid=about.frame_of_reference,
        series_uid=about.series_uid,
    )


def _common(tables: Sequence[Path]) -> Path:
    """The folder above all tables."""
    return Path(os.path.commonpath([table.parent for table in tables]))


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
