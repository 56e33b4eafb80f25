"""Reading LUNA16's tables of nodules and candidates, in world millimetres."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthorax.errors import InputError
from synthorax.io.tables import read_table


@dataclass(frozen=True)
class Finding:
    """A row of `annotations.csv` or of `candidates.csv`.

    Attributes:
        center_mm: world position (x, y, z), LPS.
        diameter_mm: diameter of a nodule; None for a candidate.
        is_nodule: class of a candidate; True for a nodule.
    """

    center_mm: tuple[float, float, float]
    diameter_mm: float | None
    is_nodule: bool


def read_findings(path: Path) -> dict[str, list[Finding]]:
    """Read the findings of each series, by series UID, in the order of the table.

    Raises:
        InputError: a column is missing, or a value is not a number.
    """
    found: dict[str, list[Finding]] = defaultdict(list)
    for number, row in enumerate(read_table(path), start=2):
        try:
            x, y, z = (float(row[f"coord{axis}"]) for axis in "XYZ")
            diameter = float(row["diameter_mm"]) if "diameter_mm" in row else None
            finding = Finding((x, y, z), diameter, int(row.get("class") or 1) == 1)
            if not np.isfinite([x, y, z, diameter or 1]).all() or (diameter is not None and diameter <= 0):
                raise ValueError(f"{row}")
            found[row["seriesuid"]].append(finding)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                path, f"line {number}: {error}", "columns seriesuid, coordX, coordY, coordZ and diameter_mm or class"
            ) from error
    return dict(found)
