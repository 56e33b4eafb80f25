"""The sources of a store: one for each case, which reads the case.

A source is small and picklable, so that other processes can read cases. Its `key` changes whenever the case would
change, as far as file sizes and times show.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from synthorax.annotations.masked import MaskedNodule, named
from synthorax.annotations.nodule_table import NoduleRow
from synthorax.datasets.mask_files import (
    LabelsOnce,
    NodulesOfMasks,
    check_fits,
    check_inside,
    distance_mm,
    masked_nodules,
    regions_of_row,
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
"""Two rows without masks are one nodule if their centres are at most this far apart, in mm."""
MOST_WIDTHS = 2.0
"""Factor between the stated diameter of a nodule and the width of its mask beyond which a note gives both."""
TABLE_TO_MASK_MM = 3.0
"""A nodule of a table is matched to a mask at most this far, in mm, or half its diameter from its centre."""


class Source(Protocol):
    """The source of a case."""

    @property
    def case_id(self) -> str:
        """Name of the case, unique in the store and valid as the name of a folder."""
        ...

    @property
    def key(self) -> str:
        """Hash of everything from which the case is made."""
        ...

    def read(self) -> Case:
        """Read the case.

        Raises:
            InputError: the case cannot be read.
        """
        ...


@dataclass(frozen=True)
class Files:
    """A scan on disk: an image, or the files of a DICOM series.

    Attributes:
        path: the image, or the folder of the series.
        series_uid: UID of the series; empty for an image.
        patient_id: PatientID of the series; empty for an image.
        files: files of the series; empty for an image.
        masks: DICOM SEG and RTSTRUCT files that were drawn on the series.
        doubts: sentences about files found with the scan that may describe nodules and are not read.
        left_out: files beside the series that were left out, each with the reason.
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
        """Name of the image without its suffixes; for a series, its patient or its UID."""
        if self.files:
            return self.patient_id or self.series_uid
        return image_stem(self.path)

    def all_files(self) -> tuple[Path, ...]:
        """Return all files from which the scan and its masks are read."""
        return (*(self.files or stored_files(self.path)), *self.masks)

    def read(self) -> Scan:
        """Read the scan."""
        return of_series(dicom.read_series_files(self.files, self.left_out)) if self.files else read_scan(self.path)


@dataclass(frozen=True)
class Whose:
    """Facts about a case that its files do not give.

    Attributes:
        patient_id: the patient; empty to take the scan's own.
        source_patient: key of the patient from whose scan a synthetic case was made.
        split: the split that a table gives, or None.
        stated: the user's statement whether all nodules of the scans are known; None to leave it to the source.
        mark: the mark of generated voxels in a manifest, for a file that has lost its own.
        lineage: the patients whose data was used to make a synthetic scan.
        original: the scan, among those of the store, from whose bytes a synthetic scan was made; None if not known.
    """

    patient_id: str = ""
    source_patient: str = ""
    split: Split | None = None
    stated: Annotated | None = None
    mark: str = field(default="", repr=False)
    lineage: Lineage | None = field(default=None, repr=False)
    original: Path | None = field(default=None, repr=False)

    def details(self) -> tuple[object, ...]:
        """Return the facts that enter a source's key; without a lineage, those of stores from before lineages."""
        return (self, self.mark, self.lineage.row()) if self.lineage else (self, self.mark) if self.mark else (self,)


@dataclass(frozen=True)
class Unreadable:
    """A source that is known to be unreadable beforehand; it is left out and named like those whose reading fails.

    Attributes:
        case_id: name of the case.
        reason: the error.
    """

    case_id: str
    reason: InputError

    @property
    def key(self) -> str:
        return str(self.reason)

    def read(self) -> Case:
        raise self.reason


