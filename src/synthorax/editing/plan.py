"""Which nodules a scan is to get, and where: places that were given are looked at, others are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, get_args

from synthorax.anatomy.lungs import Lungs, find_lungs
from synthorax.anatomy.placement import Ball, Clearance, Placement, Site, check_in_scan
from synthorax.editing.inject import MOST_NODULES, Wanted
from synthorax.errors import InputError
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.region import Region, regions_of
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

NODULE_DIAMETER_MM = (1.0, 100.0)
"""Diameters of nodules that can be injected or erased; others are refused."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Request:
    """Nodules that somebody asks for.

    Attributes:
        points_mm: places (x, y, z), LPS.
        auto: so many more, in places that are found.
        diameters_mm: of all, or one a nodule: first those of the points.
        attributes: of all.
        site, clearance: of the places that are found.
        force: go on where a place or the scan is doubtful.

    Raises:
        InputError: no nodule or too many, a site, rating or diameter that there is not, or more or fewer diameters
            than nodules.
    """

    points_mm: tuple[Point, ...]
    auto: int
    diameters_mm: tuple[float, ...]
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    site: Site = "lung"
    clearance: Clearance = field(default_factory=Clearance)
    force: bool = False

    def __post_init__(self) -> None:
        count = len(self.points_mm) + self.auto
        if self.auto < 0 or not 1 <= count <= MOST_NODULES:
            found = f"{len(self.points_mm)} places and {self.auto} to be found"
            raise InputError("nodules", found, f"1 to {MOST_NODULES} nodules in all")
        if self.site not in get_args(Site):
            raise InputError("site", repr(self.site), " or ".join(get_args(Site)))
        check_attributes(self.attributes)
        for point in self.points_mm:
            if len(point) != 3 or not all(isfinite(c) for c in point):
                raise InputError("place", repr(tuple(point)), "x, y and z in millimetres")
        check_diameters(self.diameters_mm)
        if len(self.diameters_mm) not in (1, count):
            raise InputError("diameters", str(len(self.diameters_mm)), f"1, or {count}, one a nodule")

    def about(self) -> dict[str, Any]:
        """What a manifest tells of it."""
        return {
            "at_mm": [list(point) for point in self.points_mm],
            "auto": self.auto,
            "diameters_mm": list(self.diameters_mm),
            "attributes": self.attributes.given(),
            "site": self.site,
            "clearance": vars(self.clearance),
            "force": self.force,
        }


@dataclass(frozen=True, eq=False)
class InjectionPlan:
    """The nodules to inject into a scan, and their places.

    Attributes:
        lungs: the scan's; None where none were found and that was allowed.
        notes: what was objected to and allowed.
    """

    wanted: tuple[Wanted, ...]
    lungs: Lungs | None
    notes: tuple[str, ...]


def plan_nodules(
    ct: Volume,
    request: Request,
    seed: int,
    *,
    labels: Volume | None = None,
    finder: Callable[[Volume], Lungs] = find_lungs,
) -> InjectionPlan:
    """Where the nodules of a request go.

    Args:
        labels: nodules that are there, which new ones must not touch.

    Raises:
        InputError: no lungs, a place outside them or on another nodule, or none for a diameter; places outside the
            scan, even if doubtful ones are allowed.
    """
    notes: list[str] = []
    diameters = request.diameters_mm * (len(request.points_mm) + request.auto if len(request.diameters_mm) == 1 else 1)
    taken = nodule_balls(labels) if labels is not None else []
    lungs = placement = None
    try:
        lungs = finder(ct)
        placement = Placement(lungs, taken)
    except InputError as error:
        if not request.force or request.auto:
            raise
        notes.append(str(error))
    wanted = []
    for point, diameter in zip(request.points_mm, diameters, strict=False):
        place = Ball(point, diameter)
        check_in_scan(ct, point)
        doubt = placement.objection(place) if placement else None
        if doubt is not None and not request.force:
            raise doubt
        if doubt is not None:
            notes.append(str(doubt))
        in_lungs = placement is not None and placement.is_in_lungs(point)
        wanted.append(Wanted(place, request.attributes, anywhere=not in_lungs))
        if placement is not None:
            placement.take(place)
    for i, diameter in enumerate(diameters[len(request.points_mm) :]):
        assert placement is not None
        place = placement.find(diameter, derive(seed, "place", i), site=request.site, clearance=request.clearance)
        wanted.append(Wanted(place, request.attributes))
    return InjectionPlan(tuple(wanted), lungs, tuple(notes))


def check_diameters(diameters_mm: Iterable[float]) -> None:
    """Refuse diameters that no nodule has.

    Raises:
        InputError: one of them.
    """
    low, high = NODULE_DIAMETER_MM
    for diameter in diameters_mm:
        if not low <= diameter <= high:
            raise InputError("diameter", f"{diameter:g} mm", f"{low:g} to {high:g} mm")


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
