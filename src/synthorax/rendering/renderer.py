"""Rendering of a nodule with given attributes into a patch of CT.

The density of the shape is averaged over the parts of each voxel (partial volume), blurred as the patch's scanner
blurs, and laid over the patch (`overlay`) with the patch's noise. docs/results/rendering.md says on which data each
constant was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.makers import Edit, Filled, Lineage, Options, Role
from synthorax.nodule import NoduleAttributes
from synthorax.rendering.appearance import Appearance, draw_appearance
from synthorax.rendering.overlay import laid_over, lung_hu_of
from synthorax.rendering.shapes import LidcOutlines, ShapeSource
from synthorax.rendering.solid import NoduleSolid, solid_of_mask, turned
from synthorax.rendering.strands import draw_strands, share_of
from synthorax.scanner import CONTEXT_MM, Scanner, measure_scanner
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

THINNEST = 0.22
"""The half-density surface lies at most this share of a shape's depth inside its outline."""
PART_MM = 0.7
"""Voxels are divided into parts no longer than this, over which densities are averaged."""
NODULE_GRAIN_HU, NODULE_GRAIN_MM = 22.0, 1.0
"""Standard deviation of the HU inside a nodule, and of the Gaussian that correlates the HU."""
BUMP_MM, DENT_MM, ROUGH_LENGTH_MM = 1.0, 0.6, 1.2
"""Distance of a nodule's edge outside and inside its outline, per standard deviation of a random field, and the
standard deviation of the Gaussian that correlates the field."""
ROUGHEST = 0.4
"""`BUMP_MM` times the roughness is at most this share of a shape's depth, and `DENT_MM` in proportion."""
CORE_ROUGH = 0.2
"""Standard deviation of the position of a solid core's edge, as a share of the nodule's depth."""
FAINTEST_HU = 150.0
"""Ground glass is at least this much denser than the lung."""
HAZE_GRAIN = 0.2
"""Standard deviation of the density of ground glass, as a share of its mean density above the lung."""
STRAND_HU = 0.0
"""HU of strands."""
HAZY_STRAND = 0.35
"""Share of tissue in the strands of pure ground glass."""
SHAPE_FITTINGS = 5
"""A shape is scaled at most this many times to give its mask the requested diameter; the best scale is kept."""
DIAMETER_TOLERANCE = 0.1
"""If the best mask still misses the requested diameter by more than this share, `TRIED_SCALES` are searched too."""
TRIED_SCALES = 0.7 * 2 ** (np.arange(21) / 20)
"""Factors, from 0.7 to 1.4, on the scale at which the shape itself has the requested diameter."""
RENDERED = frozenset({"diameter_mm", "texture", "calcification", "internal_structure", "margin", "spiculation"})
"""Attributes that rendering produces; lobulation, sphericity and malignancy come with the shape."""
REACH_DIAMETERS = 1.1
"""A nodule with its strands reaches this many diameters plus `SPICULE_REACH_MM` from its middle."""
SPICULE_REACH_MM = 5.0


