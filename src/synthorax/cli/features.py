"""`synthorax features`."""

from __future__ import annotations

from contextlib import nullcontext
from json import dumps
from math import isfinite
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from synthorax.api import features as compute
from synthorax.cli.options import parse_zyx
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
    out: Path | None = None,
    overwrite: bool = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """The 12 shape features of nodule masks, one row a nodule, columns f1 to f12.

    Parameters
    ----------
    file
        A .npy stack [n, z, y, x], a NIfTI, MHA or NRRD mask (labels 1, 2, ... are nodules), or a folder of them.
        Fractions are probabilities in images, where voxels of 0.5 or more count, and occupancies in .npy stacks,
        where voxels above 0.1 count, as for the analyzer. Axes are taken as they lie in the file.
    convention
        alnsb: the analyzer as released, the paper's figures. corrected: its axis slip and labelling mended.
    spacing
        Voxel size Z,Y,X in mm of .npy stacks; LuNG's 1.25,0.7,0.7 if not given. Images know theirs.
    out
        CSV file to write; the table goes to the screen if not given.
    overwrite
        Replace a table of features that an earlier call made.
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
        # JSON has no infinity, which is f6 of a single voxel.
        finite = [{k: v if isinstance(v, str) or isfinite(v) else None for k, v in row.items()} for row in rows]
        print(dumps(finite, indent=1))
    else:
        say(table_text(rows), end="")


def _is_table_of_features(path: Path) -> bool:
    """Whether a file is what this verb writes."""
    try:
        return list(read_table(path)[0]) == ["nodule", *FEATURES]
    except InputError:
        return False
