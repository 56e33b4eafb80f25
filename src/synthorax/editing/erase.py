"""Erasing nodules from a scan, inside a declared region; voxels outside the region are bit-identical."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
"""What `Nodule.extra` says of a nodule that is still visible after its erasure, or of which only a part was erased."""


@dataclass(frozen=True, eq=False)
class Unwanted:
    """A nodule to erase.

    Attributes:
        place: its place and diameter.
        own: its mask in the scan; None if it is not known.
        row: the row of a table that asks for it, in words, which errors name; empty if there is none.
        label: its label in a mask, or its number in a table, from 1; 0 if it has neither.
        mask_mm: width in mm of the mask that the scan has of it; 0 if it has none.
    """

    place: Ball
    own: Region | None = None
    row: str = ""
    label: int = 0
    mask_mm: float = 0.0

    def name(self, number: int) -> str:
        """Return what an error calls the nodule: its label, or that it is the place of a number, counted from 1."""
        return f"nodule {self.label:02d}" if self.label else f"place {number}"


def unwanted_of(labels: Volume) -> list[Unwanted]:
    """Return the nodules of a label map, each with its centroid as place."""
    return [Unwanted(ball_around(region, labels), region, label=label) for label, region in _labelled(labels)]


def with_labels_of(unwanted: Sequence[Unwanted], labels: Volume) -> list[Unwanted]:
    """Return nodules to erase with the labels that they have in a mask of the scan's nodules, and the masks' widths.

    The nodule of a place is the nearest one whose middle lies in the ball to erase, or whose ball has the place in it.
    A place without such a nodule has no label, so that no number is of two nodules.

    Args:
        unwanted: the nodules.
        labels: the mask, on the grid of the scan with axes along LPS.
    """
    known = [(label, own, ball_around(own, labels)) for label, own in _labelled(labels)]
    taken: set[int] = set()
    found = []
    for one in unwanted:
        fits = [(far, label, ball) for label, own, ball in known if (far := _distance(one, own, ball)) < inf]
        _, label, ball = min((fit for fit in fits if fit[1] not in taken), default=(inf, 0, None))
        if ball is not None:
            found.append(replace(one, label=label, mask_mm=ball.diameter_mm))
        else:
            is_free = not one.row and one.label not in {label for label, *_ in known}
            found.append(replace(one, label=one.label if is_free else 0))
        taken.add(found[-1].label)
    return found


def _distance(one: Unwanted, mask: Region, ball: Ball) -> float:
    """Return how far apart a nodule to erase and a known nodule are, as a rank; infinity if they are not the same.

    Args:
        one: the nodule to erase.
        mask, ball: mask of the known nodule, and the ball around it.
    """
    if one.own is not None:
        likeness = mask.likeness(one.own)
        return 1 - likeness if likeness > SAME_NODULE else inf
    away_mm = dist(ball.center_mm, one.place.center_mm)
    return away_mm if 2 * away_mm <= max(one.place.diameter_mm, ball.diameter_mm) else inf


def _labelled(labels: Volume) -> list[tuple[int, Region]]:
    return [(label, own) for label, own in enumerate(regions_of(labels.voxels), start=1) if own.voxels]


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
        raise InputError("nodules", "no nodule to erase", "`at_mm` with `diameter_mm`, `labels`, or `plan`")
    # A place without a label is told by its coordinates: numbers are those of the scan's nodules.
    told = [f"{one.label:02d}" if one.label else f"at {place_text(one.place.center_mm)} mm" for one in unwanted]
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
        with naming_row(one.row or one.name(i + 1) * (len(unwanted) > 1)):
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
        if why := _remains(ct, made, one) or _in_part(ct, one):
            extra |= NOT_GONE
            notes.append((why, name))
        elif wider := _wider(ct, one):
            notes.append((wider, name))
        known_as = f"{one.label:02d}" if one.label else one.name(i + 1)
        nodules.append(Nodule(known_as, one.place.center_mm, edit.nodule, extra=extra, label=one.label))
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
    """Return whether an erased nodule (`Edited.nodules`) was erased whole and is no longer visible."""
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
    notes = notes_of_cuts(after, made.region.voxels, [nodule.label for nodule in made.nodules if not is_gone(nodule)])
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
        in_part = _is_in_part(own.diameter_mm, asked_mm, made.mask)
        return in_part and 2 * dist(own.center_mm, nodule.center_mm) <= own.diameter_mm

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


def notes_of_cuts(nodules: Sequence[Region], changed: NDArray[np.bool_], told: Collection[int] = ()) -> list[str]:
    """Return notes on the nodules that stay after an erasure and of which it may have changed some voxels.

    Args:
        nodules: their masks, empty for nodules that are gone.
        changed: the edit region [z, y, x].
        told: labels of the nodules that another note says to stay.
    """
    notes = []
    for i, own in enumerate(nodules, start=1):
        if i not in told and (cut := _within(own, changed)):
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
    stays = ", so its mask stays" * (one.mask_mm > 0)
    ways = "try another seed or method" if one.own is not None else "try another seed, method or larger diameter"
    seen = f"{left:.0f} HU denser than the lung around it, {was:.0f} HU before"
    return f"it was edited, but can still be seen ({seen}){stays}; {ways}"


def _in_part(on: Volume, one: Unwanted) -> str:
    """Return a note if a nodule's mask is wider than the erased ball, or an empty text."""
    asked_mm = one.place.diameter_mm
    if one.own is not None or not _is_in_part(one.mask_mm, asked_mm, on):
        return ""
    return f"its mask is {one.mask_mm:.3g} mm wide, and {asked_mm:.3g} mm were requested; so its mask stays"


def _wider(before: Volume, one: Unwanted) -> str:
    """Return a note if a nodule without a mask may be wider than the erased ball, or an empty text."""
    place = one.place
    if one.own is not None or one.mask_mm:
        return ""
    if (share := dense_around(before, place.center_mm, place.diameter_mm)) <= ENCLOSED:
        return ""
    return (
        f"{share:.0%} of what lies around the erased ball of {place.diameter_mm:.3g} mm was dense too; if that is "
        "of the nodule, request a larger diameter, or give the nodule's mask"
    )


def _is_in_part(mask_mm: float, asked_mm: float, on: Volume) -> bool:
    """Return whether an erasure with a diameter leaves a part of a nodule, whose mask has a width on a volume's grid.

    A mask is measured to the edges of its voxels.
    """
    return mask_mm > WIDER_THAN_ASKED * asked_mm + max(on.spacing_mm[1:])


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
        raise InputError("place", found, f"{expected}; or `force`")
    return f"erased at {found}"
