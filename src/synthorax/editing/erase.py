"""Erasing nodules from a scan, inside a declared region; voxels outside the region are bit-identical."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import dist, inf

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.placement import Ball, check_in_scan
from synthorax.annotations.masked import SAME_NODULE
from synthorax.editing.edited import Edited, by_nodule
from synthorax.editing.inject import naming_row
from synthorax.editing.plan import ball_around
from synthorax.editing.visibility import DENSER_HU, above_lung_hu, dense_around, lung_share_around, may_hold_nodule
from synthorax.editing.window import cut
from synthorax.errors import InputError
from synthorax.makers import Edit, Method, fill
from synthorax.nodule import Nodule, NoduleAttributes, place_text
from synthorax.region import Region, paint_labels, regions_of
from synthorax.seeding import derive
from synthorax.volume import Volume

WIDER_THAN_ASKED = 1.25
"""Ratio of a known nodule's diameter to the requested one from which on an erasure at its place leaves a part of it."""
STILL_THERE = 0.25
"""Share of a nodule's density above the lung from which on it is not gone."""
LEAST_LUNG_SHARE = 0.05
"""Least share of lung within `visibility.LUNG_WITHIN_MM` of a nodule; around LUNA16's nodules it is 0.12 or more."""
ENCLOSED = 0.6
"""Share of dense tissue around an erased ball beyond which the nodule may be wider than the ball; the wall of the lung
covers at most half of the ball."""

GONE = 0.5
"""Share of a nodule's voxels beyond which it is gone, if they lie in the edit region of an erasure."""
NOT_GONE = {"gone": "no"}
"""What `Nodule.extra` says of an erased nodule that is still visible."""


@dataclass(frozen=True, eq=False)
class Unwanted:
    """A nodule to erase.

    Attributes:
        place: its place and diameter.
        own: its mask in the scan; None if it is not known.
        row: the row of a table that asks for it, in words, which errors name; empty if there is none.
        label: its label in a mask, or its number in a table, from 1; 0 if it has neither.
    """

    place: Ball
    own: Region | None = None
    row: str = ""
    label: int = 0


def unwanted_of(labels: Volume) -> list[Unwanted]:
    """Return the nodules of a label map, each with its centroid as place."""
    regions = regions_of(labels.voxels)
    known = [(label, region) for label, region in enumerate(regions, start=1) if region.voxels]
    return [Unwanted(ball_around(region, labels), region, label=label) for label, region in known]


def erase_nodules(
    ct: Volume, unwanted: Sequence[Unwanted], method: Method, seed: int, *, force: bool = False
) -> Edited:
    """Erase nodules from a scan, one after the other.

    Args:
        ct: HU, with slices along the first axis, so the scan should be oriented.
        unwanted: the nodules.
        method: erases nodules.
        seed: seed of the edits.
        force: whether to erase at places where no nodule is visible, with a note, instead of raising an error.

    Raises:
        InputError: there is no nodule, a place lies outside the scan or has no visible nodule, or the method's result
            breaks the contract of `makers.Method`.
    """
    if not unwanted:
        raise InputError("nodules", "no nodule to erase", "--at X,Y,Z with --diameter, --nodules MASK, or --plan")
    labels = [one.label for one in unwanted]
    if not all(labels) or len(set(labels)) < len(labels):
        labels = [*range(1, len(unwanted) + 1)]
    # A place without a label is told by its coordinates: numbers are those of the scan's nodules.
    told = [
        f"{label:02d}" if one.label else f"at {place_text(one.place.center_mm)} mm"
        for one, label in zip(unwanted, labels, strict=True)
    ]
    notes = []
    for one, name in zip(unwanted, told, strict=True):
        with naming_row(one.row):
            notes += [(note, name)] if (note := _doubt(ct, one.place, force)) else []
    voxels, region = ct.voxels.copy(), np.zeros(ct.shape, bool)
    made = replace(ct, voxels=voxels)  # shares the array that every edit changes
    nodules = []
    for i, one in enumerate(unwanted):
        edit = Edit("erase", NoduleAttributes(diameter_mm=one.place.diameter_mm))
        name = told[i]
        with naming_row(one.row or f"nodule {name}" * (len(unwanted) > 1)):
            reach_mm = method.reach_mm(edit)
        window = cut(made, one.place.center_mm, reach_mm)
        if one.own is not None:
            edit = replace(edit, mask=one.own.within(window.start, window.patch.shape))
        filled = fill(method, window.patch, window.region, edit, derive(seed, "nodule", i))
        window.paste(filled.hu, voxels, region)
        notes += [(note, name) for note in filled.notes]
        if edit.mask is not None and (edit.mask & ~window.region).any():
            notes.append(("some of its voxels lie outside the region that the method changes", name))
        extra = {"method": method.name}
        if remains := _remains(ct, made, one):
            extra |= NOT_GONE
            notes.append((remains, name))
        notes += [(wider, name)] if (wider := _wider(ct, one)) else []
        nodules.append(Nodule(f"{labels[i]:02d}", one.place.center_mm, edit.nodule, extra=extra, label=one.label))
    return Edited(
        ct=made,
        mask=replace(ct, voxels=np.zeros(ct.shape, np.uint8)),
        region=replace(ct, voxels=region),
        nodules=tuple(nodules),
        lineage=method.lineage.with_outlines(()),
        kind="erase",
        notes=tuple(by_nodule(notes)),
    )


