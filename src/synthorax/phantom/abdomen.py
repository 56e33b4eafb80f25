"""The organs under the diaphragm: liver on the right, stomach and spleen on the left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthorax.phantom.build import Build
from synthorax.phantom.lattice import Field, axes, distance, ellipsoid, intersection, union
from synthorax.phantom.thorax import Shells
from synthorax.seeding import generator

DIAPHRAGM_MM = 2.5
"""Thickness of the diaphragm."""


@dataclass(frozen=True, eq=False)
class Abdomen:
    """Organs under the diaphragm.

    Attributes:
        liver, spleen, stomach: signed distances from the organs' surfaces.
        air: signed distance from the gas in the stomach, which rises to the front of a patient lying on the back.
        liver_hu, spleen_hu, content_hu: HU of liver, spleen and the content of the stomach.
    """

    liver: Field
    spleen: Field
    stomach: Field
    air: Field
    liver_hu: float
    spleen_hu: float
    content_hu: float


def make_abdomen(build: Build, shells: Shells, seed: int) -> Abdomen:
    """Return the upper abdomen of a person."""
    rng = generator(seed, "phantom", "abdomen")
    below = np.maximum(shells.abdomen + DIAPHRAGM_MM, shells.cage + 3.0)

    def organ(center: tuple[float, float, float], half: tuple[float, float, float]) -> Field:
        moved = np.array(center) + rng.normal(0, 3, 3)
        return ellipsoid(build.to_world(moved), np.array(half) * build.scale * rng.uniform(0.95, 1.05))

    right = organ((-92, -4, -150), (84, 96, 110))
    left = organ((-5, -58, -132), (72, 42, 46))
    liver = distance(intersection(union(right, left, 25.0), below, 6.0))
    stomach = intersection(organ((64, -38, -140), (42, 58, 72)), np.maximum(below + 1, 6 - liver), 6.0)
    spleen = intersection(organ((112, 46, -140), (36, 44, 46)), np.maximum(below, 5 - stomach), 6.0)
    level = build.to_world([64.0, rng.uniform(-76, -50), -140.0])[1]
    air = np.maximum(stomach + 4.0, axes()[1] - np.float32(level))
    plain = rng.uniform(50, 64)
    return Abdomen(
        liver, distance(spleen), distance(stomach), air,
        plain + (45 if build.enhanced else 0), plain - 8 + (65 if build.enhanced else 0), float(rng.uniform(10, 45)),
    )  # fmt: skip
