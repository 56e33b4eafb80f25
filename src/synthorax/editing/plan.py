"""Which nodules a scan is to get, and where: places that were given are looked at, others are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

from synthorax.anatomy.lungs import Lungs, find_lungs
from synthorax.anatomy.placement import Ball, Clearance, Placement, Site, check_in_scan
from synthorax.annotations.lidc_draws import draw_lidc_diameters
from synthorax.editing.inject import MOST_NODULES, Wanted
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.region import Region, regions_of
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

NODULE_DIAMETER_MM = (1.0, 100.0)
"""Diameters of nodules that can be injected or erased; others are refused."""

Point = tuple[float, float, float]
AutoLidc = Literal["lidc"]
LIDC_AUTO: AutoLidc = "lidc"
"""Asks for as many nodules, of such diameters, as a scan of LIDC-IDRI has."""


@dataclass(frozen=True)
class AskedNodule:
    """A nodule that somebody asks for.

    Attributes:
        point_mm: its place (x, y, z), LPS; one is found if not given.
        method: name of the method that makes it; the call's if empty.
        is_drawn: whether its diameter was drawn: where it fits nowhere it is left out, and that is told.
        outline: the voxels that it is to have, of the scan with its axes along LPS; the method's choice if not given.
    """

    diameter_mm: float
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    point_mm: Point | None = None
    method: str = ""
    is_drawn: bool = False
    outline: Region | None = None

    def about(self) -> dict[str, Any]:
        """What a manifest tells of it."""
        place = {} if self.point_mm is None else {"at_mm": list(self.point_mm)}
        by = {"method": self.method} if self.method else {}
        voxels = {} if self.outline is None else {"outlined_voxels": self.outline.voxels}
        return {"diameter_mm": self.diameter_mm, **place, **by, **voxels, "attributes": self.attributes.given()}


@dataclass(frozen=True)
class Request:
    """Nodules that somebody asks for.

    Attributes:
        points_mm: places (x, y, z), LPS.
        auto: so many more, in places that are found; `lidc`: as many, of such diameters, as a scan of LIDC-IDRI has.
        diameters_mm: of all, or one a nodule: first those of the points. Those that are drawn have their own.
        attributes: of all.
        site, clearance: of the places that are found.
        force: go on where a place or the scan is doubtful.
        planned: nodules one by one, in the place of points, number, diameters and attributes.

    Raises:
        InputError: no nodule or too many, a site, rating or diameter that there is not, or more or fewer diameters
            than nodules.
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
        if isinstance(self.auto, str) and self.auto != LIDC_AUTO:
            raise InputError("auto", repr(self.auto), f"a number of nodules, or {LIDC_AUTO}")
        if self.site not in get_args(Site):
            raise InputError("site", repr(self.site), " or ".join(get_args(Site)))
        if self.planned and (self.points_mm or self.auto or self.diameters_mm):
            raise InputError("plan", "beside places, a number or diameters", "a plan, or these")
        count = self._stated
        if not (self.auto == LIDC_AUTO or count >= 1) or count > MOST_NODULES or (count < len(self.points_mm)):
            found = f"{len(self.points_mm)} places and {self.auto} to be found"
            raise InputError("nodules", found, f"1 to {MOST_NODULES} nodules in all")
        points = [*self.points_mm, *(one.point_mm for one in self.planned if one.point_mm)]
        for point in points:
            if len(point) != 3 or not all(isfinite(c) for c in point):
                raise InputError("place", repr(tuple(point)), "x, y and z in millimetres")
        check_diameters([*self.diameters_mm, *(one.diameter_mm for one in self.planned)])
        for attributes in (self.attributes, *(one.attributes for one in self.planned)):
            check_attributes(attributes)
        if not self.planned and len(self.diameters_mm) not in ({1, count} if count else {0}):
            expected = f"1, or {count}, one a nodule" if count else "none, as those of LIDC-IDRI are drawn"
            raise InputError("diameters", str(len(self.diameters_mm)), expected)

    @property
    def _stated(self) -> int:
        """Number of nodules beside those that are drawn."""
        if self.planned:
            return len(self.planned)
        return len(self.points_mm) + (0 if self.auto == LIDC_AUTO else int(self.auto))

    def nodules(self, seed: int) -> tuple[AskedNodule, ...]:
        """The nodules, those with a place first.

        Args:
            seed: of those that are drawn.
        """
        if self.planned:
            return tuple(sorted(self.planned, key=lambda one: one.point_mm is None))
        places = [*self.points_mm, *[None] * (self._stated - len(self.points_mm))]
        diameters = self.diameters_mm * (len(places) if len(self.diameters_mm) == 1 else 1)
        stated = [AskedNodule(mm, self.attributes, at) for mm, at in zip(diameters, places, strict=True)]
        drawn = draw_lidc_diameters(derive(seed, LIDC_AUTO)) if self.auto == LIDC_AUTO else ()
        return (*stated, *(AskedNodule(mm, self.attributes, is_drawn=True) for mm in drawn))

    def about(self) -> dict[str, Any]:
        """What a manifest tells of it."""
        told = {
            "at_mm": [list(point) for point in self.points_mm],
            "auto": self.auto,
            "diameters_mm": list(self.diameters_mm),
            "attributes": self.attributes.given(),
            "site": self.site,
            "clearance": vars(self.clearance),
            "force": self.force,
        }
        return told | ({"planned": [one.about() for one in self.planned]} if self.planned else {})


