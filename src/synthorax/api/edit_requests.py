"""What was given to an edit of a scan, checked and read: the request, the method, the scan and its masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from synthorax.errors import InputError
from synthorax.makers import as_told
from synthorax.nodule import NoduleAttributes

if TYPE_CHECKING:
    from synthorax.anatomy.lungs import Lungs
    from synthorax.anatomy.placement import Ball, Clearance, Site
    from synthorax.editing.plan import AskedNodule, AutoLidc, Request
    from synthorax.hub import Model
    from synthorax.io.scans import Scan
    from synthorax.makers import Method, Options, Role
    from synthorax.volume import Volume

LungFinderName = Literal["density", "lungmask"]


def request_of(
    points_mm: tuple[tuple[float, float, float], ...],
    auto: int | AutoLidc,
    diameter_mm: float | Sequence[float],
    attributes: NoduleAttributes | None,
    site: Site,
    clearance: Clearance | None,
    force: bool,
    planned: tuple[AskedNodule, ...] = (),
) -> Request:
    """What somebody asks for, checked; defaults where nothing is given.

    Raises:
        InputError: as `Request`.
    """
    from synthorax.anatomy.placement import Clearance
    from synthorax.editing.plan import Request

    attributes, clearance = attributes or NoduleAttributes(), clearance or Clearance()
    return Request(points_mm, auto, one_or_several(diameter_mm), attributes, site, clearance, force, planned)


def planned_of_one_scan(plan: Path) -> tuple[AskedNodule, ...]:
    """The nodules of a table that is about one scan.

    Raises:
        InputError: a table that does not fit, or of several scans.
    """
    from synthorax.editing.plan_table import read_plan

    found = read_plan(plan)
    if len(found) > 1:
        raise InputError(plan, f"nodules of {len(found)} scans", "a table about one scan, or a folder of scans")
    return next(iter(found.values()))


def planned_balls(plan: Path, planned: Sequence[AskedNodule]) -> tuple[Ball, ...]:
    """Return where the nodules of a table are that are to be taken out; what it says of their kind does not count.

    Raises:
        InputError: a nodule without a place, or a diameter that no nodule has.
    """
    from synthorax.anatomy.placement import Ball
    from synthorax.editing.plan import check_diameters

    check_diameters(one.diameter_mm for one in planned)
    placed = [Ball(one.point_mm, one.diameter_mm) for one in planned if one.point_mm is not None]
    if len(placed) < len(planned):
        expected = "center_x_mm, center_y_mm and center_z_mm of each nodule that is to be taken out"
        raise InputError(plan, f"{len(planned) - len(placed)} rows without a centre", expected)
    return tuple(placed)


def outlined_in(
    outlines: str | Path | Volume, ct: Volume, attributes: NoduleAttributes | None, planned: tuple[AskedNodule, ...]
) -> tuple[tuple[AskedNodule, ...], tuple[str, ...]]:
    """The nodules of a mask on the grid of a scan, and notes on how the mask came there.

    Args:
        attributes: of all.
        planned: nodules of a table, beside which there may be none.

    Raises:
        InputError: a mask beside a table, on another grid, or without a label.
    """
    from synthorax.editing.plan import outlined_nodules

    if planned:
        raise InputError("outlines", "given beside a plan", "one of the two")
    found, notes = labels_given(outlines, ct)
    return outlined_nodules(found, attributes or NoduleAttributes()), notes


def methods_of_plan(
    asked: Sequence[AskedNodule], method: Method, device: str, attributes: NoduleAttributes | None = None
) -> dict[str, Method]:
    """The methods that nodules of a plan name, by these names.

    Args:
        method: of the nodules that name none.
        attributes: of the nodules that are in no plan.

    Raises:
        InputError: no such method, or attributes that it does not heed.
    """
    from synthorax.makers import check_heeds

    names = dict.fromkeys(one.method for one in asked if one.method)
    others = {name: method_of(name, "injects", {}, device) for name in names}
    for one in asked:
        check_heeds(others.get(one.method, method), [one.attributes])
    check_heeds(method, [attributes or NoduleAttributes()])
    return others


def one_or_several(diameter_mm: float | Sequence[float]) -> tuple[float, ...]:
    """One diameter or several."""
    import numpy as np

    return tuple(np.atleast_1d(np.asarray(diameter_mm, float)).tolist())


def points_of(at_mm: Sequence[float] | Sequence[Sequence[float]]) -> tuple[tuple[float, float, float], ...]:
    """One place or several.

    Raises:
        InputError: not three numbers each.
    """
    import numpy as np

    try:
        found = np.asarray(at_mm, float)
        return tuple((x, y, z) for x, y, z in found.reshape(-1, 3).tolist()) if found.size else ()
    except (ValueError, TypeError) as error:
        raise InputError("place", str(at_mm), "x, y and z in millimetres") from error


def finder_of(lungs: LungFinderName) -> Callable[[Volume], Lungs]:
    """How lungs are found.

    Raises:
        InputError: an unknown way.
    """
    from synthorax.anatomy.learned import find_lungs_learned
    from synthorax.anatomy.lungs import find_lungs

    finders = {"density": find_lungs, "lungmask": find_lungs_learned}
    if lungs not in finders:
        raise InputError("lungs", repr(lungs), " or ".join(finders))
    return finders[lungs]


def read_scan_given(scan: str | Path | Scan | Volume, series: str | None, force: bool) -> Scan:
    """Whatever was given as a scan, its voxels as they are.

    Raises:
        InputError: no CT in HU.
    """
    from synthorax.io.scans import Scan, check_hounsfield, read_scan
    from synthorax.volume import Volume

    if isinstance(scan, str | Path):
        return read_scan(Path(scan), series, any_values=force, as_stored=True)
    if not isinstance(scan, Volume):
        return scan
    try:
        check_hounsfield("scan", scan, blanks=True)
        return Scan(scan)
    except InputError as doubt:
        if not force:
            raise
        return Scan(scan, notes=(str(doubt),))


def labels_given(labels: str | Path | Volume, ct: Volume) -> tuple[Volume, tuple[str, ...]]:
    """A mask's labels on the grid of a scan, and notes on how they came there.

    Raises:
        InputError: another grid, more labels than uint8 has, or fractions.
    """
    import numpy as np

    from synthorax.io.fractions import as_labels
    from synthorax.io.masks import Labels, place_labels, read_labels_on
    from synthorax.volume import Volume

    name: object = "labels"
    if isinstance(labels, Volume):
        values, told = as_labels(name, labels.voxels)
        placed = place_labels(name, replace(labels, voxels=values), ct)
        found = Labels(placed.voxels, (*told, *placed.notes))
    else:
        name = Path(labels)
        found = read_labels_on(name, ct)
    most = np.iinfo(np.uint8).max
    if found.voxels.max() > most:
        raise InputError(name, f"labels up to {found.voxels.max()}", f"labels from 0 to {most}")
    return replace(ct, voxels=found.voxels.astype(np.uint8)), found.notes


def method_of(
    method: str | Path | Model | Method, role: Role, options: Mapping[str, Any], device: str = "cpu"
) -> Method:
    """A method that does an edit.

    Raises:
        InputError: no such method, one that does not do such edits, or options that it does not have.
    """
    from synthorax import hub

    return cast("Method", hub.find(method, role, _options(method, role, options), device))


def told_of(method: str | Path | Model | Method, role: Role, options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options as a manifest tells of them; its weights are not read.

    Raises:
        InputError: no such method, one that does not do such edits, or options that it does not have.
    """
    given = _options(method, role, options)
    return {} if given is None else {name: as_told(value) for name, value in given}


def _options(method: str | Path | Model | Method, role: Role, options: Mapping[str, Any]) -> Options | None:
    """The options of a method by its name or model; None of a maker, which has been given its options before."""
    from synthorax import hub
    from synthorax.registry import registry

    if isinstance(method, hub.Model):
        return registry()[method.system.name].make_options(options)
    if not isinstance(method, str | Path):
        if options:
            raise InputError(next(iter(options)), "given beside a maker", "a maker made with these options")
        return None
    if str(method) not in hub.able((role,)) and not Path(method).exists():
        raise InputError("method", repr(str(method)), f"one that {role}: {hub.who((role,))}")
    return hub.system_of(method).make_options(options)
