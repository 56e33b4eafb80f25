"""A scan as it was read, edited: its voxels are turned upright, changed, and turned back, blanks and all."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.placement import Ball
from synthorax.editing.edited import Edited
from synthorax.editing.erase import Unwanted, erase_nodules, unwanted_of
from synthorax.editing.inject import inject_nodules
from synthorax.editing.plan import AskedNodule, InjectionPlan, Request, plan_nodules
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU, orient
from synthorax.io.scans import Scan
from synthorax.makers import Edit, Method
from synthorax.seeding import derive
from synthorax.volume import Volume

LungFinder = Callable[[Volume], Lungs]

SEED_STEP = (2, 8, 8)
"""Every so many voxels along (z, y, x) tell one scan from another."""


def inject_scan(
    scan: Scan,
    request: Request,
    method: Method,
    seed: int,
    finder: LungFinder,
    labels: Volume | None = None,
    others: Mapping[str, Method] = MappingProxyType({}),
) -> Edited:
    """Put the nodules of a request into a scan; its lungs are found once.

    What is drawn depends on the seed and on the scan, so that scans edited with one seed get different nodules.

    Args:
        scan: HU as stored, on any axes; NaN is what the scanner did not see, and stays.
        labels: uint8 on the scan's grid, the nodules that it has.
        others: methods of nodules that name one, by these names.

    Raises:
        InputError: as `plan_nodules` and `inject_nodules`; an error of the scan names its file.
    """
    return inject_by_each(scan, request, [method], seed, finder, labels, others)[0]


def inject_by_each(
    scan: Scan,
    request: Request,
    methods: Sequence[Method],
    seed: int,
    finder: LungFinder,
    labels: Volume | None = None,
    others: Mapping[str, Method] = MappingProxyType({}),
) -> list[Edited]:
    """Put the nodules of a request into a scan by each of several methods, all at the same sites.

    Returns:
        For each method the scan as `inject_scan` makes it. Nodules that are drawn, and that one of the methods cannot
        make, are in none.
    """
    known = None if labels is None else orient(labels, "LPS")
    plans: list[InjectionPlan] = []

    def check(one: AskedNodule) -> None:
        for method in methods:
            method.reach_mm(Edit("inject", replace(one.attributes, diameter_mm=one.diameter_mm)))

    def edit(method: Method, upright: Volume) -> Edited:
        own = seed_in_scan(seed, upright)
        if not plans:
            plans.append(plan_nodules(upright, request, own, labels=known, finder=finder, check=check))
        (plan,) = plans
        wanted = [replace(one, method=others.get(name)) for one, name in zip(plan.wanted, plan.methods, strict=True)]
        made = inject_nodules(upright, wanted, method, own, lungs=plan.lungs, labels=known)
        return made.noting(plan.notes)

    return [edited_upright(scan, partial(edit, method)) for method in methods]


def erase_scan(
    scan: Scan, places: Sequence[Ball], method: Method, seed: int, labels: Volume | None = None, *, force: bool = False
) -> Edited:
    """Take nodules out of a scan: those at some places, and those of a label map.

    Args:
        scan: HU as stored, on any axes; NaN is what the scanner did not see, and stays.
        labels: uint8 on the scan's grid.
        force: as of `erase_nodules`.

    Raises:
        InputError: as `erase_nodules`.
    """
    known = [] if labels is None else unwanted_of(orient(labels, "LPS"))
    unwanted = [*(Unwanted(place) for place in places), *known]

    def edit(upright: Volume) -> Edited:
        return erase_nodules(upright, unwanted, method, seed_in_scan(seed, upright), force=force)

    return edited_upright(scan, edit)


def seed_in_scan(seed: int, upright: Volume) -> int:
    """A seed of a scan's own: scans that differ in their voxels have different ones.

    Args:
        upright: HU [z, y, x] on axes that lead along LPS, so that the file format does not matter.
    """
    some = upright.voxels[:: SEED_STEP[0], :: SEED_STEP[1], :: SEED_STEP[2]]
    return derive(seed, "scan", zlib.crc32(np.rint(some).astype("<i4").tobytes()))


def edited_upright(scan: Scan, edit: Callable[[Volume], Edited]) -> Edited:
    """What an edit makes of a scan whose axes lead along LPS, on the scan's own axes.

    Args:
        edit: takes HU without blanks.
    """
    ct = scan.ct
    unseen = np.isnan(ct.voxels) if ct.voxels.dtype.kind == "f" else np.zeros(1, bool)
    seen = replace(ct, voxels=np.nan_to_num(ct.voxels, nan=AIR_HU)) if unseen.any() else ct
    try:
        edited = edit(orient(seen, "LPS")).turned_like(ct)
    except InputError as error:
        if scan.path is not None and error.args[0] == "scan":
            raise InputError(scan.path, *error.args[1:]) from error
        raise
    if unseen.any():
        edited.ct.voxels[unseen] = np.nan
        edited.region.voxels[unseen] = False
    return edited