@dataclass(frozen=True)
class ScanSource:
    """A scan with the nodules of DICOM masks beside it, or without known nodules.

    Attributes:
        case_id: name of the case.
        files: the scan and its masks.
        structures: regular expression for the names of segments and structures that are nodules; None for the rule
            `is_nodule`.
        whose: its patient and split.
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
        return self.read_on(upright(self.files.read()))

    def read_on(self, scan: Scan) -> Case:
        """Return the case of a scan that was read, in upright orientation."""
        masks = masked_nodules(self.files.masks, scan, self.structures)
        nodules = [_of_mask(found, i, scan.ct) for i, found in enumerate(masks.nodules, start=1)]
        case = made_case(self.case_id, self.files, scan, [found.region for found in masks.nodules], nodules, self.whose)
        is_whole = masks.is_whole and not self.files.doubts
        annotated = how_annotated(self.whose.stated, "some", nodules, is_whole=is_whole)
        return replace(case, annotated=annotated, notes=(*case.notes, *masks.notes))


@dataclass(frozen=True)
class TableSource:
    """A scan or patch of a table, with the nodules of its rows.

    A row without a mask gets the mask of the DICOM structure beside the series that lies at the row's centre.

    Attributes:
        case_id: name of the case.
        files: the scan and the DICOM masks beside it.
        rows: rows of the table.
        structures: see `ScanSource`.
        whose: its patient and split.
        usual: whether the table lists all nodules of its images, unless the user states it.
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
        return self.read_on(upright(self.files.read()))

    def read_on(self, scan: Scan) -> Case:
        """Return the case of a scan that was read, in upright orientation.

        Raises:
            InputError: the case cannot be read.
        """
        beside = self._masks_beside(scan)
        left = list(beside.nodules)
        regions: list[Region] = []
        nodules: list[Nodule] = []
        lost: list[str] = []
        notes: list[str] = []
        others: dict[tuple[Path | None, int | str | None], tuple[str, list[Region]]] = {}
        rows = self._once(notes)
        read = LabelsOnce()
        shared = Counter((row.mask, row.mask_label) for row in rows)
        for row in rows:
            try:
                if row.may_be_empty and row.mask is not None and not (read(row.mask, scan.ct).voxels > 0).any():
                    continue
                shares = shared[row.mask, row.mask_label] > 1
                found = regions_of_row(row, scan, shares=shares, read=read)
                if shares and any(_same_voxels(region, other) for region in found.regions for other in regions):
                    raise InputError("mask", "the same voxels as another row", "a mask of its own")
                if len(found.regions) > 1:
                    made, note = _of_pieces(row, found.regions, len(regions) + 1, scan.ct, [*rows, *nodules])
                    nodules += made
                    notes.append(note)
                else:
                    region = found.regions[0] if found.regions else None
                    twin = None if region is not None or row.center_mm is None else _nearest(left, row, scan.ct)
                    if twin is not None:
                        left.remove(twin)
                        region = twin.region
                    nodules.append(_of_row(row, region, len(regions) + 1, scan.ct))
                    found = replace(found, regions=(region,) if region is not None else ())
            except InputError as error:
                lost.append(f"nodule {row.nodule_id} left out: {error.args[1]}; expected {error.args[2]}")
                continue
            notes += [
                f"nodule {row.nodule_id}: {note}" for note in (*found.notes, *_other_width(row, found.regions, scan.ct))
            ]
            regions += found.regions
            others.setdefault((row.mask, row.mask_label), (row.nodule_id, []))[1].extend(found.left)
        unnamed = _unnamed(others.values(), regions)
        for masked in left:
            regions.append(masked.region)
            extra = _of_mask(masked, len(nodules) + 1, scan.ct)
            nodules.append(replace(extra, nodule_id=_unused(extra.nodule_id, nodules), label=len(regions)))
            notes.append(f"nodule {nodules[-1].nodule_id} is in a mask beside the series, but in no row of the table")
        case = made_case(self.case_id, self.files, scan, regions, nodules, self.whose)
        is_whole = not (lost or unnamed) and beside.is_whole and not self.files.doubts
        annotated = how_annotated(self.whose.stated, self.usual, nodules, is_whole=is_whole)
        return replace(case, annotated=annotated, notes=(*case.notes, *lost, *notes, *unnamed, *beside.notes))

    def _masks_beside(self, scan: Scan) -> NodulesOfMasks:
        """Read the nodules of DICOM masks beside the series, if any row has no mask of its own."""
        if all(row.mask is not None for row in self.rows):
            return NodulesOfMasks()
        return masked_nodules(self.files.masks, scan, self.structures)

    def _once(self, notes: list[str]) -> list[NoduleRow]:
        """Return the rows without those that repeat another, and add a note for each of these."""
        kept: list[NoduleRow] = []
        for row in self.rows:
            if any(_same(row, other) for other in kept):
                notes.append(f"nodule {row.nodule_id} left out: its row repeats another")
            else:
                kept.append(row)
        return kept


def upright(scan: Scan) -> Scan:
    """Reorient a scan so that its axes are as near to LPS as possible, as in a store."""
    return replace(scan, ct=orient(scan.ct, "LPS"))


