"""Ribs, spine, sternum, clavicles and scapulae of the reference chest, as capsules and drums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import Box
from synthorax.phantom.build import Build
from synthorax.phantom.raster import Grid
from synthorax.phantom.thorax import BACK_POWER, FRONT_POWER, PLEURA, section_at
from synthorax.phantom.tubes import Tubes, chain, joined, smooth_tube
from synthorax.seeding import generator

VERTEBRAE_MM = (
    196, 177, 158, 138, 117.5, 97, 76, 55, 33, 11, -12, -35, -59, -84, -110, -138, -168, -199, -230
)  # fmt: skip
"""Heights of the vertebral bodies C5 to L4."""
FIRST_THORACIC = 3
"""Index of the first thoracic vertebra in `VERTEBRAE_MM`."""
SPINE_Y = 47.0
"""Reference y of the middle of the vertebral bodies, in mm."""
RIB_ENDS = (0.80, 0.80, 0.80, 0.79, 0.77, 0.745, 0.715, 0.665, 0.605, 0.545, 0.40, 0.27)
"""Share of the way around the cage, from the spine to the sternum, at which the bone of each rib ends."""
RIB_FALL_MM = (34, 54, 72, 88, 102, 112, 117, 115, 107, 92, 58, 36)
"""Height from the beginning of each rib down to its end."""
CARTILAGE_TO_MM = (104, 76, 57, 39, 22, 8, -4, -16, -32, -52)
"""Height at which the cartilage of ribs 1 to 10 reaches the sternum, or the cartilage above."""
RIB_THICK_MM, RIB_WIDE_MM = 3.3, 6.3
"""Half of the thickness and of the width of a rib."""


@dataclass(frozen=True, eq=False)
class Drum:
    """An elliptical cylinder with a waist, as a vertebral body has.

    Attributes:
        center: world position (x, y, z) in mm.
        axis: unit vector (x, y, z) along the height.
        half_mm: half of its (width, depth, height).
    """

    center: NDArray[np.float64]
    axis: NDArray[np.float64]
    half_mm: tuple[float, float, float]

    def distance(self, grid: Grid) -> tuple[Box, NDArray[np.float32]]:
        """Return the box of a grid in which the drum may lie, and the signed distance in mm, [z, y, x] of the box."""
        wide, deep, high = self.half_mm
        reach = np.array([high + 4, deep + 4, wide + 4]) + max(grid.spacing_mm)
        box = grid.between(self.center[::-1] - reach, self.center[::-1] + reach)
        z, y, x = (
            (c[s] - self.center[2 - i]).astype(np.float32)
            for i, (c, s) in enumerate(zip((grid.z, grid.y, grid.x), box, strict=True))
        )
        z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
        ax, ay, az = self.axis.astype(np.float32)
        along = x * ax + y * ay + z * az
        u, v = x - along * ax, y - along * ay
        waist = 1 - 0.09 * np.clip(1 - (along / high) ** 2, 0, 1)
        v = np.where(v > 0, v * np.float32(1.12), v)  # flatter on the side of the spinal canal
        ring = (np.sqrt((u / wide) ** 2 + (v / deep) ** 2) - waist) * min(wide, deep)
        return box, np.maximum(ring, np.abs(along) - high).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The bones.

    Attributes:
        bones: with cortex and marrow.
        plates: thin bones, almost all of them cortex.
        bodies: vertebral bodies.
        discs: column of discs between the vertebral bodies.
        canal: spinal canal.
        cartilage: cartilage of the ribs.
    """

    bones: Tubes
    plates: Tubes
    bodies: list[Drum]
    discs: Tubes
    canal: Tubes
    cartilage: Tubes


def make_skeleton(build: Build, seed: int) -> Skeleton:
    """Make the bones of a person."""
    rng = generator(seed, "phantom", "skeleton")
    ribs, cartilage = _ribs(build, rng)
    bodies, discs, canal, processes = _spine(build, rng)
    bones = [ribs, processes, *_breast_bone(build), *_shoulders(build)]
    return Skeleton(joined(bones), _blades(build), bodies, discs, canal, cartilage)


