"""Injecting nodules into a scan, inside a declared region; voxels outside the region are bit-identical."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.placement import Ball
from synthorax.editing.edited import Edited, by_nodule
from synthorax.editing.visibility import contrast
from synthorax.editing.window import HALF_FEATHER_MM, Window, cut
from synthorax.errors import InputError
from synthorax.lineage import joined_lineages
from synthorax.makers import Edit, Method, fill
from synthorax.metrics.contrast import Contrast
from synthorax.nodule import Nodule, NoduleAttributes, place_text
from synthorax.provenance import patient_key
from synthorax.region import Region, paint_labels, regions_of
from synthorax.seeding import derive
from synthorax.shapes.diameter import NOTED_SHARE, axial_diameter_mm
from synthorax.volume import Volume

MOST_NODULES = 255
"""Most nodules of a scan, the number of labels of a uint8 mask."""
FAINT_HU = 80.0
"""A nodule that differs from its surroundings by less than this is not seen in a lung window, even where there is no
noise. Of 282 outlined nodules of LUNA16 in held-out patients four differ by less, two of them beside denser tissue."""
DENSE_TISSUE_HU = -500.0
"""Tissue denser than this hides a nodule that is hardly denser; lung is less dense."""
MASS_FROM_MM = 30.0
"""Diameter in mm above which radiologists call a lesion of the lung a mass, not a nodule."""
LARGE_PIECE = 0.1
"""Report a mask in pieces if the second largest one has at least this share of the voxels of the largest."""
ENOUGH_ROOM = 0.9
"""If less than this share of a ball of the requested diameter may be labelled, that is why a nodule is too small."""


@dataclass(frozen=True)
class Wanted:
    """A nodule to inject.

    Attributes:
        place: its place and diameter.
        attributes: requested ratings; the diameter is that of `place`.
        anywhere: whether it may lie outside the lungs.
        method: method that makes it; None for the method of the call.
        outline: the mask in the scan that it must have; None to leave it to the method.
        row: the row of a table that asks for it, in words, which errors name; empty if there is none.
    """

    place: Ball
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    anywhere: bool = False
    method: Method | None = None
    outline: Region | None = None
    row: str = ""

    @property
    def condition(self) -> NoduleAttributes:
        """Attributes requested of the method, with the diameter."""
        return replace(self.attributes, diameter_mm=self.place.diameter_mm)


@contextmanager
def naming_row(row: str) -> Iterator[None]:
    """Let the errors of a block begin with the row of a table, or whatever else names a nodule; not if it is empty.

    Raises:
        InputError: the block raises it.
    """
    try:
        yield
    except InputError as error:
        if not row:
            raise
        raise InputError(f"{row}, {error.args[0]}", *error.args[1:]) from error


def inject_nodules(
    ct: Volume,
    wanted: Sequence[Wanted],
    method: Method,
    seed: int,
    *,
    lungs: Lungs | None = None,
    labels: Volume | None = None,
) -> Edited:
    """Inject nodules into a scan, one after the other.

    Each nodule is centred at the voxel nearest to its place. Nodule i does not depend on the nodules after it. Slices
    lie along the first axis, so the scan should be oriented.

    Args:
        ct: HU of a scan, or of a part of one.
        wanted: the nodules.
        method: injects nodules.
        seed: seed of the edits.
        lungs: lungs to which the edit regions are limited; None for no limit.
        labels: mask of the scan's own nodules, uint8; labels of new nodules continue theirs.

    Raises:
        InputError: there are too many nodules, a nodule has no voxel in the lungs or none at all, an outline is given
            for a method that does not take outlines, or the method's result breaks the contract of `makers.Method`.
    """
    voxels = ct.voxels.copy()
    region = np.zeros(ct.shape, bool)
    first = 1 if labels is None else int(labels.voxels.max()) + 1
    if first + len(wanted) - 1 > MOST_NODULES:
        raise InputError("nodules", str(first + len(wanted) - 1), f"at most {MOST_NODULES} in a scan")
    regions = [] if labels is None else regions_of(labels.voxels)
    nodules, notes, method_notes, outlines, lineages = [], [], [], [], []
    made = replace(ct, voxels=voxels)  # shares the array that every edit changes
    for i, one in enumerate(wanted):
        label, by = first + i, one.method or method
        edit = Edit("inject", one.condition)
        with naming_row(one.row):
            window = cut(made, one.place.center_mm, by.reach_mm(edit), None if one.anywhere else lungs)
            if one.outline is not None:
                edit = replace(edit, mask=_outline_for(by, one.outline.within(window.start, window.patch.shape)))
            filled = fill(by, window.patch, window.region, edit, derive(seed, "nodule", i))
            assert filled.mask is not None
            if not filled.mask.any():
                voxel = " x ".join(f"{s:.3g}" for s in ct.spacing_mm)
                found = f"{one.place.diameter_mm:g} mm, for which {method.name} marked no voxel of {voxel} mm (z, y, x)"
                raise InputError("diameter", found, "a wider nodule, or another place or seed")
            mask = window.nodule(filled.mask)
            if not mask.any():
                place = place_text(one.place.center_mm)
                raise InputError("place", f"({place}) mm, with too little lung around it", "a place in the lungs")
        window.paste(filled.hu, voxels, region)
        own = Region.of(mask).moved(side.start for side in window.at)
        others, regions = regions, [*regions, own]
        where = own.indices()
        x, y, z = ct.to_world(where.mean(0)).tolist()
        diameter, wanted_mm = axial_diameter_mm(where, ct.spacing_mm), one.place.diameter_mm
        seen = contrast(made, own, wanted_mm, lungs, others)
        before, after = (one[tuple(where.T)].astype(np.float64) for one in (ct.voxels, voxels))
        hidden = _why_hidden(seen, float(np.abs(after - before).mean()), float(before.mean()))
        region_mm = by.reach_mm(edit)[1]
        notes += _shape_notes(f"nodule {label:02d}", mask, wanted_mm)
        notes += _diameter_notes(f"nodule {label:02d}", diameter, wanted_mm, window, region_mm, by.name)
        notes += [f"nodule {label:02d}: not visible: {hidden}"] if hidden else []
        method_notes += [(note, f"{label:02d}") for note in filled.notes]
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
                    "visible": "no" if hidden else "yes",
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
        notes=(*by_nodule(method_notes), *notes),
        regions=tuple(regions),
    )


def _outline_for(method: Method, outline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return an outline after checking that the method takes outlines.

    Raises:
        InputError: it does not.
    """
    if not getattr(method, "takes_outlines", False):
        expected = "a method that takes the outlines of its nodules, such as an in-painter trained with outlines"
        raise InputError("outlines", f"given to {method.name}, which chooses its own", expected)
    return outline


