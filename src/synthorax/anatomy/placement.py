"""Places for nodules: in the lung at a distance from other structures, or attached to the pleura or a vessel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import floor, isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.morphology import Box, box_around, distance_inside
from synthorax.errors import InputError
from synthorax.geometry import crop
from synthorax.seeding import generator
from synthorax.volume import Volume

Site = Literal["lung", "pleura", "vessel"]
"""`lung` for a solitary nodule; `pleura` or `vessel` for a nodule attached to one."""
VESSEL_HU = -550
"""A block of lung denser than this holds a vessel of about 2 mm or more."""
WALL_BLUR_MM = 3.0
"""Within this distance of the lung wall, dense blocks are attributed to the wall, not to a vessel."""
LEAST_AERATED = 1 / 3
"""A given place is refused if less than this share of the nodule's ball is lung without vessels."""
SCIENTIFIC_FROM_MM = 1e6
"""Messages write coordinates from this on with an exponent."""
ATTACHED_RADII = (0.1, 0.5)
"""Least and largest distance of an attached nodule's centre from the wall or vessel, in radii. They are below 1 because
shapes are flatter than balls."""

MORE_ROOM = (
    "a scan with more lung; smaller distances, by `clearance`; or places that you choose, by `at_mm` with `force`"
)
"""What an error asks for if no nodule of any diameter has room in the lungs."""


@dataclass(frozen=True)
class Clearance:
    """Least distances in mm between the edge of a nodule and other structures; None for any distance.

    Attributes:
        wall_mm: distance from chest wall, mediastinum and diaphragm.
        vessel_mm: distance from vessels of about 2 mm or more.
        nodule_mm: distance from other nodules.

    Raises:
        InputError: a distance is not finite.

    >>> str(Clearance(wall_mm=10, nodule_mm=None))
    '10 mm from the wall, 0 mm from vessels'
    """

    wall_mm: float | None = 2.0
    vessel_mm: float | None = 0.0
    nodule_mm: float | None = 5.0

    def __post_init__(self) -> None:
        for mm in (self.wall_mm, self.vessel_mm, self.nodule_mm):
            if mm is not None and not isfinite(mm):
                raise InputError("clearance", f"{mm:g} mm", "a finite number of mm")

    def __str__(self) -> str:
        given = {"the wall": self.wall_mm, "vessels": self.vessel_mm, "other nodules": self.nodule_mm}
        return ", ".join(f"{mm:g} mm from {what}" for what, mm in given.items() if mm is not None)


@dataclass(frozen=True)
class Ball:
    """A ball in a scan, the place of a nodule.

    Attributes:
        center_mm: world position (x, y, z), LPS.
        diameter_mm: diameter of the ball.
    """

    center_mm: tuple[float, float, float]
    diameter_mm: float

    def gap_mm(self, other: Ball) -> float:
        """Return the distance in mm between the surfaces of two balls; negative if they overlap."""
        between = float(np.linalg.norm(np.subtract(self.center_mm, other.center_mm)))
        return between - (self.diameter_mm + other.diameter_mm) / 2


