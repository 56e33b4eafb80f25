"""Take nodules out of a scan, inside a declared region; every voxel outside the region keeps its very bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthorax.anatomy.placement import Ball, check_in_scan
from synthorax.editing.edited import Edited, by_nodule
from synthorax.editing.plan import ball_around
from synthorax.editing.visibility import may_hold_nodule
from synthorax.editing.window import cut
from synthorax.errors import InputError
from synthorax.makers import Edit, Method, fill
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region, regions_of
from synthorax.seeding import derive
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class Unwanted:
    """A nodule to be taken out.

    Attributes:
        own: its voxels in the scan; None where they are not known.
    """

    place: Ball
    own: Region | None = None


def unwanted_of(labels: Volume) -> list[Unwanted]:
    """The nodules of a label map, each in the middle of its voxels."""
    regions = regions_of(labels.voxels, range(1, int(labels.voxels.max()) + 1))
    return [Unwanted(ball_around(region, labels), region) for region in regions if region.voxels]


def erase_nodules(
    ct: Volume, unwanted: Sequence[Unwanted], method: Method, seed: int, *, force: bool = False
) -> Edited:
    """Take nodules out of a scan, one after the other.

    Args:
        ct: HU; slices are those of the first axis, so the scan should be oriented.
        force: go on, with a note, where there is no nodule to be seen.

    Raises:
        InputError: no nodule, a place outside the scan or without a nodule, or a method whose result is not what
            `makers.Method` promises.
    """
    if not unwanted:
        raise InputError("nodules", "none", "a place and a diameter, or a mask of nodules")
    told = [(note, f"{i + 1:02d}") for i, one in enumerate(unwanted) if (note := _doubt(ct, one.place, force))]
    voxels, region = ct.voxels.copy(), np.zeros(ct.shape, bool)
    made = replace(ct, voxels=voxels)  # shares the array, in which every edit is made
    nodules = []
    for i, one in enumerate(unwanted):
        edit = Edit("erase", NoduleAttributes(diameter_mm=one.place.diameter_mm))
        try:
            reach_mm = method.reach_mm(edit)
        except InputError as error:
            if len(unwanted) == 1:
                raise
            raise InputError(f"nodule {i + 1:02d}, {error.args[0]}", *error.args[1:]) from error
        window = cut(made, one.place.center_mm, reach_mm)
        if one.own is not None:
            edit = replace(edit, mask=one.own.within(window.start, window.patch.shape))
        filled = fill(method, window.patch, window.region, edit, derive(seed, "nodule", i))
        window.paste(filled.hu, voxels, region)
        told += [(note, f"{i + 1:02d}") for note in filled.notes]
        if edit.mask is not None and (edit.mask & ~window.region).any():
            told.append(("not all of its voxels lie in the region that the method changes", f"{i + 1:02d}"))
        nodules.append(Nodule(f"{i + 1:02d}", one.place.center_mm, edit.nodule, extra={"method": method.name}))
    return Edited(
        ct=made,
        mask=replace(ct, voxels=np.zeros(ct.shape, np.uint8)),
        region=replace(ct, voxels=region),
        nodules=tuple(nodules),
        lineage=method.lineage.with_outlines(()),
        kind="erase",
        notes=tuple(by_nodule(told)),
    )


def _doubt(ct: Volume, place: Ball, force: bool) -> str:
    """Why there may be no nodule at a place; empty if there may be one.

    Raises:
        InputError: the place is outside the scan, or there is none and going on was not asked for.
    """
    check_in_scan(ct, place.center_mm)
    if may_hold_nodule(ct, place.center_mm, place.diameter_mm):
        return ""
    where = ", ".join(f"{c:.1f}" for c in place.center_mm)
    found = f"({where}) mm, where nothing of {place.diameter_mm:.3g} mm is denser than the lung around it"
    if not force:
        raise InputError("place", found, "the middle of a nodule; or --force")
    return f"erased at {found}"
