"""Put nodules into a scan, inside a declared region; every voxel outside the region keeps its very bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.morphology import dilated, distance_inside
from synthorax.anatomy.placement import Ball
from synthorax.editing.visibility import Contrast, contrast
from synthorax.errors import InputError
from synthorax.geometry import crop, mirrored_crop, turned_like, turned_region
from synthorax.method import Method
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region, paint_labels, regions_of
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

WALL_MM = 3.0
"""The region reaches this far into the wall of the lung, so that a nodule on the wall joins it."""
FEATHER_MM = 2.0
"""The edit fades in over this distance from the border of the region inwards."""
MOST_NODULES = 255
"""Labels that a mask of uint8 has."""
MISSED = 0.15
"""A nodule whose diameter differs from the requested one by more than this part of it is reported."""
MASK_WALL_MM = 0.75
"""Voxels deeper in the wall than this are not labelled: the wall hides the nodule there."""


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
        mask: uint8, a label for each nodule; where nodules overlap, the smaller one's.
        region: bool, where the scan may have been changed.
        nodules: the nodules put in, with the label, diameter and centre that their voxels have; `extra["visible"]` is
            "no" where a nodule does not stand out of the noise.
        notes: what was done against an objection, or came out otherwise than it was asked for.
        regions: the voxels of label i, wherever other nodules overlap it, at index i - 1.
    """

    ct: Volume
    mask: Volume
    region: Volume
    nodules: tuple[Nodule, ...]
    notes: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()

    def turned_like(self, scan: Volume) -> Edited:
        """The same on the axes of a scan whose oriented voxels were edited."""
        return replace(
            self,
            ct=turned_like(self.ct, scan),
            mask=turned_like(self.mask, scan),
            region=turned_like(self.region, scan),
            regions=tuple(turned_region(region, self.ct, scan) for region in self.regions),
        )

    def hidden(self, label: int) -> bool:
        """Whether other nodules hide voxels of this one in `mask`."""
        own = self.regions[label - 1]
        box = tuple(slice(start, start + n) for start, n in zip(own.corner, own.shape, strict=True))
        return int((self.mask.voxels[box] == label).sum()) < own.voxels

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
    """Put nodules into a scan, one after the other.

    Each is at the voxel nearest to its place. Nodule i of a seed does not depend on those after it. Slices are those of
    the first axis, so the scan should be oriented.

    Args:
        ct: HU, whole or not.
        lungs: the edit regions are kept in them; without lungs nodules may be anywhere.
        labels: uint8, the nodules that the scan has; the new ones get the labels after theirs.

    Raises:
        InputError: too many nodules, or a nodule without a voxel where nodules may be.
    """
    voxels = ct.voxels.copy()
    region = np.zeros(ct.shape, bool)
    first = 1 if labels is None else int(labels.voxels.max()) + 1
    if first + len(wanted) - 1 > MOST_NODULES:
        raise InputError("nodules", str(first + len(wanted) - 1), f"at most {MOST_NODULES} in a scan")
    regions = [] if labels is None else regions_of(labels.voxels, range(1, first))
    nodules, notes = [], []
    made = replace(ct, voxels=voxels)  # shares the array, into which every nodule is put
    for i, one in enumerate(wanted):
        label = first + i
        change = _injected(made, one, method, derive(seed, "nodule", i), None if one.anywhere else lungs)
        voxels[change.at] = change.voxels
        region[change.at] |= change.region
        own = Region.of(change.mask).moved(side.start for side in change.at)
        others, regions = regions, [*regions, own]
        where = own.indices()
        x, y, z = ct.to_world(where.mean(0)).tolist()
        diameter, wanted_mm = axial_diameter_mm(where, ct.spacing_mm), one.place.diameter_mm
        seen = contrast(made, own, wanted_mm, lungs, others)
        notes += _notes(f"nodule {label:02d}", diameter, wanted_mm, seen, ct)
        nodules.append(
            Nodule(
                nodule_id=f"{label:02d}",
                center_mm=(x, y, z),
                attributes=replace(change.attributes, diameter_mm=diameter),
                label=label,
                extra={
                    "method": method.name,
                    "wanted_diameter_mm": f"{wanted_mm:g}",
                    "shape_origin": change.shape_origin,
                    "visible": "yes" if seen.visible else "no",
                },
            )
        )
    mask = replace(ct, voxels=paint_labels(regions, ct.shape).astype(np.uint8))
    return Edited(made, mask, replace(ct, voxels=region), tuple(nodules), tuple(notes), tuple(regions))


def _notes(name: str, diameter_mm: float, wanted_mm: float, seen: Contrast, ct: Volume) -> list[str]:
    """What came out otherwise than it was asked for."""
    notes = []
    if abs(diameter_mm - wanted_mm) > MISSED * wanted_mm:
        voxel = " x ".join(f"{s:.3g}" for s in ct.spacing_mm)
        notes.append(
            f"{name}: asked for {wanted_mm:g} mm; found {diameter_mm:.1f} mm, on voxels of {voxel} mm (z, y, x)"
        )
    if not seen.visible:
        notes.append(
            f"{name}: cannot be seen: it differs from what is around it by {seen.hu:.1f} HU, less than noise makes "
            f"({seen.least_hu:.1f} HU); ask for a larger or denser one, or another place"
        )
    return notes


def _injected(ct: Volume, wanted: Wanted, method: Method, seed: int, lungs: Lungs | None) -> _Change:
    """The box that a nodule changes, and the nodule's voxels in it.

    Raises:
        InputError: no voxel of the nodule lies where nodules may be.
    """
    condition = wanted.condition
    center = np.rint(ct.to_voxel(wanted.place.center_mm)).astype(int)
    sees, reaches = (
        np.ceil(np.divide(mm, ct.spacing_mm)).astype(int)
        for mm in (method.context_mm(condition), method.region_mm(condition))
    )
    # Mirrored beyond the scan: a border of air there would look like a sharp edge, and so like a sharp scanner.
    patch = mirrored_crop(ct, (center - sees).tolist(), (2 * sees + 1).tolist())
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
        lung = lungs.mask_on(near)
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