class Placement:
    """The free places in the lungs of a scan.

    Args:
        lungs: from `find_lungs`, or the true lungs of a phantom.
        taken: places of the nodules in the scan.
    """

    def __init__(self, lungs: Lungs, taken: Sequence[Ball] = ()) -> None:
        self.taken: list[Ball] = []
        box = box_around(lungs.mask.voxels, 2)
        inside = lungs.mask.voxels[box]
        self._lung = crop(lungs.mask, [side.start for side in box], inside.shape, fill=0)
        spacing = self._lung.spacing_mm
        half = min(spacing) / 2  # from the centre of the nearest block outside to its face
        self._to_wall = np.maximum(distance_inside(inside, spacing) - half, 0)
        vessels = (lungs.hu.voxels[box] > VESSEL_HU) & (self._to_wall > WALL_BLUR_MM)
        self._to_vessel = np.maximum(distance_inside(~vessels, spacing) - half, 0)
        self._half = half
        self._to_end = _to_ends(lungs.mask.voxels, box, spacing)
        self._blocks = self._lung.to_world(np.argwhere(self._lung.voxels)).astype(np.float32)
        self._aerated = inside & (lungs.hu.voxels[box] <= VESSEL_HU)
        self._to_nodule = np.full(len(self._blocks), np.inf, np.float32)
        for ball in taken:
            self.take(ball)

    @property
    def lung_ml(self) -> float:
        """Volume in ml of the lungs that were found."""
        return float(self._lung.voxels.sum() * np.prod(self._lung.spacing_mm)) / 1000

    def take(self, ball: Ball) -> None:
        """Mark the place of a nodule as taken."""
        self.taken.append(ball)
        away = np.linalg.norm(self._blocks - np.array(ball.center_mm, np.float32), axis=1) - ball.diameter_mm / 2
        np.minimum(self._to_nodule, away, out=self._to_nodule)

    def find(self, diameter_mm: float, seed: int, *, site: Site = "lung", clearance: Clearance | None = None) -> Ball:
        """Draw a place for a nodule evenly from all suitable places, and mark it as taken.

        Args:
            diameter_mm: diameter of the nodule.
            seed: seed of the draw.
            site: solitary, or attached to the pleura or a vessel.
            clearance: least distances to other structures; the defaults of `Clearance` if not given.

        Raises:
            InputError: there is no suitable place; says how wide the nodule may be.
        """
        clearance = clearance or Clearance()
        radius = diameter_mm / 2
        if site == "pleura":
            touched, clearance = self._to_wall, replace(clearance, wall_mm=None)
        elif site == "vessel":
            touched, clearance = self._to_vessel, replace(clearance, vessel_mm=None)
        room = self._room(clearance)
        suitable = np.ones(room.shape, bool)
        if site != "lung":
            near, far = np.multiply(ATTACHED_RADII, radius)
            suitable = (touched >= near) & (touched <= max(far, 1.1 * self._half))
        allowed = suitable & (room >= radius)
        if not allowed.any():
            if self.taken and (suitable & (self._room(replace(clearance, nodule_mm=None)) >= radius)).any():
                found = (
                    f"no room for another one of {diameter_mm:g} mm, {clearance}, beside {len(self.taken)} in the lungs"
                )
                raise InputError("nodules", found, "fewer or smaller nodules, or a smaller distance between them")
            if site == "lung" and room.max() <= 0:
                found = (
                    f"no place with room for a nodule of {diameter_mm:g} mm, {clearance}, in the {self.lung_ml:.3g} ml"
                )
                raise InputError("scan", f"{found} of lung that were found", MORE_ROOM)
            raise InputError("diameter", f"{diameter_mm:g} mm", _reason(site, room, clearance, self._to_end))
        random = generator(seed, "place")
        index = np.argwhere(allowed)[random.integers(int(allowed.sum()))]
        x, y, z = self._lung.to_world(index + random.uniform(-0.5, 0.5, 3)).tolist()
        place = Ball((x, y, z), diameter_mm)
        self.take(place)
        return place

    def is_in_lungs(self, point_mm: Sequence[float]) -> bool:
        """Return whether a world point (x, y, z) is in the lungs."""
        index = tuple(np.rint(self._lung.to_voxel(point_mm)).astype(int).tolist())
        return all(0 <= i < n for i, n in zip(index, self._lung.shape, strict=True)) and bool(self._lung.voxels[index])

    def objection(self, place: Ball) -> InputError | None:
        """Return the error that says why a nodule cannot be at a place; None if it can.

        The centre must be in the lungs, the ball must not overlap a taken place, and `LEAST_AERATED` of it must be
        aerated lung.
        """
        where = _text(place.center_mm)
        if not self.is_in_lungs(place.center_mm):
            x, y, z = place.center_mm
            turned = (0.0 - x, 0.0 - y, z)
            hint = f"; {_text(turned)} is: places are LPS, those of 3D Slicer are RAS"
            return InputError("place", where, "one in the lungs" + hint * self.is_in_lungs(turned))
        for other in self.taken:
            if place.gap_mm(other) < 0:
                expected = f"one that does not overlap the nodule of {other.diameter_mm:.3g} mm at "
                expected += _text(other.center_mm)
                return InputError("place", where, expected)
        if (share := self._aerated_share(place)) < LEAST_AERATED:
            found = f"{where}, where {share:.0%} of a nodule of {place.diameter_mm:.3g} mm would lie in aerated lung"
            return InputError("place", found, f"one where at least {LEAST_AERATED:.0%} would")
        return None

    def _aerated_share(self, place: Ball) -> float:
        """Return the share of a ball's blocks that are lung without vessels; blocks beyond the lungs' box are not."""
        spacing = np.array(self._lung.spacing_mm)
        reach = np.floor(place.diameter_mm / 2 / spacing).astype(int)
        offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
        ball = offsets[np.linalg.norm(offsets * spacing, axis=1) <= place.diameter_mm / 2]
        at = ball + np.rint(self._lung.to_voxel(place.center_mm)).astype(int)
        held = at[((at >= 0) & (at < self._lung.shape)).all(1)]
        return float(self._aerated[tuple(held.T)].sum()) / len(ball)

    def _room(self, clearance: Clearance) -> NDArray[np.float32]:
        """Radius in mm of the widest nodule that fits with this clearance, at each block [z, y, x]."""
        room = np.where(self._lung.voxels, np.float32(np.inf), np.float32(-np.inf))
        if clearance.wall_mm is not None:
            room = np.minimum(room, self._to_wall - clearance.wall_mm)
        if clearance.vessel_mm is not None:
            room = np.minimum(room, self._to_vessel - clearance.vessel_mm)
        if clearance.nodule_mm is not None:
            room[self._lung.voxels] = np.minimum(room[self._lung.voxels], self._to_nodule - clearance.nodule_mm)
        return np.minimum(room, self._to_end)


