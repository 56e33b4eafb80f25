"""A table of nodules to be put into scans, a row each: places, diameters, kinds and methods.

    image         the scan: its path below the folder of scans, or the UID of its DICOM series; not needed for one scan
    center_x_mm, center_y_mm, center_z_mm   world millimetres, LPS; a place is found where they are empty
    diameter_mm   longest chord in a slice
    malignancy, texture, ...   LIDC's ratings (`nodule.RATINGS`), a number each; may be missing
    method        that makes it, by its name or run folder; the call's where it is empty

Other columns of a `nodules.csv` do not count, so that its nodules can be made again by another method.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from synthorax.annotations.nodule_table import CENTER, KNOWN
from synthorax.editing.plan import AskedNodule
from synthorax.errors import InputError
from synthorax.io.tables import read_table
from synthorax.nodule import RATINGS, NoduleAttributes

PLAN_COLUMNS = ("image", *CENTER, "diameter_mm", *RATINGS, "method")
OF_NODULE_TABLES = frozenset({*KNOWN, "wanted_diameter_mm", "shape_origin", "visible"})
"""Columns of a `nodules.csv`, those of them that are no plan's do not count."""


def read_plan(path: Path) -> dict[str, tuple[AskedNodule, ...]]:
    """The nodules of a table by the scan that they are to be put into, in the order of the rows.

    Returns:
        By the text of the column `image`, or by an empty text where there is no such column.

    Raises:
        InputError: a column that is no plan's, no diameter, or a value that is not a number, named by its line.
    """
    rows = read_table(path)
    expected = f"columns of a plan: {', '.join(PLAN_COLUMNS)}"
    if unknown := [name for name in rows[0] if name not in PLAN_COLUMNS and name not in OF_NODULE_TABLES]:
        raise InputError(path, f"a column {unknown[0]!r}", expected)
    if "diameter_mm" not in rows[0]:
        raise InputError(path, "no column diameter_mm", expected)
    found: dict[str, list[AskedNodule]] = defaultdict(list)
    for line, row in enumerate(rows, start=2):
        try:
            found[row.get("image", "").strip()].append(_asked(row))
        except ValueError as error:
            raise InputError(path, f"line {line}: {error}", "numbers, three for a place") from error
    if len(found) > 1 and "" in found:
        raise InputError(path, "a row without image", "an image in each row, or no such column")
    return {image: tuple(nodules) for image, nodules in found.items()}


def _asked(row: dict[str, str]) -> AskedNodule:
    """The nodule of a row; ValueError says what does not fit."""

    def number(name: str) -> float | None:
        text = row.get(name, "").strip()
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
    ratings = {name: value for name in RATINGS if (value := number(name)) is not None}
    place = None if x is None or y is None or z is None else (x, y, z)
    return AskedNodule(diameter, NoduleAttributes(**ratings), place, row.get("method", "").strip())
