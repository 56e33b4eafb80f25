"""What a store is made of: one source a case, which knows how to read itself.

A source is small and picklable, so that cases can be read by other processes; `key` changes whenever
the case it gives would, as far as file sizes and times tell.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.clustering import cluster
from synthorax.annotations.consensus import label_nodules, slice_grid
from synthorax.annotations.lidc_table import read_lidc_scans
from synthorax.annotations.lidc_xml import LidcXml, Mark, read_lidc_xml
from synthorax.annotations.luna16 import Finding, read_findings
from synthorax.annotations.reading import Reading, longest_chord
from synthorax.datasets.nodule_table import NoduleRow, TableImage, read_nodule_table
from synthorax.datasets.store import Case, Point, Split
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io import dicom
from synthorax.io.dicom_masks import read_masks
from synthorax.io.images import is_image, read_image, read_mark
from synthorax.io.scans import Scan, of_series, read_scan
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.volume import Volume

MOST_LABELS = 255
SAME_GRID_MM = 0.05
HEAD_BYTES = 4096
LIDC_READERS = 2
"""A voxel is nodule if so many of the four readers marked it."""


class Source(Protocol):
    """Something that a case is read from."""

    @property
    def case_id(self) -> str:
        """Unique in the store, and fit to be a folder's name."""
        ...

    @property
    def key(self) -> str:
        """A hash of what the case is made from."""
        ...

    def read(self) -> Case:
        """The case.

        Raises:
            InputError: why there is none.
        """
        ...


@dataclass(frozen=True)
class Files:
    """A scan on disk: an image, or the files of a DICOM series.

    Attributes:
        masks: DICOM SEG and RTSTRUCT files that refer to the series.
    """

    path: Path
    series_uid: str = ""
    patient_id: str = ""
    files: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()

    @property
    def stem(self) -> str:
        """The image's name without its suffixes, or the patient of the series."""
        if self.files:
            return self.patient_id or self.series_uid
        return re.sub(r"(\.nii)?\.\w+$", "", self.path.name)

    def all_files(self) -> tuple[Path, ...]:
        """Every file that the scan is read from."""
        return (*(self.files or (self.path,)), *self.masks)

    def read(self) -> Scan:
        """The scan."""
        return of_series(dicom.read_series_files(self.files)) if self.files else read_scan(self.path)


@dataclass(frozen=True)
class ScanSource:
    """A scan whose nodules are masked in DICOM objects beside it, or that has none.

    Attributes:
        structures: regular expression of the segments and structures that are nodules.
    """

    case_id: str
    files: Files
    structures: str = ""

    @property
    def key(self) -> str:
        return _key(self.files.all_files(), self.case_id, self.structures)

    def read(self) -> Case:
        scan = self.files.read()
        labels = np.zeros(scan.ct.shape, np.uint8)
        nodules: list[Nodule] = []
        for path in self.files.masks:
            found, names = read_masks(path, scan.ct)
            wanted = [i for i, name in enumerate(names, start=1) if re.search(self.structures, name, re.IGNORECASE)]
            if not wanted:
                raise InputError(path, f"segments {', '.join(names)}", f"one that matches {self.structures}")
            for i in wanted:
                for part in _pieces(found.voxels == i):
                    _add_nodule(labels, nodules, part, scan.ct, names[i - 1])
        return _case(self.case_id, self.files, scan, labels, nodules)


