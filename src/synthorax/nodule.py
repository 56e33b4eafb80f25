"""What is known of a nodule: its place, and the one type every condition is written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any, Literal

from synthorax.errors import InputError


@dataclass(frozen=True)
class NoduleAttributes:
    """A nodule's size and the nine LIDC ratings; anything may be missing.

    Ratings are LIDC's scales (McNitt-Gray et al. 2007): 1 to 5, here means over readers and so not always whole.
    Calcification (1 to 6; 6 is absent) and internal structure (1 to 4) name kinds, of which there is no mean: they are
    the kind that most readers named.

    >>> import synthorax as sx
    >>> asked = sx.NoduleAttributes(diameter_mm=8, texture=5)
    >>> asked.given()
    {'diameter_mm': 8, 'texture': 5}
    >>> print(asked.malignancy)
    None
    """

    diameter_mm: float | None = None
    malignancy: float | None = None
    subtlety: float | None = None
    internal_structure: float | None = None
    calcification: float | None = None
    sphericity: float | None = None
    margin: float | None = None
    lobulation: float | None = None
    spiculation: float | None = None
    texture: float | None = None

    def given(self) -> dict[str, float]:
        """Return the attributes that are not missing, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


ATTRIBUTES = tuple(f.name for f in fields(NoduleAttributes))
RATINGS = (
    "subtlety",
    "internal_structure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
"""The nine ratings, in the order the LIDC forms list them."""
MOST_RATING = dict.fromkeys(RATINGS, 5) | {"calcification": 6, "internal_structure": 4}
"""The highest value of each rating; the lowest is 1."""
ORDINARY_KIND = {"calcification": 6, "internal_structure": 1}
"""Ratings that name kinds, and the kind that most nodules are of: no calcium, soft tissue."""
MalignancyRule = Literal["median", "majority"]
"""By which a nodule is malignant: the median of its readers' ratings, or more than half of them, reach
`MALIGNANT_FROM`."""
BENIGN_UP_TO, MALIGNANT_FROM = 2, 4
"""Ratings of malignancy up to which a nodule counts as benign, and from which it counts as malignant."""
FACE_MARGIN_MM = 1.0
"""A cube shows a nodule whole if at least this distance lies between the nodule and each face."""


def widest_mm(size: Sequence[float], spacing_mm: Sequence[float]) -> float:
    """Diameter of the widest nodule that a cube shows whole around its middle.

    Args:
        size: voxels (z, y, x).
        spacing_mm: of the voxels (z, y, x).

    >>> widest_mm(size=(24, 24, 24), spacing_mm=(1.0, 1.0, 1.0))
    22.0
    """
    return min(n * s for n, s in zip(size, spacing_mm, strict=True)) - 2 * FACE_MARGIN_MM


def agreed_ratings(ratings: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return one value for each rating that several readers gave: the mean, or the kind that most of them named.

    Where as many readers named one kind as another, the ordinary kind counts (`ORDINARY_KIND`) if it is among them,
    else the first in LIDC's list.

    >>> agreed_ratings({"malignancy": (3, 4, 5), "calcification": (6, 6, 3)})
    {'malignancy': 4.0, 'calcification': 6.0}
    """
    return {name: _agreed(name, values) for name, values in ratings.items()}


def _agreed(name: str, values: Sequence[float]) -> float:
    if name not in ORDINARY_KIND:
        return sum(map(float, values)) / len(values)
    return float(max(sorted(set(values)), key=lambda kind: (values.count(kind), kind == ORDINARY_KIND[name])))


def check_attributes(attributes: NoduleAttributes) -> None:
    """Refuse ratings that LIDC does not have.

    Raises:
        InputError: a rating outside its scale, or a kind that is not a whole number.
    """
    for name in RATINGS:
        value, most = getattr(attributes, name), MOST_RATING[name]
        if value is None:
            continue
        if not 1 <= value <= most:
            raise InputError(name, f"{value:g}", f"1 to {most}")
        if name in ORDINARY_KIND and value != round(value):
            raise InputError(name, f"{value:g}", f"a whole number from 1 to {most}, each of which names a kind")


@dataclass(frozen=True)
class Nodule:
    """A nodule of a scan.

    Attributes:
        nodule_id: unique within its scan.
        center_mm: world position (x, y, z), LPS.
        attributes: its size and ratings; of several readers the means, or the kind that most named.
        label: its value in the scan's mask; 0 where no voxels are marked.
        ratings: what each reader gave, by name (`RATINGS`).
        extra: whatever else its source says of it, as text.

    >>> import synthorax as sx
    >>> known = sx.NoduleAttributes(diameter_mm=8, malignancy=3.67)
    >>> nodule = sx.Nodule("01", (-61.5, 12.0, -148.0), known, ratings={"malignancy": (3, 4, 4)})
    >>> nodule.attributes.malignancy, nodule.ratings["malignancy"]
    (3.67, (3, 4, 4))
    >>> sx.Nodule.from_row(nodule.row()) == nodule
    True
    """

    nodule_id: str
    center_mm: tuple[float, float, float]
    attributes: NoduleAttributes
    label: int = 0
    ratings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The nodule as JSON can hold it."""
        return {
            "nodule_id": self.nodule_id,
            "center_mm": [round(c, 4) for c in self.center_mm],
            "label": self.label,
            "attributes": self.attributes.given(),
            "ratings": {name: list(values) for name, values in self.ratings.items()},
            "extra": dict(self.extra),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Nodule:
        """The nodule of such a row; older ones have means of kinds, which are counted anew from what readers named."""
        x, y, z = row["center_mm"]
        kinds = {name: values for name, values in row["ratings"].items() if name in ORDINARY_KIND and values}
        return cls(
            nodule_id=row["nodule_id"],
            center_mm=(x, y, z),
            attributes=NoduleAttributes(**row["attributes"] | agreed_ratings(kinds)),
            label=row["label"],
            ratings={name: tuple(values) for name, values in row["ratings"].items()},
            extra=dict(row["extra"]),
        )


def malignancy_of(nodule: Nodule, rule: MalignancyRule = "median") -> int | None:
    """Return 1 for a malignant nodule, 0 for a benign one, and None for one that nobody rated.

    papers/2 says "the majority score >= 4".

    Args:
        rule: which of its readers' ratings count.
    """
    ratings = nodule.ratings.get("malignancy") or (nodule.attributes.malignancy,)
    known = [rating for rating in ratings if rating is not None]
    if not known:
        return None
    if rule == "median":
        return int(median(known) >= MALIGNANT_FROM)
    return int(2 * sum(rating >= MALIGNANT_FROM for rating in known) > len(known))
