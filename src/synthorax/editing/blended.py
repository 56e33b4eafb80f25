"""A method around a generator of patches: its nodules are separated from their samples and blended into scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from synthorax.anatomy.morphology import distance_inside, eroded
from synthorax.editing.learned import EDITED_DIAMETERS, EDITED_MARGIN_MM, check_not_thinner, half_filled, onto
from synthorax.errors import InputError
from synthorax.makers import Edit, Filled, Generator, Options, Role, Samples, checked_samples
from synthorax.nodule import NoduleAttributes
from synthorax.rendering.overlay import laid_over, lung_hu_of
from synthorax.scanner import CONTEXT_MM, Scanner, measure_scanner
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

DRAWN_SAMPLES = 16
"""Number of samples that the generator makes for a nodule, of which the best one is used."""
ATTEMPTS = 3
"""Most times that `DRAWN_SAMPLES` samples are made, until one of them has no more flaws than `MOST_FLAWS`."""
MOST_FLAWS = 0.05
"""A sample with at most this many flaws, as `_flaws` counts them, is used without drawing others."""
SAMPLE_SCALES = (0.75, 1.35)
"""Range of the factor by which a generated nodule is scaled to reach the requested diameter."""
STRETCHED = 0.1
"""Flaws of a nodule that must be scaled by a factor of e. A factor of e beyond `SAMPLE_SCALES` counts 1 more."""
ATTACHED_SHARE = 0.15
"""Share of the shell around a nodule that may be dense; a larger share counts as flaws, since the nodule is then
attached to something."""
SAMPLE_FITTINGS = 4
"""Most scalings of a nodule that are tried until its mask on the scan has the diameter; the nearest one is used."""
FADE_MM = 2.0
"""Distance in mm outside its mask at which a nodule has faded out, and thickness in mm of the shell beyond it that is
checked for attachments."""
CORE_MM = 1.0
"""Voxels deeper in the mask than this, in mm, show the nodule's tissue without partial volume."""
CORE_SPREAD_MM = 2.0
"""Standard deviation in mm of the Gaussian that extends the core's tissue outwards."""
GRAIN_VOXELS = 0.6
"""Standard deviation, in voxels of the sample, of the Gaussian that removes the sample's noise from its tissue."""
FAINT = 0.06
"""A voxel outside the core with a smaller share of nodule than this, which may be noise, counts as lung."""
SAMPLE_REFINEMENT = 2
"""Factor by which the voxels on which a nodule is separated are smaller than those of its sample, to avoid steps at
steep edges."""
VOXEL_BLUR = 0.85
"""Standard deviation of the blur of a sample's edges, in voxels of the sample, to which interpolation contributes."""
STEEPEST = 2.0
"""Largest factor by which edges are made steeper."""
MASKS_NEEDED = 'samples with "mask" in Samples.arrays, uint8 [n, z, y, x]: the label of the nodule at each voxel'
"""What the samples need whose nodules are blended, for errors."""
SOFT_TISSUE_HU = 30.0
"""HU of the soft tissue of a solid nodule."""