class Renderer:
    """The classical baseline, a `makers.Method` that renders nodules.

    Attributes:
        options: options that it was made with, if it was made by name.

    Args:
        shapes: gives a mask for each nodule; outlines of LIDC-IDRI's readers if not given.
        scanner: blur and noise of the scans; measured in each patch if not given.
    """

    name = "render"
    roles: frozenset[Role] = frozenset({"injects"})
    options: Options | None = None

    def __init__(self, shapes: ShapeSource | None = None, scanner: Scanner | None = None) -> None:
        self._shapes = shapes or LidcOutlines()
        self._scanner = scanner
        self.heeds = RENDERED | self._shapes.heeds
        self.lineage: Lineage = replace(self._shapes.lineage, name=self.name)

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Return half the width of the patch that it needs, and the radius of the ball that it may change, in mm."""
        radius = REACH_DIAMETERS * edit.diameter_mm + SPICULE_REACH_MM
        return radius + CONTEXT_MM, radius

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Render a nodule into the middle of each patch.

        Attributes that an edit does not request are those of the nodule whose shape is used.

        Args:
            patches: HU [z, y, x] each.
            regions: bool [z, y, x] each, the voxels that may change.
            edits: one for each patch, with a diameter.
            seeds: one for each patch.

        Raises:
            InputError: an edit has no diameter.
        """
        return [self._filled(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def _filled(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        random, condition, diameter = generator(seed, "render"), edit.nodule, edit.diameter_mm
        shape = self._shapes(condition, derive(seed, "shape"))
        asked = {name: value for name, value in condition.given().items() if name in RENDERED}
        wanted = replace(NoduleAttributes(**shape.attributes.given() | asked), subtlety=None)
        solid = placed(shape.mask, patch, diameter, random)
        scanner = self._scanner or measure_scanner(patch)
        drawn = draw_appearance(replace(wanted, diameter_mm=diameter), random)
        reach = self.reach_mm(edit)[1]
        hu, nodule = render(patch, region, solid, drawn, scanner, derive(seed, "inside"), reach)
        return Filled(hu, nodule, wanted, shape.origin, shape.notes)


def placed(mask: Volume, patch: Volume, diameter_mm: float, random: np.random.Generator) -> NoduleSolid:
    """Place the shape of a mask in a patch: turned and mirrored at random, at a random point of the middle voxel.

    Args:
        mask: [z, y, x], on voxels of its own.
        patch: gives the voxels.
        diameter_mm: diameter that the shape's mask should have on the voxels of the patch.
        random: random numbers for rotation, mirroring and place.
    """
    solid = turned(solid_of_mask(mask, diameter_mm), random)
    z, y, x = (random.uniform(-0.5, 0.5, 3) * patch.spacing_mm).tolist()
    return fitted(replace(solid, offset_mm=(z, y, x)), patch, diameter_mm)


def fitted(solid: NoduleSolid, patch: Volume, diameter_mm: float) -> NoduleSolid:
    """Scale a shape, and move it by up to half a pixel, so that its mask on the voxels of a patch has a diameter.

    The mask of a small nodule on coarse voxels can have few diameters: it is an odd number of voxels wide if its middle
    is the middle of a voxel, and an even number if its middle lies between two voxels.

    Args:
        solid: a solid with about this diameter.
        patch: gives the voxels.
        diameter_mm: diameter that the mask should have.
    """
    tried = []
    of_itself = solid
    for _ in range(SHAPE_FITTINGS):
        found = _mask_diameter_mm(solid, patch)
        tried.append((abs(diameter_mm - found), solid))
        if tried[-1][0] <= min(patch.spacing_mm[1:]) / 2:
            break
        solid = replace(solid, scale=solid.scale * float(np.clip(diameter_mm / found, 0.7, 1.5)))
    missed, nearest = min(tried, key=lambda one: one[0])
    return nearest if missed <= DIAMETER_TOLERANCE * diameter_mm else _searched(of_itself, nearest, patch, diameter_mm)


def _searched(solid: NoduleSolid, fallback: NoduleSolid, patch: Volume, diameter_mm: float) -> NoduleSolid:
    """The shape with the scale nearest to its own at which the mask has the diameter within `DIAMETER_TOLERANCE`.

    Args:
        solid: has the diameter itself, before it is put on voxels.
        fallback: returned if no scale and offset comes nearer to the diameter.
        patch: gives the voxels.
        diameter_mm: diameter that the mask should have.
    """

    def stretched(one: NoduleSolid) -> float:
        return abs(float(np.log(one.scale / solid.scale)))

    z, _, _ = solid.offset_mm
    _, y, x = patch.spacing_mm
    offsets = [solid.offset_mm, (z, 0.0, 0.0), (z, 0.0, x / 2), (z, y / 2, 0.0), (z, y / 2, x / 2)]
    candidates = [
        replace(solid, scale=solid.scale * float(scale), offset_mm=offset)
        for offset in offsets
        for scale in TRIED_SCALES
    ]
    nearest, least = fallback, inf
    for one in sorted([fallback, *candidates], key=stretched):
        missed = abs(_mask_diameter_mm(one, patch) - diameter_mm) - DIAMETER_TOLERANCE * diameter_mm
        if missed <= 0:
            return one
        if missed < least:
            nearest, least = one, missed
    return nearest


def _mask_diameter_mm(solid: NoduleSolid, patch: Volume) -> float:
    return axial_diameter_mm(np.argwhere(outlined(solid, patch)), patch.spacing_mm)


def outlined(solid: NoduleSolid, patch: Volume) -> NDArray[np.bool_]:
    """Return the mask of a shape in the middle of a patch, bool [z, y, x].

    A voxel is marked if the share of it that the shape fills is at least half the largest share. If some voxel lies
    wholly inside the shape, these are the voxels that are at least half filled. In thick slices or coarse voxels, where
    no voxel is filled, the mask is as wide as the nodule's profile at half its maximum.
    """
    box, parts = _box(patch, solid.reach_mm), _parts(patch)
    distance = solid.at(_points(patch, box, parts))
    share = _means((distance <= 0).astype(np.float32), parts)
    if not share.any():  # the shape lies between the centres of the parts of a voxel
        share = _means((distance == distance.min()).astype(np.float32), parts)
    mask = np.zeros(patch.shape, bool)
    mask[box] = share >= 0.5 * float(share.max())
    return mask


def render(
    patch: Volume,
    region: NDArray[np.bool_],
    solid: NoduleSolid,
    appearance: Appearance,
    scanner: Scanner,
    seed: int,
    reach_mm: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Render a shape with a given appearance into the middle of a patch.

    Args:
        patch: HU [z, y, x].
        region: bool [z, y, x], the voxels that may change.
        solid: shape of the nodule.
        appearance: densities, edge and strands.
        scanner: blur and noise.
        seed: seed of all random fields.
        reach_mm: strands lead at most this far from the middle; up to the faces of the patch if not given.

    Returns:
        HU, float32 [z, y, x], and the nodule's voxels as a reader would outline them, bool [z, y, x].
    """
    random = generator(seed)
    hu = patch.voxels.astype(np.float32)
    blur = 3 * max(scanner.blur_mm)
    if reach_mm is None:
        reach_mm = min(n * s / 2 for n, s in zip(patch.shape, patch.spacing_mm, strict=True))
    room = max(reach_mm, solid.reach_mm)
    strands = draw_strands(solid, appearance, replace(patch, voxels=hu), room - blur / 2, random)
    spread = max((float(np.linalg.norm(s.points_mm, axis=1).max()) for s in strands), default=0.0)
    reach = max(solid.reach_mm, spread) + blur + appearance.edge_mm
    box = _box(patch, reach)
    parts = _parts(patch)
    points = _points(patch, box, parts)
    distance = solid.at(points)
    cover, tissue_hu = _densities(points, distance, solid, appearance, lung_hu_of(hu[box]), random, patch, parts)
    edge = np.divide(appearance.edge_mm, patch.spacing_mm)
    cover, density = (gaussian_filter(_means(values, parts), edge) for values in (cover, cover * tissue_hu))
    if strands:
        thickness = 1.0 if appearance.core_share else HAZY_STRAND
        beside = np.maximum(thickness * _means(share_of(points, strands, PART_MM), parts) - cover, 0)
        cover, density = cover + beside, density + beside * STRAND_HU
    cover, density = (scanner.blurred(values, patch.spacing_mm) for values in (cover, density))
    tissue = density / np.maximum(cover, 1e-6)
    hu[box] = laid_over(replace(patch, voxels=hu[box]), cover, tissue, region[box], scanner, seed)
    return hu, outlined(solid, patch) & region


def _densities(
    points: NDArray[np.float32],
    distance: NDArray[np.float32],
    solid: NoduleSolid,
    appearance: Appearance,
    lung_hu: float,
    random: np.random.Generator,
    patch: Volume,
    parts: list[int],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The share of each part of a voxel that is nodule, and the nodule's HU there, both of the shape of `distance`."""
    a = appearance
    step = PART_MM / 2
    outline_mm = min(a.outline_mm, THINNEST * solid.depth_mm)
    depth = max(solid.depth_mm - outline_mm, 0.3)
    rough = _grain(points.shape[1:], patch, parts, random, ROUGH_LENGTH_MM)
    rough *= np.where(rough < 0, BUMP_MM, DENT_MM) * min(a.roughness, ROUGHEST * solid.depth_mm / BUMP_MM)
    within = distance + outline_mm + rough
    body = np.clip(0.5 - within / step, 0, 1)
    # Depth inside the nodule, from 0 at the edge to 1 in the middle.
    inwards = np.clip(-within / depth, 0, 1)
    grain = _grain(points.shape[1:], patch, parts, random, NODULE_GRAIN_MM)
    dense = inwards + CORE_ROUGH * _grain(points.shape[1:], patch, parts, random, 0.5 * depth)
    core = np.clip((dense - (1 - a.core_share)) * depth / step + 0.5, 0, 1) if a.core_share < 1 else np.ones_like(body)
    above = max(a.haze_hu - lung_hu, FAINTEST_HU) * (1 + HAZE_GRAIN * grain)
    core_hu = a.core_hu
    haze_cover = np.clip(above / max(core_hu - lung_hu, 1), 0, 1)
    hu = core_hu + NODULE_GRAIN_HU * grain
    if a.cavity:
        wall = np.clip((inwards - 0.45) * depth / step + 0.5, 0, 1)
        hu = 35.0 + wall * (core_hu - 35.0)
    calcium = _calcium(a, inwards, grain, points, depth)
    hu = hu + calcium * (a.calcium_hu - hu)
    cover = body * np.maximum(core + (1 - core) * haze_cover, calcium)
    return cover.astype(np.float32), hu.astype(np.float32)


def _calcium(
    a: Appearance, inwards: NDArray, grain: NDArray, points: NDArray, depth: float
) -> NDArray[np.floating] | float:
    """Return the share of calcium from 0 to 1, by its pattern."""
    sharp = 4.0
    if a.calcium == "none":
        return 0.0
    if a.calcium == "solid":
        return np.clip(inwards * sharp + 0.5, 0, 1)
    if a.calcium == "central":
        return np.clip((inwards - 0.5) * sharp + 0.5, 0, 1)
    if a.calcium == "laminated":
        return np.clip(0.5 + sharp * np.sin(inwards * 3 * np.pi), 0, 1) * (inwards > 0)
    if a.calcium == "popcorn":
        return np.clip((grain - 0.4) * 2, 0, 1) * (inwards > 0.15)
    aside = np.sqrt(((points - np.array([0, 0.45, 0.45])[:, None, None, None] * depth) ** 2).sum(0))
    return np.clip((0.35 * depth - aside) * sharp / depth + 0.5, 0, 1)


def _grain(
    shape: tuple[int, ...], patch: Volume, parts: list[int], random: np.random.Generator, length_mm: float
) -> NDArray[np.float32]:
    """A random field of unit variance on the parts of voxels, correlated by a Gaussian with this standard deviation."""
    white = random.standard_normal(shape, np.float32)
    field = gaussian_filter(white, [length_mm * n / s for n, s in zip(parts, patch.spacing_mm, strict=True)])
    return field / max(float(field.std()), 1e-6)


def _parts(patch: Volume) -> list[int]:
    """Return the number of parts of a voxel along (z, y, x)."""
    return [max(1, int(np.ceil(s / PART_MM))) for s in patch.spacing_mm]


def _box(patch: Volume, reach_mm: float) -> tuple[slice, slice, slice]:
    """Return the voxels within `reach_mm` of the middle of a patch along each axis, as slices (z, y, x)."""
    sides = []
    for n, s in zip(patch.shape, patch.spacing_mm, strict=True):
        middle, half = (n - 1) / 2, reach_mm / s
        sides.append(slice(max(int(np.floor(middle - half)), 0), min(int(np.ceil(middle + half)) + 1, n)))
    return sides[0], sides[1], sides[2]


def _points(patch: Volume, box: tuple[slice, slice, slice], parts: list[int]) -> NDArray[np.float32]:
    """Return the centres of the parts of a box's voxels, [(z, y, x), ...] in mm from the middle of the patch."""
    axes = []
    for side, n, s, k in zip(box, patch.shape, patch.spacing_mm, parts, strict=True):
        within = (np.arange(k) + 0.5) / k - 0.5
        axes.append(((np.arange(side.start, side.stop) - (n - 1) / 2)[:, None] + within).ravel() * s)
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def _means(values: NDArray[np.float32], parts: list[int]) -> NDArray[np.float32]:
    """Return the mean over the parts of each voxel, [z, y, x]."""
    z, y, x = (n // k for n, k in zip(values.shape, parts, strict=True))
    return values.reshape(z, parts[0], y, parts[1], x, parts[2]).mean((1, 3, 5))