@dataclass(frozen=True)
class TableSource:
    """A scan or patch of a table, with the nodules of its rows."""

    case_id: str
    files: Files
    rows: tuple[NoduleRow, ...]
    patient_id: str
    split: Split | None

    @property
    def key(self) -> str:
        masks = tuple(dict.fromkeys(row.mask for row in self.rows if row.mask is not None))
        return _key((*self.files.all_files(), *masks), self.case_id, self.rows, self.patient_id, self.split)

    def read(self) -> Case:
        scan = self.files.read()
        labels = np.zeros(scan.ct.shape, np.uint8)
        nodules: list[Nodule] = []
        for row in self.rows:
            if row.mask is None:
                assert row.center_mm is not None
                _check_inside(self.files.path, scan.ct, row.center_mm)
                nodules.append(
                    Nodule(row.nodule_id, row.center_mm, row.attributes, ratings=row.ratings, extra=row.extra)
                )
                continue
            values = _mask_on(row.mask, scan.ct)
            _add_nodule(labels, nodules, values == row.mask_label if row.mask_label else values > 0, scan.ct, "", row)
        case = _case(self.case_id, self.files, scan, labels, nodules)
        return replace(case, patient_id=self.patient_id, split=self.split)


@dataclass(frozen=True)
class LidcSource:
    """A scan of LIDC-IDRI with what its readers marked, from its XML file or the table in the package.

    Attributes:
        xml: its annotation file, if there is one; else `readings` count.
        is_annotated: whether there is either.
        readers: a voxel is nodule if so many of the four readers marked it.
    """

    case_id: str
    files: Files
    patient_id: str
    xml: Path | None = None
    readings: Sequence[Reading] = field(default=(), repr=False)
    is_annotated: bool = True
    readers: int = LIDC_READERS

    @property
    def key(self) -> str:
        return _key((*self.files.all_files(), *([self.xml] if self.xml else [])), self.case_id, self.readers)

    def read(self) -> Case:
        if not self.is_annotated:
            raise InputError(self.files.path, "neither XML nor a series of LIDC-IDRI's table", "an annotated scan")
        scan = self.files.read()
        ct = orient(scan.ct, "LPS")
        readings, marks = list(self.readings), []
        if self.xml is not None:
            annotated = read_lidc_xml(self.xml)
            if scan.series_uid and scan.series_uid != annotated.series_uid:
                raise InputError(self.xml, f"series {annotated.series_uid}", scan.series_uid)
            grid = slice_grid(ct, patient_id=self.patient_id, series_uid=annotated.series_uid)
            readings, marks = annotated.readings(grid), annotated.marks()
        labels, nodules = label_nodules(cluster(readings), ct, self.readers)
        case = _case(self.case_id, self.files, replace(scan, ct=ct), labels, nodules)
        points = tuple(point for mark in marks if (point := _point(mark, ct)) is not None)
        series = scan.series_uid or self.files.series_uid
        return replace(case, patient_id=self.patient_id or case.patient_id, points=points, series_uid=series)


@dataclass(frozen=True)
class LunaSource:
    """A scan of LUNA16: its nodules and candidates, and the readers' voxels and ratings where LIDC's table has them."""

    case_id: str
    files: Files
    patient_id: str
    findings: tuple[Finding, ...]
    candidates: tuple[Finding, ...]
    readings: Sequence[Reading] = field(default=(), repr=False)
    readers: int = LIDC_READERS

    @property
    def key(self) -> str:
        findings = hashlib.sha256(repr((self.findings, self.candidates)).encode()).hexdigest()
        return _key(self.files.all_files(), self.case_id, self.readers, findings)

    def read(self) -> Case:
        scan = self.files.read()
        ct = orient(scan.ct, "LPS")
        labels, outlined = label_nodules(cluster(self.readings), ct, self.readers) if self.readings else (None, [])
        nodules = []
        kept = np.zeros(ct.shape, np.uint8)
        for number, finding in enumerate(self.findings, start=1):
            _check_inside(self.files.path, ct, finding.center_mm)
            assert finding.diameter_mm is not None
            nodule = Nodule(f"{number:02d}", finding.center_mm, NoduleAttributes(diameter_mm=finding.diameter_mm))
            if (twin := _nearest(outlined, finding)) is not None:
                outlined.remove(twin)
                attributes = replace(twin.attributes, diameter_mm=finding.diameter_mm)
                nodule = replace(nodule, attributes=attributes, ratings=twin.ratings, extra=twin.extra)
                if labels is not None and twin.label:
                    kept[labels == twin.label] = number
                    nodule = replace(nodule, label=number)
            nodules.append(nodule)
        case = _case(self.case_id, self.files, replace(scan, ct=ct), kept, nodules)
        points = tuple(Point("nodule" if c.is_nodule else "candidate", c.center_mm) for c in self.candidates)
        return replace(case, patient_id=self.patient_id, series_uid=self.files.stem, points=points)


