"""Put nodules into a scan, inside a declared region; every voxel outside the region keeps its very bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.placement import Ball
from synthorax.editing.edited import Edited, by_nodule
from synthorax.editing.visibility import contrast
from synthorax.editing.window import cut
from synthorax.errors import InputError
from synthorax.lineage import joined_lineages
from synthorax.makers import Edit, Method, fill
from synthorax.metrics.contrast import Contrast
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.region import Region, paint_labels, regions_of
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

MOST_NODULES = 255
"""Labels that a mask of uint8 has."""
MISSED = 0.15
"""A nodule whose diameter differs from the requested one by more than this part of it is reported."""


@dataclass(frozen=True)
class Wanted:
    """A nodule to be made.

    Attributes:
        attributes: those that are given; the diameter is the place's.
        anywhere: do not keep it in the lungs.
        method: makes it; that of the others if not given.
        outline: the voxels of the scan that it is to have; the method's choice if not given.
    """

    place: Ball
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    anywhere: bool = False
    method: Method | None = None
    outline: Region | None = None

    @property
    def condition(self) -> NoduleAttributes:
        """What the method is asked for."""
        return replace(self.attributes, diameter_mm=self.place.diameter_mm)


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
        InputError: too many nodules, a nodule without a voxel or without one where nodules may be, an outline for a
            method that takes none, or a method whose result is not what `makers.Method` promises.
    """
    voxels = ct.voxels.copy()
    region = np.zeros(ct.shape, bool)
    first = 1 if labels is None else int(labels.voxels.max()) + 1
    if first + len(wanted) - 1 > MOST_NODULES:
        raise InputError("nodules", str(first + len(wanted) - 1), f"at most {MOST_NODULES} in a scan")
    regions = [] if labels is None else regions_of(labels.voxels, range(1, first))
    nodules, notes, told, outlines, lineages = [], [], [], [], []
    made = replace(ct, voxels=voxels)  # shares the array, into which every nodule is put
    for i, one in enumerate(wanted):
        label, by = first + i, one.method or method
        edit = Edit("inject", one.condition)
        window = cut(made, one.place.center_mm, by.reach_mm(edit), None if one.anywhere else lungs)
        if one.outline is not None:
            edit = replace(edit, mask=_outline_for(by, one.outline.within(window.start, window.patch.shape)))
        filled = fill(by, window.patch, window.region, edit, derive(seed, "nodule", i))
        assert filled.mask is not None
        if not filled.mask.any():
            voxel = " x ".join(f"{s:.3g}" for s in ct.spacing_mm)
            found = f"{one.place.diameter_mm:g} mm, of which {method.name} made no voxel of {voxel} mm (z, y, x)"
            raise InputError("diameter", found, "a wider nodule, or another place or seed")
        mask = window.nodule(filled.mask)
        if not mask.any():
            place = ", ".join(f"{c:.1f}" for c in one.place.center_mm)
            raise InputError("place", f"({place}) mm, with too little lung around it", "one in the lungs")
        window.paste(filled.hu, voxels, region)
        own = Region.of(mask).moved(side.start for side in window.at)
        others, regions = regions, [*regions, own]
        where = own.indices()
        x, y, z = ct.to_world(where.mean(0)).tolist()
        diameter, wanted_mm = axial_diameter_mm(where, ct.spacing_mm), one.place.diameter_mm
        seen = contrast(made, own, wanted_mm, lungs, others)
        notes += _notes(f"nodule {label:02d}", diameter, wanted_mm, seen, ct)
        told += [(note, f"{label:02d}") for note in filled.notes]
        outlines.append(filled.outline)
        lineages.append(by.lineage)
        nodules.append(
            Nodule(
                nodule_id=f"{label:02d}",
                center_mm=(x, y, z),
                attributes=replace(filled.attributes, diameter_mm=diameter),
                label=label,
                extra={
                    "method": by.name,
                    "wanted_diameter_mm": f"{wanted_mm:g}",
                    "shape_origin": filled.outline,
                    "visible": "yes" if seen.visible else "no",
                },
            )
        )
    painted = replace(ct, voxels=paint_labels(regions, ct.shape).astype(np.uint8))
    return Edited(
        ct=made,
        mask=painted,
        region=replace(ct, voxels=region),
        nodules=tuple(nodules),
        lineage=joined_lineages(lineages or [method.lineage]).with_outlines(map(patient_key, outlines)),
        notes=(*by_nodule(told), *notes),
        regions=tuple(regions),
    )


def _outline_for(method: Method, outline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outline itself, for a method that takes outlines.

    Raises:
        InputError: another method.
    """
    if not getattr(method, "takes_outlines", False):
        expected = "a method that is told the outlines of its nodules, such as an in-painter that was trained to be"
        raise InputError("outlines", f"given to {method.name}, which chooses its own", expected)
    return outline


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