def cage_point(height: NDArray, around: NDArray, out_mm: float | NDArray, side: int) -> NDArray[np.float64]:
    """Return reference points [n, (x, y, z)] at a distance outside the pleura.

    Args:
        height: reference z in mm, [n].
        around: angle about the middle of the cage, from 0 at the spine to 1 at the sternum, [n].
        out_mm: distance from the pleura in the slice, [n] or one for all.
        side: -1 for the right side, 1 for the left.
    """
    wide, front, back = section_at(PLEURA, np.asarray(height))
    middle, deep = (front + back) / 2, (back - front) / 2
    angle = np.pi * np.asarray(around)
    s, c = np.sin(angle), np.cos(angle)
    power = np.where(c < 0, FRONT_POWER, BACK_POWER)
    rho = (np.abs(s) ** power + np.abs(c) ** power) ** (-1 / power)
    x, y = wide * rho * s, deep * rho * c
    nx, ny = s / wide, c / deep
    scale = out_mm / np.hypot(nx, ny)
    return np.column_stack([side * (x + nx * scale), middle + y + ny * scale, height])


def _ribs(build: Build, rng: np.random.Generator) -> tuple[Tubes, Tubes]:
    """Return the bones of the twelve pairs of ribs, and the cartilage that leads up to the sternum."""
    bones, cartilages = [], []
    for number in range(12):
        top = VERTEBRAE_MM[FIRST_THORACIC + number] + 8
        for side in (-1, 1):
            fall = RIB_FALL_MM[number] * build.slant * (1 + rng.normal(0, 0.015))
            end = RIB_ENDS[number]
            around = np.linspace(0.1, end, 26)
            t = (around - 0.1) / (end - 0.1)
            # Beyond its angle a rib descends at a nearly constant slope.
            height = top - 5 - fall * (0.85 * t**1.15 + 0.15 * t**2)
            if number == 0:  # the first rib circles the inlet, nearly flat
                wide, deep = 58.0, 50.0
                angle = np.pi * np.linspace(0.16, 0.88, 26)
                body = np.column_stack([side * wide * np.sin(angle) ** 0.8, 2 + deep * np.cos(angle), height])
            else:
                body = cage_point(height, around, 5.4, side)
            head = np.array([(side * 17.0, SPINE_Y + 10, top), (side * 29.0, SPINE_Y + 24, top - 1),
                             (side * 44.0, SPINE_Y + 40, top - 4)])  # fmt: skip
            points = np.concatenate([head, body[np.abs(body[:, 0]) > 62 - 20 * (number == 0)]])
            world = build.to_world(points)
            tangent = np.gradient(world, axis=0)
            up = np.cross(tangent, np.cross((0.0, 0.0, 1.0), tangent))
            n = len(points)
            stout = np.clip(np.arange(n) / 4, 0.75, 1) * (0.95 if number in (0, 11) else 1) * build.size
            flat = np.clip(0.9 - 0.1 * np.arange(n), RIB_THICK_MM / RIB_WIDE_MM, 0.9)
            bones.append(chain(world, RIB_THICK_MM * stout, wide=up, squeeze=flat))
            if number < 10:
                cartilages.append(_cartilage(build, points, number, side))
    return joined(bones), joined(cartilages)


def _cartilage(build: Build, rib: NDArray[np.float64], number: int, side: int) -> Tubes:
    """Return the cartilage from the end of a rib to the sternum, or to the cartilage above."""
    goal = float(CARTILAGE_TO_MM[number])
    _, front, _ = section_at(PLEURA, np.array([goal]))
    x = 18.0 if number else 26.0
    last = np.array([side * (x + max(number - 6, 0) * 9), front[0] - 6.0, goal])
    start, way = rib[-1], rib[-1] - rib[-2]
    way = way / np.linalg.norm(way)
    reach = np.linalg.norm(last - start)
    bent = start + way * reach * 0.45
    t = np.linspace(0, 1, 10)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bent + t**2 * last
    # A straight course would pass through the lung.
    outside = cage_front(points[:, 0], points[:, 2]) - 5.5
    points[:, 1] = np.where(np.abs(points[:, 0]) < 110, np.minimum(points[:, 1], outside), points[:, 1])
    world = build.to_world(points)
    tangent = np.gradient(world, axis=0)
    up = np.cross(tangent, np.cross((0.0, 0.0, 1.0), tangent) + 1e-6)
    return chain(world, 3.9 * build.size, wide=up, squeeze=0.66)


