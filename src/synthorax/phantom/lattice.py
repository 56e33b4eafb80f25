"""Smooth solids as signed distances on a coarse grid of the world, read at any voxel between its points.

A surface that curves over centimetres is known to a fifth of a millimetre from distances 5 mm apart
(the chord's error is pitch^2 / 8 radius), so that the shapes of the chest are computed once, on less than a million
points, whatever the voxels of the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthorax.phantom.tubes import Tubes

PITCH_MM = 5.0
HALF_MM = (250.0, 170.0, 245.0)
"""The world that is modelled reaches so far from its middle along (z, y, x)."""

Field = NDArray[np.float32]
"""Millimetres from a surface on the lattice [z, y, x], negative inside."""
SHAPE = tuple(int(2 * half / PITCH_MM) + 1 for half in HALF_MM)


def axes() -> tuple[Field, Field, Field]:
    """World z [z, 1, 1], y [1, y, 1] and x [1, 1, x] of the lattice."""
    z, y, x = (np.arange(n, dtype=np.float32) * PITCH_MM - half for n, half in zip(SHAPE, HALF_MM, strict=True))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def union(a: Field, b: Field, blend_mm: float) -> Field:
    """Both solids, the crease between them filled over some millimetres (Quilez's polynomial smooth minimum)."""
    h = np.maximum(blend_mm - np.abs(a - b), 0) / max(blend_mm, 1e-6)
    return np.minimum(a, b) - h * h * (blend_mm / 4)


def intersection(a: Field, b: Field, blend_mm: float) -> Field:
    """What both solids share, its edge rounded."""
    return -union(-a, -b, blend_mm)


def distance(implicit: Field) -> Field:
    """Signed distance near the surface of any smooth function that vanishes on it (Taubin 1994)."""
    steps = np.gradient(implicit, PITCH_MM)
    slope = np.sqrt(sum(step * step for step in steps))
    return implicit / np.maximum(slope, 0.3)


def ellipsoid(center: ArrayLike, half_mm: ArrayLike) -> Field:
    """An ellipsoid; centre and half axes (x, y, z) in world millimetres."""
    z, y, x = axes()
    (cx, cy, cz), (ax, ay, az) = np.asarray(center, np.float32), np.asarray(half_mm, np.float32)
    u, v, w = (x - cx) / ax, (y - cy) / ay, (z - cz) / az
    first = np.sqrt(u * u + v * v + w * w)
    second = np.sqrt((u / ax) ** 2 + (v / ay) ** 2 + (w / az) ** 2)
    return first * (first - 1) / np.maximum(second, 1e-6)


def empty() -> Field:
    """No solid at all."""
    return np.full(SHAPE, 1e3, np.float32)


def add_tubes(field: Field, tubes: Tubes, blend_mm: float, grow_mm: float = 0.0) -> None:
    """Unite a solid with round capsules in place, each near itself only."""
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
    """Millimetres from a tapered capsule."""
    axis = (end - start).astype(np.float32)
    px, py, pz = x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2])
    along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
    dx, dy, dz = px - along * axis[0], py - along * axis[1], pz - along * axis[2]
    found = np.sqrt(dx * dx + dy * dy + dz * dz) - np.float32(r0) - along * np.float32(r1 - r0)
    return np.asarray(found, np.float32)


def at_points(field: Field, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A field at world points [n, (x, y, z)]."""
    index = (points[:, ::-1] + np.array(HALF_MM)) / PITCH_MM
    return ndimage.map_coordinates(field, index.T, order=1, mode="nearest")


@dataclass(frozen=True, eq=False)
class Solid:
    """A solid made ready for voxels of a size.

    Attributes:
        depth: distance from the surface in widths of a voxel across it, negative inside, on a box of the lattice.
        first: index (z, y, x) of the box's first point.
        low_mm, high_mm: world (z, y, x) between which all of it lies.
        width_mm: mean width of a voxel across the surface.
    """

    depth: Field
    first: tuple[int, int, int]
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    width_mm: float

    def at(self, z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> Field:
        """The depth at voxels [z, y, x], by trilinear interpolation, one axis after the other.

        Args:
            z, y, x: world millimetres of the voxels' centres along each axis.
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
        """Index in the box of the point before each voxel, and the share of the one after."""
        index = (world + HALF_MM[axis]) / PITCH_MM
        before = np.floor(index)
        inside = np.clip(before.astype(np.intp) - self.first[axis], 0, self.depth.shape[axis] - 2)
        return inside, np.clip(index - before, 0, 1).astype(np.float32)


def solid(field: Field, spacing_mm: tuple[float, float, float]) -> Solid:
    """A signed distance made ready for voxels of a size (z, y, x)."""
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
