"""A method around a generator of patches: its nodules are taken out of their samples and blended into scans."""

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
from synthorax.makers import Edit, Filled, Generator, Options, Role, Samples
from synthorax.nodule import NoduleAttributes
from synthorax.rendering.overlay import laid_over, lung_hu_of
from synthorax.scanner import CONTEXT_MM, Scanner, measure_scanner
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

DRAWN_SAMPLES = 16
"""Samples of a generator that are made for a nodule, of which one is taken."""
ATTEMPTS = 3
"""As many samples are made again, at most this often, until one of them has no more flaws than `MOST_FLAWS`."""
MOST_FLAWS = 0.05
"""Take a sample with at most this many flaws, as `_flaws` counts them, without drawing others."""
SAMPLE_SCALES = (0.75, 1.35)
"""A generated nodule is made narrower or wider by a factor of this range, so that it has the diameter asked for."""
STRETCHED = 0.1
"""Flaws of a nodule scaled by a factor e; a nodule that needs a factor e beyond `SAMPLE_SCALES` has 1 more."""
ATTACHED_SHARE = 0.15
"""Share of the shell around a nodule that may be dense; more counts as flaws: such a nodule is attached."""
SAMPLE_FITTINGS = 4
"""A nodule is scaled at most this often, until its mask on the scan's voxels has the diameter; the nearest counts."""
FADE_MM = 2.0
"""Distance outside its mask at which a nodule has faded out, and thickness of the shell that is looked at beyond."""
CORE_MM = 1.0
"""Voxels deeper in the mask than this show the nodule's tissue without partial volume."""
CORE_SPREAD_MM = 2.0
"""Standard deviation of the Gaussian that continues the core's tissue outwards."""
GRAIN_VOXELS = 0.6
"""Standard deviation of the Gaussian that takes a sample's own noise out of its tissue, in voxels of the sample."""
FAINT = 0.06
"""A voxel outside the core with less of the nodule than this, which may be noise, has none."""
SAMPLE_REFINEMENT = 2
"""A sample is taken apart on voxels this many times smaller than its own, so that steep edges show no steps."""
VOXEL_BLUR = 0.85
"""Standard deviation of the blur of a sample's edges, in its voxels; interpolation adds to that of real scans."""
STEEPEST = 2.0
"""Edges are made steeper by at most this factor."""
SOFT_TISSUE_HU = 30.0
"""HU of a solid nodule's soft tissue."""


