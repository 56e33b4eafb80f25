"""Rasterising capsules: the share of each voxel that capsules fill.

A vessel thinner than a voxel keeps its cross-section: it is drawn half a voxel wide, with a share that is lowered in
proportion to its area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import Box
from synthorax.phantom.tubes import Tubes

SMALL_BOX, VOXELS_TOGETHER = 1500, 400_000
"""Capsules with boxes of up to the first number of voxels are drawn in groups of about the second number of voxels."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of voxels: world coordinates in mm of the centres along each axis, and the voxel size (z, y, x)."""

    z: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        return len(self.z), len(self.y), len(self.x)

    def part(self, box: Box) -> Grid:
        """Return the grid of a box of the voxels."""
        return Grid(self.z[box[0]], self.y[box[1]], self.x[box[2]], self.spacing_mm)

    def between(self, low_mm: NDArray[np.float64], high_mm: NDArray[np.float64]) -> Box:
        """Return the box of voxels between two world points (z, y, x)."""
        found = [
            slice(int(np.searchsorted(c, a)), int(np.searchsorted(c, b, side="right")))
            for c, a, b in zip((self.z, self.y, self.x), low_mm, high_mm, strict=True)
        ]
        return found[0], found[1], found[2]


def occupancy(tubes: Tubes, grid: Grid) -> NDArray[np.float32]:
    """Return the share of each voxel, from 0 to 1, that the capsules fill, [z, y, x]."""
    found = np.zeros(grid.shape, np.float32)
    if not len(tubes):
        return found
    spacing = np.array(grid.spacing_mm)
    reach = (tubes.reach_mm + spacing.max())[:, None]
    ends = np.stack([tubes.start[:, ::-1], tubes.end[:, ::-1]])
    low, high = ends.min(0) - reach, ends.max(0) + reach
    first = np.column_stack([np.searchsorted(c, low[:, i]) for i, c in enumerate((grid.z, grid.y, grid.x))])
    stop = np.column_stack([np.searchsorted(c, high[:, i]) for i, c in enumerate((grid.z, grid.y, grid.x))])
    size = stop - first
    voxels = size.prod(1) * (size > 0).all(1)
    parts = _Parts.of(tubes, spacing)
    for i in np.flatnonzero(voxels > SMALL_BOX).tolist():
        box = tuple(slice(a, b) for a, b in zip(first[i], stop[i], strict=True))
        z, y, x = (
            (c[s] - tubes.start[i, 2 - axis]).astype(np.float32)
            for axis, (c, s) in enumerate(zip((grid.z, grid.y, grid.x), box, strict=True))
        )
        share = parts.share(i, z[:, None, None], y[None, :, None], x[None, None, :])
        np.maximum(found[box], share, out=found[box])
    small = np.flatnonzero((voxels > 0) & (voxels <= SMALL_BOX))
    ends = np.arange(VOXELS_TOGETHER, voxels[small].sum() + VOXELS_TOGETHER, VOXELS_TOGETHER)
    groups = np.searchsorted(np.cumsum(voxels[small]), ends)
    flat = found.reshape(-1)
    for some in np.split(small, np.unique(groups)):
        if len(some):
            _draw_together(flat, some, first, size, voxels, tubes, parts, grid)
    return found


