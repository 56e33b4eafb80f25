"""What a store is made of: one source a case, which knows how to read itself.

A source is small and picklable, so that cases can be read by other processes; `key` changes whenever
the case it gives would, as far as file sizes and times tell.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.clustering import cluster
from synthorax.annotations.consensus import as_read, label_nodules, slice_grid
from synthorax.annotations.lidc_xml import Mark, read_lidc_xml
from synthorax.annotations.luna16 import Finding
from synthorax.annotations.nodule_table import NoduleRow
from synthorax.annotations.reading import Reading
from synthorax.datasets.store import CANDIDATE, Annotated, Case, Point, Split
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io import dicom
from synthorax.io.dicom_masks import read_masks
from synthorax.io.images import image_stem, read_mark, stored_files
from synthorax.io.scans import Scan, of_series, read_nodule_on, read_scan
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

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
        return image_stem(self.path)

    def all_files(self) -> tuple[Path, ...]:
        """Every file that the scan is read from."""
        return (*(self.files or stored_files(self.path)), *self.masks)

    def read(self) -> Scan:
        """The scan."""
        return of_series(dicom.read_series_files(self.files)) if self.files else read_scan(self.path)


@dataclass(frozen=True)
class Unreadable:
    """Something that is known to be no case before it is read, so that it is left out and named like others."""

    case_id: str
    reason: InputError

    @property
    def key(self) -> str:
        return str(self.reason)

    def read(self) -> Case:
        raise self.reason


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
        regions: list[Region] = []
        nodules: list[Nodule] = []
        others: list[str] = []
        for path in self.files.masks:
            found, names = read_masks(path, scan.ct)
            for i, name in enumerate(names, start=1):
                if not re.search(self.structures, name, re.IGNORECASE):
                    others.append(f"{path.name}: {name} is not taken for a nodule")
                    continue
                for part in _pieces(found.voxels == i):
                    _add_nodule(regions, nodules, part, scan.ct, name)
        case = _case(self.case_id, self.files, scan, regions, nodules)
        annotated: Annotated = "all" if self.files.masks else "none-known"
        return replace(case, annotated=annotated, notes=(*case.notes, *others))


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
        masks = dict.fromkeys(file for row in self.rows if row.mask is not None for file in stored_files(row.mask))
        return _key((*self.files.all_files(), *masks), self.case_id, self.rows, self.patient_id, self.split)

    def read(self) -> Case:
        scan = self.files.read()
        regions: list[Region] = []
        nodules: list[Nodule] = []
        notes: list[str] = []
        for row in self.rows:
            if row.mask is None:
                assert row.center_mm is not None
                _check_inside(self.files.path, scan.ct, row.center_mm)
                nodules.append(
                    Nodule(row.nodule_id, row.center_mm, row.attributes, ratings=row.ratings, extra=row.extra)
                )
                continue
            marked, told = read_nodule_on(row.mask, scan.ct, row.mask_label)
            _add_nodule(regions, nodules, marked, scan.ct, "", row)
            notes += told
        case = _case(self.case_id, self.files, scan, regions, nodules)
        case = replace(case, notes=(*case.notes, *dict.fromkeys(notes)))
        return replace(case, annotated="all", patient_id=self.patient_id, split=self.split)


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
        ct = as_read(scan.ct)
        readings, marks = list(self.readings), []
        if self.xml is not None:
            annotated = read_lidc_xml(self.xml)
            if scan.series_uid and scan.series_uid != annotated.series_uid:
                raise InputError(self.xml, f"series {annotated.series_uid}", scan.series_uid)
            grid = slice_grid(ct, patient_id=self.patient_id, series_uid=annotated.series_uid)
            readings, marks = annotated.readings(grid), annotated.marks()
        regions, nodules = label_nodules(cluster(readings), ct, self.readers)
        case = _case(self.case_id, self.files, replace(scan, ct=ct), regions, nodules)
        points = tuple(point for mark in marks if (point := _point(mark, ct)) is not None)
        series = scan.series_uid or self.files.series_uid
        patient = self.patient_id or case.patient_id
        return replace(case, patient_id=patient, points=points, annotated="all", series_uid=series)


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
        ct = as_read(scan.ct)
        regions, outlined = label_nodules(cluster(self.readings), ct, self.readers) if self.readings else ([], [])
        nodules = []
        kept: list[Region] = []
        for number, finding in enumerate(self.findings, start=1):
            _check_inside(self.files.path, ct, finding.center_mm)
            assert finding.diameter_mm is not None
            nodule = Nodule(f"{number:02d}", finding.center_mm, NoduleAttributes(diameter_mm=finding.diameter_mm))
            if (twin := _nearest(outlined, finding)) is not None:
                outlined.remove(twin)
                attributes = replace(twin.attributes, diameter_mm=finding.diameter_mm)
                nodule = replace(nodule, attributes=attributes, ratings=twin.ratings, extra=twin.extra)
                if twin.label:
                    kept.append(regions[twin.label - 1])
                    nodule = replace(nodule, label=len(kept))
            nodules.append(nodule)
        case = _case(self.case_id, self.files, replace(scan, ct=ct), kept, nodules)
        without = [nodule.nodule_id for nodule in nodules if not nodule.label]
        if without and self.readings:
            note = f"nodules {', '.join(without)}: no outline of LIDC's table there"
            case = replace(case, notes=(*case.notes, note))
        points = tuple(Point("nodule" if c.is_nodule else CANDIDATE, c.center_mm) for c in self.candidates)
        return replace(case, patient_id=self.patient_id, annotated="all", series_uid=self.files.stem, points=points)


def _case(case_id: str, files: Files, scan: Scan, regions: Sequence[Region], nodules: Sequence[Nodule]) -> Case:
    ours = read_mark(files.path) if not files.files else scan.dicom.mark if scan.dicom else ""
    return Case(
        case_id=case_id,
        patient_id=scan.patient_id or files.stem,
        ct=orient(scan.ct, "LPS"),
        regions=tuple(_upright(region, scan.ct) for region in regions),
        nodules=tuple(nodules),
        series_uid=scan.series_uid,
        synthetic=ours,
        notes=scan.notes,
    )


def _upright(region: Region, ct: Volume) -> Region:
    """A region of a scan's voxels as one of the scan's voxels along LPS."""
    x, y, z = ct.to_world(region.corner).tolist()
    turned = orient(replace(ct, voxels=region.mask, origin_mm=(x, y, z)), "LPS")
    empty = replace(ct, voxels=np.broadcast_to(np.bool_(False), ct.shape))
    k, j, i = np.rint(orient(empty, "LPS").to_voxel(turned.origin_mm)).astype(int).tolist()
    return Region((k, j, i), turned.voxels)


def _add_nodule(
    regions: list[Region],
    nodules: list[Nodule],
    mask: NDArray[np.bool_],
    ct: Volume,
    name: str,
    row: NoduleRow | None = None,
) -> None:
    """Add a nodule's voxels to the regions, and what is known of it to the nodules."""
    region = Region.of(mask)
    inside = region.indices()
    if not len(inside):
        raise InputError(row.mask if row else name, "no voxel set", "a nodule")
    number = len(nodules) + 1
    regions.append(region)
    x, y, z = ct.to_world(inside.mean(0)).tolist()
    attributes = row.attributes if row else NoduleAttributes()
    if attributes.diameter_mm is None:
        attributes = replace(attributes, diameter_mm=axial_diameter_mm(inside, ct.spacing_mm))
    nodules.append(
        Nodule(
            nodule_id=row.nodule_id if row else f"{number:02d}",
            center_mm=(x, y, z),
            attributes=attributes,
            label=len(regions),
            ratings=row.ratings if row else {},
            extra=row.extra if row else {"structure": name},
        )
    )


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


def _key(files: Sequence[Path], *details: object) -> str:
    """A hash of files' names, sizes and times, and of options."""
    parts = [repr(details)]
    for path in files:
        status = path.stat() if path.exists() else None
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}" if status else f"{path.name} missing")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
