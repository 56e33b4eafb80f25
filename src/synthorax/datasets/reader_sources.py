"""Sources of LIDC-IDRI and LUNA16, whose nodules four readers outlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.clustering import cluster
from synthorax.annotations.consensus import as_read, label_nodules, slice_grid
from synthorax.annotations.lidc_xml import LidcXml, Mark, read_lidc_xml
from synthorax.annotations.luna16 import Finding
from synthorax.annotations.reading import Reading
from synthorax.datasets.mask_files import check_fits, check_inside
from synthorax.datasets.sources import Files, Whose, how_annotated, made_case, source_key, upright
from synthorax.datasets.store import CANDIDATE, Case, MarkedPoint
from synthorax.errors import InputError
from synthorax.geometry import turned_region
from synthorax.io.scans import Scan
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.provenance import fingerprint
from synthorax.region import Region
from synthorax.screen import quantity
from synthorax.volume import Volume

LIDC_READERS = 2
"""Number of the four readers who must have marked a voxel for it to belong to a nodule."""
SAME_SLICE = 0.1
"""Largest distance of an outline from its slice, as a share of the slice spacing."""


@dataclass(frozen=True)
class LidcSource:
    """A scan of LIDC-IDRI with its readers' marks, from its XML file or the table in the package.

    Attributes:
        case_id: name of the case.
        files: the scan.
        whose: its patient and split.
        xml: its annotation file, if there is one.
        readings: the readers' outlines from the package's table, used if there is no XML file.
        is_annotated: whether there is an XML file or an entry in the table.
        readers: number of readers who must have marked a voxel for it to belong to a nodule.
    """

    case_id: str
    files: Files
    whose: Whose
    xml: Path | None = None
    readings: Sequence[Reading] = field(default=(), repr=False)
    is_annotated: bool = True
    readers: int = LIDC_READERS

    @property
    def key(self) -> str:
        files = (*self.files.all_files(), *([self.xml] if self.xml else []))
        return source_key(files, self.case_id, self.readers, *self.whose.details())

    def read(self) -> Case:
        if not self.is_annotated:
            raise InputError(self.files.path, "neither XML nor a series of LIDC-IDRI's table", "an annotated scan")
        return self.read_on(self.files.read())

    def read_on(self, scan: Scan) -> Case:
        """Return the case of a scan that was read.

        Raises:
            InputError: the annotations are of another scan, or cannot be read.
        """
        ct = as_read(scan.ct)
        readings, marks, notes = list(self.readings), [], []
        if self.xml is not None:
            annotated = read_lidc_xml(self.xml)
            notes = _check_same_scan(self.xml, annotated, scan, ct)
            grid = slice_grid(ct, patient_id=self.whose.patient_id, series_uid=annotated.series_uid)
            readings, marks = annotated.readings(grid), annotated.marks()
        outlined = cluster(readings)
        regions, nodules, label_notes = label_nodules(outlined, ct, self.readers)
        case = _case(self.case_id, self.files, replace(scan, ct=ct), regions, nodules, self.whose)
        points = tuple(point for mark in marks if (point := _point(mark, ct)) is not None)
        series = scan.series_uid or self.files.series_uid
        is_whole = len(nodules) == len(outlined)  # nodules outside a partial scan are left out
        return replace(
            case,
            points=points,
            annotated=how_annotated(None, "all", nodules, is_whole=is_whole),
            series_uid=series,
            notes=(*case.notes, *notes, *label_notes),
        )


@dataclass(frozen=True)
class LunaSource:
    """A scan of LUNA16 with its nodules and candidates, and the readers' outlines and ratings if LIDC's table has them.

    Attributes:
        case_id: name of the case.
        files: the scan.
        whose: its patient and split.
        findings: nodules of annotations.csv.
        candidates: places of the table of candidates.
        readings: the readers' outlines from the package's table.
        readers: number of readers who must have marked a voxel for it to belong to a nodule.
        is_listed: whether LUNA16's tables or LIDC's list the scan; otherwise nothing is known about its nodules.
    """

    case_id: str
    files: Files
    whose: Whose
    findings: tuple[Finding, ...]
    candidates: tuple[Finding, ...]
    readings: Sequence[Reading] = field(default=(), repr=False)
    readers: int = LIDC_READERS
    is_listed: bool = True

    @property
    def key(self) -> str:
        findings = fingerprint(repr((self.findings, self.candidates)))
        return source_key(
            self.files.all_files(), self.case_id, self.readers, findings, self.is_listed, *self.whose.details()
        )

    def read(self) -> Case:
        scan = self.files.read()
        ct = as_read(scan.ct)
        regions, outlined, _ = (
            label_nodules(cluster(self.readings), ct, self.readers) if self.readings else ([], [], [])
        )
        nodules, notes = [], []
        kept: list[Region] = []
        lost = 0
        for number, finding in enumerate(self.findings, start=1):
            try:
                check_inside(ct, finding.center_mm)
                check_fits(ct, finding.diameter_mm)
            except InputError as error:
                notes.append(f"nodule {number:02d} left out: {error.args[1]}; expected {error.args[2]}")
                lost += 1
                continue
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
        case = _case(self.case_id, self.files, replace(scan, ct=ct), kept, nodules, self.whose)
        without = [nodule.nodule_id for nodule in nodules if not nodule.label]
        if without and self.readings:
            notes.append(f"nodules {', '.join(without)}: LIDC's table has no outline there")
        points = tuple(MarkedPoint("nodule" if c.is_nodule else CANDIDATE, c.center_mm) for c in self.candidates)
        if not self.is_listed:
            notes.append("neither LUNA16's tables nor LIDC's list this scan")
        return replace(
            case,
            annotated=how_annotated(None, "all", nodules, is_whole=self.is_listed and not lost),
            series_uid=self.files.stem,
            points=points,
            notes=(*case.notes, *notes),
        )


def _case(
    case_id: str, files: Files, scan: Scan, regions: Sequence[Region], nodules: Sequence[Nodule], whose: Whose
) -> Case:
    """Return the case of a scan and regions in the readers' orientation, reoriented to that of a store."""
    turned = upright(scan)
    regions = [turned_region(region, scan.ct, turned.ct) for region in regions]
    return made_case(case_id, files, turned, regions, nodules, whose)


