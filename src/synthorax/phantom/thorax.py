"""The surfaces of the trunk from skin to pleura, whose axial sections change with height; fissures and lungs.

Numbers are millimetres of the reference chest (`Build`), measured in a chest CT of a tall man. x is to the left, y to
the back, z to the head, and the origin is the middle of the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from synthorax.phantom.build import Build
from synthorax.phantom.lattice import HALF_MM, Field, add_tubes, at_points, axes, distance, empty, intersection, union
from synthorax.phantom.tubes import Tubes, smooth_tube
from synthorax.seeding import generator

Knots = tuple[tuple[float, float, float, float], ...]
"""Height, half-width, front and back of each section, in mm."""

PLEURA: Knots = (
    (-260, 150, -98, 98),
    (-115, 158, -98, 102),
    (-85, 158, -97, 103),
    (-40, 155, -95, 103),
    (0, 150, -92, 101),
    (30, 143, -87, 98),
    (45, 138, -84, 97),
    (60, 132, -80, 95),
    (75, 125, -74, 92),
    (90, 115, -65, 89),
    (110, 101, -46, 83),
    (120, 92, -33, 79),
    (130, 79, -17, 74),
    (137, 66, -2, 67),
    (142, 52, 12, 58),
    (146, 30, 28, 42),
)
MUSCLE: Knots = (
    (-260, 164, -110, 106),
    (-115, 168, -110, 111),
    (-60, 168, -107, 114),
    (0, 171, -103, 117),
    (60, 178, -95, 117),
    (90, 184, -85, 115),
    (110, 186, -76, 113),
    (130, 186, -66, 109),
    (148, 168, -57, 101),
    (165, 125, -50, 90),
    (185, 76, -44, 76),
    (215, 62, -42, 68),
    (260, 60, -44, 66),
)
FRONT_POWER, BACK_POWER = 2.1, 2.6
"""Exponents of the superellipses that are the sections: rounder in front, flatter at the back."""
PLEURA_MM = 1.5
"""Distance between bones and lung."""
SHOULDER = ((138, 40, 112), (172, 34, 138), (196, 22, 178), (206, 8, 260))
SHOULDER_RADII = (36, 46, 45, 40)


def reference_axes(build: Build) -> tuple[Field, Field, Field]:
    """Return the reference x, y and z of the lattice's points, [z, y, x] each."""
    z, y, x = axes()
    full = np.broadcast_arrays(*build.to_reference(x, y, z))
    return full[0].astype(np.float32), full[1].astype(np.float32), full[2].astype(np.float32)


def section_at(knots: Knots, z: NDArray) -> list[NDArray]:
    """Return half-width, front and back at a height, smooth between the knots (Fritsch and Carlson 1980)."""
    heights, *columns = np.array(knots).T
    within = np.clip(z, heights[0], heights[-1])
    return [PchipInterpolator(heights, column)(within).astype(np.float32) for column in columns]


def tube_of_sections(knots: Knots, place: tuple[Field, Field, Field], back_power: float) -> Field:
    """Return the signed distance of a body with superelliptic sections, closed above the last knot.

    Args:
        knots: knots of the sections.
        place: reference x, y and z of the lattice's points.
        back_power: exponent of the superellipses at the back.
    """
    x, y, z = place
    heights = z[:, :1, :1]
    wide, front, back = section_at(knots, heights)
    middle, deep = (front + back) / 2, (back - front) / 2
    power = np.where(y < middle, FRONT_POWER, back_power)
    radius = (np.abs(x / wide) ** power + np.abs((y - middle) / deep) ** power) ** (1 / power)
    return distance(np.maximum((radius - 1) * np.minimum(wide, deep), heights - knots[-1][0]))


@dataclass(frozen=True, eq=False)
class Shells:
    """Signed distances of the trunk's nested surfaces.

    Attributes:
        skin: the whole body.
        muscle: the body without subcutaneous fat.
        cage: the inside of the ribs, with mediastinum and upper abdomen.
        abdomen: the part below the diaphragm.
    """

    skin: Field
    muscle: Field
    cage: Field
    abdomen: Field