def cage_front(x: NDArray, height: NDArray) -> NDArray:
    """Return the reference y of the front of the pleura at (x, z)."""
    wide, front, back = section_at(PLEURA, height)
    middle, deep = (front + back) / 2, (back - front) / 2
    share = np.clip(np.abs(x) / wide, 0, 0.98)
    return middle - deep * (1 - share**FRONT_POWER) ** (1 / FRONT_POWER)


def _spine(build: Build, rng: np.random.Generator) -> tuple[list[Drum], Tubes, Tubes, Tubes]:
    """Return the vertebral bodies, discs, spinal canal, and vertebral arches with their processes."""
    heights = np.array(VERTEBRAE_MM, dtype=np.float64)
    centers = build.to_world(np.column_stack([np.zeros_like(heights), np.full_like(heights, SPINE_Y), heights]))
    axes = np.gradient(centers, axis=0)
    axes /= -np.linalg.norm(axes, axis=1, keepdims=True)
    size = build.size
    bodies, arches = [], []
    for i, (z, center, axis) in enumerate(zip(heights, centers, axes, strict=True)):
        wide = float(np.interp(z, (-230, -110, 0, 138, 196), (25, 22, 17.5, 15.5, 13))) * size
        deep = float(np.interp(z, (-230, -110, 0, 138, 196), (17.5, 16.5, 15.5, 11.5, 9.5))) * size
        pitch = abs(np.gradient(heights)[i]) * build.scale[2]
        bodies.append(Drum(center, axis, (wide, deep, 0.5 * pitch - float(np.interp(z, (-230, 196), (5, 2.3))))))
        arches.append(_arch(build, z, wide / size, deep / size, rng, thoracic=-125 < z < 150))
    body_line = np.column_stack([np.zeros_like(heights), np.full_like(heights, SPINE_Y + 1), heights])
    canal_y = SPINE_Y + np.interp(heights, (-230, -110, 0, 196), (26.5, 25, 23.5, 20))
    canal_line = np.column_stack([np.zeros_like(heights), canal_y, heights])
    narrow = np.interp(heights, (-230, -110, 0, 138, 196), (17, 15.5, 14, 10.5, 9)) * size
    canal = chain(build.to_world(canal_line), np.interp(heights, (-230, 0, 196), (8.5, 7.6, 8)) * size)
    return bodies, chain(build.to_world(body_line), narrow), canal, joined(arches)


def _arch(build: Build, z: float, wide: float, deep: float, rng: np.random.Generator, *, thoracic: bool) -> Tubes:
    """Return the pedicles, laminae, transverse processes and spinous process of one vertebra."""
    back = SPINE_Y + deep * 0.8
    canal = back + 11.5
    down = 24.0 if thoracic else 8.0
    parts = []

    def bone(points: list[tuple[float, float, float]], radius: float, flat: float) -> None:
        parts.append(chain(build.to_world(points), radius * build.size, squeeze=flat))

    for side in (-1, 1):
        bone([(side * 10, back - 3, z + 4), (side * 11, canal + 2, z + 3)], 2.8, 0.5)
        bone([(side * 11, canal + 2, z + 2), (side * 6, canal + 10, z - 2), (0, canal + 13, z - 5)], 2.4, 0.3)
        out, behind = (wide + 17, 16.0) if thoracic else (wide + 20, 4.0)
        out += rng.normal(0, 1.5)
        bone([(side * 11, canal + 3, z + 2), (side * out, canal - 3 + behind, z + 4)], 3.2, 0.6)
    tail = [(0.0, canal + 12, z - 4), (0.0, canal + 24, z - 6 - down * 0.55), (0.0, canal + 33, z - 6 - down)]
    bone(tail, 2.0, 0.3)
    return joined(parts)