def is_gone(nodule: Nodule) -> bool:
    """Return whether an erased nodule (`Edited.nodules`) is no longer visible."""
    return nodule.extra.get("gone") != NOT_GONE["gone"]


def with_staying(made: Edited, labels: Volume, unwanted: Sequence[Unwanted]) -> Edited:
    """Return the result of an erasure with the masks of the nodules that stay, and notes on them.

    A nodule that was erased and is still visible stays: without its mask it would count as lung without a nodule.

    Args:
        made: the result.
        labels: mask of the nodules that were in the scan, on the grid of the result; they keep their labels.
        unwanted: the nodules that were to be erased, in the order of `made.nodules`.
    """
    before = regions_of(labels.voxels)
    after = left_of(before, made, [one.own for one in unwanted])
    mask = replace(made.mask, voxels=paint_labels(after, made.ct.shape).astype(np.uint8))
    notes = [*notes_of_staying(after), *notes_of_cuts(after, made.region.voxels)]
    return replace(made, mask=mask, regions=after, gone=gone_between(before, after)).noting(notes)


def left_of(nodules: Sequence[Region], made: Edited, owns: Sequence[Region | None]) -> tuple[Region, ...]:
    """Return the masks of a scan's nodules after an erasure, empty for each nodule that is gone.

    Args:
        nodules: their masks before.
        made: the result.
        owns: mask of each nodule that was to be erased, in the order of `made.nodules`; None if it is not known.
    """
    pairs = [*zip(owns, made.nodules, strict=True)]
    erased = [own for own, nodule in pairs if own is not None and is_gone(nodule)]
    visible = [(own, nodule) for own, nodule in pairs if not is_gone(nodule)]

    def is_of(mask: Region, own: Region | None, nodule: Nodule) -> bool:
        if own is not None:
            return mask.likeness(own) > SAME_NODULE
        away_mm = dist(ball_around(mask, made.mask).center_mm, nodule.center_mm) if mask.voxels else inf
        return 2 * away_mm <= (nodule.attributes.diameter_mm or 0.0)

    def is_wider(mask: Region, nodule: Nodule) -> bool:
        """Return whether a nodule was erased at its place with too small a diameter."""
        own, asked_mm = ball_around(mask, made.mask), nodule.attributes.diameter_mm or inf
        voxel_mm = max(made.mask.spacing_mm[1:])  # a mask is measured to the edges of its voxels
        most_mm = WIDER_THAN_ASKED * asked_mm + voxel_mm
        return own.diameter_mm > most_mm and 2 * dist(own.center_mm, nodule.center_mm) <= own.diameter_mm

    def stays(mask: Region) -> bool:
        in_part = mask.voxels > 0 and any(is_wider(mask, nodule) for own, nodule in pairs if own is None)
        return in_part or any(is_of(mask, *each) for each in visible)

    after = staying(nodules, made.region.voxels, erased)
    return tuple(mask if stays(mask) else left for mask, left in zip(nodules, after, strict=True))


