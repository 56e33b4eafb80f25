"""Matching DICOM masks to the scans on which they were drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io.dicom_file import About, read_about
from synthorax.io.dicom_masks import MaskReferences, read_slice_references
from synthorax.io.walk import LeftOut


@dataclass(frozen=True)
class ScanHeader:
    """The files of a CT series, and facts from the header of the first."""

    files: tuple[Path, ...]
    about: About

    @property
    def folder(self) -> Path:
        """Folder of the slices."""
        return self.files[0].parent

    def sop_uids(self) -> frozenset[str]:
        """Return the UIDs of the slices, read from every file."""
        found = []
        for file in self.files:
            try:
                found.append(read_about(file).sop_uid)
            except InputError:
                continue
        return frozenset(found)


@dataclass(frozen=True)
class MaskFile:
    """A SEG or RTSTRUCT file, and its references to its scan."""

    path: Path
    refers: MaskReferences

    def sop_uids(self) -> frozenset[str]:
        """Return the UIDs of the slices on which it was drawn; empty if it names none."""
        try:
            return read_slice_references(self.path)
        except (InputError, OSError):
            return frozenset()


@dataclass(frozen=True)
class Matched:
    """The masks of each scan.

    Attributes:
        masks: masks of each scan.
        doubts: notes of each scan on masks that may be its own but were not used, or are uncertain.
        orphans: masks that were given to no scan, with the reason.
    """

    masks: list[tuple[Path, ...]]
    doubts: list[tuple[str, ...]]
    orphans: tuple[LeftOut, ...]


def match_masks(scans: Sequence[ScanHeader], masks: Sequence[MaskFile]) -> Matched:
    """Give each mask to the scan on which it was drawn.

    A mask is matched by the series that it names, otherwise by its slices, its frame of reference, its study or its
    folder, in this order. If the scan is missing, or several scans match, no scan gets the mask. Each scan that it may
    belong to then gets a doubt, so that the scan is never taken for one without nodules.
    """
    found: list[list[Path]] = [[] for _ in scans]
    doubts: list[list[str]] = [[] for _ in scans]
    orphans: list[LeftOut] = []
    slices = cache(lambda i: scans[i].sop_uids())
    for mask in masks:
        fitting, reason = _scans_of(mask, scans, slices)
        if not reason:
            found[fitting[0]].append(mask.path)
            if mask.refers.series_uids and scans[fitting[0]].about.series_uid not in mask.refers.series_uids:
                doubts[fitting[0]].append("a mask names another series of the same frame of reference, and was used")
            continue
        orphans.append((mask.path, reason))
        for i in fitting:
            doubts[i].append(f"a mask that may belong to this scan was not read: {reason}")
    return Matched(
        [tuple(sorted(paths)) for paths in found],
        [tuple(dict.fromkeys(notes)) for notes in doubts],
        tuple(orphans),
    )


def _scans_of(
    mask: MaskFile, scans: Sequence[ScanHeader], slices: Callable[[int], frozenset[str]]
) -> tuple[list[int], str]:
    """Return the index of a mask's scan and an empty text; or the scans it may belong to, and why it matches none."""
    refers, path = mask.refers, mask.path
    fitting = [
        i for i, s in enumerate(scans) if not (refers.patient_id and s.about.patient_id) or _same_patient(mask, s)
    ]
    drawn_on = cache(mask.sop_uids)
    names_scan = bool(refers.series_uids or refers.frame_uids or drawn_on())
    tests: list[tuple[bool, bool, Callable[[int], bool]]] = [
        (True, bool(refers.series_uids), lambda i: scans[i].about.series_uid in refers.series_uids),
        (True, True, lambda i: bool(drawn_on() & slices(i))),
        (True, bool(refers.frame_uids), lambda i: scans[i].about.frame_of_reference in refers.frame_uids),
        (not names_scan, bool(refers.study_uid), lambda i: scans[i].about.study_uid == refers.study_uid),
        (not names_scan, True, lambda i: _beside(path, scans[i])),
    ]
    is_sure = False
    for decides, is_known, fits in tests:
        if is_known and not (is_sure and len(fitting) == 1) and (left := [i for i in fitting if fits(i)]):
            fitting, is_sure = left, is_sure or decides
    if is_sure and len(fitting) == 1:
        return fitting, ""
    if is_sure:
        return fitting, f"a mask that matches {len(fitting)} scans equally"
    beside = [i for i, scan in enumerate(scans) if _beside(path, scan)]
    near = {i for i in fitting if not names_scan or i in beside or _same_patient(mask, scans[i])}
    near |= set(beside if len(beside) == 1 else ())  # perhaps the same patient with different ids in the two files
    return sorted(near), f"a mask of series {', '.join(sorted(refers.series_uids)) or 'unknown'}, which is not here"


def _same_patient(mask: MaskFile, scan: ScanHeader) -> bool:
    patient = scan.about.patient_id
    return bool(patient) and mask.refers.patient_id.strip() == patient.strip()


def _beside(path: Path, scan: ScanHeader) -> bool:
    """Return whether a mask lies in the folder of a scan, or in a folder below or above it."""
    return path.parent == scan.folder or scan.folder in path.parents or path.parent in scan.folder.parents
