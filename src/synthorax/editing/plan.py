"""Planning the nodules of a scan: checking given places, and finding the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Integral
from typing import Any, Literal, get_args

from synthorax.anatomy.lungs import Lungs, find_lungs
from synthorax.anatomy.placement import Ball, Clearance, Placement, Site, check_in_scan
from synthorax.annotations.lidc_draws import draw_lidc_diameters
from synthorax.editing.inject import MOST_NODULES, Wanted, naming_row
from synthorax.errors import MISSING_ARGUMENT, InputError
from synthorax.geometry import orient
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.region import Region, regions_of
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

NODULE_DIAMETER_MM = (1.0, 100.0)
"""Range in mm of the diameters of nodules that can be injected or erased."""
WAYS_OUT = "; `auto` finds places, `force` takes this one"
"""What the error about a place that a nodule should not have adds."""

Point = tuple[float, float, float]
MOST_DRAWS = 8
"""Times that nodules are drawn from LIDC-IDRI's scans until one of them fits into a scan."""
AutoLidc = Literal["lidc"]
LIDC_AUTO: AutoLidc = "lidc"
"""Value of `Request.auto` for nodules whose number and diameters are drawn from LIDC-IDRI's scans."""


@dataclass(frozen=True)
class AskedNodule:
    """A requested nodule.

    Attributes:
        diameter_mm: its diameter.
        attributes: requested ratings.
        point_mm: its place (x, y, z), LPS; None to find one.
        method: name of the method that makes it; empty for the method of the call.
        is_drawn: whether its diameter was drawn; such a nodule is left out, with a note, if it fits nowhere.
        outline: the mask that it must have, in the scan with axes along LPS; None to leave it to the method.
        row: the row of a table, or the label of an outline, that asks for it, in words, which errors name; empty if
            there is none.
    """

    diameter_mm: float
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    point_mm: Point | None = None
    method: str = ""
    is_drawn: bool = False
    outline: Region | None = None
    row: str = field(default="", compare=False)

    def about(self) -> dict[str, Any]:
        """Return the nodule's entry in a manifest."""
        place = {} if self.point_mm is None else {"at_mm": list(self.point_mm)}
        by = {"method": self.method} if self.method else {}
        voxels = {} if self.outline is None else {"outlined_voxels": self.outline.voxels}
        return {"diameter_mm": self.diameter_mm, **place, **by, **voxels, "attributes": self.attributes.given()}


@dataclass(frozen=True)
class Request:
    """The nodules requested for a scan.

    Attributes:
        points_mm: places (x, y, z), LPS.
        auto: number of further nodules for which places are found; `lidc` to draw their number and diameters from
            LIDC-IDRI's scans.
        diameters_mm: one diameter for all, or one for each nodule, those of `points_mm` first; not for drawn nodules.
        attributes: ratings of all nodules.
        site, clearance: where places are found, and the distances that they keep.
        force: whether to turn errors about a doubtful place or scan into notes.
        planned: nodules one by one, instead of points, number, diameters and attributes.

    Raises:
        InputError: there is no nodule or too many; a site, rating or diameter is not valid; or the number of diameters
            is wrong.
    """

    points_mm: tuple[Point, ...]
    auto: int | AutoLidc
    diameters_mm: tuple[float, ...]
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    site: Site = "lung"
    clearance: Clearance = field(default_factory=Clearance)
    force: bool = False
    planned: tuple[AskedNodule, ...] = ()

    def __post_init__(self) -> None:
        if self.auto != LIDC_AUTO and not isinstance(self.auto, Integral):
            raise InputError("auto", repr(self.auto), f"a number of nodules, or {LIDC_AUTO}")
        if self.site not in get_args(Site):
            raise InputError("site", repr(self.site), " or ".join(get_args(Site)))
        if self.planned and (self.points_mm or self.auto or self.diameters_mm):
            raise InputError("plan", "a plan and places, a number or diameters", "either a plan, or these")
        count = self._stated
        if not (self.auto == LIDC_AUTO or count >= 1) or count > MOST_NODULES or (count < len(self.points_mm)):
            if not self.points_mm and not self.auto:
                raise InputError("nodules", "no place", "`auto` for places that are found, `at_mm`, or `plan`")
            found = f"{self.auto} with {len(self.points_mm)} places" if self.points_mm else str(self.auto)
            raise InputError("auto", found, f"1 to {MOST_NODULES} nodules in all")
        _check_points(self.points_mm)
        check_diameters(self.diameters_mm)
        check_attributes(self.attributes)
        for one in self.planned:
            with naming_row(one.row):
                _check_points([one.point_mm] if one.point_mm else [])
                check_diameters([one.diameter_mm])
                check_attributes(one.attributes)
        if not self.planned:
            drawn = "none, since diameters are drawn with lidc"
            check_count_of_diameters(self.diameters_mm, count, "nodule", drawn)

    @property
    def _stated(self) -> int:
        """Number of nodules besides drawn ones."""
        if self.planned:
            return len(self.planned)
        return len(self.points_mm) + (0 if self.auto == LIDC_AUTO else int(self.auto))

    def nodules(self, seed: int, draw: int = 0) -> tuple[AskedNodule, ...]:
        """Return the nodules, in the order of the plan's rows, or those with a place first.

        Args:
            seed: seed of drawn nodules.
            draw: number of the draw of this seed, from 0.
        """
        if self.planned:
            return self.planned
        places = [*self.points_mm, *[None] * (self._stated - len(self.points_mm))]
        diameters = self.diameters_mm * (len(places) if len(self.diameters_mm) == 1 else 1)
        stated = [AskedNodule(mm, self.attributes, at) for mm, at in zip(diameters, places, strict=True)]
        own = derive(seed, LIDC_AUTO, *([draw] if draw else []))
        drawn = draw_lidc_diameters(own) if self.auto == LIDC_AUTO else ()
        return (*stated, *(AskedNodule(mm, self.attributes, is_drawn=True) for mm in drawn))

    def about(self) -> dict[str, Any]:
        """Return the request's entry in a manifest."""
        about = {
            "at_mm": [list(point) for point in self.points_mm],
            "auto": self.auto,
            "diameters_mm": list(self.diameters_mm),
            "attributes": self.attributes.given(),
            "site": self.site,
            "clearance": vars(self.clearance),
            "force": self.force,
        }
        return about | ({"planned": [one.about() for one in self.planned]} if self.planned else {})


