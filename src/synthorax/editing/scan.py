"""Editing a scan as it was read: its voxels are reoriented to LPS, edited and reoriented back; NaN voxels are kept."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from synthorax.anatomy.lungs import Lungs
from synthorax.editing.edited import Edited
from synthorax.editing.erase import Unwanted, erase_nodules, unwanted_of, with_labels_of, with_staying
from synthorax.editing.inject import inject_nodules, naming_row
from synthorax.editing.plan import AskedNodule, InjectionPlan, Request, plan_nodules
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU, orient
from synthorax.io.scans import Scan
from synthorax.makers import Edit, Method
from synthorax.nodule import NoduleAttributes, place_text
from synthorax.seeding import derive
from synthorax.volume import Volume

LungFinder = Callable[[Volume], Lungs]

SEED_STEP = (2, 8, 8)
"""Steps in voxels (z, y, x) between the voxels from which a scan's own seed is computed."""


def inject_scan(
    scan: Scan,
    request: Request,
    method: Method,
    seed: int,
    finder: LungFinder,
    labels: Volume | None = None,
    others: Mapping[str, Method] = MappingProxyType({}),
) -> Edited:
    """Inject the nodules of a request into a scan.

    Random draws depend on the seed and on the scan, so that scans edited with one seed get different nodules.

    Args:
        scan: HU as stored, on any axes; NaN voxels, outside the scanner's view, are kept.
        request: the nodules.
        method: injects nodules.
        seed: the seed.
        finder: finds the lungs, once.
        labels: mask of the scan's own nodules on its grid, uint8.
        others: name to each method that a nodule of the request names.

    Raises:
        InputError: see `plan_nodules` and `inject_nodules`; an error about the scan names its file.
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
    """Inject the nodules of a request into a scan with each of several methods, all at the same places.

    A drawn nodule that one of the methods cannot make is left out for all. For arguments and errors see `inject_scan`.

    Returns:
        The edited scan of each method.
    """
    known = None if labels is None else orient(labels, "LPS")
    plans: list[InjectionPlan] = []

    def check(one: AskedNodule) -> None:
        for method in [others[one.method]] if one.method in others else methods:
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
    scan: Scan,
    places: Sequence[Unwanted],
    method: Method,
    seed: int,
    labels: Volume | None = None,
    *,
    present: Volume | None = None,
    force: bool = False,
    only: Sequence[int] | None = None,
) -> Edited:
    """Erase nodules from a scan: those at given places, and those of a label map.

    Args:
        scan: HU as stored, on any axes; NaN voxels, outside the scanner's view, are kept.
        places: nodules, by their places and diameters.
        method: erases nodules.
        seed: the seed.
        labels: mask of further nodules to erase on the scan's grid, uint8.
        present: mask of all nodules in the scan, uint8; those that stay keep their labels in the result's mask.
        force: see `erase_nodules`.
        only: labels (`Unwanted.label`) of the nodules to erase; empty for all; None if the caller cannot choose.

    Raises:
        InputError: see `erase_nodules`; no nodule has a label of `only`, or labels do not tell the nodules apart; or a
            nodule is too wide for the method, in which case the error names the labels of the others.
    """
    known = [] if labels is None else unwanted_of(orient(labels, "LPS"))
    unwanted = _chosen([*places, *known], only) if only else [*places, *known]
    _check_reach(unwanted, method, None if only is not None else scan.path)
    there = None if present is None else orient(present, "LPS")
    told = [*unwanted] if there is None else with_labels_of(unwanted, there)

    def edit(upright: Volume) -> Edited:
        made = erase_nodules(upright, told, method, seed_in_scan(seed, upright), force=force)
        return made if there is None else with_staying(made, there, told)

    return edited_upright(scan, edit)


def _chosen(unwanted: Sequence[Unwanted], only: Sequence[int]) -> list[Unwanted]:
    """Return the nodules that have one of some labels.

    Raises:
        InputError: no nodule has the label, or labels do not tell the nodules apart.
    """
    labels = [one.label for one in unwanted]
    if not all(labels) or len(set(labels)) < len(labels):
        expected = "labels of one mask, or numbers of the rows of one plan, without further places"
        raise InputError("only_labels", "given for nodules that labels do not tell apart", expected)
    if missing := [label for label in only if label not in labels]:
        raise InputError("only_labels", str(missing[0]), f"nodules of this scan: {_listed(labels) or 'none'}")
    return [one for one in unwanted if one.label in only]


def _check_reach(unwanted: Sequence[Unwanted], method: Method, one_of_many: Path | None) -> None:
    """Refuse a nodule that is too wide for a method, before anything is erased.

    Args:
        unwanted: the nodules.
        method: erases them.
        one_of_many: path of the scan if the caller edits several and cannot choose nodules by their labels; a call for
            this scan alone can.

    Raises:
        InputError: names the first such nodule, the places of all if there are several, and the labels of the others.
    """
    fitting: list[int] = []
    wide: list[str] = []
    refused = None
    for i, one in enumerate(unwanted, start=1):
        try:
            with naming_row(one.row or one.name(i) * (len(unwanted) > 1)):
                method.reach_mm(Edit("erase", NoduleAttributes(diameter_mm=one.place.diameter_mm)))
            fitting.append(one.label)
        except InputError as error:
            if one.own is not None:
                error = InputError(error.args[0], f"{error.args[1]}, the width of its mask", error.args[2])
            where = place_text(one.place.center_mm)
            wide.append(f"{one.name(i).removeprefix('nodule ')} ({one.place.diameter_mm:.4g} mm, at {where})")
            refused = refused or error
    if refused is None:
        return
    if not fitting or not all(fitting):
        raise refused
    how = f"`only_labels={_listed(fitting)}`, to erase the others"
    if one_of_many is not None:
        how = f"erase the others of this scan alone: erase {one_of_many} --labels {_listed(fitting)}"
    subject, found, expected = refused.args
    if len(wide) > 1:
        expected += f"; too wide are {', '.join(wide)}"
    expected += f"; or {how}"
    raise InputError(subject, found, expected) from refused


def _listed(labels: Collection[int]) -> str:
    return ",".join(map(str, sorted(set(labels))))


def seed_in_scan(seed: int, upright: Volume) -> int:
    """Derive a seed from a seed and a scan's voxels, so that different scans have different seeds.

    Args:
        seed: the seed.
        upright: HU [z, y, x] with axes along LPS, so that the file format does not matter.
    """
    some = upright.voxels[:: SEED_STEP[0], :: SEED_STEP[1], :: SEED_STEP[2]]
    return derive(seed, "scan", zlib.crc32(np.rint(some).astype("<i4").tobytes()))


def edited_upright(scan: Scan, edit: Callable[[Volume], Edited]) -> Edited:
    """Reorient a scan to LPS, edit it, and return the result on the scan's own axes.

    Args:
        scan: the scan.
        edit: function that edits a scan with axes along LPS and without NaN.

    Raises:
        InputError: the edit raises it; an error about the scan names its file.
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
