"""What a store is made of: one source a case, which knows how to read itself.

A source is small and picklable, so that cases can be read by other processes; `key` changes whenever
the case it gives would, as far as file sizes and times tell.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from synthorax.annotations.masked import MaskedNodule, named
from synthorax.annotations.nodule_table import NoduleRow
from synthorax.datasets.mask_files import (
    LabelsOnce,
    NodulesOfMasks,
    check_inside,
    distance_mm,
    masked_nodules,
    region_of_row,
)
from synthorax.datasets.store import Annotated, Case, Split
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.io import dicom
from synthorax.io.images import image_stem, read_mark, stored_files
from synthorax.io.scans import Scan, of_series, read_scan
from synthorax.io.walk import LeftOut
from synthorax.lineage import Lineage
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

SAME_ROW_MM = 0.5
"""Two rows that name no masks are of one nodule if their centres lie within this distance."""
TABLE_TO_MASK_MM = 3.0
"""A nodule of a table is a mask's nodule if their centres lie within this distance, or within half its diameter."""


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
        masks: DICOM SEG and RTSTRUCT files that were drawn on the series.
        doubts: what was found with the scan and may tell of nodules that are not read.
        left_out: files beside the series that were passed over, each with the reason.
    """

    path: Path
    series_uid: str = ""
    patient_id: str = ""
    files: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    doubts: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

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
        return of_series(dicom.read_series_files(self.files, self.left_out)) if self.files else read_scan(self.path)


@dataclass(frozen=True)
class Whose:
    """What is known of a case beside its files.

    Attributes:
        patient_id: empty if the scan is to say.
        source_patient: key of the patient whose scan a synthetic case was made from.
        stated: what the user says of the annotation of every scan; None leaves it to the source.
        mark: the synthetic mark that a manifest tells, for a file that has lost its own.
        lineage: whose data stands behind the scan, if it is synthetic.
    """

    patient_id: str = ""
    source_patient: str = ""
    split: Split | None = None
    stated: Annotated | None = None
    mark: str = field(default="", repr=False)
    lineage: Lineage | None = field(default=None, repr=False)

    def details(self) -> tuple[object, ...]:
        """What the key of a source tells of it; of a scan without a manifest the same as before there were lineages."""
        return (self, self.mark, self.lineage.row()) if self.lineage else (self, self.mark) if self.mark else (self,)


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
    """A scan whose nodules are masked in DICOM objects beside it, or of which no nodule is known.

    Attributes:
        structures: regular expression of the segments and structures that are nodules; None is `is_nodule`.
    """

    case_id: str
    files: Files
    structures: str | None = None
    whose: Whose = Whose()

    @property
    def key(self) -> str:
        return source_key(
            self.files.all_files(), self.case_id, self.structures, self.files.doubts, *self.whose.details()
        )

    def read(self) -> Case:
        scan = upright(self.files.read())
        masks = masked_nodules(self.files.masks, scan, self.structures)
        nodules = [_of_mask(found, i, scan.ct) for i, found in enumerate(masks.nodules, start=1)]
        case = made_case(self.case_id, self.files, scan, [found.region for found in masks.nodules], nodules, self.whose)
        is_whole = masks.is_whole and not self.files.doubts
        annotated = how_annotated(self.whose.stated, "some", nodules, is_whole=is_whole)
        return replace(case, annotated=annotated, notes=(*case.notes, *masks.notes))


@dataclass(frozen=True)
class TableSource:
    """A scan or patch of a table, with the nodules of its rows.

    A row without a mask has the voxels of the DICOM mask beside the series that lies where the row says.

    Attributes:
        usual: whether the table tells of every nodule of its images, if the user does not say.
    """

    case_id: str
    files: Files
    rows: tuple[NoduleRow, ...]
    structures: str | None = None
    whose: Whose = Whose()
    usual: Annotated = "all"

    @property
    def key(self) -> str:
        masks = dict.fromkeys(file for row in self.rows if row.mask is not None for file in stored_files(row.mask))
        files = (*self.files.all_files(), *masks)
        whose, *more = self.whose.details()
        details = (self.case_id, self.rows, self.structures, self.files.doubts, whose, self.usual, *more)
        return source_key(files, *details)

    def read(self) -> Case:
        scan = upright(self.files.read())
        beside = self._masks_beside(scan)
        left = list(beside.nodules)
        regions: list[Region] = []
        nodules: list[Nodule] = []
        lost: list[str] = []
        notes: list[str] = []
        rows = self._once(notes)
        read = LabelsOnce()
        shared = Counter((row.mask, row.mask_label) for row in rows)
        for row in rows:
            try:
                shares = shared[row.mask, row.mask_label] > 1
                region, told = region_of_row(row, scan, shares=shares, read=read)
                if shares and region is not None and any(_same_voxels(region, other) for other in regions):
                    raise InputError("mask", "its voxels are another row's", "voxels of its own")
                twin = None if region is not None or row.center_mm is None else _nearest(left, row, scan.ct)
                if twin is not None:
                    left.remove(twin)
                    region = twin.region
                nodules.append(_of_row(row, region, len(regions) + 1, scan.ct))
            except InputError as error:
                lost.append(f"nodule {row.nodule_id} left out: {error.args[1]}; expected {error.args[2]}")
                continue
            notes += [f"nodule {row.nodule_id}: {note}" for note in told]
            if region is not None:
                regions.append(region)
        for found in left:
            regions.append(found.region)
            extra = _of_mask(found, len(nodules) + 1, scan.ct)
            nodules.append(replace(extra, nodule_id=_unused(extra.nodule_id, nodules), label=len(regions)))
            notes.append(f"nodule {nodules[-1].nodule_id} is in a mask beside the series and in no row of the table")
        case = made_case(self.case_id, self.files, scan, regions, nodules, self.whose)
        is_whole = not lost and beside.is_whole and not self.files.doubts
        annotated = how_annotated(self.whose.stated, self.usual, nodules, is_whole=is_whole)
        return replace(case, annotated=annotated, notes=(*case.notes, *lost, *notes, *beside.notes))

    def _masks_beside(self, scan: Scan) -> NodulesOfMasks:
        """The nodules of DICOM masks beside the series, if any row needs them."""
        if all(row.mask is not None for row in self.rows):
            return NodulesOfMasks()
        return masked_nodules(self.files.masks, scan, self.structures)

    def _once(self, notes: list[str]) -> list[NoduleRow]:
        """The rows without those that repeat another."""
        kept: list[NoduleRow] = []
        for row in self.rows:
            if any(_same(row, other) for other in kept):
                notes.append(f"nodule {row.nodule_id} left out: its row repeats another")
            else:
                kept.append(row)
        return kept


def upright(scan: Scan) -> Scan:
    """A scan with its axes along LPS, as a store has them."""
    return replace(scan, ct=orient(scan.ct, "LPS"))


def how_annotated(
    stated: Annotated | None, usual: Annotated, nodules: Sequence[Nodule], *, is_whole: bool
) -> Annotated:
    """Whether every nodule of a scan is known. A lost annotation never makes a scan look healthy.

    Args:
        stated: what the user says.
        usual: what its source means, if the user does not say.
        is_whole: whether everything that may tell of nodules was read.
    """
    known: Annotated = "some" if nodules else "none-known"
    if not is_whole:
        return known
    if stated == "none-known" and nodules:
        return "some"
    return stated or (usual if usual == "all" else known)


def made_case(
    case_id: str, files: Files, scan: Scan, regions: Sequence[Region], nodules: Sequence[Nodule], whose: Whose
) -> Case:
    """A case of an upright scan.

    Args:
        regions: in voxels of the scan.
    """
    own = read_mark(files.path) if not files.files else scan.dicom.mark if scan.dicom else ""
    mark = own or whose.mark
    return Case(
        case_id=case_id,
        patient_id=whose.patient_id or scan.patient_id or files.stem,
        ct=scan.ct,
        regions=tuple(regions),
        nodules=tuple(nodules),
        split=whose.split,
        series_uid=scan.series_uid,
        synthetic=mark,
        source_patient=whose.source_patient,
        notes=(*scan.notes, *files.doubts),
        lineage=whose.lineage if mark else None,
    )


def source_key(files: Sequence[Path], *details: object) -> str:
    """A hash of files' names, sizes and times, and of options."""
    parts = [repr(details)]
    for path in files:
        status = path.stat() if path.exists() else None
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}" if status else f"{path.name} missing")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _of_mask(found: MaskedNodule, number: int, ct: Volume) -> Nodule:
    """A nodule of which no more is known than its voxels."""
    inside = found.region.indices()
    x, y, z = ct.to_world(inside.mean(0)).tolist()
    readings = {"readings": str(found.readings)} if found.readings > 1 else {}
    return Nodule(
        nodule_id=f"{number:02d}",
        center_mm=(x, y, z),
        attributes=NoduleAttributes(diameter_mm=axial_diameter_mm(inside, ct.spacing_mm)),
        label=number,
        extra={"structure": named(found.names)} | readings,
    )