def gone_between(before: Sequence[Region], after: Sequence[Region]) -> tuple[str, ...]:
    """Return the ids of the nodules that had a mask before an erasure and have none after it."""
    pairs = zip(before, after, strict=True)
    return tuple(f"{i:02d}" for i, (old, new) in enumerate(pairs, start=1) if old.voxels > new.voxels)


def staying(nodules: Sequence[Region], changed: NDArray[np.bool_], erased: Sequence[Region] = ()) -> tuple[Region, ...]:
    """Return the masks of a scan's nodules after an erasure, empty for each nodule that is gone.

    Args:
        nodules: their masks before.
        changed: the edit region [z, y, x].
        erased: masks of the erased nodules, as far as they are known.
    """
    nothing = Region((0, 0, 0), np.zeros((0, 0, 0), bool))

    def is_erased(own: Region) -> bool:
        return _within(own, changed) > GONE * own.voxels or any(own.likeness(one) > SAME_NODULE for one in erased)

    return tuple(nothing if is_erased(own) else own for own in nodules)


def notes_of_staying(nodules: Sequence[Region]) -> list[str]:
    """Return a note on the nodules that stay after an erasure, if any.

    Args:
        nodules: their masks, empty for nodules that are gone.
    """
    return by_nodule(("kept in the scan", f"{i:02d}") for i, own in enumerate(nodules, start=1) if own.voxels)


def notes_of_cuts(nodules: Sequence[Region], changed: NDArray[np.bool_]) -> list[str]:
    """Return notes on the nodules that stay after an erasure and of which it may have changed some voxels.

    Args:
        nodules: their masks, empty for nodules that are gone.
        changed: the edit region [z, y, x].
    """
    notes = []
    for i, own in enumerate(nodules, start=1):
        if cut := _within(own, changed):
            share = f"{cut} of its {own.voxels} voxels lie in the edit region"
            notes.append((f"its mask stays, since it may not be erased whole; {share}", f"{i:02d}"))
    return by_nodule(notes)


def _within(own: Region, changed: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(own.mask & changed[own.box]))


def _remains(before: Volume, after: Volume, one: Unwanted) -> str:
    """Return a note if an erased nodule is not gone, or an empty text."""
    place = one.place
    was, left = (above_lung_hu(ct, place.center_mm, place.diameter_mm, one.own) for ct in (before, after))
    if left <= max(DENSER_HU, was * STILL_THERE):
        return ""
    return (
        f"not gone: its place is {left:.0f} HU denser than the lung around it, {was:.0f} HU before; request "
        "another seed, another method or a larger diameter"
    )


def _wider(before: Volume, one: Unwanted) -> str:
    """Return a note if a nodule may be wider than the erased ball, or an empty text."""
    place = one.place
    if one.own is not None or (share := dense_around(before, place.center_mm, place.diameter_mm)) <= ENCLOSED:
        return ""
    return (
        f"{share:.0%} of what lies around the erased ball of {place.diameter_mm:.3g} mm was dense too; if that is "
        "of the nodule, request a larger diameter, or give the nodule's mask"
    )


def _doubt(ct: Volume, place: Ball, force: bool) -> str:
    """Return a note if no nodule is visible at a place, or an empty text.

    Raises:
        InputError: the place lies outside the scan, or no nodule is visible there or no lung is near and `force` is
            false.
    """
    check_in_scan(ct, place.center_mm)
    where, expected = place_text(place.center_mm), "the middle of a nodule"
    if lung_share_around(ct, place.center_mm, place.diameter_mm) < LEAST_LUNG_SHARE:
        found, expected = f"({where}) mm, with hardly any lung around it", "the middle of a nodule in the lungs"
    elif may_hold_nodule(ct, place.center_mm, place.diameter_mm):
        return ""
    else:
        found = f"({where}) mm, where nothing of {place.diameter_mm:.3g} mm is denser than the lung around it"
    if not force:
        raise InputError("place", found, f"{expected}; or --force")
    return f"erased at {found}"
