"""A method around a generator of patches: its nodules are taken out of their samples and blended into scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.morphology import dilated, distance_inside, eroded
from synthorax.editing.learned import CONTEXT_MM, REACH_MM, SPREAD, diameter_of, noise_of, onto
from synthorax.errors import InputError
from synthorax.makers import Edit, Filled, Generator, Options, Role, Samples
from synthorax.nodule import NoduleAttributes
from synthorax.scanner import measure_scanner
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

DRAWN = 16
"""Samples of a generator that are made for a nodule, of which one is taken."""
ATTEMPTS = 3
"""As many samples are made again, at most this often, until one of them has no more flaws than `CLOSE`."""
CLOSE = 0.05
"""Flaws of a sample that is good enough; `_Sample.flaws` says how they are counted."""
SCALES = (0.75, 1.35)
"""A generated nodule is made narrower or wider by a factor of this range, so that it has the diameter asked for."""
STRETCHED = 0.1
"""A nodule scaled by a factor e has this many flaws; one that would need a factor beyond `SCALES` by e has 1 more."""
ATTACHED = 0.15
"""A sample is worse the more of the shell around its nodule, beyond this share, is dense: it hangs on a wall."""
FITTINGS = 4
"""A nodule is scaled at most this often, until its mask on the scan's voxels has the diameter; the nearest counts."""
SHELL_MM = 2.0
"""Distance outside its mask at which a nodule has faded out, and thickness of the shell that is looked at beyond."""
CORE_MM = 1.0
"""Voxels deeper in the mask than this show the nodule's tissue without partial volume."""
NEAR_MM = 2.0
"""Standard deviation of the Gaussian by which the core's tissue is continued outwards."""
GRAIN_VOXELS = 0.6
"""Standard deviation of the Gaussian that takes a sample's own noise out of its tissue, in voxels of the sample."""
FAINT = 0.06
"""A voxel outside the core with less of the nodule than this, which may be noise, has none."""
LUNG_HU, DENSER_HU, TISSUE_HU = -850.0, -500.0, 30.0
"""Lung where a patch shows none; the bound between lung and denser tissue; soft tissue."""
DENSE_HU = 150.0
"""Where a scan is this much denser than the nodule would be, it stays; where it is as dense, half of it stays."""


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
        diameter, widest = diameter_of(edit), self._generator.spec.widest_mm * SCALES[1]
        if diameter > widest:
            raise InputError("diameter", f"{diameter:g} mm", f"at most {widest:g} mm with {self.name}")
        radius = SPREAD * diameter + REACH_MM
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
            InputError: samples without masks, or none with a nodule.
        """
        return [self._filled(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def _filled(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        sample, notes = self._drawn(edit, seed)
        hu = patch.voxels.astype(np.float32)
        cover, tissue, mask = sample.fitted(patch, diameter_of(edit))
        lung_hu = _lung_hu(hu)
        # Of a voxel of ground glass a part is lung, and the scan's lung is another one than the sample's.
        lung_share = np.clip((TISSUE_HU - tissue) / (TISSUE_HU - sample.lung_hu), 0, 1)
        tissue = tissue + lung_share * (lung_hu - sample.lung_hu)
        smooth = gaussian_filter(hu, np.divide(1.0, patch.spacing_mm))
        cover = cover * np.clip((tissue + DENSE_HU - smooth) / (2 * DENSE_HU), 0, 1) * region
        noise = noise_of(measure_scanner(patch), cover, patch, seed)
        given = {name: value for name, value in vars(edit.nodule).items() if value is not None}
        attributes = replace(sample.attributes, **given)
        return Filled(hu + cover * (tissue - hu) + noise, mask & region, attributes, notes=notes)

    def _drawn(self, edit: Edit, seed: int) -> tuple[_Sample, tuple[str, ...]]:
        """Return the best sample of several, and what the generator tells of it."""
        own = self._generator
        wanted = diameter_of(edit)
        asked = {name: value for name, value in vars(edit.nodule).items() if name in own.heeds}
        if "diameter_mm" in asked:
            asked["diameter_mm"] = min(wanted, own.spec.widest_mm)
        best: _Sample | None = None
        notes: tuple[str, ...] = ()
        for attempt in range(ATTEMPTS):
            parts = own.sample([(NoduleAttributes(**asked),)] * DRAWN, derive(seed, "samples", attempt), self._options)
            made = Samples.joined(parts)
            notes = made.notes
            if "mask" not in made.arrays:
                raise InputError(self.name, "samples without masks", "a generator whose patches have masks")
            found = [one for i in range(len(made)) if (one := _Sample.of(made, i)) is not None]
            best = min([*([best] if best else []), *found], key=lambda one: one.flaws(wanted), default=None)
            if best is not None and best.flaws(wanted) <= CLOSE:
                break
        if best is None:
            raise InputError(self.name, f"no nodule in {ATTEMPTS * DRAWN} samples", "attributes that it can make")
        return best, notes


@dataclass(frozen=True, eq=False)
class _Sample:
    """A generated nodule.

    Attributes:
        cover: float32 [z, y, x] from 0 to 1, how much of each voxel is nodule.
        tissue: float32 [z, y, x], the nodule's HU, without the sample's lung and noise.
        mask: bool [z, y, x].
        middle: index (z, y, x) of the mask's middle.
        attached: share of the shell around the mask that is dense.
    """

    cover: NDArray[np.float32]
    tissue: NDArray[np.float32]
    mask: NDArray[np.bool_]
    middle: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    lung_hu: float
    attached: float
    attributes: NoduleAttributes

    @classmethod
    def of(cls, made: Samples, i: int) -> _Sample | None:
        """Take the nodule of a sample out of its background; None if there is none, or one cut off by a face."""
        mask = made.arrays["mask"][i] > 0
        inside = np.argwhere(mask)
        if not len(inside) or inside.min() == 0 or (inside.max(0) == np.array(mask.shape) - 1).any():
            return None
        spacing = made.spec.spacing_mm
        hu = made.ct[i].astype(np.float32)
        smooth = gaussian_filter(hu, GRAIN_VOXELS)
        lung_hu = _lung_hu(smooth)
        core = eroded(mask, CORE_MM, spacing)
        core = core if core.any() else mask & (smooth >= np.median(smooth[mask]))
        tissue = _spread(smooth, core, spacing)
        dense = np.clip((hu - lung_hu) / np.maximum(tissue - lung_hu, 50), 0, 1)
        dense = np.where(core, 1, np.clip((dense - FAINT) / (1 - FAINT), 0, 1))
        nearness = np.clip(1 - (distance_inside(~mask, spacing) - min(spacing) / 2) / SHELL_MM, 0, 1)
        cover = dense * nearness**2 * (3 - 2 * nearness)
        shell = dilated(mask, 2 * SHELL_MM, spacing) & ~dilated(mask, SHELL_MM, spacing)
        attached = float((dense[shell] > 0.5).mean()) if shell.any() else 0.0
        known = made.nodules[i][0].attributes if made.nodules[i] else NoduleAttributes()
        return cls(cover.astype(np.float32), tissue, mask, inside.mean(0), spacing, lung_hu, attached, known)

    def flaws(self, diameter_mm: float) -> float:
        """How far it is from a free nodule of a diameter: by how it would be scaled, and by what it hangs on."""
        ratio = diameter_mm / axial_diameter_mm(np.argwhere(self.mask), self.spacing_mm)
        low, high = SCALES
        beyond = log(ratio / high) if ratio > high else log(low / ratio) if ratio < low else 0.0
        return beyond + STRETCHED * abs(log(ratio)) + max(self.attached - ATTACHED, 0)

    def fitted(
        self, patch: Volume, diameter_mm: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Cover, tissue and mask on a patch's voxels [z, y, x], scaled so that the mask has the diameter there."""
        scale = diameter_mm / axial_diameter_mm(np.argwhere(self.mask), self.spacing_mm)
        scale = float(np.clip(scale, *SCALES))
        tried = []
        for _ in range(FITTINGS):
            mask = self._placed(self.mask.astype(np.float32), patch, scale) >= 0.5
            found = axial_diameter_mm(np.argwhere(mask), patch.spacing_mm) if mask.any() else min(patch.spacing_mm) / 2
            tried.append((abs(found - diameter_mm), scale, mask))
            if tried[-1][0] <= min(patch.spacing_mm[1:]) / 2:
                break
            scale = float(np.clip(scale * diameter_mm / found, *SCALES))
        _, scale, mask = min(tried, key=lambda one: one[0])
        cover, tissue = (self._placed(values, patch, scale) for values in (self.cover, self.tissue))
        return cover, tissue, mask

    def _placed(self, values: NDArray[np.float32], patch: Volume, scale: float) -> NDArray[np.float32]:
        """Values of the sample [z, y, x] on a patch's voxels, with the middle of the nodule in the patch's middle."""
        z, y, x = (scale * s for s in self.spacing_mm)
        own = Volume(values, (z, y, x), direction=patch.direction)
        at = patch.to_world((np.array(patch.shape) - 1) / 2) - own.to_world(self.middle)
        own = replace(own, origin_mm=tuple(at.tolist()))
        return onto(own, patch, fill=0)


def _lung_hu(hu: NDArray[np.float32]) -> float:
    """The lung of a patch."""
    lung = hu[hu < DENSER_HU]
    return float(np.median(lung)) if lung.size > 0.05 * hu.size else LUNG_HU


def _spread(hu: NDArray[np.float32], core: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """The HU of a core [z, y, x], and outside it those of the core's voxels nearby."""
    result = np.where(core, hu, 0).astype(np.float32)
    known = core.astype(np.float32)
    values, weights = (gaussian_filter(v, np.divide(NEAR_MM, spacing_mm)) for v in (result, known))
    near = values / np.maximum(weights, 1e-6)
    mean = float(hu[core].mean())
    outside = np.where(weights > 1e-3, near, mean)
    return np.where(core, hu, outside).astype(np.float32)
