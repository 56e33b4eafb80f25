"""The scans of a folder as cases: finding, naming and reading them, and matching them with a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from synthorax.api.known_nodules import KnownNodules, nodules_of_source, without_folder
from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.datasets.sources import ScanSource, Source, TableSource
    from synthorax.io.scans import Scan

Planned = TypeVar("Planned")
SERIES_DIGITS = 8
"""Hexadecimal digits of the hash of a series UID in the name of a case."""


@dataclass(frozen=True)
class ScanCase:
    """A scan to edit.

    Attributes:
        case_id: name of its folder in the output.
        source: where the scan and its annotations are.
        name: series UID, or path below the folder of scans, from which the scan's seed is derived.
    """

    case_id: str
    source: ScanSource | TableSource
    name: str


def scan_cases(sources: Sequence[Source], folder: Path, keep_identity: bool) -> tuple[list[ScanCase], dict[str, str]]:
    """Return the scans among some sources, and the reasons why the others are not scans by case id.

    The case of a DICOM series is named after its synthetic patient, or after its patient if the identity is kept; if
    the patient has several series, the start of the hash of the series UID follows. The case of an image has the
    image's name.
    """
    from collections import Counter

    from synthorax.datasets.case_ids import case_ids
    from synthorax.datasets.discovery import masks_by_name
    from synthorax.datasets.sources import ScanSource, TableSource, Unreadable
    from synthorax.provenance import fingerprint, synthetic_patient

    scans = [source for source in sources if isinstance(source, ScanSource | TableSource)]
    failed = {
        s.case_id: str(InputError(*map(without_folder, s.reason.args))) for s in sources if isinstance(s, Unreadable)
    }
    images = [scan.files.path for scan in scans if not scan.files.files]
    masks = {mask: scan for scan, found in masks_by_name(images).items() for mask in found}
    for scan in scans:
        if (of := masks.get(scan.files.path)) is not None:
            failed[scan.case_id] = f"it looks like a mask of {of.name}, and is not used, as no nodules.csv names it"
    scans = [scan for scan in scans if scan.files.path not in masks]
    often = Counter(scan.files.stem for scan in scans if scan.files.files)
    stems, paths = [], []
    for scan in scans:
        is_series, stem = bool(scan.files.files), scan.files.stem
        if is_series:
            which = f"-{fingerprint(scan.files.series_uid)[:SERIES_DIGITS]}" if often[stem] > 1 else ""
            stem = (stem if keep_identity else synthetic_patient(stem)) + which
        stems.append(stem)
        paths.append(None if is_series else scan.files.path.relative_to(folder if folder.is_dir() else folder.parent))
    names = [scan.files.series_uid or str(path) for scan, path in zip(scans, paths, strict=True)]
    return [ScanCase(*one) for one in zip(case_ids(stems, paths), scans, names, strict=True)], failed


def planned_cases(
    cases: Sequence[ScanCase], plans: Mapping[str, Planned], plan: Path, rows: Mapping[str, str]
) -> tuple[list[ScanCase], dict[str, Planned]]:
    """Return the scans that a plan names, and the plan's entry for each by the scan's name.

    A scan may be named by its path from the plan's own folder, which counts first; by its path below the folder of
    scans; by its series UID; or by the name of its case.

    Args:
        cases: scans of the folder.
        plans: entry of the plan for each name of a scan.
        plan: path of the plan.
        rows: first row with each name of a scan, in words, for errors.

    Raises:
        InputError: the plan names a scan that does not exist, names one in two ways, or has no column for scans.
    """
    from synthorax.io.walk import real_path

    if "" in plans:
        raise InputError(
            plan, "no column image", "the scan of each row, by its path below the folder or its series UID"
        )
    names = {alias: case for case in cases for alias in (case.case_id, case.name)}
    paths = {real_path(case.source.files.path): case for case in cases}
    found = {image: paths.get(real_path(plan.parent / image)) or names.get(image) for image in plans}
    requests: dict[str, Planned] = {}
    for image, case in found.items():
        if case is None:
            example = next((case.name for case in cases), "none is there")
            raise InputError(rows[image], f"{image}, which is not a scan of the folder", f"scans such as {example}")
        if case.name in requests:
            raise InputError(rows[image], f"{image}, a scan by two names", "the same name in all rows of a scan")
        requests[case.name] = plans[image]
    return [case for case in cases if case.name in requests], requests


class KnownScan(NamedTuple):
    """A scan and its known nodules.

    Attributes:
        scan: the scan in the voxels of its file.
        known: its nodules.
        notes: what was left out or repaired, without the notes on the nodules.
    """

    scan: Scan
    known: KnownNodules
    notes: tuple[str, ...]


def read_case(source: ScanSource | TableSource, force: bool) -> KnownScan:
    """Read a scan and its nodules.

    Args:
        source: where the scan and its annotations are.
        force: read an image whose values do not look like HU.

    Raises:
        InputError: the scan is not a CT in HU, or has more nodules than uint8 has labels.
    """
    from synthorax.io.scans import read_scan
    from synthorax.io.walk import listed

    files = source.files
    scan = (
        replace(files.read(), path=files.path)
        if files.files
        else read_scan(files.path, any_values=force, as_stored=True)
    )
    notes = [*scan.notes, *files.doubts]
    if files.left_out:
        notes.append(f"left out {listed(files.left_out)}")
    known = nodules_of_source(source, scan)
    return KnownScan(scan, replace(known, notes=tuple(n for n in known.notes if n not in notes)), tuple(notes))
