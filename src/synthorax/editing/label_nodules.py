"""Putting nodules into a label map of tissues: real or generated shapes, turned, mirrored, scaled and placed."""

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
from synthorax.editing.plan import NODULE_DIAMETER_MM, ball_around, check_count_of_diameters
from synthorax.editing.window import MASK_WALL_MM
from synthorax.errors import InputError
from synthorax.geometry import crop
from synthorax.nodule import Nodule, NoduleAttributes, place_text
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
"""Approximate mean HU of each class. With these HU, lungs are found in a label map as in a CT."""
OF_LABEL_MAP = "label map"
"""Origin of a nodule that the label map had, in the column `from` of a table; others were put in."""
NARROW_HU = -990
"""HU used instead for small enclosed areas of `OTHER` in a slice, which may be airways."""
NARROW_MM2 = 900.0
"""Largest area in mm2 of such an enclosed area."""
WALLED_MM = 150.0
"""A label map at least this wide and deep, in mm, includes the wall around the lungs."""
PATCH_CLOSING_MM = 4.0
"""Radius in mm of the closing of lung in a label map of a patch; vessels up to twice this wide count as lung."""
SPREAD = 0.2
"""Largest absolute logarithm of the factor by which a nodule without a requested diameter is scaled."""
DRAWN_MM = (3.0, 30.0)
"""Range in mm of the diameters of nodules without a requested diameter."""
GRID_MARGIN_MM = 3.0
"""Margin in mm around a nodule on the grid on which its shape is placed."""
PLACE_ATTEMPTS = 8
"""Most shapes tried for a nodule without a requested diameter, until one is small enough for a free place."""


@dataclass(frozen=True)
class WantedNodules:
    """Nodules to put into a label map.

    Attributes:
        count: number of nodules.
        diameters_mm: one diameter for all, or one for each; empty for the diameters of the shapes.
        attributes: attributes by which shapes are chosen.
        site, clearance: see `anatomy.placement`.

    Raises:
        InputError: there are too many nodules, a diameter is out of range, or the number of diameters is wrong.
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
            raise InputError("diameter_mm", f"{wrong[0]:g} mm", f"{low:g} to {high:g} mm")
        if len(self.diameters_mm) not in {0, 1}:
            check_count_of_diameters(self.diameters_mm, self.count, "nodule", "none, since no nodule is put in")

    def diameter_mm(self, i: int) -> float | None:
        """Return the requested diameter of nodule i, or None."""
        if not self.diameters_mm:
            return None
        return self.diameters_mm[i if len(self.diameters_mm) > 1 else 0]


@dataclass(frozen=True, eq=False)
class LabelledNodules:
    """A label map with nodules.

    Attributes:
        labels: `TissueClass` of each voxel, uint8; voxels of the map's own nodules and of added ones are `NODULE`.
        regions: mask of each nodule, the map's own first; label i has index i - 1.
        nodules: all nodules; `extra["from"]` is `label map` or `put in`.
        outlines: keys of the patients whose outlines were added.
        notes: sentences about results that differ from the request.
    """

    labels: Volume
    regions: tuple[Region, ...]
    nodules: tuple[Nodule, ...]
    outlines: frozenset[str]
    notes: tuple[str, ...]

    @property
    def mask(self) -> Volume:
        """Label of each voxel's nodule, 0 outside nodules, uint8 [z, y, x]."""
        return replace(self.labels, voxels=paint_labels(self.regions, self.labels.shape).astype(np.uint8))


