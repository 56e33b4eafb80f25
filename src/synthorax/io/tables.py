"""Tables as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synthorax.io.atomic import atomic_file


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows with the columns of the first; floats keep nine significant digits, None is empty.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = list(rows)
    with atomic_file(path) as file, open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()})