def _draw_together(
    flat: NDArray[np.float32],
    some: NDArray[np.intp],
    first: NDArray[np.intp],
    size: NDArray[np.intp],
    voxels: NDArray[np.intp],
    tubes: Tubes,
    parts: _Parts,
    grid: Grid,
) -> None:
    """Draw many capsules with small boxes, with the voxels of all boxes in one list."""
    count = voxels[some]
    owner = np.repeat(some, count)
    step = np.arange(len(owner), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    ny, nx = (np.repeat(size[some, axis].astype(np.int32), count) for axis in (1, 2))
    row = step // nx
    iz = row // ny
    index = (iz, row - iz * ny, step - row * nx)
    where = [np.repeat(first[some, axis], count) + index[axis] for axis in range(3)]
    z, y, x = (
        (c[at] - np.repeat(tubes.start[some, 2 - axis], count)).astype(np.float32)
        for axis, (c, at) in enumerate(zip((grid.z, grid.y, grid.x), where, strict=True))
    )
    share = parts.share(owner, z, y, x)
    drawn = share > 0
    address = (where[0] * grid.shape[1] + where[1]) * grid.shape[2] + where[2]
    np.maximum.at(flat, address[drawn], share[drawn])


@dataclass(frozen=True, eq=False)
class _Parts:
    """Quantities of capsules from which distances are computed, float32, [n] or [n, (z, y, x)]."""

    axis: NDArray[np.float32]
    length2: NDArray[np.float32]
    radius: NDArray[np.float32]
    widening: NDArray[np.float32]
    faint: NDArray[np.float32]
    wide: NDArray[np.float32]
    squeeze: NDArray[np.float32]
    per_voxel: NDArray[np.float32]
    is_flat: bool

    @classmethod
    def of(cls, tubes: Tubes, spacing: NDArray[np.float64]) -> _Parts:
        axis = (tubes.end - tubes.start)[:, ::-1]
        length = np.linalg.norm(axis, axis=1)
        along = axis / np.maximum(length, 1e-6)[:, None]
        along[length < 1e-6] = (1, 0, 0)
        # Area over pi of the section, across the capsule, of an ellipsoid whose half axes are the voxel's sides.
        area = spacing.prod() / np.linalg.norm(along * spacing, axis=1)
        radii, faint = [], []
        for r in (tubes.start_mm, tubes.end_mm):
            thick = np.sqrt(np.maximum(r * r - area / 12, 0))
            radii.append(np.maximum(thick, np.sqrt(area) / 2))
            faint.append(np.minimum(r * r / (area / 3), 1))
        f32 = np.float32
        return cls(
            axis.astype(f32), np.maximum(length**2, 1e-6).astype(f32), radii[0].astype(f32),
            (radii[1] - radii[0]).astype(f32), ((faint[0] + faint[1]) / 2).astype(f32),
            tubes.wide[:, ::-1].astype(f32), tubes.squeeze.astype(f32), (1 / spacing).astype(f32),
            bool((tubes.squeeze < 1).any()),
        )  # fmt: skip

    def share(self, i: NDArray | int, z: NDArray, y: NDArray, x: NDArray) -> NDArray[np.float32]:
        """Return the share of voxels that capsule `i` fills, at positions in mm relative to its start."""
        az, ay, ax = (self.axis[i, k] for k in range(3))
        t = np.clip((z * az + y * ay + x * ax) / self.length2[i], 0, 1)
        dz, dy, dx = z - t * az, y - t * ay, x - t * ax
        radius = self.radius[i] + t * self.widening[i]
        slope: NDArray | float = 1.0
        if self.is_flat:
            uz, uy, ux = (self.wide[i, k] for k in range(3))
            flat = self.squeeze[i]
            out = dz * uz + dy * uy + dx * ux
            less = (1 - flat) * out
            dz, dy, dx = dz - less * uz, dy - less * uy, dx - less * ux
            off2 = dz * dz + dy * dy + dx * dx
            squeezed2 = (flat * out) ** 2
            slope = np.sqrt((off2 - (1 - flat * flat) * squeezed2) / np.maximum(off2, 1e-9))
        dz2, dy2, dx2 = dz * dz, dy * dy, dx * dx
        off2 = dz2 + dy2 + dx2
        off = np.sqrt(off2)
        pz, py, px = self.per_voxel
        # Voxels per mm in the direction of the distance.
        voxels = np.sqrt((dz2 * (pz * pz) + dy2 * (py * py) + dx2 * (px * px)) / np.maximum(off2, 1e-9))
        return (np.clip(0.5 - (off - radius) * voxels / slope, 0, 1) * self.faint[i]).astype(np.float32)
