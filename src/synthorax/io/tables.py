"""Tables as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as text.

    Raises:
        InputError: no text, no rows, or rows of unequal length.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "no readable table", "a CSV file with a header") from error
    if not rows:
        raise InputError(path, "no rows", "a CSV file with a header")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(path, f"another number of cells in line {line}", f"{len(rows[0])}, as in the header")
    return rows


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows with the columns of the first; floats keep nine significant digits, None is empty.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = list(rows)
    with atomic_file(path) as file, open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})
