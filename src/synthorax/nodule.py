"""What is known of a nodule: its place, and the one type every condition is written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthorax.errors import InputError


@dataclass(frozen=True)
class NoduleAttributes:
    """A nodule's size and the nine LIDC ratings; anything may be missing.

    Ratings are LIDC's scales (McNitt-Gray et al. 2007), here means over readers and so not always
    whole: 1 to 5, but calcification 1 to 6 (6 is absent) and internal structure 1 to 4.
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
MOST_RATING = {"calcification": 6, "internal_structure": 4}
"""Where a rating does not go from 1 to 5."""


EDGE_MM = 1.0
"""A cube shows a nodule whole if this much lies between the nodule and each face."""


def widest_mm(size: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Diameter of the widest nodule that a cube shows whole around its middle.

    Args:
        size: voxels (z, y, x).
        spacing_mm: of the voxels (z, y, x).
    """
    return min(n * s for n, s in zip(size, spacing_mm, strict=True)) - 2 * EDGE_MM


def check_attributes(attributes: NoduleAttributes) -> None:
    """Refuse ratings that LIDC does not have.

    Raises:
        InputError: one of them.
    """
    for name in RATINGS:
        value, most = getattr(attributes, name), MOST_RATING.get(name, 5)
        if value is not None and not 1 <= value <= most:
            raise InputError(name, f"{value:g}", f"1 to {most}")


@dataclass(frozen=True)
class Nodule:
    """A nodule of a scan.

    Attributes:
        nodule_id: unique within its scan.
        center_mm: world position (x, y, z), LPS.
        attributes: its size and ratings; of several readers the means.
        label: its value in the scan's mask; 0 where no voxels are marked.
        ratings: what each reader gave, by name (`RATINGS`).
        extra: whatever else its source says of it, as text.
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
        """The nodule of such a row."""
        x, y, z = row["center_mm"]
        return cls(
            nodule_id=row["nodule_id"],
            center_mm=(x, y, z),
            attributes=NoduleAttributes(**row["attributes"]),
            label=row["label"],
            ratings={name: tuple(values) for name, values in row["ratings"].items()},
            extra=dict(row["extra"]),
        )
