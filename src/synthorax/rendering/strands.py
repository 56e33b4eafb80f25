"""Strands of tissue that lead away from a nodule: spicules, and strands to vessels and to the pleura.

A strand is a tapering curve. Spicules end in the lung; other strands end at a vessel or at the pleura near the nodule,
because nodules retract these. The numbers and lengths of strands are fitted to real nodules
(docs/results/rendering.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from synthorax.rendering.appearance import Appearance
from synthorax.rendering.overlay import lung_hu_of
from synthorax.rendering.solid import NoduleSolid
from synthorax.volume import Volume

SEGMENTS = 7
"""Straight segments of a strand."""
SMOOTH_MM = 0.7
"""Standard deviation of the Gaussian that smooths a patch before vessels are found in it."""
DENSER_THAN_LUNG_HU = 250.0
"""A voxel this much denser than the lung belongs to a vessel or to the pleura."""
WALL_MM = 5.0
"""A voxel is wall if most of the cube of this width around it is dense, as in the chest wall or a large vessel."""
NEAREST_MM, FARTHEST_MM = 2.0, 12.0
"""Least and greatest distance from the nodule's outline to a vessel or wall at which a strand ends."""
ENDS_APART_MM = 4.0
"""Least distance between the ends of two strands to vessels or to the wall."""
LENGTH_MM, LENGTH_SPREAD = 8.0, 0.5
"""Median length of a spicule beyond the outline of a nodule of 10 mm, and the standard deviation of its logarithm."""
LEAST_LENGTH_MM = 1.5
"""Least length of a spicule beyond the outline."""
RADIUS_MM, TIP_MM = (0.8, 1.4), 0.45
"""Range of a strand's radius where it leaves the nodule, and its radius at the end."""
BEND = 0.14
"""Standard deviation of the distance of a strand's middle from its chord, as a share of the strand's length."""
ROOT_SHARE = 0.8
"""A strand begins at this share of the way from the nodule's deepest point to its outline."""


class Ends(NamedTuple):
    """Points at which strands may end, [n, (z, y, x)] in mm from the middle of a patch."""

    vessels: NDArray[np.float64]
    wall: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Strand:
    """A tapering curve.

    Attributes:
        points_mm: [n, (z, y, x)] from the middle of the patch.
        radii_mm: radius at each point, [n].
    """

    points_mm: NDArray[np.float64]
    radii_mm: NDArray[np.float64]


