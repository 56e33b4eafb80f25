"""Which scan a DICOM mask was drawn on."""

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
    """The files of a CT series, and what the first of them says of it."""

    files: tuple[Path, ...]
    about: About

    @property
    def folder(self) -> Path:
        """Where its slices lie."""
        return self.files[0].parent

    def sop_uids(self) -> frozenset[str]:
        """UIDs of its slices, read from each of its files."""
        found = []
        for file in self.files:
            try:
                found.append(read_about(file).sop_uid)
            except InputError:
                continue
        return frozenset(found)


@dataclass(frozen=True)
class MaskFile:
    """A SEG or RTSTRUCT, and what it says of its scan."""

    path: Path
    refers: MaskReferences

    def sop_uids(self) -> frozenset[str]:
        """UIDs of the slices that it was drawn on; none where it does not say."""
        try:
            return read_slice_references(self.path)
        except (InputError, OSError):
            return frozenset()


@dataclass(frozen=True)
class Matched:
    """Masks by scan.

    Attributes:
        masks: of each scan.
        doubts: notes of each scan on masks that may be its own and could not be told from another's.
        orphans: masks of no scan, with the reason.
    """

    masks: list[tuple[Path, ...]]
    doubts: list[tuple[str, ...]]
    orphans: tuple[LeftOut, ...]


def match_masks(scans: Sequence[ScanHeader], masks: Sequence[MaskFile]) -> Matched:
    """Give each mask to the one scan that it was drawn on.

    A mask goes by the series that it names, else by its slices, its frame of reference, its study, its folder. Where
    what it names is not there or fits several scans, no scan gets it, and each scan that it may be of says so: such a
    scan is never taken for one without nodules.
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
            doubts[i].append(f"a mask that may be of this scan was not read: {reason}")
    return Matched(
        [tuple(sorted(paths)) for paths in found],
        [tuple(dict.fromkeys(told)) for told in doubts],
        tuple(orphans),
    )


def _scans_of(
    mask: MaskFile, scans: Sequence[ScanHeader], slices: Callable[[int], frozenset[str]]
) -> tuple[list[int], str]:
    """The one scan that a mask was drawn on; or the scans that it may be of, and why it is given to none."""
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
        return fitting, f"a mask that fits {len(fitting)} scans alike"
    beside = [i for i, scan in enumerate(scans) if _beside(path, scan)]
    near = {i for i in fitting if not names_scan or i in beside or _same_patient(mask, scans[i])}
    near |= set(beside if len(beside) == 1 else ())  # perhaps the same patient, renamed in one of the two
    return sorted(near), f"a mask of series {', '.join(sorted(refers.series_uids)) or 'unknown'}, which is not here"


def _same_patient(mask: MaskFile, scan: ScanHeader) -> bool:
    patient = scan.about.patient_id
    return bool(patient) and mask.refers.patient_id.strip() == patient.strip()


def _beside(path: Path, scan: ScanHeader) -> bool:
    """Whether a mask lies in the folder of a scan, in one below it, or in one above it."""
    return path.parent == scan.folder or scan.folder in path.parents or path.parent in scan.folder.parents
