"""What is known of a nodule: the one type every condition is written in."""

from __future__ import annotations

from dataclasses import dataclass


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