@dataclass(frozen=True, eq=False)
class InjectionPlan:
    """The nodules to inject into a scan, and their places.

    Attributes:
        wanted: the nodules with their places.
        methods: name of the method of each nodule; empty for the method of the call.
        lungs: lungs of the scan; None if none were found and `Request.force` is set.
        notes: sentences about doubts that were overruled, and about nodules that were left out.
    """

    wanted: tuple[Wanted, ...]
    methods: tuple[str, ...]
    lungs: Lungs | None
    notes: tuple[str, ...]


def plan_nodules(
    ct: Volume,
    request: Request,
    seed: int,
    *,
    labels: Volume | None = None,
    finder: Callable[[Volume], Lungs] = find_lungs,
    check: Callable[[AskedNodule], None] = lambda one: None,
) -> InjectionPlan:
    """Check the given places of a request's nodules, and find places for the others.

    Args:
        ct: the scan, HU.
        request: the nodules.
        seed: seed of drawn nodules and found places.
        labels: mask of the scan's own nodules, which new ones must not touch.
        finder: finds the lungs.
        check: raises an error for a nodule that its method cannot make.

    Raises:
        InputError: no lungs are found; a place lies outside the lungs, on another nodule or outside the scan (the last
            even with `force`); no place has room for a diameter; or no drawn nodule fits anywhere.
    """
    notes: list[str] = []
    taken = nodule_balls(labels) if labels is not None else []
    asked = request.nodules(seed)
    for one in asked:
        if not one.is_drawn and one.outline is None:
            with naming_row(one.row):
                check(one)
    lungs = placement = None
    try:
        lungs = finder(ct)
        placement = Placement(lungs, taken)
    except InputError as error:
        if not request.force or any(one.point_mm is None for one in asked):
            raise
        notes.append(str(error))
    for draw in range(MOST_DRAWS):
        asked = request.nodules(seed, draw)
        placed, refused = _placed(ct, asked, placement, request, seed, check, notes)
        if placed or refused is None:
            break
        notes.append("none of these drawn nodules fits, so others were drawn")
    else:
        found = f"{MOST_DRAWS} draws of nodules, none of which fits: {refused}"
        raise InputError("auto", found, "another seed, or a smaller distance to the wall") from refused
    order = sorted(placed)
    return InjectionPlan(tuple(placed[i] for i in order), tuple(asked[i].method for i in order), lungs, tuple(notes))