def _check_same_scan(xml: Path, annotated: LidcXml, scan: Scan, ct: Volume) -> list[str]:
    """Check that annotations belong to the scan's series, or at least to the same slices, which gives a note.

    Raises:
        InputError: they belong to another series, or to slices between those of the scan.
    """
    if scan.series_uid and scan.series_uid == annotated.series_uid:
        return []
    slices = annotated.slices()
    if not scan.series_uid:
        return _check_same_slices(xml, sorted({z for _, z in slices}), ct)
    uids = {uid for uid, _ in slices if uid}
    same_slices = scan.dicom is not None and bool(uids) and uids <= set(scan.dicom.sop_uids)
    same_study = scan.dicom is not None and bool(annotated.study_uid) and scan.dicom.study_uid == annotated.study_uid
    levels = _levels([z for _, z in slices], ct)
    fits = bool(len(levels)) and bool((_within(levels, ct) & (_between(levels) <= SAME_SLICE)).all())
    if same_slices or (same_study and fits and not uids):
        why = "its slices" if same_slices else "its study and the places of its slices"
        return [f"the XML names another series, {annotated.series_uid}, but {why} agree, so it was used"]
    raise InputError(
        xml,
        f"series {annotated.series_uid}",
        f"{scan.series_uid}, the series of the scan beside it; if a de-identification renamed the series, put its new "
        "UID into the XML's SeriesInstanceUid",
    )


def _check_same_slices(xml: Path, marked_mm: Sequence[float], ct: Volume) -> list[str]:
    """Check that the slices of annotations are those of a scan that names no series; return notes on them.

    Args:
        xml: file of the annotations.
        marked_mm: patient z of the slices on which readers marked something.
        ct: the scan in the orientation of `as_read`.

    Raises:
        InputError: a marked slice lies between slices of the scan.
    """
    if not marked_mm:
        return []
    levels = _levels(marked_mm, ct)
    away = _between(levels)
    if (away > SAME_SLICE).any():
        between = f"marks at z = {marked_mm[int(away.argmax())]:g} mm, between slices of the scan beside it"
        raise InputError(xml, between, "annotations of this very scan, which is not resampled along z")
    inside = int(_within(levels, ct).sum())
    return [
        f"{xml.name} is taken for the annotations of this scan: an image names no series, and {inside} of the "
        f"{quantity(len(levels), 'slice')} with marks are slices of the scan"
    ]


def _levels(z_mm: Sequence[float], ct: Volume) -> NDArray[np.float64]:
    """Return the indices of patient z in a scan in the orientation of `as_read`, fractions between slices, [n]."""
    return (np.array(z_mm, float) - ct.origin_mm[2]) / ct.spacing_mm[0]


def _within(levels: NDArray[np.float64], ct: Volume) -> NDArray[np.bool_]:
    """Return whether each index lies in the scan's slices, bool [n]."""
    return (levels > -0.5) & (levels < ct.shape[0] - 0.5)


def _between(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each index is from that of the nearest slice, as a share of the slices' distance, [n]."""
    return np.abs(levels - np.rint(levels))


def _point(mark: Mark, ct: Volume) -> MarkedPoint | None:
    """Return a reader's point in world coordinates; None if it lies outside a partial scan."""
    column, row = mark.pixel
    (z,) = _levels([mark.z_mm], ct)
    if not -0.5 <= z <= ct.shape[0] - 0.5:
        return None
    x_mm, y_mm, z_mm = ct.to_world([round(z), row, column]).tolist()
    return MarkedPoint(mark.kind, (x_mm, y_mm, z_mm))


def _nearest(nodules: list[Nodule], finding: Finding) -> Nodule | None:
    """Return the outlined nodule nearest to a finding if it lies within the finding's radius; otherwise None."""
    if not nodules or finding.diameter_mm is None:
        return None
    gaps = [float(np.linalg.norm(np.subtract(n.center_mm, finding.center_mm))) for n in nodules]
    best = int(np.argmin(gaps))
    return nodules[best] if gaps[best] <= finding.diameter_mm / 2 else None
