"""Nodules put into a label map of tissues: real or made shapes, turned, mirrored and scaled, placed in its lungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs, find_lungs
from synthorax.anatomy.morphology import closed, dilated
from synthorax.anatomy.placement import Ball, Clearance, Placement, Site
from synthorax.anatomy.tissue import TissueClass
from synthorax.editing.inject import MOST_NODULES
from synthorax.editing.plan import NODULE_DIAMETER_MM, ball_around
from synthorax.editing.window import MASK_WALL_MM
from synthorax.errors import InputError
from synthorax.geometry import crop
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.region import Region, paint_labels, regions_of
from synthorax.rendering.renderer import outlined, placed
from synthorax.rendering.shapes import SHAPED, Shape, ShapeSource
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

CLASS_HU = {
    TissueClass.OUTSIDE: -1000,
    TissueClass.OTHER: -860,
    TissueClass.FAT: -100,
    TissueClass.WATER: 0,
    TissueClass.SOFT: 40,
    TissueClass.BONE: 700,
    TissueClass.NODULE: 40,
}
"""About the mean HU of each class, by which lungs are found in a label map as in a CT."""
NARROW_HU = -990
"""HU that stand for `OTHER` where it is enclosed in a slice as narrowly as in an airway."""
NARROW_MM2 = 900.0
"""Area in a slice up to which enclosed `OTHER` may be an airway."""
WALLED_MM = 150.0
"""A label map at least this wide and deep has the wall around the lungs in it."""
PATCH_CLOSING_MM = 4.0
"""In a label map without a body's outline, vessels up to twice this wide count as lung."""
SPREAD = 0.2
"""A nodule for which no diameter is asked is scaled by e to a power of up to this, up or down."""
DRAWN_MM = (3.0, 30.0)
"""Diameters of such nodules."""
GRID_MARGIN_MM = 3.0
"""Room around a nodule on the voxels that its shape is put on."""
PLACE_ATTEMPTS = 8
"""Shapes tried for a nodule of no stated diameter, until one is narrow enough for what is left of the lungs."""


@dataclass(frozen=True)
class WantedNodules:
    """Nodules to be put into a label map.

    Attributes:
        count: of nodules.
        diameters_mm: of all, or one after the other; () leaves them to the shapes.
        attributes: by which shapes are chosen.
        site, clearance: as of `anatomy.placement`.

    Raises:
        InputError: too many nodules, or diameters that there are not.
    """

    count: int
    diameters_mm: tuple[float, ...] = ()
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    site: Site = "lung"
    clearance: Clearance = field(default_factory=Clearance)

    def __post_init__(self) -> None:
        if not 0 <= self.count <= MOST_NODULES:
            raise InputError("nodules", str(self.count), f"0 to {MOST_NODULES}")
        low, high = NODULE_DIAMETER_MM
        if wrong := [mm for mm in self.diameters_mm if not low <= mm <= high]:
            raise InputError("diameter", f"{wrong[0]:g} mm", f"{low:g} to {high:g} mm")
        if len(self.diameters_mm) not in {0, 1, self.count}:
            raise InputError("diameters", str(len(self.diameters_mm)), f"1, or {self.count}, one a nodule")

    def diameter_mm(self, i: int) -> float | None:
        """The diameter asked of a nodule by its number."""
        if not self.diameters_mm:
            return None
        return self.diameters_mm[i if len(self.diameters_mm) > 1 else 0]


@dataclass(frozen=True, eq=False)
class LabelledNodules:
    """A label map with nodules put in.

    Attributes:
        labels: uint8 of `TissueClass`; the voxels of nodules, those that it had and the new ones, are `NODULE`.
        regions: the voxels of label i at index i - 1: first the nodules that the map had.
        nodules: all of them; `extra["from"]` is `label map` or `put in`.
        outlines: patients whose outlines were put in.
        notes: what came out otherwise than it was asked for.
    """

    labels: Volume
    regions: tuple[Region, ...]
    nodules: tuple[Nodule, ...]
    outlines: frozenset[str]
    notes: tuple[str, ...]

    @property
    def mask(self) -> Volume:
        """The label of each voxel's nodule, uint8 [z, y, x], 0 outside them."""
        return replace(self.labels, voxels=paint_labels(self.regions, self.labels.shape).astype(np.uint8))