def find_scans(folder: Path) -> list[Files]:
    """The CT series and images of a folder and its subfolders, in the order of their names.

    Raises:
        InputError: there is none, or nothing there.
    """
    if not folder.exists():
        raise InputError(folder, "nothing", "a folder of scans")
    paths = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    images = [Files(path) for path in paths if is_image(path)]
    series: dict[str, Files] = {}
    masks: dict[str, list[Path]] = defaultdict(list)
    for path in [p for p in paths if not is_image(p) and dicom.is_dicom(p)]:
        about = dicom.read_about(path)
        if about.modality == "CT":
            known = series.get(about.series_uid, Files(path.parent, about.series_uid, about.patient_id))
            series[about.series_uid] = replace(known, files=(*known.files, path))
        elif about.modality in ("SEG", "RTSTRUCT"):
            masks[about.refers_to].append(path)
    found = [replace(s, masks=tuple(masks.get(s.series_uid, ()))) for s in series.values()] + images
    if not found:
        raise InputError(folder, f"{len(paths)} files, none of them a CT scan", "DICOM, NIfTI, MHA, MHD or NRRD")
    return sorted(found, key=lambda f: (str(f.path), f.series_uid))


def scan_sources(folder: Path, table: Path | None, structures: str) -> list[Source]:
    """Whole scans: those of the table, and those of the folder that it does not name, which have no nodules."""
    scans = find_scans(folder)
    listed = {image.image.resolve(): image for image in read_nodule_table(table)} if table else {}
    by_uid = {image.image.name: image for image in listed.values()}
    ids = _case_ids([scan.stem for scan in scans])
    made: list[Source] = []
    used = set()
    for case_id, scan in zip(ids, scans, strict=True):
        image = listed.get(scan.path.resolve()) or by_uid.get(scan.series_uid) or by_uid.get(scan.stem)
        if image is None:
            made.append(ScanSource(case_id, scan, structures))
        else:
            used.add(image.image)
            made.append(_table_source(case_id, scan, image))
    if missing := [image.image for image in listed.values() if image.image not in used]:
        raise InputError(table, f"image {missing[0]}, which is not in {folder}", "images of that folder")
    return made


def patch_sources(table: Path) -> list[Source]:
    """The images of a table."""
    images = read_nodule_table(table)
    ids = _case_ids([Files(image.image).stem for image in images])
    return [_table_source(i, _files_at(image.image), image) for i, image in zip(ids, images, strict=True)]


def lidc_sources(folder: Path, readers: int) -> list[Source]:
    """LIDC-IDRI as downloaded: every CT series with its XML file, or with the readings of the package's table."""
    known = read_lidc_scans()
    by_uid, by_folder = _xml_files(folder)
    found = []
    for files in find_scans(folder):
        xml = by_uid.get(files.series_uid) if files.series_uid else by_folder.get(files.path.parent)
        uid = files.series_uid or (xml.series_uid if isinstance(xml, LidcXml) else "")
        listed = known.get(uid)
        if xml is None and listed is None:
            xml = by_folder.get(files.path.parent)
        patient = files.patient_id or (listed.scan.patient_id if listed else files.path.parent.name)
        found.append((replace(files, series_uid=uid, masks=()), patient, xml, listed))
    ids = _case_ids([patient for _, patient, _, _ in found])
    return [
        LidcSource(
            case_id=case_id,
            files=files,
            patient_id=patient,
            xml=xml.path if isinstance(xml, LidcXml) else xml,
            readings=listed.readings if listed and not xml else (),
            is_annotated=bool(xml or listed),
            readers=readers,
        )
        for case_id, (files, patient, xml, listed) in zip(ids, found, strict=True)
    ]