def check_in_scan(ct: Volume, point_mm: Sequence[float]) -> None:
    """Refuse a world point (x, y, z) outside a scan.

    Raises:
        InputError: names the corners of the scan.
    """
    if not ct.holds(ct.to_voxel(point_mm)):
        corners = ct.to_world(list(product(*[(-0.5, n - 0.5) for n in ct.shape])))
        inside = f"one in the scan, from {_text(corners.min(0))} to {_text(corners.max(0))}"
        raise InputError("place", _text(point_mm), inside)


def _to_ends(lung: NDArray[np.bool_], box: Box, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Return the distance in mm from each block of a box to the nearest face of the scan that cuts off the lungs.

    The first and the last slice always count, because they would cut off a nodule even where they cut off no lung.

    Args:
        lung: bool [z, y, x], of the whole scan.
        box: part of the scan.
        spacing_mm: size of a block (z, y, x).
    """
    nearest = np.full((1, 1, 1), np.inf)
    for axis, (side, step) in enumerate(zip(box, spacing_mm, strict=True)):
        along = [1, 1, 1]
        along[axis] = -1
        away = ((np.arange(side.start, side.stop) + 0.5) * step).reshape(along)
        for face, distance in ((0, away), (-1, lung.shape[axis] * step - away)):
            if axis == 0 or lung.take(face, axis).any():
                nearest = np.minimum(nearest, distance)
    return nearest


def _reason(site: Site, room: NDArray[np.float32], clearance: Clearance, to_end: NDArray[np.float64]) -> str:
    if site != "lung":
        return f"a diameter that fits at the {site}, {clearance}"
    widest, deepest = (floor(20 * float(most.max())) / 10 for most in (room, to_end))  # in tenths, not rounded up
    if widest >= 0.99 * deepest:
        return f"at most {deepest:.1f} mm: the ends of the scan would cut off a wider nodule"
    return f"at most {widest:.1f} mm, the widest nodule that fits into the lungs, {clearance}"


def _text(point_mm: Sequence[float] | NDArray[np.float64]) -> str:
    return "({}) mm".format(", ".join(f"{c:.1f}" if abs(c) < SCIENTIFIC_FROM_MM else f"{c:.3g}" for c in point_mm))
