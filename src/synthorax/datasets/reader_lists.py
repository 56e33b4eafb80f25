"""Finding the sources of LIDC-IDRI and LUNA16 in folders as they are downloaded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from synthorax.annotations.lidc_table import read_lidc_scans
from synthorax.annotations.lidc_xml import read_lidc_xml
from synthorax.annotations.luna16 import read_findings
from synthorax.datasets.case_ids import case_ids
from synthorax.datasets.discovery import find_scans
from synthorax.datasets.manifests import Manifests
from synthorax.datasets.patients import first_names, linked
from synthorax.datasets.reader_sources import LidcSource, LunaSource
from synthorax.datasets.source_lists import FoundSources
from synthorax.datasets.sources import Files, ScanSource, Source, Whose
from synthorax.errors import InputError
from synthorax.io.images import is_image
from synthorax.io.walk import files_below

XML_HEAD_BYTES = 4096
"""Number of first bytes of an XML file in which the root element of a chest radiograph is searched."""


class XmlFile(NamedTuple):
    """An annotation file and the UID of its series, empty if the file is damaged; marks are read with the scan."""

    path: Path
    series_uid: str


def lidc_sources(folder: Path, readers: int) -> FoundSources:
    """Find the sources of LIDC-IDRI: every CT series with its XML file, or with the readings in the package's table.

    Args:
        folder: folder of the download.
        readers: number of readers who must have marked a voxel for it to belong to a nodule.

    Raises:
        InputError: the folder has no scan.
    """
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
    manifests = Manifests()
    made = [
        LidcSource(
            case_id=case_id,
            files=files,
            whose=_whose(patient, key, files, manifests),
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
        names = first_names(sorted(str(path.relative_to(folder)) for path in alone))
        notes.append(f"{len(alone)} XML files belong to scans that are not here: {names}")
    return FoundSources((*made, *scans.refused), tuple(notes))


def luna16_sources(folder: Path, readers: int) -> FoundSources:
    """Find the sources of LUNA16: every scan with its nodules, candidates, and LIDC-IDRI's outlines and ratings.

    Args:
        folder: folder of the download, with annotations.csv.
        readers: number of readers who must have marked a voxel for it to belong to a nodule.

    Raises:
        InputError: the folder has no scan, or no valid annotations.csv.
    """
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
    manifests = Manifests()
    made = [
        LunaSource(
            case_id=case_id,
            files=files,
            whose=_whose(patient, key, files, manifests),
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
    return FoundSources((*made, *found.refused), tuple(notes))


def with_unread_xml(found: FoundSources, folder: Path) -> FoundSources:
    """Return the sources of a folder of scans with a note on LIDC-IDRI's XML files, which are not read here.

    A scan that no table names has a doubt if such a file is of its series or, for an image, in its folder.

    Args:
        found: scans of the folder.
        folder: the folder.
    """
    by_uid, by_folder = _xml_files(folder)
    if not by_uid:
        return found
    made: list[Source] = []
    for source in found.sources:
        if isinstance(source, ScanSource):
            files = source.files
            xml = by_uid.get(files.series_uid) if files.series_uid else by_folder.get(files.path.parent)
            if xml is not None and xml.series_uid:
                doubt = f"the LIDC XML file {xml.path.name} was not read"
                source = replace(source, files=replace(files, doubts=(*files.doubts, doubt)))
        made.append(source)
    names = first_names(sorted({xml.path.name for xml in by_uid.values()}))
    note = f"LIDC XML files were not read: {len(by_uid)} ({names}); `synthorax prepare lidc FOLDER` reads them"
    return FoundSources(tuple(made), (*found.notes, note))


def _whose(patient: str, key: str, files: Files, manifests: Manifests) -> Whose:
    return Whose(patient, key, mark=manifests.mark_of(files.path), lineage=manifests.lineage_of(files.path))


def lidc_xml_beside(files: Files) -> Path | None:
    """Return the LIDC-IDRI annotation file in a scan's folder; None if there is none, or if its scan is not sure.

    Of several files it is the one of the scan's series. An image names no series, so it has to be alone.

    Args:
        files: the scan.
    """
    folder = files.path if files.path.is_dir() else files.path.parent
    if not files.series_uid and sum(map(is_image, folder.iterdir())) > 1:
        return None
    found = []
    for path in sorted(folder.glob("*.[xX][mM][lL]")):
        with suppress(InputError, OSError):
            found.append(XmlFile(path, read_lidc_xml(path).series_uid))
    own = [xml for xml in found if xml.series_uid == files.series_uid]
    return next((xml.path for xml in own or (found if len(found) == 1 else [])), None)


def _xml_files(folder: Path) -> tuple[dict[str, XmlFile], dict[Path, XmlFile]]:
    """Find the annotation files of CT scans; map them by series, and by folder, where damaged files are included."""
    by_uid: dict[str, XmlFile] = {}
    by_folder: dict[Path, XmlFile] = {}
    for path in [path for path in files_below(folder) if path.suffix.lower() == ".xml"]:
        try:
            uid = read_lidc_xml(path).series_uid
            by_uid[uid] = by_folder[path.parent] = XmlFile(path, uid)
        except InputError:
            with open(path, "rb") as file:
                if b"<IdriReadMessage" not in file.read(XML_HEAD_BYTES):  # the root element of a chest radiograph
                    by_folder.setdefault(path.parent, XmlFile(path, ""))
    return by_uid, by_folder
