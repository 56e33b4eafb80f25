"""Tapered capsules, of which ribs, vessels and bronchi consist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Tubes:
    """Capsules in world millimetres.

    Attributes:
        start, end: positions of the ends, [n, (x, y, z)].
        start_mm, end_mm: radii at the ends, [n]; the smaller half-width of a flat capsule.
        wide: unit vector [n, (x, y, z)] along which the section is widest; the half-width there is radius / `squeeze`.
        squeeze: thickness over width, [n]; 1 for a round capsule.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    start_mm: NDArray[np.float64]
    end_mm: NDArray[np.float64]
    wide: NDArray[np.float64]
    squeeze: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def reach_mm(self) -> NDArray[np.float64]:
        """Largest distance in mm of a capsule's surface from its axis, [n]."""
        return np.maximum(self.start_mm, self.end_mm) / self.squeeze

    def grown(self, mm: float) -> Tubes:
        """Return the capsules with `mm` added on every side; if negative, capsules that vanish are left out."""
        thin = np.minimum(self.start_mm, self.end_mm) + mm > 0
        squeeze = (self.start_mm + mm) / np.maximum(self.start_mm / self.squeeze + mm, 1e-6)
        thicker = replace(
            self,
            start_mm=self.start_mm + mm,
            end_mm=self.end_mm + mm,
            squeeze=np.where(self.squeeze < 1, np.clip(squeeze, 0.02, 1), 1.0),
        )
        return thicker.chosen(thin)

    def chosen(self, which: NDArray) -> Tubes:
        """Return some of the capsules, chosen by mask or index."""
        parts = (self.start, self.end, self.start_mm, self.end_mm, self.wide, self.squeeze)
        return Tubes(*(part[which] for part in parts))


def chain(
    points: ArrayLike, radii_mm: ArrayLike, *, wide: ArrayLike = (0.0, 0.0, 1.0), squeeze: ArrayLike = 1.0
) -> Tubes:
    """Return capsules that lead from point to point.

    Args:
        points: [n, (x, y, z)] in mm.
        radii_mm: radius at each point, [n], or one for all.
        wide: direction along which sections are widest, of any length, [n, (x, y, z)] or one for all.
        squeeze: thickness over width, [n] or one for all.
    """
    points = np.asarray(points, dtype=np.float64)
    n = len(points)
    radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), n)
    axes = np.broadcast_to(np.asarray(wide, dtype=np.float64), (n, 3))
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    flat = np.broadcast_to(np.asarray(squeeze, dtype=np.float64), n)
    return Tubes(points[:-1], points[1:], radii[:-1], radii[1:], axes[:-1], flat[:-1])


def smooth_tube(points: ArrayLike, radii_mm: ArrayLike, step_mm: float = 6.0) -> Tubes:
    """Return a smooth tube through points (Catmull and Rom 1974).

    Args:
        points: [n, (x, y, z)] in mm.
        radii_mm: radius at each point, [n], or one for all.
        step_mm: length of the tube's capsules.
    """
    points = np.asarray(points, dtype=np.float64)
    radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), len(points))
    known = np.column_stack([points, radii])
    padded = np.concatenate([2 * known[:1] - known[1:2], known, 2 * known[-1:] - known[-2:-1]])
    made = []
    for before, a, b, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        n = max(int(np.ceil(np.linalg.norm((b - a)[:3]) / step_mm)), 1)
        t = (np.arange(n) / n)[:, None]
        bend = (-before + b) * t + (2 * before - 5 * a + 4 * b - after) * t**2 + (3 * a - before - 3 * b + after) * t**3
        made.append(a + bend / 2)
    smooth = np.concatenate([*made, known[-1:]])
    return chain(smooth[:, :3], np.maximum(smooth[:, 3], radii.min()))


def joined(parts: Sequence[Tubes]) -> Tubes:
    """Return several sets of capsules as one."""
    names = ("start", "end", "start_mm", "end_mm", "wide", "squeeze")
    return Tubes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
