"""Tables from the codes of label maps to tissue classes, and the tissue classes of a label map by such a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.tissue import CLASS_OF, Tissue, TissueClass
from synthorax.errors import InputError
from synthorax.io.tables import read_table
from synthorax.volume import Volume

CODE_COLUMN, CLASS_COLUMN = "code", "class"
"""Columns of a user's own table, a CSV file."""
OUTLINE_STEP = 4
"""The body's outline is computed from every fourth pixel of a slice along each axis, to save time."""


@dataclass(frozen=True)
class CodeTable:
    """The tissue class of each code of a label map.

    Attributes:
        name: name by which users choose it.
        classes: code -> tissue class.
        unlabelled: code of voxels without a label, which may lie inside the body; None if every voxel has a label. Such
            voxels are soft tissue within the outline of the labelled voxels, and outside the patient elsewhere.
    """

    name: str
    classes: Mapping[int, TissueClass]
    unlabelled: int | None = None

    def __str__(self) -> str:
        codes = "; ".join(f"{_ranges(own)} {name}" for name, own in self._by_class().items())
        return f"{self.name} ({codes})"

    def _by_class(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for code, own in sorted(self.classes.items()):
            found.setdefault(own.name.lower(), []).append(code)
        return found


def _spans(spans: Mapping[TissueClass, Sequence[tuple[int, int]]]) -> dict[int, TissueClass]:
    """Code -> class, from the first and the last code of each span."""
    return {code: own for own, ranges in spans.items() for low, high in ranges for code in range(low, high + 1)}


TABLES = {
    table.name: table
    for table in (
        CodeTable("classes", {int(own): own for own in TissueClass}),
        CodeTable(
            "thesis",
            {
                0: TissueClass.OTHER,
                1: TissueClass.FAT,
                2: TissueClass.WATER,
                3: TissueClass.SOFT,
                4: TissueClass.BONE,
                5: TissueClass.NODULE,
            },
        ),
        CodeTable("phantom", {int(tissue): CLASS_OF[tissue] for tissue in Tissue}),
        CodeTable(
            "totalsegmentator",
            _spans(
                {
                    TissueClass.OUTSIDE: [(0, 0)],
                    TissueClass.OTHER: [(10, 14), (16, 16)],
                    TissueClass.BONE: [(25, 50), (69, 78), (91, 116)],
                    TissueClass.SOFT: [(1, 9), (15, 15), (17, 24), (51, 68), (79, 90), (117, 117)],
                }
            ),
            unlabelled=0,
        ),
    )
}
"""The tables by name:

- `classes`: the codes of `TissueClass`, which synthorax writes.
- `thesis`: the six classes of Hagvall Hörnstedt in the order of their density; the air around the patient is `other`.
- `phantom`: the codes of `Tissue`.
- `totalsegmentator`: the 117 structures of TotalSegmentator 2's task "total".
"""


def find_table(name: str | Path) -> CodeTable:
    """Return a table of `TABLES` by its name, or read one from a CSV file with the columns `code` and `class`.

    Raises:
        InputError: there is no such table or file, or a row's code is not a whole number or its class is unknown.

    >>> find_table("thesis").classes[4].name
    'BONE'
    """
    if str(name) in TABLES:
        return TABLES[str(name)]
    path = Path(name)
    if not path.is_file():
        expected = f"{', '.join(TABLES)}, hu for a CT, or a CSV file with the columns {CODE_COLUMN} and {CLASS_COLUMN}"
        raise InputError("codes", repr(str(name)), expected)
    names = {own.name.lower(): own for own in TissueClass}
    classes: dict[int, TissueClass] = {}
    for line, row in enumerate(read_table(path), start=2):
        code, own = (row.get(column, "").strip() for column in (CODE_COLUMN, CLASS_COLUMN))
        if not code.isdecimal() or own.lower() not in names:
            expected = f"a whole number as {CODE_COLUMN}, and as {CLASS_COLUMN} one of {', '.join(names)}"
            raise InputError(path, f"row {line}: {code!r}, {own!r}", expected)
        if int(code) in classes:
            raise InputError(path, f"row {line}: code {code} for the second time", "each code once")
        classes[int(code)] = names[own.lower()]
    if not classes:
        raise InputError(path, "no row", f"a row for each code: {CODE_COLUMN}, {CLASS_COLUMN}")
    return CodeTable(path.name, classes)


def classes_of(subject: object, codes: Volume, table: CodeTable) -> tuple[Volume, tuple[str, ...]]:
    """Return the `TissueClass` of each voxel of a label map.

    Args:
        subject: file or argument that an error names.
        codes: whole numbers [z, y, x].
        table: gives the class of each code.

    Returns:
        Tissue classes, uint8 [z, y, x], and a note on voxels without a label.

    Raises:
        InputError: the table lacks codes of the map; names the codes, and the tables that have all of them.
    """
    found = np.unique(codes.voxels)
    unknown = [int(code) for code in found if int(code) not in table.classes]
    if unknown:
        others = [one.name for one in TABLES.values() if set(found.tolist()) <= one.classes.keys()]
        fits = f"; the codes fit the table {' or '.join(others)}" if others else ""
        own = f"--codes FILE gives another table, a CSV file with the columns {CODE_COLUMN} and {CLASS_COLUMN}"
        raise InputError(subject, f"codes {_ranges(unknown)}", f"codes of the table {table}; {own}{fits}")
    classes = np.zeros(int(found.max()) + 1, np.uint8)
    for code in found.tolist():
        classes[code] = table.classes[code]
    made = classes[codes.voxels]
    notes: tuple[str, ...] = ()
    if table.unlabelled is not None:
        inside = (codes.voxels == table.unlabelled) & _outline(codes.voxels != table.unlabelled)
        made[inside] = TissueClass.SOFT
        taken = "voxels without a label, within the outline of the labelled voxels, are taken for soft tissue"
        notes = (f"{np.count_nonzero(inside):,} {taken}; other voxels without a label for air around the patient",)
    return replace(codes, voxels=made), notes


def _outline(labelled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the convex hull of the labelled voxels in each slice, bool [z, y, x]."""
    from skimage.morphology import convex_hull_image

    inside = np.zeros_like(labelled)
    step = OUTLINE_STEP if min(labelled.shape[1:]) >= 32 * OUTLINE_STEP else 1
    for made, own in zip(inside, labelled, strict=True):
        coarse = own[::step, ::step]
        if coarse.any():
            hull = convex_hull_image(coarse).repeat(step, 0).repeat(step, 1)
            made[:] = hull[: own.shape[0], : own.shape[1]]
    return inside


def _ranges(codes: Sequence[int]) -> str:
    """Whole numbers as text, such as `1-3, 7`."""
    runs: list[list[int]] = []
    for code in sorted(codes):
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)
