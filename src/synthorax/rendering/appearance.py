"""The densities, edge and strands of a rendered nodule, drawn from its attributes."""

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
"""Pattern of calcification for each LIDC rating."""
CORE_HU = {1: (25.0, 45.0), 2: (5.0, 8.0), 3: (-90.0, 15.0), 4: (-900.0, 40.0)}
"""Mean and standard deviation of the HU inside a solid nodule, by LIDC's rating of internal structure: soft tissue,
fluid, fat, air."""
SOLID_TEXTURE, HAZY_TEXTURE = 4.5, 2.0
"""LIDC's ratings of texture: a nodule is solid from the first on, and pure ground glass up to the second."""
OUTLINE_MM, CALCIFIED_OUTLINE_MM = (-0.17, 0.35), (0.12, 0.2)
"""Mean and standard deviation of the distance by which readers outline a nodule outside its half-density surface, and
the same for calcified nodules."""
HAZE_HU, SOLID_HAZE_HU, HAZE_SPREAD_HU = -560.0, -330.0, 105.0
"""Mean HU of pure ground glass, mean HU of the ground glass around a core that fills nearly all of the nodule, and the
standard deviation of both."""
CALCIUM_HU = (1000.0, 1500.0)
"""Range of the HU of calcium."""

SMOOTHEST, ROUGHER = 0.85, 0.25
"""Roughness of a nodule with a spiculation of 1, and the roughness that each degree of spiculation adds."""
SPICULES, TAGS, VESSELS = 0.8, 0.5, 0.8
"""Factors of the mean numbers of strands, with s = spiculation - 1 and w = diameter / 10 mm: spicules 0.8 w s^2,
strands to the pleura 0.5 s, strands to vessels 0.8 w (1 + s / 2)."""


@dataclass(frozen=True)
class Appearance:
    """The densities, edge and strands of a nodule.

    Attributes:
        core_hu: HU of the solid core.
        core_share: share of the nodule's depth that is solid; 1 for a solid nodule, 0 for pure ground glass.
        haze_hu: HU of the ground glass around the core, or of all of a pure ground-glass nodule.
        cavity: whether the core is a cavity in a wall of soft tissue.
        calcium: pattern of calcification.
        calcium_hu: HU of the calcium.
        outline_mm: distance by which a reader would outline the nodule outside its half-density surface.
        edge_mm: standard deviation of the blur of the edge, besides the scanner's blur.
        roughness: distance of the edge from its outline, relative to the usual one.
        spicules: number of strands that end in the lung.
        tags: most strands to the pleura, if it is near.
        vessels: most strands to vessels that are near.
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
    """Draw the appearance of a nodule with these attributes; an attribute that is None has its most common value."""
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
