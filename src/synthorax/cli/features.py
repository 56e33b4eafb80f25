"""`synthorax features`."""

from __future__ import annotations

from contextlib import nullcontext
from json import dumps
from math import isfinite
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from synthorax.api import features as compute
from synthorax.cli.options import OUTPUT_FLAGS, Json, Overwrite, parse_zyx
from synthorax.errors import InputError
from synthorax.io.atomic import new_file
from synthorax.io.tables import read_table, table_text, write_table
from synthorax.screen import say, warn
from synthorax.shapes.features import FEATURES, Convention


def features(
    file: Path,
    *,
    convention: Convention = "alnsb",
    spacing: str | None = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT_FLAGS)] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compute the 12 shape features of nodule masks: a table with one row for each nodule and columns f1 to f12.

    The columns, which `features.csv` of `synthorax sample` has too:

    - f1: mid-slice area (mm²)
    - f2: mid-slice longest extent (mm)
    - f3: mid-slice perimeter (mm)
    - f4: mid-slice circularity
    - f5: volume (mm³)
    - f6: half the longest edge / RMS distance
    - f7: in-plane box ratio
    - f8: box ratio
    - f9: surface³ / (36π volume²)
    - f10: mean breadth (mm)
    - f11: Euler number
    - f12: circularity of the z projection

    Parameters
    ----------
    file
        A .npy array [n, z, y, x] of n nodules, a NIfTI, MHA or NRRD mask whose labels 1, 2, ... are nodules, or a
        folder of these. In a mask of one label, pieces more than 5 mm apart are nodules of their own. If the values are
        fractions, a nodule's voxels are those of 0.5 or more in an image, and those above 0.1 in a .npy array, as in
        the ALNSB analyzer. Axes keep the order of the file.
    convention
        alnsb: as the released ALNSB analyzer computes them, as in LuNG's paper. corrected: without its three errors in
        spacings and labels.
    spacing
        Voxel spacing Z,Y,X in mm of .npy arrays; by default LuNG's 1.25,0.7,0.7. Images have their own.
    out
        CSV file to write; by default the table is printed.
    overwrite
        Replace a table of features that an earlier call wrote.
    json
        Print JSON instead of CSV.
    """
    spacing_mm = spacing and parse_zyx(spacing, "--spacing", "Z,Y,X in mm, as in 1.25,0.7,0.7", float)
    with (
        nullcontext()
        if out is None
        else new_file(out, overwrite=overwrite, is_ours=_is_table_of_features, sources=[file])
    ) as unfinished:
        table = compute(file, convention=convention, spacing_mm=spacing_mm or None)
        rows = table.rows()
        if unfinished is not None:
            write_table(unfinished, rows)
    for note in table.notes:
        warn(note)
    if out is not None:
        say(f"{out}: {len(rows)} nodules")
    elif json:
        # JSON has no infinity, and f6 of a single voxel is infinite.
        finite = [{k: v if isinstance(v, str) or isfinite(v) else None for k, v in row.items()} for row in rows]
        print(dumps(finite, indent=1))
    else:
        say(table_text(rows), end="")


def _is_table_of_features(path: Path) -> bool:
    """Return whether a file is a table that this verb wrote."""
    try:
        return list(read_table(path)[0]) == ["nodule", *FEATURES]
    except InputError:
        return False
