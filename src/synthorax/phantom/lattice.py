"""Smooth solids as signed distances on a coarse lattice, which are interpolated at the voxels of a scan.

Distances 5 mm apart define a surface with a radius of centimetres to a fifth of a millimetre (the error of a chord is
pitch^2 / 8 radius). So the shapes of the chest are computed once, on less than a million points, for any voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthorax.phantom.tubes import Tubes

PITCH_MM = 5.0
HALF_MM = (250.0, 170.0, 245.0)
"""Half the size of the modelled part of the world along (z, y, x)."""

Field = NDArray[np.float32]
"""Signed distance in mm from a surface on the points of the lattice [z, y, x], negative inside."""
SHAPE = tuple(int(2 * half / PITCH_MM) + 1 for half in HALF_MM)
"""Points of the lattice along (z, y, x)."""


def axes() -> tuple[Field, Field, Field]:
    """Return the world z [z, 1, 1], y [1, y, 1] and x [1, 1, x] of the lattice's points."""
    z, y, x = (np.arange(n, dtype=np.float32) * PITCH_MM - half for n, half in zip(SHAPE, HALF_MM, strict=True))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def union(a: Field, b: Field, blend_mm: float) -> Field:
    """Return the union of two solids, with the crease between them filled (Quilez's polynomial smooth minimum)."""
    h = np.maximum(blend_mm - np.abs(a - b), 0) / max(blend_mm, 1e-6)
    return np.minimum(a, b) - h * h * (blend_mm / 4)


def intersection(a: Field, b: Field, blend_mm: float) -> Field:
    """Return the intersection of two solids, with its edge rounded."""
    return -union(-a, -b, blend_mm)


def distance(implicit: Field) -> Field:
    """Return the signed distance near a surface, given any smooth function that is zero on it (Taubin 1994)."""
    steps = np.gradient(implicit, PITCH_MM)
    slope = np.sqrt(sum(step * step for step in steps))
    return implicit / np.maximum(slope, 0.3)


def ellipsoid(center: ArrayLike, half_mm: ArrayLike) -> Field:
    """Return an ellipsoid with this centre and these half axes, (x, y, z) in world millimetres."""
    z, y, x = axes()
    (cx, cy, cz), (ax, ay, az) = np.asarray(center, np.float32), np.asarray(half_mm, np.float32)
    u, v, w = (x - cx) / ax, (y - cy) / ay, (z - cz) / az
    first = np.sqrt(u * u + v * v + w * w)
    second = np.sqrt((u / ax) ** 2 + (v / ay) ** 2 + (w / az) ** 2)
    return first * (first - 1) / np.maximum(second, 1e-6)


def empty() -> Field:
    """Return the empty solid."""
    return np.full(SHAPE, 1e3, np.float32)


def add_tubes(field: Field, tubes: Tubes, blend_mm: float, grow_mm: float = 0.0) -> None:
    """Unite a solid with round capsules in place; only the part of the lattice near each capsule is computed.

    Args:
        field: the solid, changed in place.
        tubes: the capsules.
        blend_mm: width over which creases are filled.
        grow_mm: added to the radii.
    """
    coordinates = axes()
    for start, end, r0, r1 in zip(tubes.start, tubes.end, tubes.start_mm, tubes.end_mm, strict=True):
        margin = max(r0, r1) + grow_mm + blend_mm + 8 * PITCH_MM
        low, high = np.minimum(start, end)[::-1] - margin, np.maximum(start, end)[::-1] + margin
        box = tuple(
            slice(max(int((a + half) / PITCH_MM), 0), max(int((b + half) / PITCH_MM) + 2, 0))
            for a, b, half in zip(low, high, HALF_MM, strict=True)
        )
        if field[box].size == 0:
            continue
        z, y, x = (c[tuple(s if c.shape[i] > 1 else slice(None) for i, s in enumerate(box))] for c in coordinates)
        d = _capsule(x, y, z, start, end, r0 + grow_mm, r1 + grow_mm)
        field[box] = union(field[box], d, blend_mm)


