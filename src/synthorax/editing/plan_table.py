"""Reading a table of nodules to inject, one row for each: scan, place, diameter, ratings and method.

    image         the scan: its path from the table's folder, or below the folder of scans, or the UID of its DICOM
                  series; not needed for one scan
    center_x_mm, center_y_mm, center_z_mm   world millimetres, LPS; if empty, a place is found
    diameter_mm   longest chord in a slice
    malignancy, texture, ...   LIDC's ratings (`nodule.RATINGS`), one number, or one for each reader; may be missing;
                  those of kinds also as words (`nodule.RATING_WORDS`), such as ground-glass
    method        name or run folder of the method that makes it; if empty, the method of the call

Other columns of a `nodules.csv` are ignored, so that its nodules can be made again by another method.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from synthorax.annotations.nodule_table import CENTER, KNOWN
from synthorax.editing.plan import AskedNodule
from synthorax.errors import InputError
from synthorax.io.tables import check_rows, known_cell, read_table
from synthorax.nodule import RATINGS, NoduleAttributes, agreed_ratings, reader_ratings

PLAN_COLUMNS = ("image", *CENTER, "diameter_mm", *RATINGS, "method")
OF_NODULE_TABLES = frozenset({*KNOWN, "wanted_diameter_mm", "shape_origin", "visible", "edit"})
"""Columns of a `nodules.csv`; those that are not columns of a plan are ignored."""


def read_plan(path: Path) -> dict[str, tuple[AskedNodule, ...]]:
    """Read the nodules of a table.

    Returns:
        The text of the column `image`, or an empty text without this column, to the nodules in the order of rows.

    Raises:
        InputError: a column is unknown, a diameter is missing, or a value is neither a number nor a word of its rating;
            the error names the line.
    """
    rows = read_table(path, (*PLAN_COLUMNS, *sorted(OF_NODULE_TABLES)))
    expected = f"columns of a plan: {', '.join(PLAN_COLUMNS)}"
    of_nodules = "mask" in rows[0]  # a table of nodules, which may have further columns of its own
    if unknown := [name for name in rows[0] if name not in {*PLAN_COLUMNS, *OF_NODULE_TABLES} and not of_nodules]:
        raise InputError(path, f"an unknown column {unknown[0]!r}", expected)
    if "diameter_mm" not in rows[0]:
        raise InputError(path, "no column diameter_mm", expected)
    found: dict[str, list[AskedNodule]] = defaultdict(list)
    faults: list[tuple[int, str]] = []
    for line, row in enumerate(rows, start=2):
        try:
            found[row.get("image", "").strip()].append(replace(_asked(row), row=f"{path.name}, line {line}"))
        except ValueError as error:
            faults.append((line, str(error)))
        except InputError as error:
            faults.append((line, f"{error.args[0]} {error.args[1]}, not {error.args[2]}"))
    check_rows(path, faults, "numbers, three of them for a place, and LIDC's ratings or their words")
    if len(found) > 1 and "" in found:
        raise InputError(path, "a row without image", "an image in each row, or no such column")
    return {image: tuple(nodules) for image, nodules in found.items()}


def _asked(row: dict[str, str]) -> AskedNodule:
    """Return the nodule of a row.

    Raises:
        ValueError: a value is missing or not a number.
        InputError: a rating is neither a number nor one of its words.
    """

    def number(name: str) -> float | None:
        text = known_cell(row, name)
        try:
            return float(text) if text else None
        except ValueError:
            raise ValueError(f"{name} {text!r}") from None

    diameter = number("diameter_mm")
    if diameter is None:
        raise ValueError("no diameter_mm")
    x, y, z = (number(axis) for axis in CENTER)
    given = sum(c is not None for c in (x, y, z))
    if given not in (0, 3):
        raise ValueError(f"a centre of {given} numbers")
    cells = {name: rated for name in RATINGS if (rated := reader_ratings(name, known_cell(row, name)))}
    ratings = agreed_ratings(cells)
    place = None if x is None or y is None or z is None else (x, y, z)
    return AskedNodule(diameter, NoduleAttributes(**ratings), place, row.get("method", "").strip())