def draw_strands(
    solid: NoduleSolid, appearance: Appearance, patch: Volume, reach_mm: float, random: np.random.Generator
) -> list[Strand]:
    """Draw the strands of a nodule in the middle of a patch.

    Args:
        solid: shape of the nodule.
        appearance: gives the numbers of strands.
        patch: HU [z, y, x].
        reach_mm: largest distance of a strand's end from the middle of the patch.
        random: random numbers of the draws.
    """
    if not appearance.spicules + appearance.tags + appearance.vessels:
        return []
    ends = find_ends(patch, solid, reach_mm)
    origin = solid.deepest_mm
    chosen = _apart(ends.wall, appearance.tags, solid, random) + _apart(ends.vessels, appearance.vessels, solid, random)
    directions = random.normal(size=(appearance.spicules, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    wide = 2 * solid.depth_mm
    lengths = LENGTH_MM * np.sqrt(wide / 10) * np.exp(LENGTH_SPREAD * random.normal(size=appearance.spicules))
    outline = solid.radius_mm(directions) if appearance.spicules else np.zeros(0)
    room = reach_mm - float(np.linalg.norm(origin))
    away = np.minimum(outline + np.maximum(lengths, LEAST_LENGTH_MM), room)
    chosen += list(origin + away[:, None] * directions)
    return [_strand(solid, end, random) for end in chosen]


def find_ends(patch: Volume, solid: NoduleSolid, reach_mm: float) -> Ends:
    """Find points of vessels and of the wall near a nodule in the middle of a patch of HU [z, y, x]."""
    hu = patch.voxels
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(patch.shape, patch.spacing_mm, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    near = (points**2).sum(0) <= reach_mm**2
    smooth = gaussian_filter(hu, np.divide(SMOOTH_MM, patch.spacing_mm))
    dense = smooth > lung_hu_of(hu) + DENSER_THAN_LUNG_HU
    wall = uniform_filter(dense.astype(np.float32), [max(1, round(WALL_MM / s)) for s in patch.spacing_mm]) > 0.5
    away = solid.at(points)
    near &= dense & (away >= NEAREST_MM) & (away <= FARTHEST_MM)
    return Ends(*(points[:, near & kind].T.astype(np.float64) for kind in (~wall, wall)))


def _apart(
    ends: NDArray[np.float64], count: int, solid: NoduleSolid, random: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Draw up to `count` of the ends, nearer ones with higher probability, none within `ENDS_APART_MM` of another."""
    found: list[NDArray[np.float64]] = []
    while len(ends) and len(found) < count:
        weight = np.exp(-solid.at(ends.T) / NEAREST_MM)
        found.append(ends[random.choice(len(ends), p=weight / weight.sum())])
        ends = ends[np.linalg.norm(ends - found[-1], axis=1) > ENDS_APART_MM]
    return found


def _strand(solid: NoduleSolid, end: NDArray[np.float64], random: np.random.Generator) -> Strand:
    """A strand from inside a nodule to a point."""
    origin = solid.deepest_mm
    length = float(np.linalg.norm(end - origin))
    direction = (end - origin) / length
    start = origin + ROOT_SHARE * min(float(solid.radius_mm(direction[None])[0]), length) * direction
    aside = random.normal(size=3)
    aside -= (aside @ direction) * direction
    aside *= 2 * BEND * random.normal() * np.linalg.norm(end - start) / max(float(np.linalg.norm(aside)), 1e-6)
    t = np.linspace(0, 1, SEGMENTS + 1)[:, None]
    middle = (start + end) / 2 + aside
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    radii = np.interp(t[:, 0], [0, 1], [random.uniform(*RADIUS_MM), TIP_MM])
    return Strand(points, radii)


def share_of(points: NDArray[np.float32], strands: Sequence[Strand], part_mm: float) -> NDArray[np.float32]:
    """Return the share of each part of a voxel that strands fill.

    Args:
        points: centres [(z, y, x), z, y, x] of the parts on a grid, in mm from the middle of the patch.
        strands: strands of a nodule.
        part_mm: width of a part.

    Returns:
        float32 [z, y, x] from 0 to 1.
    """
    found = np.zeros(points.shape[1:], np.float32)
    grid = points[0, :, 0, 0], points[1, 0, :, 0], points[2, 0, 0, :]
    for strand in strands:
        ends = zip(strand.points_mm[:-1], strand.points_mm[1:], strand.radii_mm[:-1], strand.radii_mm[1:], strict=True)
        for first, last, wide, narrow in ends:
            low, high = np.minimum(first, last) - wide - part_mm, np.maximum(first, last) + wide + part_mm
            box = tuple(slice(*np.searchsorted(axis, (a, b))) for axis, a, b in zip(grid, low, high, strict=True))
            here = points[(slice(None), *box)] - first.astype(np.float32)[:, None, None, None]
            along = (last - first).astype(np.float32)
            projected = (along[:, None, None, None] * here).sum(0)  # not by BLAS, which differs between machines
            share = np.clip(projected / max(float((along**2).sum()), 1e-12), 0, 1)
            away = np.sqrt(((here - along[:, None, None, None] * share) ** 2).sum(0))
            radius = wide + (narrow - wide) * share
            found[box] = np.maximum(found[box], np.clip(0.5 + (radius - away) / part_mm, 0, 1))
    return found