def luna16_sources(folder: Path, readers: int) -> list[Source]:
    """LUNA16 as downloaded: every scan that its tables may tell of, with nodules, candidates, voxels and ratings."""
    tables = {path.name: path for path in sorted(folder.rglob("*.csv"))}
    if "annotations.csv" not in tables:
        raise InputError(folder, "no annotations.csv", "LUNA16's scans and its tables")
    findings = read_findings(tables["annotations.csv"])
    if any(finding.diameter_mm is None for found in findings.values() for finding in found):
        raise InputError(tables["annotations.csv"], "no diameter_mm", "LUNA16's annotations")
    candidates = next((tables[n] for n in ("candidates_V2.csv", "candidates.csv") if n in tables), None)
    points = read_findings(candidates) if candidates else {}
    known = read_lidc_scans()
    made: list[Source] = []
    for files in find_scans(folder):
        listed = known.get(files.stem)
        made.append(
            LunaSource(
                case_id=files.stem,
                files=files,
                patient_id=listed.scan.patient_id if listed else files.stem,
                findings=tuple(findings.get(files.stem, ())),
                candidates=tuple(points.get(files.stem, ())),
                readings=listed.readings if listed else (),
                readers=readers,
            )
        )
    return made


def _table_source(case_id: str, files: Files, image: TableImage) -> TableSource:
    return TableSource(case_id, files, image.nodules, image.patient_id, image.split)  # type: ignore[arg-type]


def _files_at(path: Path) -> Files:
    """The scan of a path in a table, which need not exist."""
    if path.is_dir():
        series = dicom.choose_series(path)
        return Files(path, series.uid, series.patient_id, series.files)
    return Files(path)


def _xml_files(folder: Path) -> tuple[dict[str, LidcXml], dict[Path, LidcXml | Path]]:
    """The annotation files of CT scans, by the series that they are of; and by folder, those that are damaged too."""
    by_uid: dict[str, LidcXml] = {}
    by_folder: dict[Path, LidcXml | Path] = {}
    for path in sorted(folder.rglob("*.xml")):
        try:
            found = read_lidc_xml(path)
            by_uid[found.series_uid] = by_folder[path.parent] = found
        except InputError:
            with open(path, "rb") as file:
                if b"<IdriReadMessage" not in file.read(HEAD_BYTES):  # which is of a chest radiograph
                    by_folder.setdefault(path.parent, path)
    return by_uid, by_folder


def _case(case_id: str, files: Files, scan: Scan, labels: NDArray[np.uint8], nodules: Sequence[Nodule]) -> Case:
    ours = read_mark(files.path) if not files.files else scan.dicom.mark if scan.dicom else ""
    return Case(
        case_id=case_id,
        patient_id=scan.patient_id or files.stem,
        ct=scan.ct,
        mask=labels if any(nodule.label for nodule in nodules) else None,
        nodules=tuple(nodules),
        series_uid=scan.series_uid,
        synthetic=ours,
        notes=scan.notes,
    )