def _shape_notes(name: str, mask: NDArray[np.bool_], wanted_mm: float) -> list[str]:
    """Return notes on a nodule that is wider than one, and on a mask in pieces.

    Args:
        name: the nodule, as the note calls it.
        mask: its mask [z, y, x].
        wanted_mm: its requested diameter.
    """
    notes = []
    if wanted_mm > MASS_FROM_MM:
        notes.append(f"{name}: wider than {MASS_FROM_MM:g} mm, from which on radiologists call it a mass")
    sizes = np.sort(cc3d.statistics(cc3d.connected_components(mask))["voxel_counts"][1:])
    if len(sizes) > 1 and sizes[-2] >= LARGE_PIECE * sizes[-1]:
        notes.append(
            f"{name}: its mask is in {len(sizes)} pieces; request another place or seed, or a smaller diameter"
        )
    return notes


def _diameter_notes(
    name: str, diameter_mm: float, wanted_mm: float, window: Window, region_mm: float, method: str
) -> list[str]:
    """Return a note on a diameter that differs from the request, with its cause.

    Args:
        name: the nodule, as the note calls it.
        diameter_mm, wanted_mm: its diameter, and the requested one.
        window: the window around the place.
        region_mm: radius of the ball that the method may change.
        method: name of the method that made the nodule.
    """
    missed_mm, spacing_mm = abs(diameter_mm - wanted_mm), window.patch.spacing_mm
    if missed_mm <= NOTED_SHARE * wanted_mm:
        return []
    share = window.room(wanted_mm)
    if diameter_mm < wanted_mm and region_mm < wanted_mm / 2 + HALF_FEATHER_MM:
        least = f"{wanted_mm / 2 + HALF_FEATHER_MM:g} mm are needed (the second value of its reach_mm)"
        cause = f"{method} changes only a ball with a radius of {region_mm:g} mm, of which {least}"
    elif diameter_mm < wanted_mm and share < ENOUGH_ROOM:
        cause = f"only {share:.0%} of a ball of {wanted_mm:g} mm at this place is lung; request another place"
    elif missed_mm <= _missed_by_voxels_mm(diameter_mm, wanted_mm, spacing_mm):
        cause = f"voxels are {' x '.join(f'{s:.3g}' for s in spacing_mm)} mm (z, y, x)"
    else:
        cause = f"{method} made it this wide; request another seed or diameter"
    return [f"{name}: requested {wanted_mm:g} mm; made {diameter_mm:.1f} mm: {cause}"]


def _missed_by_voxels_mm(diameter_mm: float, wanted_mm: float, spacing_mm: Sequence[float]) -> float:
    """Return the most by which voxels change the width of a ball: a pixel, and if it is narrower, half a slice more.

    Args:
        diameter_mm, wanted_mm: diameter of the mask, and the requested one.
        spacing_mm: voxel size (z, y, x).
    """
    halved = (wanted_mm / 2) ** 2 - (spacing_mm[0] / 2) ** 2  # of the circle half a slice from the middle
    lost_mm = wanted_mm - 2 * max(halved, 0.0) ** 0.5 if diameter_mm < wanted_mm else 0.0
    return max(spacing_mm[1:]) + lost_mm


def _why_hidden(seen: Contrast, altered_hu: float, before_hu: float) -> str:
    """Return why a nodule is not visible, and what to do; empty if it is visible.

    Args:
        seen: its contrast with its surroundings.
        altered_hu: mean absolute change of its voxels.
        before_hu: mean of its voxels before the edit.
    """
    if min(seen.hu, altered_hu) > max(seen.least_hu, FAINT_HU):
        return ""
    instead = "request a larger or denser nodule, or another place"
    if seen.hu < -seen.least_hu:
        why, instead = f"it is {-seen.hu:.1f} HU darker than the tissue around it", "request another place, in lung"
    elif not seen.visible:
        below = f"the noise of the scan hides what is less than {seen.least_hu:.1f} HU denser"
        than = f"{seen.hu:.1f} HU denser" if seen.hu >= 0 else f"{-seen.hu:.1f} HU darker"
        why = f"it is {than} than the tissue around it; {below}"
    elif altered_hu <= max(seen.least_hu, FAINT_HU):
        why = f"it changes the scan by {altered_hu:.1f} HU only"
        if before_hu > DENSE_TISSUE_HU:
            why += ", because the tissue at its place is about as dense as the nodule"
        else:
            why += f": the method made a faint nodule in tissue of {before_hu:.0f} HU"
            instead = "try another seed, place or method, such as render"
    else:
        why = (
            f"it is only {seen.hu:.1f} HU denser than the tissue around it; real nodules are by {FAINT_HU:g} HU or more"
        )
    return f"{why}; {instead}"
