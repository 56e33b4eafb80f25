"""Nodules put into a scan, inside a declared region; every voxel outside of it stays bit for bit what it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.morphology import dilated, distance_inside
from synthorax.anatomy.placement import Ball
from synthorax.errors import InputError
from synthorax.geometry import crop, turned_like
from synthorax.method import Method
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

WALL_MM = 3.0
"""The region reaches so far into the wall of the lung, so that a nodule on the wall joins it."""
FEATHER_MM = 2.0
"""From the border of the region inwards the edit fades in over so much."""
MOST_NODULES = 255
MISSED = 0.2
"""A nodule whose width misses what was asked for by more than this part of it, and a pixel, is told of."""
MASK_WALL_MM = 0.75
"""Of what lies deeper in the wall nothing is to be seen, so no reader would outline it."""


@dataclass(frozen=True)
class Wanted:
    """A nodule to be made.

    Attributes:
        attributes: those that are given; the diameter is the place's.
        anywhere: do not keep it in the lungs.
    """

    place: Ball
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    anywhere: bool = False

    @property
    def condition(self) -> NoduleAttributes:
        """What the method is asked for."""
        return replace(self.attributes, diameter_mm=self.place.diameter_mm)


@dataclass(frozen=True, eq=False)
class Edited:
    """A scan with nodules put in.

    Attributes:
        ct: HU; outside the region the very voxels of the scan.
        mask: uint8, a label a nodule.
        region: bool, where it may differ from the scan.
        nodules: those put in, with the label, diameter and centre that their voxels have.
        notes: what was done against an objection, or came out otherwise than it was asked for.
    """

    ct: Volume
    mask: Volume
    region: Volume
    nodules: tuple[Nodule, ...]
    notes: tuple[str, ...] = ()

    def turned_like(self, scan: Volume) -> Edited:
        """The same on the axes of a scan whose oriented voxels were edited."""
        return replace(
            self,
            ct=turned_like(self.ct, scan),
            mask=turned_like(self.mask, scan),
            region=turned_like(self.region, scan),
        )

    def noting(self, notes: Iterable[str]) -> Edited:
        """The same, with notes before its own."""
        return replace(self, notes=(*notes, *self.notes))


@dataclass(frozen=True, eq=False)
class _Change:
    """A box of a scan with a nodule put in; arrays are [z, y, x] of the box."""

    at: tuple[slice, ...]
    voxels: NDArray
    mask: NDArray[np.bool_]
    region: NDArray[np.bool_]
    attributes: NoduleAttributes
    shape_origin: str


def inject_nodules(
    ct: Volume,
    wanted: Sequence[Wanted],
    method: Method,
    seed: int,
    *,
    lungs: Lungs | None = None,
    labels: Volume | None = None,
) -> Edited:
    """A scan with nodules put in, one after the other.

    Each is at the voxel nearest to its place. Nodule i of a seed does not depend on those after it. Slices are those of
    the first axis, so the scan should be oriented.

    Args:
        ct: HU, whole or not.
        lungs: regions are kept in them; they may be anywhere if not given.
        labels: uint8, of nodules that are there; the new ones get the labels after them.

    Raises:
        InputError: too many nodules, or nothing of one lies where it may be.
    """
    voxels = ct.voxels.copy()
    mask = np.zeros(ct.shape, np.uint8) if labels is None else labels.voxels.copy()
    region = np.zeros(ct.shape, bool)
    first = int(mask.max()) + 1
    if first + len(wanted) - 1 > MOST_NODULES:
        raise InputError("nodules", str(first + len(wanted) - 1), f"at most {MOST_NODULES} in a scan")
    nodules, notes = [], []
    for i, one in enumerate(wanted):
        label = first + i
        change = _injected(
            replace(ct, voxels=voxels), one, method, derive(seed, "nodule", i), None if one.anywhere else lungs
        )
        voxels[change.at] = change.voxels
        region[change.at] |= change.region
        own = change.mask & (mask[change.at] == 0)
        if not own.any():
            raise InputError("nodules", f"number {label} wholly within others", "nodules beside each other")
        mask[change.at][own] = label
        where = np.argwhere(own) + [side.start for side in change.at]
        x, y, z = ct.to_world(where.mean(0)).tolist()
        diameter = axial_diameter_mm(where, ct.spacing_mm)
        wanted_mm = one.place.diameter_mm
        if abs(diameter - wanted_mm) > MISSED * wanted_mm + max(ct.spacing_mm[1:]):
            notes.append(f"nodule {label:02d}: found room or a shape for {diameter:.1f} mm; expected {wanted_mm:g} mm")
        nodules.append(
            Nodule(
                nodule_id=f"{label:02d}",
                center_mm=(x, y, z),
                attributes=replace(change.attributes, diameter_mm=diameter),
                label=label,
                extra={
                    "method": method.name,
                    "wanted_diameter_mm": f"{one.place.diameter_mm:g}",
                    "shape_origin": change.shape_origin,
                },
            )
        )
    return Edited(
        replace(ct, voxels=voxels), replace(ct, voxels=mask), replace(ct, voxels=region), tuple(nodules), tuple(notes)
    )


def _injected(ct: Volume, wanted: Wanted, method: Method, seed: int, lungs: Lungs | None) -> _Change:
    """What a nodule changes."""
    condition = wanted.condition
    center = np.rint(ct.to_voxel(wanted.place.center_mm)).astype(int)
    sees, reaches = (
        np.ceil(np.divide(mm, ct.spacing_mm)).astype(int)
        for mm in (method.context_mm(condition), method.region_mm(condition))
    )
    patch = crop(ct, (center - sees).tolist(), (2 * sees + 1).tolist())
    near = crop(ct, (center - reaches).tolist(), (2 * reaches + 1).tolist())
    low, high = np.clip([center - reaches, center + reaches + 1], 0, ct.shape)
    in_scan, in_near = (
        tuple(slice(a, b) for a, b in zip((low - start).tolist(), (high - start).tolist(), strict=True))
        for start in (np.zeros(3, int), center - reaches)
    )
    around = tuple(slice(a, -a or None) for a in (sees - reaches).tolist())
    inside_scan = np.zeros(near.shape, bool)
    inside_scan[in_near] = True
    region = _ball(near, method.region_mm(condition)) & inside_scan
    visible = region
    if lungs is not None:
        lung = lungs.on(near).mask.voxels
        region = region & dilated(lung, WALL_MM, ct.spacing_mm)
        visible = region & dilated(lung, MASK_WALL_MM, ct.spacing_mm)
    allowed = np.zeros(patch.shape, bool)
    allowed[around] = region
    filled = method.fill(patch, allowed, condition, seed)
    inwards = np.clip(distance_inside(np.pad(region, 1), ct.spacing_mm)[1:-1, 1:-1, 1:-1] / FEATHER_MM, 0, 1)
    share = inwards**2 * (3 - 2 * inwards)
    blended = near.voxels + share * (filled.hu[around] - near.voxels)
    if ct.voxels.dtype.kind in "iu":
        limits = np.iinfo(ct.voxels.dtype)
        blended = np.clip(np.rint(blended), limits.min, limits.max)
    voxels = np.where(region, blended, near.voxels).astype(ct.voxels.dtype)
    mask = filled.mask[around] & visible & (share >= 0.5)
    if not mask.any():
        place = ", ".join(f"{c:.1f}" for c in wanted.place.center_mm)
        raise InputError("place", f"({place}) mm, with too little lung around it", "one in the lungs")
    return _Change(in_scan, voxels[in_near], mask[in_near], region[in_near], filled.attributes, filled.shape_origin)


def _ball(patch: Volume, radius_mm: float) -> NDArray[np.bool_]:
    """A ball in the middle of a patch."""
    axes = [((np.arange(n) - (n - 1) / 2) * s) ** 2 for n, s in zip(patch.shape, patch.spacing_mm, strict=True)]
    inside: NDArray[np.bool_] = axes[0][:, None, None] + axes[1][:, None] + axes[2] <= radius_mm**2
    return inside