def how_annotated(
    stated: Annotated | None, usual: Annotated, nodules: Sequence[Nodule], *, is_whole: bool
) -> Annotated:
    """Return whether all nodules of a scan are known. An annotation that was not read never makes a scan healthy.

    Args:
        stated: the user's statement, or None.
        usual: the rule for its source, without a statement.
        nodules: the scan's nodules.
        is_whole: whether everything that may describe nodules was read.
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
    """Return the case of a scan in upright orientation.

    Args:
        case_id: name of the case.
        files: files of the scan.
        scan: the scan.
        regions: masks of the nodules in voxels of the scan.
        nodules: the nodules.
        whose: its patient and split.
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
    """Return a hash of files' names, sizes and times, and of further details."""
    parts = [repr(details)]
    for path in files:
        status = path.stat() if path.exists() else None
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}" if status else f"{path.name} missing")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _of_mask(found: MaskedNodule, number: int, ct: Volume) -> Nodule:
    """Return the nodule of a mask, of which only the voxels are known."""
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
    """Return the nodule of a row; if it has a mask, its centre is that of the mask."""
    attributes = row.attributes
    check_fits(ct, attributes.diameter_mm)
    if region is None:
        assert row.center_mm is not None
        check_inside(ct, row.center_mm)
        return Nodule(row.nodule_id, row.center_mm, attributes, ratings=row.ratings, extra=row.extra)
    inside = region.indices()
    x, y, z = ct.to_world(inside.mean(0)).tolist()
    if attributes.diameter_mm is None:
        attributes = replace(attributes, diameter_mm=axial_diameter_mm(inside, ct.spacing_mm))
    return Nodule(row.nodule_id, (x, y, z), attributes, label, row.ratings, row.extra)


def _other_width(row: NoduleRow, regions: Sequence[Region], ct: Volume) -> list[str]:
    """Return a note if the diameter of a row and the width of its mask differ by more than a factor `MOST_WIDTHS`."""
    stated = row.attributes.diameter_mm
    if stated is None or len(regions) != 1 or not regions[0].voxels:
        return []
    width = axial_diameter_mm(regions[0].indices(), ct.spacing_mm)
    if 1 / MOST_WIDTHS <= width / stated <= MOST_WIDTHS:
        return []
    return [f"its diameter_mm is {stated:g}, and its mask is {width:.1f} mm wide; diameter_mm is kept"]


def _of_pieces(
    row: NoduleRow, pieces: Sequence[Region], label: int, ct: Volume, others: Sequence[NoduleRow | Nodule]
) -> tuple[list[Nodule], str]:
    """Return a nodule for each separate piece of a row's mask, without the row's ratings, and a note.

    Args:
        row: the row, which has neither centre nor diameter.
        pieces: the pieces.
        label: label of the first piece.
        ct: gives the world positions.
        others: rows and nodules whose ids are taken.
    """
    bare = replace(row, attributes=NoduleAttributes(), ratings={})
    made: list[Nodule] = []
    for number, piece in enumerate(pieces):
        nodule_id = _unused(f"{row.nodule_id}-{number + 1}", [*others, *made])
        made.append(_of_row(replace(bare, nodule_id=nodule_id), piece, label + number, ct))
    unrated = ", without the row's ratings; write a row with a centre for each, to rate them" * bool(row.ratings)
    note = (
        f"nodule {row.nodule_id}: the {len(made)} separate pieces of its mask are taken as {len(made)} nodules{unrated}"
    )
    return made, note


def _unnamed(others: Iterable[tuple[str, Sequence[Region]]], regions: Sequence[Region]) -> list[str]:
    """Return a note for each mask with pieces that are in no row.

    Args:
        others: for each mask, the id of its first row, and the pieces that some of its rows did not take.
        regions: regions of the nodules.
    """
    notes = []
    for nodule_id, left in others:
        unique: list[Region] = []
        for piece in left:
            if not any(_same_voxels(piece, other) for other in (*regions, *unique)):
                unique.append(piece)
        if unique:
            notes.append(
                f"nodule {nodule_id}: {len(unique)} more separate pieces of its mask are in no row; write a row with a "
                "centre for each, or a mask_label if all pieces are one nodule"
            )
    return notes


def _nearest(found: Sequence[MaskedNodule], row: NoduleRow, ct: Volume) -> MaskedNodule | None:
    """Return the masked nodule nearest to a row's centre if it is near enough (`TABLE_TO_MASK_MM`); otherwise None."""
    assert row.center_mm is not None
    reach = max(TABLE_TO_MASK_MM, (row.attributes.diameter_mm or 0) / 2)
    gaps = [distance_mm(masked.region, row.center_mm, ct) for masked in found]
    best = int(np.argmin(gaps)) if gaps else 0
    return found[best] if gaps and gaps[best] <= reach else None


def _same(row: NoduleRow, other: NoduleRow) -> bool:
    """Return whether two rows describe one nodule: they name the same mask, and do not have different centres."""
    if (row.mask, row.mask_label) != (other.mask, other.mask_label):
        return False
    if row.center_mm is None or other.center_mm is None:
        return True
    return float(np.linalg.norm(np.subtract(row.center_mm, other.center_mm))) <= SAME_ROW_MM


def _same_voxels(region: Region, other: Region) -> bool:
    return region.corner == other.corner and np.array_equal(region.mask, other.mask)


def _unused(nodule_id: str, nodules: Sequence[NoduleRow | Nodule]) -> str:
    """Return an id that no other nodule or row has, by appending a number if needed."""
    others = {nodule.nodule_id for nodule in nodules}
    number = 1
    made = nodule_id
    while made in others:
        number += 1
        made = f"{nodule_id}-{number}"
    return made