def _add_nodule(
    labels: NDArray[np.uint8],
    nodules: list[Nodule],
    mask: NDArray[np.bool_],
    ct: Volume,
    name: str,
    row: NoduleRow | None = None,
) -> None:
    """Paint a nodule into the labels and add what is known of it."""
    inside = np.argwhere(mask)
    if not len(inside):
        raise InputError(row.mask if row else name, "no voxel set", "a nodule")
    number = len(nodules) + 1
    if number > MOST_LABELS:
        raise InputError(name, f"more than {MOST_LABELS} nodules in one scan", "nodules, not other structures")
    labels[mask] = number
    x, y, z = ct.to_world(inside.mean(0)).tolist()
    attributes = row.attributes if row else NoduleAttributes()
    if attributes.diameter_mm is None:
        attributes = replace(attributes, diameter_mm=axial_diameter_mm(inside, ct.spacing_mm))
    nodules.append(
        Nodule(
            nodule_id=row.nodule_id if row else f"{number:02d}",
            center_mm=(x, y, z),
            attributes=attributes,
            label=number,
            ratings=row.ratings if row else {},
            extra=row.extra if row else {"structure": name},
        )
    )


def axial_diameter_mm(inside: NDArray[np.int64], spacing_mm: tuple[float, float, float]) -> float:
    """Longest chord of a nodule within a slice, from edge to edge.

    Args:
        inside: indices (z, y, x) of its voxels, [n, 3].
        spacing_mm: (z, y, x); pixels are taken as square.
    """
    slices = (inside[inside[:, 0] == z][:, :0:-1] for z in np.unique(inside[:, 0]))
    return (max(longest_chord(points) for points in slices) + 1) * spacing_mm[2]


def _mask_on(path: Path, ct: Volume) -> NDArray:
    """The voxels of a mask that lies on the grid of an image."""
    mask = read_image(path)
    if mask.shape != ct.shape or np.abs(mask.affine - ct.affine).max() > SAME_GRID_MM:
        place = f"{mask.shape} voxels of {mask.spacing_mm} mm at {mask.origin_mm}"
        raise InputError(path, place, f"the image's {ct.shape} of {ct.spacing_mm} mm at {ct.origin_mm}")
    return mask.voxels


def _pieces(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """The connected components of a mask."""
    labels, count = cc3d.connected_components(mask, return_N=True)
    for i in range(1, count + 1):
        yield labels == i


def _check_inside(path: Path, ct: Volume, center_mm: tuple[float, float, float]) -> None:
    index = ct.to_voxel(center_mm)
    if (index < -0.5).any() or (index > np.array(ct.shape) - 0.5).any():
        raise InputError(path, f"a nodule at {center_mm} mm, voxel {np.rint(index).astype(int).tolist()}", "one inside")


def _point(mark: Mark, ct: Volume) -> Point | None:
    """A reader's point in the world; None if it is not in this part of the scan."""
    column, row = mark.pixel
    z = (mark.z_mm - ct.origin_mm[2]) / ct.spacing_mm[0]
    if not -0.5 <= z <= ct.shape[0] - 0.5:
        return None
    x_mm, y_mm, z_mm = ct.to_world([round(z), row, column]).tolist()
    return Point(mark.kind, (x_mm, y_mm, z_mm))


def _nearest(nodules: list[Nodule], finding: Finding) -> Nodule | None:
    """The outlined nodule whose centre lies within a finding's radius, the nearest if there are several."""
    if not nodules or finding.diameter_mm is None:
        return None
    gaps = [float(np.linalg.norm(np.subtract(n.center_mm, finding.center_mm))) for n in nodules]
    best = int(np.argmin(gaps))
    return nodules[best] if gaps[best] <= finding.diameter_mm / 2 else None


def _case_ids(stems: Sequence[str]) -> list[str]:
    """Names of folders, one a case: the stems, numbered where several are the same."""
    clean = [re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "case" for stem in stems]
    seen: dict[str, int] = defaultdict(int)
    made = []
    for name in clean:
        seen[name] += 1
        made.append(name if clean.count(name) == 1 else f"{name}-{seen[name]:02d}")
    return made


def _key(files: Sequence[Path], *details: object) -> str:
    """A hash of files' names, sizes and times, and of options."""
    parts = [repr(details)]
    for path in files:
        status = path.stat() if path.exists() else None
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}" if status else f"{path.name} missing")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