class Blended:
    """A `makers.Method` that wraps a generator of patches with masks, and blends its nodules into scans.

    The nodule of a sample is separated from its background by each voxel's density, from lung to tissue. It is scaled
    to the requested diameter and laid over the scan with the scan's noise. Tissue of the scan that is as dense is kept.

    Args:
        generator: makes patches with a nodule and its mask.
        options: options of its sampling.
    """

    roles: frozenset[Role] = frozenset({"injects"})

    def __init__(self, generator: Generator, options: Options | None = None) -> None:
        self._generator, self._options = generator, options
        self.name, self.lineage = generator.name, generator.lineage
        self.heeds = generator.heeds | {"diameter_mm"}

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Return half the width in mm of the patch that it needs, and the radius in mm of the ball it may change.

        Raises:
            InputError: the nodule is wider than the largest one of the generator after scaling.
        """
        diameter, widest = edit.diameter_mm, self._generator.spec.widest_mm * SAMPLE_SCALES[1]
        if diameter > widest:
            raise InputError("diameter", f"{diameter:g} mm", f"at most {widest:g} mm with {self.name}")
        radius = EDITED_DIAMETERS * diameter + EDITED_MARGIN_MM
        return radius + CONTEXT_MM, radius

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Blend a nodule into the middle of each patch; attributes that were not requested are those of its sample.

        Raises:
            InputError: the generator gives no masks, no sample has a nodule, or a nodule is narrower than the longest
                edge of its patch's voxels.
        """
        return [self._filled(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def _filled(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        check_not_thinner(edit.diameter_mm, patch, self.name)
        made, i = self._drawn(edit, seed)
        sample = _Sample.of(made, i)
        patch, scanner = replace(patch, voxels=patch.voxels.astype(np.float32)), measure_scanner(patch)
        cover, tissue, mask = sample.fitted(patch, edit.diameter_mm, scanner)
        # A voxel of ground glass is lung in part, and the scan's lung has other HU than the sample's.
        lung_share = np.clip((SOFT_TISSUE_HU - tissue) / (SOFT_TISSUE_HU - sample.lung_hu), 0, 1)
        tissue = tissue + lung_share * (lung_hu_of(patch.voxels) - sample.lung_hu)
        hu = laid_over(patch, cover, tissue, region, scanner, seed)
        attributes = replace(sample.attributes, **edit.nodule.given())
        return Filled(hu, mask & region, attributes)

    def _drawn(self, edit: Edit, seed: int) -> tuple[Samples, int]:
        """Make samples of a nodule; return them and the index of the best one, which has a mask.

        Notes of the samples are left out: they tell of those that were not chosen, or of the attributes that the
        generator chose, which the nodule has.
        """
        own, wanted = self._generator, edit.diameter_mm
        asked = {name: value for name, value in vars(edit.nodule).items() if name in own.heeds}
        if "diameter_mm" in asked:
            asked["diameter_mm"] = min(wanted, own.spec.widest_mm)
        least = inf
        for attempt in range(ATTEMPTS):
            wishes = [(NoduleAttributes(**asked),)] * DRAWN_SAMPLES
            parts = checked_samples(own, wishes, derive(seed, "samples", attempt), self._options)
            made = Samples.joined(parts)
            if "mask" not in made.arrays:
                raise InputError(self.name, "samples without masks", MASKS_NEEDED)
            for i in range(len(made)):
                if (flaws := _flaws(made, i, wanted)) < least:
                    chosen, least = (made, i), flaws
            if least <= MOST_FLAWS:
                break
        if least == inf:
            tried = f"{ATTEMPTS * DRAWN_SAMPLES} samples"
            if not made.masks.any():
                found = f"empty masks in the last {DRAWN_SAMPLES} of {tried}"
                raise InputError(self.name, found, "a model that was trained long enough to mark its nodules")
            raise InputError(self.name, f"no nodule in {tried}", "attributes that it can make")
        return chosen


def _flaws(made: Samples, i: int, diameter_mm: float) -> float:
    """Count the flaws of a sample's nodule: the scaling that it needs for a diameter, and dense tissue around it.

    The result is infinite if the sample has no nodule, or if the nodule touches a face of the patch.
    """
    mask, spacing = made.arrays["mask"][i] > 0, made.spec.spacing_mm
    inside = np.argwhere(mask)
    if not len(inside) or inside.min() == 0 or (inside.max(0) == np.array(mask.shape) - 1).any():
        return inf
    hu = gaussian_filter(made.ct[i].astype(np.float32), GRAIN_VOXELS)
    to_mask = distance_inside(~mask, spacing)
    shell = (to_mask > FADE_MM) & (to_mask <= 2 * FADE_MM)
    attached = float((hu[shell] > (lung_hu_of(hu) + np.median(hu[mask])) / 2).mean()) if shell.any() else 0.0
    ratio = diameter_mm / axial_diameter_mm(inside, spacing)
    low, high = SAMPLE_SCALES
    beyond = log(ratio / high) if ratio > high else log(low / ratio) if ratio < low else 0.0
    return beyond + STRETCHED * abs(log(ratio)) + max(attached - ATTACHED_SHARE, 0)


@dataclass(frozen=True, eq=False)
class _Sample:
    """A generated nodule on voxels `SAMPLE_REFINEMENT` times smaller than those of its sample.

    Attributes:
        cover: share of each voxel that is nodule, 0 to 1, float32 [z, y, x].
        tissue: HU of the nodule without the sample's lung and noise, float32 [z, y, x].
        mask: interpolated mask, float32 [z, y, x]; a voxel of at least one half belongs to the nodule.
        middle: index (z, y, x) of the mask's centroid.
        spacing_mm: voxel size (z, y, x).
        blur_mm: blur of its edges that comes from the large voxels of its sample.
        solid: density of its tissue, from 0 for lung to 1 for soft tissue; ground glass has soft edges of its own.
        lung_hu: HU of the sample's lung.
        attributes: attributes of the sample's nodule.
    """

    cover: NDArray[np.float32]
    tissue: NDArray[np.float32]
    mask: NDArray[np.float32]
    middle: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    blur_mm: float
    solid: float
    lung_hu: float
    attributes: NoduleAttributes

    @classmethod
    def of(cls, made: Samples, i: int) -> _Sample:
        """Separate the nodule of sample i from its background."""
        z, y, x = (s / SAMPLE_REFINEMENT for s in made.spec.spacing_mm)
        spacing = z, y, x
        hu = _finer(made.ct[i].astype(np.float32))
        share = _finer((made.arrays["mask"][i] > 0).astype(np.float32))
        mask = share >= 0.5
        smooth = gaussian_filter(hu, SAMPLE_REFINEMENT * GRAIN_VOXELS)
        lung_hu = lung_hu_of(smooth)
        core = eroded(mask, CORE_MM, spacing)
        core = core if core.any() else mask & (smooth >= np.median(smooth[mask]))
        tissue = _spread(smooth, core, spacing)
        solid = float(np.clip((np.median(tissue[core]) - lung_hu) / (SOFT_TISSUE_HU - lung_hu), 0, 1))
        edges = smooth + solid * (hu - smooth)  # smoothed for faint nodules, whose edges noise would hide
        dense = np.clip((edges - lung_hu) / np.maximum(tissue - lung_hu, 50), 0, 1)
        dense = np.where(core, 1, np.clip((dense - FAINT) / (1 - FAINT), 0, 1))
        nearness = np.clip(1 - distance_inside(~mask, spacing) / FADE_MM, 0, 1)
        cover = (dense * nearness**2 * (3 - 2 * nearness)).astype(np.float32)
        known = made.nodules[i][0].attributes if made.nodules[i] else NoduleAttributes()
        blur_mm = VOXEL_BLUR * float(np.mean(made.spec.spacing_mm))
        return cls(cover, tissue, share, np.argwhere(mask).mean(0), spacing, blur_mm, solid, lung_hu, known)

    def fitted(
        self, patch: Volume, diameter_mm: float, scanner: Scanner
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Return cover, tissue and mask on a patch's voxels [z, y, x], scaled so that the mask has the diameter there.

        Edges of solid nodules are steepened by the factor by which the scan is sharper than the sample.
        """
        scale = diameter_mm / axial_diameter_mm(np.argwhere(self.mask >= 0.5), self.spacing_mm)
        scale = float(np.clip(scale, *SAMPLE_SCALES))
        tried = []
        for _ in range(SAMPLE_FITTINGS):
            mask = half_filled(self._placed(self.mask, patch, scale))
            found = axial_diameter_mm(np.argwhere(mask), patch.spacing_mm) if mask.any() else min(patch.spacing_mm) / 2
            tried.append((abs(found - diameter_mm), scale, mask))
            if tried[-1][0] <= min(patch.spacing_mm[1:]) / 2:
                break
            scale = float(np.clip(scale * diameter_mm / found, *SAMPLE_SCALES))
        _, scale, mask = min(tried, key=lambda one: one[0])
        steeper = 1 + self.solid * (float(np.clip(scale * self.blur_mm / scanner.blur_mm[1], 1, STEEPEST)) - 1)
        cover = np.clip((self.cover - 0.5) * steeper + 0.5, 0, 1)
        return self._placed(cover, patch, scale), self._placed(self.tissue, patch, scale), mask

    def _placed(self, values: NDArray[np.float32], patch: Volume, scale: float) -> NDArray[np.float32]:
        """Resample values of the sample [z, y, x] to a patch's voxels, with the nodule in the middle of the patch."""
        z, y, x = (scale * s for s in self.spacing_mm)
        own = Volume(values, (z, y, x), direction=patch.direction)
        at = patch.to_world((np.array(patch.shape) - 1) / 2) - own.to_world(self.middle)
        own = replace(own, origin_mm=tuple(at.tolist()))
        return onto(own, patch, fill=0)


def _finer(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate values [z, y, x] on voxels `SAMPLE_REFINEMENT` times smaller; the faces of the box do not move."""
    found: NDArray[np.float32] = zoom(values, SAMPLE_REFINEMENT, order=3, mode="nearest", grid_mode=True)
    return found


def _spread(hu: NDArray[np.float32], core: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return the HU of a core, extended outside it by the HU of its nearby voxels, [z, y, x]."""
    result = np.where(core, hu, 0).astype(np.float32)
    known = core.astype(np.float32)
    values, weights = (gaussian_filter(v, np.divide(CORE_SPREAD_MM, spacing_mm)) for v in (result, known))
    near = values / np.maximum(weights, 1e-6)
    mean = float(hu[core].mean())
    outside = np.where(weights > 1e-3, near, mean)
    return np.where(core, hu, outside).astype(np.float32)