@dataclass(frozen=True, eq=False)
class InjectionPlan:
    """The nodules to inject into a scan, and their places.

    Attributes:
        methods: name of the method that makes each; the call's where it is empty.
        lungs: the scan's; None where none were found and that was allowed.
        notes: what was objected to and allowed, and what was left out.
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
    """Where the nodules of a request go.

    Args:
        labels: nodules that are there, which new ones must not touch.
        check: refuses a nodule that is drawn and the method cannot make.

    Raises:
        InputError: no lungs, a place outside them or on another nodule, or none for a diameter; places outside the
            scan, even if doubtful ones are allowed; or no nodule of those that were drawn fits anywhere.
    """
    notes: list[str] = []
    taken = nodule_balls(labels) if labels is not None else []
    asked = request.nodules(seed)
    lungs = placement = None
    try:
        lungs = finder(ct)
        placement = Placement(lungs, taken)
    except InputError as error:
        if not request.force or any(one.point_mm is None for one in asked):
            raise
        notes.append(str(error))
    wanted, methods, found, refused = [], [], 0, None
    for one in asked:
        anywhere = False
        if one.point_mm is not None:
            place = Ball(one.point_mm, one.diameter_mm)
            check_in_scan(ct, one.point_mm)
            doubt = placement.objection(place) if placement else None
            if doubt is not None and not request.force:
                raise doubt
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
                place = placement.find(one.diameter_mm, own, site=request.site, clearance=request.clearance)
            except InputError as error:
                if not one.is_drawn:
                    raise
                refused = error
                notes.append(f"a nodule of {one.diameter_mm:.1f} mm, drawn as LIDC-IDRI has them, is left out: {error}")
                continue
        wanted.append(Wanted(place, one.attributes, anywhere, outline=one.outline))
        methods.append(one.method)
    if not wanted and refused is not None:
        raise refused
    return InjectionPlan(tuple(wanted), tuple(methods), lungs, tuple(notes))


def check_diameters(diameters_mm: Iterable[float]) -> None:
    """Refuse diameters that no nodule has.

    Raises:
        InputError: one of them.
    """
    low, high = NODULE_DIAMETER_MM
    for diameter in diameters_mm:
        if not low <= diameter <= high:
            raise InputError("diameter", f"{diameter:g} mm", f"{low:g} to {high:g} mm")


def outlined_nodules(outlines: Volume, attributes: NoduleAttributes) -> tuple[AskedNodule, ...]:
    """Return a nodule for each label of a map: about the mean of its voxels, as wide as they are.

    Args:
        attributes: of all.

    Raises:
        InputError: a map without a label.
    """
    upright = orient(outlines, "LPS")
    regions = regions_of(upright.voxels, range(1, int(upright.voxels.max()) + 1))
    balls = [(ball_around(region, upright), region) for region in regions if region.voxels]
    if not balls:
        raise InputError("outlines", "no voxel above 0", "a mask of the nodules to be made")
    return tuple(AskedNodule(ball.diameter_mm, attributes, ball.center_mm, outline=own) for ball, own in balls)


def nodule_balls(labels: Volume) -> list[Ball]:
    """The balls around the nodules of a label map."""
    regions = regions_of(labels.voxels, range(1, int(labels.voxels.max()) + 1))
    return [ball_around(region, labels) for region in regions if region.voxels]


def ball_around(nodule: Region, on: Volume) -> Ball:
    """The ball about the mean of a nodule's voxels that is as wide as the nodule.

    Args:
        on: gives the grid.
    """
    inside = nodule.indices()
    x, y, z = on.to_world(inside.mean(0)).tolist()
    return Ball((x, y, z), axial_diameter_mm(inside, on.spacing_mm))