def _of_row(row: NoduleRow, region: Region | None, label: int, ct: Volume) -> Nodule:
    """The nodule of a row, with the place of its voxels where there are any."""
    attributes = row.attributes
    if region is None:
        assert row.center_mm is not None
        check_inside(ct, row.center_mm)
        return Nodule(row.nodule_id, row.center_mm, attributes, ratings=row.ratings, extra=row.extra)
    inside = region.indices()
    x, y, z = ct.to_world(inside.mean(0)).tolist()
    if attributes.diameter_mm is None:
        attributes = replace(attributes, diameter_mm=axial_diameter_mm(inside, ct.spacing_mm))
    return Nodule(row.nodule_id, (x, y, z), attributes, label, row.ratings, row.extra)


def _nearest(found: Sequence[MaskedNodule], row: NoduleRow, ct: Volume) -> MaskedNodule | None:
    """The nodule of a mask that lies where a row says; None if there is none."""
    assert row.center_mm is not None
    reach = max(TABLE_TO_MASK_MM, (row.attributes.diameter_mm or 0) / 2)
    gaps = [distance_mm(masked.region, row.center_mm, ct) for masked in found]
    best = int(np.argmin(gaps)) if gaps else 0
    return found[best] if gaps and gaps[best] <= reach else None


def _same(row: NoduleRow, other: NoduleRow) -> bool:
    """Whether two rows are of one nodule: they name the same mask, and no two places."""
    if (row.mask, row.mask_label) != (other.mask, other.mask_label):
        return False
    if row.center_mm is None or other.center_mm is None:
        return True
    return float(np.linalg.norm(np.subtract(row.center_mm, other.center_mm))) <= SAME_ROW_MM


def _same_voxels(region: Region, other: Region) -> bool:
    return region.corner == other.corner and np.array_equal(region.mask, other.mask)


def _unused(nodule_id: str, nodules: Sequence[Nodule]) -> str:
    """An id that no other nodule of the scan has."""
    others = {nodule.nodule_id for nodule in nodules}
    number = 1
    made = nodule_id
    while made in others:
        number += 1
        made = f"{nodule_id}-{number}"
    return made
