"""The table of nodules in the user's own images, a CSV file with a row for each nodule: read, and its cells.

    image         file or DICOM folder, relative to the table; several rows may name one image
    mask          image of the nodule's voxels, on all or part of the image's grid: the voxels above 0, or of
                  probabilities those of 0.5 or more. Each separate piece of a mask of one label is a nodule; if the
                  row has a centre, only the piece there
    mask_label    value of the nodule in the mask, or the name of its segment, of which all pieces are one nodule; may
                  be missing
    center_x_mm, center_y_mm, center_z_mm, diameter_mm   instead of a mask: world millimetres, LPS
    patient_id    the unit of splits; if missing, the image's folder or name stands for the patient
    split         train, val or test; may be missing
    picture       picture of the nodule, relative to the table; for a human reader, and ignored here; may be missing
    malignancy, texture, ...   LIDC's ratings (`nodule.RATINGS`), one number, or one for each reader: `4 3 5`; may be
                  missing; those of kinds also as words (`nodule.RATING_WORDS`), such as ground-glass

An image without nodules has one row without mask, centre, diameter, ratings, mask_label and nodule_id. A row with some
of these but neither mask nor centre cannot be used, and the nodules of its image then count as not all known. Other
columns are kept as text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthorax.errors import InputError
from synthorax.io.tables import MOST_FAULTS, check_rows, known_cell, read_table
from synthorax.nodule import (
    MOST_RATING,
    RATING_WORDS,
    RATINGS,
    Nodule,
    NoduleAttributes,
    agreed_ratings,
    reader_ratings,
)
from synthorax.screen import first_of

NODULE_TABLE = "nodules.csv"
"""Name of the table in a folder of images."""
CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")
FILES = ("image", "mask", "picture")
"""Columns that name a file relative to the table."""
KNOWN = (*FILES, "mask_label", *CENTER, "diameter_mm", "patient_id", "split", "nodule_id", *RATINGS)


@dataclass(frozen=True)
class NoduleRow:
    """A row about a nodule.

    Attributes:
        nodule_id: id from the table, or else the number of the row among those of the image.
        mask: file with the nodule's voxels; None if not given.
        mask_label: value of the nodule in the mask, or the name of its segment; None for all values above 0.
        center_mm: world position (x, y, z), LPS; None if not given. A row with neither mask nor centre cannot be read.
        attributes: diameter and ratings, agreed over the readers.
        ratings: name of a rating -> the value of each reader.
        extra: columns that have no meaning here.
        may_be_empty: whether a mask without a voxel means that there is no nodule; otherwise it is an error.
    """

    nodule_id: str
    mask: Path | None
    mask_label: int | str | None
    center_mm: tuple[float, float, float] | None
    attributes: NoduleAttributes
    ratings: Mapping[str, tuple[float, ...]]
    extra: Mapping[str, str]
    may_be_empty: bool = False


@dataclass(frozen=True)
class TableImage:
    """An image of a table, with its nodules.

    Attributes:
        image: file or DICOM folder.
        patient_id: empty if the table has none.
        split: None if the table has none.
        nodules: nodules of the image; may be empty.
        table: table that lists the image.
        line: line of the image's first row in the table; 0 for an image that no row names.
    """

    image: Path
    patient_id: str
    split: str | None
    nodules: tuple[NoduleRow, ...] = field(default=())
    table: Path = Path(NODULE_TABLE)
    line: int = 0


def read_nodule_table(path: Path) -> list[TableImage]:
    """Read the images of a table, in the order of their first rows.

    Raises:
        InputError: a column is missing, a value does not fit (the error names its line), or a patient is in two splits.
    """
    rows = read_table(path, KNOWN)
    columns = set(rows[0])
    if "image" not in columns:
        raise InputError(path, f"columns {', '.join(rows[0])}", "a column `image`, and `mask` or " + ", ".join(CENTER))
    if "mask" not in columns and not {*CENTER, "diameter_mm"} <= columns:
        raise InputError(path, f"columns {', '.join(rows[0])}", f"`mask`, or {', '.join(CENTER)} and diameter_mm")
    images: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    for line, row in enumerate(rows, start=2):
        if not row["image"].strip():
            raise InputError(path, f"line {line}: no image", "a file name")
        images[row["image"].strip()].append((line, row))
    faults: list[tuple[int, str]] = []
    made = [_image(path, name, members, faults) for name, members in images.items()]
    check_rows(path, sorted(faults), "values as `synthorax prepare patches --help` describes them")
    first: dict[str, TableImage] = {}
    for image in made:
        if image.patient_id and (other := first.setdefault(image.patient_id, image)).split != image.split:
            lines = [f"line {each.line}: {each.split or 'no split'}" for each in (other, image)]
            found = f"patient {image.patient_id} in two splits ({'; '.join(lines)})"
            raise InputError(path, found, "one split for each patient")
    return made


def nodule_cells(nodule: Nodule) -> dict[str, Any]:
    """Return the centre, the diameter and the ratings of a nodule by the names of their columns; None if not known."""
    known = vars(nodule.attributes)
    center = dict(zip(CENTER, nodule.center_mm, strict=True))
    return center | {name: known[name] for name in ("diameter_mm", *RATINGS)}


def under(folder: str, row: Mapping[str, str]) -> dict[str, str]:
    """Return a row of a table in a folder as a row of a table in the folder above it.

    >>> under("flow", {"image": "ct.nii.gz", "nodule_id": "01", "picture": ""})
    {'image': 'flow/ct.nii.gz', 'nodule_id': '01', 'picture': ''}
    """
    return {name: f"{folder}/{cell}" if name in FILES and cell else cell for name, cell in row.items()}


def _image(
    path: Path, name: str, members: list[tuple[int, dict[str, str]]], faults: list[tuple[int, str]]
) -> TableImage:
    """Return an image with the nodules of its rows; line and fault of a row that cannot be read go into `faults`."""
    patients = {row.get("patient_id", "").strip() for _, row in members}
    splits = {row.get("split", "").strip() or None for _, row in members}
    lines = first_of([str(line) for line, _ in members], MOST_FAULTS)
    if len(patients) > 1 or len(splits) > 1:
        found = f"image {name} of several patients or splits in the lines {lines}"
        raise InputError(path, found, "one patient and split for each image")
    split = splits.pop()
    given = [row["nodule_id"].strip() for _, row in members if row.get("nodule_id", "").strip()]
    if len(set(given)) != len(given):
        raise InputError(path, f"a nodule_id twice for image {name}, in the lines {lines}", "each nodule once")
    if split not in (None, "train", "val", "test"):
        raise InputError(path, f"line {members[0][0]}: split {split!r}", "train, val or test")
    nodules = []
    for number, (line, row) in enumerate(members, start=1):
        try:
            nodule = _nodule(path.parent, row, number)
        except ValueError as error:
            faults.append((line, str(error)))
            continue
        if nodule is not None:
            nodules.append(nodule)
    return TableImage(path.parent / name, patients.pop(), split, tuple(nodules), path, members[0][0])


def _nodule(folder: Path, row: dict[str, str], number: int) -> NoduleRow | None:
    """The nodule of a row; None if the row names none. Raises ValueError if a value does not fit."""
    mask = row.get("mask", "").strip()
    label = _label(row)
    center = [known_cell(row, axis) for axis in CENTER]
    diameter = _number(row, "diameter_mm")
    ratings = {name: given for name in RATINGS if (given := _ratings(name, known_cell(row, name)))}
    nodule_id = row.get("nodule_id", "").strip()
    if not (mask or any(center) or diameter is not None or ratings or label is not None or nodule_id):
        return None
    if any(center) and not all(center):
        raise ValueError("a centre with fewer than three numbers")
    if not mask and any(center) and diameter is None:
        raise ValueError("a centre without diameter_mm")
    if diameter is not None and not 0 < diameter < 1000:
        raise ValueError(f"diameter_mm {diameter:g}, not above 0 and below 1000")
    x, y, z = (_number(row, axis) for axis in CENTER)
    return NoduleRow(
        nodule_id=nodule_id or f"{number:02d}",
        mask=folder / mask if mask else None,
        mask_label=label,
        center_mm=None if x is None or y is None or z is None else (x, y, z),
        attributes=NoduleAttributes(diameter_mm=diameter, **agreed_ratings(ratings)),
        ratings=ratings,
        extra={name: value for name, value in row.items() if name not in KNOWN},
    )


def _label(row: dict[str, str]) -> int | str | None:
    """Return the value of a nodule in its mask, or the name of its segment; None for 0 or an empty cell."""
    text = (row.get("mask_label") or "").strip()
    try:
        label = float(text or 0)
    except ValueError:
        return text
    if not 0 <= label < 2**63 or label != int(label):
        raise ValueError(f"mask_label {text}")
    return int(label) or None


def _number(row: dict[str, str], name: str) -> float | None:
    text = known_cell(row, name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{name} {text!r}, not a number")
    return value


def _ratings(name: str, text: str) -> tuple[float, ...]:
    most, words = MOST_RATING[name], RATING_WORDS.get(name, {})
    try:
        given = reader_ratings(name, text)
    except InputError:
        given = (np.nan,)
    if not all(1 <= value <= most for value in given):
        either = f"neither {', '.join(words)} nor" if words else "not"
        ends = "; for a known diagnosis write 1, benign, or 5, malignant" if name == "malignancy" else ""
        raise ValueError(f"{name} {text!r}, {either} numbers from 1 to {most}{ends}")
    return given