def put_nodules(labels: Volume, wanted: WantedNodules, shapes: ShapeSource, seed: int) -> LabelledNodules:
    """Put nodules into the lungs of a label map, one after the other, without touching each other or existing ones.

    Nodule i does not depend on the nodules after it. The part of a nodule that would lie in the wall is cut off.

    Args:
        labels: `TissueClass` of each voxel, uint8, with axes along LPS.
        wanted: the nodules.
        shapes: source of their shapes.
        seed: seed of shapes and places.

    Raises:
        InputError: no lungs are found, or no place has room for a diameter; the error has the widest that fits.
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
                before = f"{i} of the {wanted.count} nodules were placed before"
                raise InputError(subject, found, f"{expected}; {before}") from error
            made = with_nodule(made, place, shape, lungs, derive(seed, "turned", i))
    return made


def as_labelled(labels: Volume) -> LabelledNodules:
    """Return a label map with its own nodules, one for each connected component of the class `NODULE`."""
    voxels = labels.voxels.copy()
    is_nodule = voxels == TissueClass.NODULE
    regions: list[Region] = []
    if is_nodule.any():
        found = cc3d.connected_components(is_nodule, connectivity=26)
        regions = regions_of(found.astype(np.int32))
    nodules = tuple(_of_map(region, i, labels) for i, region in enumerate(regions, start=1))
    return LabelledNodules(replace(labels, voxels=voxels), tuple(regions), nodules, frozenset(), ())


def with_nodule(made: LabelledNodules, place: Ball, shape: Shape, lungs: Lungs, seed: int) -> LabelledNodules:
    """Add a nodule to a label map, whose voxels are changed in place.

    Args:
        made: the label map.
        place: place, moved to the nearest voxel, and diameter of the nodule.
        shape: shape of the nodule.
        lungs: lungs, on any grid, to which the nodule is limited.
        seed: seed of turning and mirroring.

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
    """Find the lungs of a label map: in a whole chest as in a CT with the classes' HU, in a patch by their class.

    Raises:
        InputError: no lungs are found.
    """
    classes = labels.voxels
    hu = np.array([CLASS_HU[own] for own in TissueClass], np.int16)[classes]
    other = classes == TissueClass.OTHER
    if (classes == TissueClass.OUTSIDE).any() or _is_wide(labels):
        hu[_narrow(other, labels.spacing_mm)] = NARROW_HU
        if not (classes == TissueClass.OUTSIDE).any():  # without such a class, air around the body is `OTHER`
            hu[_at_corners(other)] = CLASS_HU[TissueClass.OUTSIDE]
        try:
            return find_lungs(replace(labels, voxels=hu))
        except InputError as error:
            found, expected = error.args[1], "a map with lung, whose codes are those of `codes`"
            raise InputError("label map", found, expected) from error
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
    """Return whether a map is wide and deep enough to include the wall around the lungs."""
    return bool(min(np.multiply(labels.shape, labels.spacing_mm)[1:]) >= WALLED_MM)


def _at_corners(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the components of a mask, slice by slice, that reach a corner of the slice, bool [z, y, x]."""
    made = np.zeros_like(mask)
    for out, own in zip(made, mask, strict=True):
        parts = cc3d.connected_components(own, connectivity=4)
        corners = {int(part) for part in parts[:: len(parts) - 1 or 1, :: parts.shape[1] - 1 or 1].ravel()} - {0}
        out[:] = np.isin(parts, list(corners))
    return made


def _narrow(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the components of a mask, slice by slice, that are as small as an airway, bool [z, y, x]."""
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
    """Find a place and a shape for nodule i.

    Raises:
        InputError: there is no place for the requested diameter, or for any of the shapes that were tried.
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
    """Return the mask of a nodule at the voxel nearest to its place, and the share of it that was `OTHER` before.

    Raises:
        InputError: no voxel of the nodule lies in the lungs.
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
        where = place_text(place.center_mm)
        found = f"a nodule of {place.diameter_mm:.1f} mm at ({where}) mm without a voxel in the lung"
        raise InputError("nodules", found, "a larger diameter, or a label map of smaller voxels")
    share = float((grid.voxels[inside] == TissueClass.OTHER).mean())
    return Region.of(inside).moved(start), share


def _of_map(region: Region, label: int, labels: Volume) -> Nodule:
    """Return a nodule of the label map, of which only the voxels are known."""
    ball = ball_around(region, labels)
    attributes = NoduleAttributes(diameter_mm=axial_diameter_mm(region.indices(), labels.spacing_mm))
    return Nodule(f"{label:02d}", ball.center_mm, attributes, label, extra={"from": OF_LABEL_MAP})


def _put_in(region: Region, label: int, labels: Volume, place: Ball, shape: Shape, share: float) -> Nodule:
    """Return an added nodule, with the ratings of its shape."""
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