def _placed(
    ct: Volume,
    asked: Sequence[AskedNodule],
    placement: Placement | None,
    request: Request,
    seed: int,
    check: Callable[[AskedNodule], None],
    notes: list[str],
) -> tuple[dict[int, Wanted], InputError | None]:
    """Return the nodules with their places, by their numbers in `asked`, and why a drawn nodule was left out, if any.

    Notes on doubtful places and on nodules that are left out are added to `notes`.
    """
    placed: dict[int, Wanted] = {}
    found, refused = 0, None
    for i, one in sorted(enumerate(asked), key=lambda numbered: numbered[1].point_mm is None):
        anywhere = False
        if one.point_mm is not None:
            place = Ball(one.point_mm, one.diameter_mm)
            with naming_row(one.row):
                check_in_scan(ct, one.point_mm)
            doubt = placement.objection(place) if placement else None
            if doubt is not None and not request.force:
                subject, found_there, expected = doubt.args
                with naming_row(one.row):
                    raise InputError(subject, found_there, f"{expected}{WAYS_OUT}") from doubt
            if doubt is not None:
                notes.append(str(doubt))
            anywhere = placement is None or not placement.is_in_lungs(one.point_mm)
            if placement is not None:
                placement.take(place)
        else:
            assert placement is not None
            own, found = derive(seed, "place", found), found + 1
            try:
                if one.is_drawn:
                    check(one)
                with naming_row(one.row):
                    place = placement.find(one.diameter_mm, own, site=request.site, clearance=request.clearance)
            except InputError as error:
                if not one.is_drawn:
                    raise
                refused = error
                notes.append(f"a nodule of {one.diameter_mm:.1f} mm, drawn from LIDC-IDRI, is left out: {error}")
                continue
        placed[i] = Wanted(place, one.attributes, anywhere, outline=one.outline, row=one.row)
    return placed, refused


def _check_points(points: Iterable[Point]) -> None:
    for point in points:
        if len(point) != 3 or not all(isfinite(c) for c in point):
            raise InputError("place", repr(tuple(point)), "x, y and z in millimetres")


def check_diameters(diameters_mm: Iterable[float]) -> None:
    """Check that diameters lie in `NODULE_DIAMETER_MM`.

    Raises:
        InputError: a diameter does not.
    """
    low, high = NODULE_DIAMETER_MM
    for diameter in diameters_mm:
        if not low <= diameter <= high:
            raise InputError("diameter_mm", f"{diameter:g} mm", f"{low:g} to {high:g} mm")


def check_count_of_diameters(diameters_mm: Sequence[float], count: int, what: str, none: str) -> None:
    """Check that there is one diameter for all, or one for each.

    Args:
        diameters_mm: the diameters.
        count: number of places or nodules that have them.
        what: "place" or "nodule".
        none: what an error expects if `count` is 0.

    Raises:
        InputError: the diameters are missing, or their number is another one.
    """
    given = len(diameters_mm)
    if given in ({1, count} if count else {0}):
        return
    if not given:
        raise InputError("diameter_mm", MISSING_ARGUMENT, f"a diameter in mm for all {what}s, or one for each {what}")
    found = f"{given} diameter{'s' * (given > 1)}"
    raise InputError("diameter_mm", found, f"1 for all, or {count}, one for each {what}" if count else none)


def outlined_nodules(outlines: Volume, attributes: NoduleAttributes) -> tuple[AskedNodule, ...]:
    """Return a requested nodule for each label of a map, with the label's voxels, centroid and width.

    Args:
        outlines: the map.
        attributes: ratings of all nodules.

    Raises:
        InputError: the map has no label.
    """
    upright = orient(outlines, "LPS")
    regions = regions_of(upright.voxels)
    found = []
    for label, own in enumerate(regions, start=1):
        if own.voxels:
            ball, row = ball_around(own, upright), f"outlines, label {label}"
            found.append(AskedNodule(ball.diameter_mm, attributes, ball.center_mm, outline=own, row=row))
    if not found:
        raise InputError("outlines", "no voxel above 0", "a mask of the nodules to inject")
    return tuple(found)


def nodule_balls(labels: Volume) -> list[Ball]:
    """Return the balls around the nodules of a label map."""
    regions = regions_of(labels.voxels)
    return [ball_around(region, labels) for region in regions if region.voxels]


def ball_around(nodule: Region, on: Volume) -> Ball:
    """Return the ball around a nodule's centroid with the nodule's width as its diameter.

    Args:
        nodule: mask of the nodule.
        on: a volume with the grid of the mask.
    """
    inside = nodule.indices()
    x, y, z = on.to_world(inside.mean(0)).tolist()
    return Ball((x, y, z), axial_diameter_mm(inside, on.spacing_mm))