class Blended:
    """A `makers.Method` around a generator of patches with masks: its nodules are blended into scans.

    A sample's nodule is taken out of its background by how dense each voxel is between lung and tissue, scaled to the
    diameter asked for, and laid over the scan with the scan's noise. What is as dense in the scan stays.

    Args:
        generator: makes patches with a nodule, whose mask comes with them.
        options: of its sampling.
    """

    roles: frozenset[Role] = frozenset({"injects"})

    def __init__(self, generator: Generator, options: Options | None = None) -> None:
        self._generator, self._options = generator, options
        self.name, self.lineage = generator.name, generator.lineage
        self.heeds = generator.heeds | {"diameter_mm"}

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Half the width of the patch that it wants to see, and the radius of the ball that it may change.

        Raises:
            InputError: a nodule wider than the generator's patches show whole, scaled as far as they are.
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
        """Blend a nodule into the middle of each patch; attributes not asked for are those that its sample has.

        Raises:
            InputError: samples without masks, or none with a nodule; a nodule narrower than a voxel of its patch is
                thick.
        """
        return [self._filled(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def _filled(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        check_not_thinner(edit.diameter_mm, patch, self.name)
        made, i, notes = self._drawn(edit, seed)
        sample = _Sample.of(made, i)
        patch, scanner = replace(patch, voxels=patch.voxels.astype(np.float32)), measure_scanner(patch)
        cover, tissue, mask = sample.fitted(patch, edit.diameter_mm, scanner)
        # Of a voxel of ground glass a part is lung, and the scan's lung is another one than the sample's.
        lung_share = np.clip((SOFT_TISSUE_HU - tissue) / (SOFT_TISSUE_HU - sample.lung_hu), 0, 1)
        tissue = tissue + lung_share * (lung_hu_of(patch.voxels) - sample.lung_hu)
        hu = laid_over(patch, cover, tissue, region, scanner, seed)
        attributes = replace(sample.attributes, **edit.nodule.given())
        return Filled(hu, mask & region, attributes, notes=notes)

    def _drawn(self, edit: Edit, seed: int) -> tuple[Samples, int, tuple[str, ...]]:
        """Return samples, which of them is the best, and what the generator tells of them."""
        own, wanted = self._generator, edit.diameter_mm
        asked = {name: value for name, value in vars(edit.nodule).items() if name in own.heeds}
        if "diameter_mm" in asked:
            asked["diameter_mm"] = min(wanted, own.spec.widest_mm)
        least = inf
        for attempt in range(ATTEMPTS):
            parts = own.sample(
                [(NoduleAttributes(**asked),)] * DRAWN_SAMPLES, derive(seed, "samples", attempt), self._options
            )
            made = Samples.joined(parts)
            if "mask" not in made.arrays:
                raise InputError(self.name, "samples without masks", "a generator whose patches have masks")
            for i in range(len(made)):
                if (flaws := _flaws(made, i, wanted)) < least:
                    chosen, least = (made, i), flaws
            if least <= MOST_FLAWS:
                break
        if least == inf:
            raise InputError(
                self.name, f"no nodule in {ATTEMPTS * DRAWN_SAMPLES} samples", "attributes that it can make"
            )
        notes = tuple(f"of the {DRAWN_SAMPLES} samples that it was chosen from: {note}" for note in chosen[0].notes)
        return *chosen, notes


def _flaws(made: Samples, i: int, diameter_mm: float) -> float:
    """How far the nodule of a sample is from a free one of a diameter: by how it would be scaled, and what it hangs on.

    Infinite where there is none, or one cut off by a face of the patch.
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
        cover: float32 [z, y, x] from 0 to 1, how much of each voxel is nodule.
        tissue: float32 [z, y, x], the nodule's HU, without the sample's lung and noise.
        mask: float32 [z, y, x], the nodule's voxels where it is one half or more.
        middle: index (z, y, x) of the mask's middle.
        blur_mm: by which its edges are soft, as the voxels of its sample are large.
        solid: how near its tissue is to soft tissue, 0 to 1; ground glass has soft edges of its own.
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
        """Take the nodule of a sample out of its background."""
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
        edges = smooth + solid * (hu - smooth)  # noise would be taken for the edges of a faint nodule
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
        """Cover, tissue and mask on a patch's voxels [z, y, x], scaled so that the mask has the diameter there.

        Edges of solid nodules are steepened by as much as the scan is sharper than the sample.
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
        """Values of the sample [z, y, x] on a patch's voxels, with the middle of the nodule in the patch's middle."""
        z, y, x = (scale * s for s in self.spacing_mm)
        own = Volume(values, (z, y, x), direction=patch.direction)
        at = patch.to_world((np.array(patch.shape) - 1) / 2) - own.to_world(self.middle)
        own = replace(own, origin_mm=tuple(at.tolist()))
        return onto(own, patch, fill=0)


def _finer(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values [z, y, x] on voxels `SAMPLE_REFINEMENT` times smaller; the faces of the box stay where they are."""
    found: NDArray[np.float32] = zoom(values, SAMPLE_REFINEMENT, order=3, mode="nearest", grid_mode=True)
    return found


def _spread(hu: NDArray[np.float32], core: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """The HU of a core [z, y, x], and outside it those of the core's voxels nearby."""
    result = np.where(core, hu, 0).astype(np.float32)
    known = core.astype(np.float32)
    values, weights = (gaussian_filter(v, np.divide(CORE_SPREAD_MM, spacing_mm)) for v in (result, known))
    near = values / np.maximum(weights, 1e-6)
    mean = float(hu[core].mean())
    outside = np.where(weights > 1e-3, near, mean)
    return np.where(core, hu, outside).astype(np.float32)