def put_nodules(labels: Volume, wanted: WantedNodules, shapes: ShapeSource, seed: int) -> LabelledNodules:
    """Put nodules into the lungs of a label map, one after the other, clear of each other and of those it has.

    Nodule i of a seed does not depend on those after it. Where a nodule touches the wall, the wall hides it.

    Args:
        labels: uint8 of `TissueClass`, its axes along LPS.

    Raises:
        InputError: no lungs, or a diameter that fits nowhere; tells the widest that does.
    """
    made = as_labelled(labels)
    if len(made.regions) + wanted.count > MOST_NODULES:
        found = f"{len(made.regions)} in the label map and {wanted.count}"
        raise InputError("nodules", found, f"at most {MOST_NODULES} in all")
    if wanted.count:
        lungs = lungs_of_labels(labels)
        placement = Placement(lungs, [ball_around(region, labels) for region in made.regions])
        for i in range(wanted.count):
            try:
                place, shape = find_place(wanted, i, placement, shapes, derive(seed, "nodule", i))
            except InputError as error:
                if not i:
                    raise
                subject, found, expected = error.args
                before = f"{i} of the {wanted.count} nodules found a place before"
                raise InputError(subject, found, f"{expected}; {before}") from error
            made = with_nodule(made, place, shape, lungs, derive(seed, "turned", i))
    return made


def as_labelled(labels: Volume) -> LabelledNodules:
    """A label map with the nodules that it has, each a connected part of its class."""
    voxels = labels.voxels.copy()
    is_nodule = voxels == TissueClass.NODULE
    regions: list[Region] = []
    if is_nodule.any():
        found = cc3d.connected_components(is_nodule, connectivity=26)
        regions = regions_of(found.astype(np.int32), range(1, int(found.max()) + 1))
    nodules = tuple(_of_map(region, i, labels) for i, region in enumerate(regions, start=1))
    return LabelledNodules(replace(labels, voxels=voxels), tuple(regions), nodules, frozenset(), ())


def with_nodule(made: LabelledNodules, place: Ball, shape: Shape, lungs: Lungs, seed: int) -> LabelledNodules:
    """A label map with one more nodule; the voxels of `made` are changed in place.

    Args:
        place: about whose nearest voxel it lies, and its diameter.
        lungs: on whatever voxels; the nodule has none outside them.
        seed: by which the shape is turned and mirrored.

    Raises:
        InputError: no voxel of the nodule lies in the lungs.
    """
    region, share = _voxels(made.labels, place, shape, lungs, seed)
    region.paint(made.labels.voxels, TissueClass.NODULE)
    nodule = _put_in(region, len(made.regions) + 1, made.labels, place, shape, share)
    outlines = {patient_key(shape.origin)} if shape.origin else set()
    return LabelledNodules(
        made.labels,
        (*made.regions, region),
        (*made.nodules, nodule),
        made.outlines | outlines,
        tuple(dict.fromkeys([*made.notes, *shape.notes])),
    )


def lungs_of_labels(labels: Volume) -> Lungs:
    """The lungs of a label map: of a whole chest as in a CT of the classes' means, of a patch all that is lung in it.

    Raises:
        InputError: no lungs.
    """
    classes = labels.voxels
    hu = np.array([CLASS_HU[own] for own in TissueClass], np.int16)[classes]
    other = classes == TissueClass.OTHER
    if (classes == TissueClass.OUTSIDE).any() or _is_wide(labels):
        hu[_narrow(other, labels.spacing_mm)] = NARROW_HU
        if not (classes == TissueClass.OUTSIDE).any():  # tables without such a class have the air around as other
            hu[_at_corners(other)] = CLASS_HU[TissueClass.OUTSIDE]
        try:
            return find_lungs(replace(labels, voxels=hu))
        except InputError as error:
            raise InputError("label map", *error.args[1:]) from error
    lung = closed(other, PATCH_CLOSING_MM, labels.spacing_mm)
    lung &= classes != TissueClass.BONE
    if not lung.any():
        raise InputError(
            "label map", f"no voxel of the class {TissueClass.OTHER.name.lower()}", "a map with lung in it"
        )
    nothing = np.zeros_like(lung)
    masks = (replace(labels, voxels=mask) for mask in (lung, nothing, ~nothing))
    return Lungs(replace(labels, voxels=hu.astype(np.float32)), *masks)


def _is_wide(labels: Volume) -> bool:
    """Whether a map is so wide and deep that the wall around the lungs is in it."""
    return bool(min(np.multiply(labels.shape, labels.spacing_mm)[1:]) >= WALLED_MM)


