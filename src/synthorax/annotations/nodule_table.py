"""The table that tells where nodules are, in images that anybody has.

    image         file or DICOM folder, relative to the table; several rows may name one image, a row a nodule
    mask          image of its voxels, on all or part of the image's grid: above 0, or `mask_label` if that column is
                  there, the value of the nodule or the name of its segment; a half or more of probabilities
    center_x_mm, center_y_mm, center_z_mm, diameter_mm   instead of a mask: world millimetres, LPS
    patient_id    the unit of splits; if missing, the folder or the name of the image tells whose it is
    split         train, val or test; may be missing
    malignancy, texture, ...   LIDC's ratings (`nodule.RATINGS`), one number or one a reader: `4 3 5`; may be missing

An image without a nodule has a row with neither mask nor centre. Any other column is kept as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synthorax.errors import InputError
from synthorax.io.tables import read_table
from synthorax.nodule import MOST_RATING, RATINGS, NoduleAttributes, agreed_ratings

NODULE_TABLE = "nodules.csv"
"""Name of the table of a folder's nodules."""
CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")
KNOWN = ("image", "mask", "mask_label", *CENTER, "diameter_mm", "patient_id", "split", "nodule_id", *RATINGS)


@dataclass(frozen=True)
class NoduleRow:
    """A row that tells of a nodule.

    Attributes:
        mask: file of its voxels, if given.
        mask_label: its value there, or the name or number of its segment; None is anything above 0.
        center_mm: (x, y, z), LPS, if given.
    """

    nodule_id: str
    mask: Path | None
    mask_label: int | str | None
    center_mm: tuple[float, float, float] | None
    attributes: NoduleAttributes
    ratings: Mapping[str, tuple[float, ...]]
    extra: Mapping[str, str]


@dataclass(frozen=True)
class TableImage:
    """An image of a table, with its nodules.

    Attributes:
        patient_id: empty if the table does not say.
        table: that names it.
    """

    image: Path
    patient_id: str
    split: str | None
    nodules: tuple[NoduleRow, ...] = field(default=())
    table: Path = Path(NODULE_TABLE)


def read_nodule_table(path: Path) -> list[TableImage]:
    """The images of a table, in the order of their first rows.

    Raises:
        InputError: a column is missing or a value does not fit, named by its line; a patient in two splits.
    """
    rows = read_table(path)
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
    made = [_image(path, name, members) for name, members in images.items()]
    splits: dict[str, str | None] = {}
    for image in made:
        if image.patient_id and splits.setdefault(image.patient_id, image.split) != image.split:
            raise InputError(path, f"patient {image.patient_id} in two splits", "one split a patient")
    return made


def _image(path: Path, name: str, members: list[tuple[int, dict[str, str]]]) -> TableImage:
    patients = {row.get("patient_id", "").strip() for _, row in members}
    splits = {row.get("split", "").strip() or None for _, row in members}
    if len(patients) > 1 or len(splits) > 1:
        raise InputError(path, f"image {name} of several patients or splits", "one patient and split an image")
    split = splits.pop()
    given = [row["nodule_id"].strip() for _, row in members if row.get("nodule_id", "").strip()]
    if len(set(given)) != len(given):
        raise InputError(path, f"a nodule_id twice for image {name}", "each nodule once")
    if split not in (None, "train", "val", "test"):
        raise InputError(path, f"line {members[0][0]}: split {split!r}", "train, val or test")
    nodules = []
    for number, (line, row) in enumerate(members, start=1):
        try:
            nodule = _nodule(path.parent, row, number)
        except ValueError as error:
            raise InputError(path, f"line {line}: {error}", "the columns as `prepare patches --help` says") from error
        if nodule is not None:
            nodules.append(nodule)
    return TableImage(path.parent / name, patients.pop(), split, tuple(nodules), path)


def _nodule(folder: Path, row: dict[str, str], number: int) -> NoduleRow | None:
    """The nodule of a row; None where it tells of none. ValueError says what does not fit."""
    mask = row.get("mask", "").strip()
    label = _label(row)
    center = [row.get(axis, "").strip() for axis in CENTER]
    diameter = _number(row, "diameter_mm")
    if not mask and not any(center):
        return None
    if any(center) and not all(center):
        raise ValueError("a centre of less than three numbers")
    if not mask and diameter is None:
        raise ValueError("a centre without diameter_mm")
    if diameter is not None and not 0 < diameter < 1000:
        raise ValueError(f"diameter_mm {diameter:g}")
    x, y, z = (_number(row, axis) for axis in CENTER)
    ratings = {name: given for name in RATINGS if (given := _ratings(name, row.get(name) or ""))}
    return NoduleRow(
        nodule_id=row.get("nodule_id", "").strip() or f"{number:02d}",
        mask=folder / mask if mask else None,
        mask_label=label,
        center_mm=None if x is None or y is None or z is None else (x, y, z),
        attributes=NoduleAttributes(diameter_mm=diameter, **agreed_ratings(ratings)),
        ratings=ratings,
        extra={name: value for name, value in row.items() if name not in KNOWN},
    )


def _label(row: dict[str, str]) -> int | str | None:
    """The value of a nodule in its mask, or the name of its segment; None for 0 or nothing."""
    text = (row.get("mask_label") or "").strip()
    try:
        label = float(text or 0)
    except ValueError:
        return text
    if not 0 <= label < 2**63 or label != int(label):
        raise ValueError(f"mask_label {text}")
    return int(label) or None


def _number(row: dict[str, str], name: str) -> float | None:
    text = (row.get(name) or "").strip()
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
    most = MOST_RATING[name]
    try:
        given = [float(part) for part in text.replace(";", " ").split()]
    except ValueError:
        given = [np.nan]
    if not all(1 <= value <= most for value in given):
        raise ValueError(f"{name} {text!r}, not numbers from 1 to {most}")
    return tuple(given)