def make_shells(build: Build) -> Shells:
    """Make the surfaces of a person's trunk."""
    place = reference_axes(build)
    _, y, z = place
    muscle = tube_of_sections(MUSCLE, place, 3.2)
    for side in (-1, 1):
        arm = smooth_tube(build.to_world(np.array(SHOULDER) * (side, 1, 1)), np.array(SHOULDER_RADII) * build.size)
        add_tubes(muscle, arm, 30.0)
    front = np.clip(-y / 100, 0, 1)
    back = np.clip(y / 100, 0, 1)
    belly = np.clip(-z / 200, 0, 1)
    thickness = build.fat_mm * (1 - 0.35 * front - 0.4 * back + 0.5 * belly) * np.clip((240 - z) / 140, 0.35, 1)
    skin = distance(muscle - thickness.astype(np.float32))
    if build.breast_mm:
        skin = union(skin, _breasts(build, place), 25.0)
    # The model ends in planes near the faces of the lattice.
    sides = np.broadcast_arrays(*(np.abs(c) - np.float32(half - 8) for c, half in zip(axes(), HALF_MM, strict=True)))
    end = np.maximum.reduce(sides)
    return Shells(
        np.maximum(skin, end),
        np.maximum(muscle, end),
        tube_of_sections(PLEURA, place, BACK_POWER),
        _abdomen(build),
    )


def _breasts(build: Build, place: tuple[Field, Field, Field]) -> Field:
    """Return the breasts, flat as in a person who lies on the back."""
    x, y, z = place
    u = (np.abs(x) - 82) / 64
    v = (y + 96) / (16 + build.breast_mm)
    w = (z - 2) / 62
    return distance((np.sqrt(u * u + v * v + w * w) - 1) * np.float32(30))


def _abdomen(build: Build) -> Field:
    """Return the part below the diaphragm: two domes, steep near the ribs, and a flat part under the heart."""
    x, y, z = reference_axes(build)
    right, left = build.domes_mm
    domes = (
        ((-76, -30), (83, 69, 132), -62 + right, 1.0),
        ((77, -34), (82, 66, 136), -76 + left, 0.9),
        ((12, -45), (80, 55, 60), -87 + (right + left) / 2, 0.6),
    )
    top = empty() * -1
    for (cx, cy), (wide, front, back), summit, fall in domes:
        u = (x - cx) / wide
        v = (y - cy) / np.where(y < cy, front, back)
        rho = np.minimum(np.sqrt(u * u + v * v), 1.25)
        toward = v / np.maximum(rho, 1e-3)
        drop = (68 + 27 * toward - 19 * toward * toward) * fall
        dome = np.maximum(summit - drop * (0.55 * rho**2.1 + 0.45 * rho**6.5), -130 - 13 * toward)
        top = -union(-top, -dome.astype(np.float32), 14.0)
    return distance(z - top)


@dataclass(frozen=True, eq=False)
class Fissures:
    """Signed distances from the fissures, negative below them.

    Attributes:
        right, left: oblique fissures.
        horizontal: fissure between the right upper and middle lobes.
    """

    right: Field
    left: Field
    horizontal: Field


def make_fissures(build: Build, seed: int) -> Fissures:
    """Make the fissures of a person, slightly curved surfaces."""
    x, y, z = reference_axes(build)
    rng = generator(seed, "phantom", "fissures")
    out = (np.abs(x) - 75) / 75

    def oblique(height: float, slope: float) -> Field:
        wave, phase = rng.uniform(2, 6), rng.uniform(0, 6)
        steep = slope * rng.uniform(0.94, 1.06)
        sheet = height + rng.normal(0, 4) + steep * (y - 15) - 11 * out**2 + wave * np.sin(y / 42 + phase)
        return distance((z - sheet).astype(np.float32))

    right, left = oblique(2, 0.92), oblique(6, 1.0)
    wave, phase = rng.uniform(1, 4), rng.uniform(0, 6)
    level = 8 + rng.normal(0, 5) - 0.06 * (y + 40) - 10 * out**2 + wave * np.sin(x / 30 + phase)
    return Fissures(right, left, distance((z - level).astype(np.float32)))


def make_lungs(shells: Shells, mediastinum: Field, bones: Tubes, build: Build) -> tuple[Field, Field]:
    """Make the right and the left lung: the cage without mediastinum, abdomen and indenting bones."""
    inside = intersection(shells.cage, -mediastinum, 7.0)
    inside = intersection(inside, -shells.abdomen, 3.0)
    touching = at_points(inside, (bones.start + bones.end) / 2) < bones.reach_mm + PLEURA_MM
    indented = empty()
    add_tubes(indented, bones.chosen(touching), 2.0, PLEURA_MM)
    inside = intersection(inside, -indented, 3.0)
    x, _, _ = reference_axes(build)
    side = x - 2
    return distance(np.maximum(inside, side)), distance(np.maximum(inside, -side))