def _at_corners(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask [z, y, x] that reach a corner of their slice."""
    made = np.zeros_like(mask)
    for out, own in zip(made, mask, strict=True):
        parts = cc3d.connected_components(own, connectivity=4)
        corners = {int(part) for part in parts[:: len(parts) - 1 or 1, :: parts.shape[1] - 1 or 1].ravel()} - {0}
        out[:] = np.isin(parts, list(corners))
    return made


def _narrow(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The parts of a mask [z, y, x] that are as small in a slice as an airway."""
    most = NARROW_MM2 / (spacing_mm[1] * spacing_mm[2])
    made = np.zeros_like(mask)
    for out, own in zip(made, mask, strict=True):
        parts, count = cc3d.connected_components(own, connectivity=4, return_N=True)
        if count:
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            small = sizes <= most
            small[0] = False
            out[:] = small[parts]
    return made


def find_place(
    wanted: WantedNodules, i: int, placement: Placement, shapes: ShapeSource, seed: int
) -> tuple[Ball, Shape]:
    """A place and a shape for a nodule.

    Raises:
        InputError: none for the diameter that was asked for, or for any shape that was tried.
    """
    diameter = wanted.diameter_mm(i)
    find = {"site": wanted.site, "clearance": wanted.clearance}
    if diameter is not None:
        shape = shapes(replace(wanted.attributes, diameter_mm=diameter), seed)
        return placement.find(diameter, seed, **find), shape  # type: ignore[arg-type]
    for attempt in range(PLACE_ATTEMPTS):
        own = derive(seed, attempt)
        shape = shapes(wanted.attributes, own)
        width = axial_diameter_mm(np.argwhere(shape.mask.voxels > 0), shape.mask.spacing_mm)
        drawn = float(np.clip(width * np.exp(generator(own, "scale").uniform(-SPREAD, SPREAD)), *DRAWN_MM))
        try:
            return placement.find(drawn, own, **find), shape  # type: ignore[arg-type]
        except InputError as error:
            last = error
    raise last


def _voxels(labels: Volume, place: Ball, shape: Shape, lungs: Lungs, seed: int) -> tuple[Region, float]:
    """The voxels of a nodule about the voxel nearest to its place, and the share of them that was `OTHER` before.

    Raises:
        InputError: none, as the lung there is too narrow.
    """
    middle = np.rint(labels.to_voxel(place.center_mm)).astype(int)
    reach = np.ceil((place.diameter_mm + 2 * GRID_MARGIN_MM) / np.array(labels.spacing_mm)).astype(int)
    start = (middle - reach).tolist()
    grid = crop(labels, start, (2 * reach + 1).tolist(), fill=int(TissueClass.OUTSIDE))
    solid = placed(shape.mask, grid, place.diameter_mm, generator(seed))
    lung = dilated(lungs.mask_on(grid), MASK_WALL_MM, labels.spacing_mm)
    inside = outlined(solid, grid) & lung & (grid.voxels != TissueClass.NODULE)
    inside &= Region((0, 0, 0), np.ones(labels.shape, bool)).within(start, grid.shape)
    if not inside.any():
        where = ", ".join(f"{c:.1f}" for c in place.center_mm)
        found = f"a nodule of {place.diameter_mm:.1f} mm at ({where}) mm without a voxel in the lung"
        raise InputError("nodules", found, "a larger diameter, or a label map of smaller voxels")
    share = float((grid.voxels[inside] == TissueClass.OTHER).mean())
    return Region.of(inside).moved(start), share


def _of_map(region: Region, label: int, labels: Volume) -> Nodule:
    """A nodule that the label map had, of which no more is known than its voxels."""
    ball = ball_around(region, labels)
    attributes = NoduleAttributes(diameter_mm=axial_diameter_mm(region.indices(), labels.spacing_mm))
    return Nodule(f"{label:02d}", ball.center_mm, attributes, label, extra={"from": "label map"})


def _put_in(region: Region, label: int, labels: Volume, place: Ball, shape: Shape, share: float) -> Nodule:
    """A nodule that was put in, with the ratings that a shape carries."""
    inside = region.indices()
    x, y, z = labels.to_world(inside.mean(0)).tolist()
    known = {name: value for name, value in shape.attributes.given().items() if name in SHAPED}
    attributes = NoduleAttributes(diameter_mm=axial_diameter_mm(inside, labels.spacing_mm), **known)
    extra = {
        "from": "put in",
        "wanted_diameter_mm": f"{place.diameter_mm:g}",
        "shape_origin": shape.origin,
        "share_in_lung": f"{share:.2f}",
    }
    return Nodule(f"{label:02d}", (x, y, z), attributes, label, extra=extra)