def _capsule(
    x: Field, y: Field, z: Field, start: NDArray[np.float64], end: NDArray[np.float64], r0: float, r1: float
) -> Field:
    """Return the signed distance in mm from a tapered capsule."""
    axis = (end - start).astype(np.float32)
    px, py, pz = x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2])
    along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
    dx, dy, dz = px - along * axis[0], py - along * axis[1], pz - along * axis[2]
    found = np.sqrt(dx * dx + dy * dy + dz * dz) - np.float32(r0) - along * np.float32(r1 - r0)
    return np.asarray(found, np.float32)


def at_points(field: Field, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a field interpolated at world points [n, (x, y, z)]."""
    index = (points[:, ::-1] + np.array(HALF_MM)) / PITCH_MM
    return ndimage.map_coordinates(field, index.T, order=1, mode="nearest")


@dataclass(frozen=True, eq=False)
class Solid:
    """A solid prepared for voxels of a given size.

    Attributes:
        depth: signed distance from the surface on a box of the lattice, negative inside, in units of the voxel's width
            across the surface.
        first: index (z, y, x) of the box's first point.
        low_mm, high_mm: corners (z, y, x) in mm of a box that holds the solid.
        width_mm: mean width of a voxel across the surface.
    """

    depth: Field
    first: tuple[int, int, int]
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    width_mm: float

    def at(self, z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> Field:
        """Return the depth at voxels [z, y, x], by trilinear interpolation along one axis after the other.

        Args:
            z, y, x: world coordinates in mm of the voxels' centres along each axis.
        """
        (z0, wz), (y0, wy), (x0, wx) = (self._weights(c, i) for i, c in enumerate((z, y, x)))
        rows, columns = slice(y0.min(), y0.max() + 2), slice(x0.min(), x0.max() + 2)
        part = self.depth[:, rows, columns]
        y0, x0 = y0 - rows.start, x0 - columns.start
        planes = part[z0] + wz[:, None, None] * (part[z0 + 1] - part[z0])
        lines = planes[:, y0] + wy[:, None] * (planes[:, y0 + 1] - planes[:, y0])
        found = lines[:, :, x0]
        step = lines[:, :, x0 + 1]
        step -= found
        step *= wx
        found += step
        return found

    def _weights(self, world: NDArray[np.float64], axis: int) -> tuple[NDArray[np.intp], Field]:
        """Return the index in the box of the point before each voxel, and the weight of the point after it."""
        index = (world + HALF_MM[axis]) / PITCH_MM
        before = np.floor(index)
        inside = np.clip(before.astype(np.intp) - self.first[axis], 0, self.depth.shape[axis] - 2)
        return inside, np.clip(index - before, 0, 1).astype(np.float32)


def solid(field: Field, spacing_mm: tuple[float, float, float]) -> Solid:
    """Return a signed distance prepared for voxels of size (z, y, x)."""
    near = field < PITCH_MM + max(spacing_mm)
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(near.any(tuple(a for a in range(3) if a != axis)))
        first, last = (int(hit[0]) - 2, int(hit[-1]) + 3) if hit.size else (0, 2)
        spans.append(slice(max(first, 0), min(last, SHAPE[axis])))
    field = field[tuple(spans)]
    slopes = np.gradient(field, PITCH_MM)
    length = np.sqrt(sum(slope * slope for slope in slopes))
    across = sum(np.abs(slope) * np.float32(s) for slope, s in zip(slopes, spacing_mm, strict=True))
    width = np.where(length > 0.1, across / np.maximum(length, 0.1), min(spacing_mm)).astype(np.float32)
    ends = np.array([(s.start, s.stop - 1) for s in spans]) * PITCH_MM - np.array(HALF_MM)[:, None]
    inset = np.array([PITCH_MM, -PITCH_MM]) / 2
    low, high = (ends + inset).T if near.any() else np.zeros((2, 3))
    corner = (spans[0].start, spans[1].start, spans[2].start)
    return Solid(field / width, corner, low, high, float(width.mean()))
