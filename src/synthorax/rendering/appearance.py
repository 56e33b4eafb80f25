"""What a nodule of given attributes is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthorax.nodule import NoduleAttributes

CalciumPattern = Literal["none", "popcorn", "laminated", "solid", "non-central", "central"]
CALCIUM: dict[int, CalciumPattern] = {
    1: "popcorn",
    2: "laminated",
    3: "solid",
    4: "non-central",
    5: "central",
    6: "none",
}
"""LIDC's rating of calcification."""
CORE_HU = {1: (25.0, 45.0), 2: (5.0, 8.0), 3: (-90.0, 15.0), 4: (-900.0, 40.0)}
"""Mean and spread of a dense nodule's inside, by LIDC's rating of internal structure: soft, fluid, fat, air."""
SOLID_TEXTURE, HAZY_TEXTURE = 4.5, 2.0
"""LIDC's rating of texture from which on a nodule is all solid, and down to which it is all ground glass."""
OUTLINE_MM, CALCIFIED_OUTLINE_MM = (-0.17, 0.35), (0.12, 0.2)
"""Mean and spread of how far outside of the half density readers draw, and outside of that of calcified nodules."""
HAZE_HU, SOLID_HAZE_HU, HAZE_SPREAD_HU = -560.0, -330.0, 105.0
"""Mean HU of ground glass, of the haze around a core that is nearly all of a nodule, and the spread of both."""
CALCIUM_HU = (1000.0, 1500.0)
"""Range of the HU of calcium."""

SMOOTHEST, ROUGHER = 0.85, 0.25
"""Roughness of a nodule without spiculation, and what each degree of spiculation adds."""
SPICULES, TAGS, VESSELS = 0.8, 0.5, 0.8
"""Mean numbers of strands: spicules of a nodule of 10 mm by the square of how far its spiculation lies above 1, strands
to the pleura by that distance, strands to vessels of a nodule of 10 mm."""


@dataclass(frozen=True)
class Appearance:
    """Densities and their places.

    Attributes:
        core_hu: of the dense part.
        core_share: how much of the depth is dense: 1 solid, 0 ground glass.
        haze_hu: of the ground glass around or in place of it.
        cavity: whether the core is a hollow in a wall of soft tissue.
        calcium: pattern.
        calcium_hu: density of it.
        outline_mm: how far outside of where its density is half a reader would outline it.
        edge_mm: how far the edge is blurred beyond what the scanner does.
        roughness: how far the edge lies off its outline, in parts of what is usual.
        spicules: strands that end in the lung.
        tags: strands to the pleura, where it is near.
        vessels: strands to vessels that are near.
    """

    core_hu: float
    core_share: float
    haze_hu: float
    cavity: bool
    calcium: CalciumPattern
    calcium_hu: float
    outline_mm: float
    edge_mm: float
    roughness: float = 1.0
    spicules: int = 0
    tags: int = 0
    vessels: int = 0


def draw_appearance(condition: NoduleAttributes, random: np.random.Generator) -> Appearance:
    """An appearance as nodules of such attributes have it; what is not given is what is common."""
    texture = _given(condition.texture, 5.0)
    structure = round(_given(condition.internal_structure, 1.0))
    mean, spread = CORE_HU.get(structure, CORE_HU[1])
    share = np.clip((texture - HAZY_TEXTURE) / (SOLID_TEXTURE - HAZY_TEXTURE), 0, 1)
    core_share = 1.0 if share == 1 else 0.0 if share == 0 else float(np.clip(share * random.normal(1, 0.15), 0.1, 0.9))
    spiculation = float(np.clip(_given(condition.spiculation, 1.0), 1, 5))
    wide = _given(condition.diameter_mm, 10.0) / 10
    calcium = CALCIUM.get(round(_given(condition.calcification, 6.0)), "none")
    return Appearance(
        core_hu=float(random.normal(mean, spread)),
        core_share=core_share,
        haze_hu=float(random.normal(HAZE_HU + (SOLID_HAZE_HU - HAZE_HU) * share, HAZE_SPREAD_HU)),
        cavity=structure == 4,
        calcium=calcium,
        calcium_hu=float(random.uniform(*CALCIUM_HU)),
        outline_mm=float(
            np.clip(random.normal(*(OUTLINE_MM if calcium == "none" else CALCIFIED_OUTLINE_MM)), -1.0, 1.2)
        ),
        edge_mm=0.35 * float(np.clip(5 - _given(condition.margin, 4.5), 0, 4)),
        roughness=SMOOTHEST + ROUGHER * (spiculation - 1),
        spicules=int(random.poisson(SPICULES * wide * (spiculation - 1) ** 2)),
        tags=int(random.poisson(TAGS * (spiculation - 1))),
        vessels=int(random.poisson(VESSELS * wide * (1 + spiculation) / 2)),
    )


def _given(value: float | None, usual: float) -> float:
    return usual if value is None else value