def _breast_bone(build: Build) -> list[Tubes]:
    """Return the sternum with manubrium, body and xiphoid process, just in front of the pleura."""
    heights = np.array([112, 104, 94, 84, 76, 66, 50, 30, 10, -6, -14, -30])
    halves = np.array([25, 25, 21, 17, 15, 14.5, 15, 17, 18, 16, 8, 4.5])
    thick = np.array([6, 6, 5.5, 5, 5, 5, 5, 5, 5, 4.5, 3.5, 2.5])
    _, front, _ = section_at(PLEURA, heights)
    points = build.to_world(np.column_stack([np.full(12, 2.0), front - 10.5, heights]))
    left_right = build.to_world([1.0, 0, 0]) - build.to_world([0.0, 0, 0])
    return [chain(points, thick * build.size, wide=left_right, squeeze=thick / halves)]


def _shoulders(build: Build) -> list[Tubes]:
    """Return the clavicles and the upper ends of the humeri; the arms are raised, as in a scan."""
    parts = []
    for side in (-1, 1):
        collar = ((26, -53, 116, 8.5), (44, -56, 121, 6), (72, -50, 132, 5), (100, -34, 146, 5), (132, -8, 158, 5.5),
                  (150, 8, 162, 6))  # fmt: skip
        arm = ((158, 36, 142, 20), (170, 33, 152, 20), (184, 29, 168, 13), (196, 24, 190, 10.5), (206, 12, 260, 10.5))
        for course in (collar, arm):
            known = np.array(course) * (side, 1, 1, 1)
            parts.append(smooth_tube(build.to_world(known[:, :3]), known[:, 3] * build.size, step_mm=5.0))
    return parts


def _blades(build: Build) -> Tubes:
    """The scapulae: a thin plate behind the cage with a thick lateral border, a spine, an acromion and a glenoid."""
    parts = []
    heights = np.linspace(124, 8, 40)
    t = np.linspace(0, 1, 40)
    for side in (-1, 1):
        inner = 0.215 + 0.03 * t
        outer = np.interp(t, (0, 0.2, 1), (0.41, 0.405, 0.255))
        rows = []
        for share in np.linspace(0, 1, 9):
            around = inner + share * (outer - inner)
            hollow = 27 + 5 * np.sin(np.pi * share) - 4 * t
            rows.append(cage_point(heights, around, hollow + 14 * np.clip(heights / 124, 0, 1) ** 3, side))
        rows_at = build.to_world(np.stack(rows))
        for row in np.moveaxis(rows_at, 1, 0):
            parts.append(chain(row, 1.5 * build.size, wide=(0, 0.2, 1), squeeze=0.6))
        for edge, radius in ((0, 2.2), (-1, 4.4)):
            parts.append(chain(rows_at[edge], np.linspace(radius, radius * 0.8, 40) * build.size))
        height = build.to_world([side * 4.0, 20.0, 6.0]) - build.to_world([0.0, 0.0, 0.0])
        for lift in np.linspace(0, 1, 7):
            ridge = rows_at[:, 8] + height * lift * np.linspace(0.15, 1, 9)[:, None]
            parts.append(chain(ridge, 1.7 * build.size))
        tip = build.to_world([side * 158.0, 42.0, 158.0])
        parts.append(chain(np.stack([ridge[-1], (ridge[-1] + tip) / 2 + (side * 4, 6, 0), tip]), 4.5 * build.size))
        neck = np.stack([rows_at[-1, 9], rows_at[-1, 4], build.to_world([side * 142.0, 40.0, 138.0])])
        parts.append(chain(neck, np.array([5, 8, 10]) * build.size))
    return joined(parts)
