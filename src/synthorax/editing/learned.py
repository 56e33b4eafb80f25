"""A method around an in-painter that sees patches on a grid and in an HU window of its own. No torch here.

What lies between the in-painter and a scan is done here once: patches are resampled to its grid, what it changed is
brought back to the scan's voxels, and gets the scan's noise in the place of the in-painter's own. An in-painter that
learned from critics draws the mean noise of the scans it saw: in the cores of its nodules 1.5 times that of the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.geometry import AIR_HU, mirrored_crop, resample_like, to_sitk
from synthorax.makers import Edit, Filled, Lineage, Role
from synthorax.nodule import NoduleAttributes
from synthorax.patch import BallRule, PatchSpec, ScaledPatch, as_wide_as_the_nodule
from synthorax.scanner import CONTEXT_MM, measure_scanner
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

EDITED_DIAMETERS, EDITED_MARGIN_MM = 0.8, 6.0
"""An edit reaches this many diameters of its nodule and millimetres from the nodule's middle."""
REPLACED_HU = 60.0
"""A voxel whose HU a network changes by this much is counted as replaced; by less, as replaced in part."""
SAME_WIDTH_MM = 1e-3
"""A grid that reaches beyond a patch by no more than this is taken to be as wide."""
FINE_MM, FINE_HU = 1.0, 100.0
"""Standard deviations in mm and HU of the bilateral filter that takes out an in-painter's own noise and keeps edges."""
EVEN_MM = 1.0
"""Standard deviation of the Gaussian that evens out which voxels are counted as replaced."""
FITTINGS = 3
"""A nodule is made at most this often, until its mask on the scan's voxels has the diameter; the nearest counts."""
FITTED_SCALES = (0.75, 1.4)
"""Range of the factor by which the in-painter is asked for another diameter, so that the scan shows the one wanted."""
MISSED_SHARE = 0.1
"""A mask that misses the diameter by more than this part of it, and by more than half a pixel, is fitted."""

SAME_VOXELS_MM = 1e-3
"""Two spacings that differ by at most this many mm along each axis are the same."""


class GridFill(NamedTuple):
    """What an in-painter made of a patch, on its own grid.

    Attributes:
        hu: after the edit [z, y, x].
        mask: of the nodule [z, y, x], or None.
        attributes: the nodule's; those that were asked for if not given.
        outline, notes: as of `makers.Filled`.
    """

    hu: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None
    attributes: NoduleAttributes | None = None
    outline: str = ""
    notes: tuple[str, ...] = ()


class GridEdit(NamedTuple):
    """An edit on an in-painter's own grid, [z, y, x].

    Attributes:
        before: HU of the patch, as they are.
        seen: the same within the in-painter's window, as it saw them.
        allowed: bool, the voxels that may change.
        asked: the edit, with its mask on the grid.
        made: what came out.
    """

    before: Volume
    seen: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    asked: Edit
    made: GridFill


OutlineOnGrid = Callable[[NDArray[np.bool_], Edit, int], NDArray[np.bool_]]
"""`(region, edit, seed)` on a network's grid to the mask of the nodule to be made, [z, y, x]."""
PaintPatch = Callable[[NDArray[np.float32], NDArray[np.bool_], Edit, int], tuple[Any, ...]]
"""`(hu, region, edit, seed)` on a network's grid, [z, y, x], to the first two fields of `GridFill` or more."""


class Learned:
    """A `makers.Method` around an in-painter, which sees the middle of a patch on a grid of its own.

    Attributes:
        takes_outlines: whether a new nodule may be asked for by its mask.

    Args:
        fill: the in-painter; `Edit.mask` comes to it on its own grid too. HU are clipped to the window of `spec`.
        spec: grid and HU window of what it sees, the same for every nodule or growing with it; `fill` sees the patch
            of `spec.of_nodule(edit.diameter_mm)`.
        name, lineage, heeds, roles: of the maker.
        keeps_noise: whether its output has the noise of the scan already; else its own is exchanged for the scan's.
        ball_mm: the diameter of the ball that it fills for a nodule in a patch; as wide as the nodule if not given.
        outline: the mask that `fill` will return, of an in-painter whose masks are known beforehand. Diameters are then
            fitted by masks alone, and each nodule is made once.
    """

    def __init__(
        self,
        fill: PaintPatch,
        spec: PatchSpec | ScaledPatch,
        *,
        name: str,
        lineage: Lineage,
        heeds: frozenset[str],
        roles: frozenset[Role],
        keeps_noise: bool = False,
        ball_mm: BallRule = as_wide_as_the_nodule,
        outline: OutlineOnGrid | None = None,
    ) -> None:
        self._fill, self._spec, self._keeps_noise, self._ball_mm = fill, spec, keeps_noise, ball_mm
        self._outline = outline
        self.takes_outlines = outline is not None
        self._exchanges_noise = not keeps_noise
        self.name, self.lineage, self.heeds, self.roles = name, lineage, heeds, roles

    def without_noise(self) -> Self:
        """Return the same method with the in-painter's own noise, which is not exchanged for the scan's."""
        other = copy(self)
        other._exchanges_noise = False
        return other

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Half the width of the patch that it wants to see, and the radius of the ball that it may change.

        Raises:
            InputError: a nodule whose ball is wider than the grid shows whole.
        """
        diameter = edit.diameter_mm
        if not self._shows(diameter):
            raise InputError("diameter", f"{diameter:.4g} mm", f"at most {self._widest_mm():.3g} mm with {self.name}")
        size_mm = self.view_of(edit).size_mm
        radius = min(EDITED_DIAMETERS * diameter + EDITED_MARGIN_MM, min(size_mm) / 2)
        return max(max(size_mm) / 2, radius + CONTEXT_MM), radius

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Do the edits on the in-painter's grid, and bring back what it changed.

        A nodule whose mask on the voxels of its patch misses the diameter asked for is made wider or narrower.

        Raises:
            InputError: a nodule that is to be made narrower than a voxel of its patch is thick.
        """
        return [self._fitted(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def view_of(self, edit: Edit) -> PatchSpec:
        """The grid in which an edit is done: that of its nodule's diameter, unless a method has reasons of its own."""
        return self._spec.of_nodule(edit.diameter_mm)

    def _shows(self, diameter_mm: float) -> bool:
        """Whether the grid shows a nodule and the ball that is filled for it whole."""
        spec = self._spec.of_nodule(diameter_mm)
        return diameter_mm <= self._spec.widest_mm and self._ball_mm(diameter_mm, spec) <= spec.widest_mm

    def _widest_mm(self) -> float:
        """The widest nodule that the grid shows with its ball, to a hundredth of a millimetre."""
        low, high = 0.0, self._spec.widest_mm
        while not self._shows(high) and high - low > 0.01:
            low, high = ((low + high) / 2, high) if self._shows((low + high) / 2) else (low, (low + high) / 2)
        return high

    def _fitted(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        """Do an edit; a new nodule gets its diameter on the patch's voxels, as near as `FITTINGS` tries bring it."""
        if edit.kind == "erase" or edit.mask is not None:
            return self._brought_back(patch, region, edit, self.on_grid(patch, region, edit, seed), seed)
        wanted, asked = edit.diameter_mm, edit.diameter_mm
        check_not_thinner(wanted, patch, self.name)
        tried = []
        for _ in range(FITTINGS):
            one = replace(edit, nodule=replace(edit.nodule, diameter_mm=asked))
            made = self.on_grid(patch, region, one, seed) if self._outline is None else None
            mask = self._known_mask(patch, region, one, seed) if made is None else _mask_made(made, patch)
            found = _diameter_mm(mask, patch)
            tried.append((abs(found - wanted), one, made))
            if tried[-1][0] <= max(MISSED_SHARE * wanted, min(patch.spacing_mm[1:]) / 2):
                break
            asked = float(np.clip(asked * wanted / found, *np.multiply(FITTED_SCALES, wanted)))
            if not self._shows(asked):
                break
        _, one, made = min(tried, key=lambda each: each[0])
        filled = self._brought_back(patch, region, one, made or self.on_grid(patch, region, one, seed), seed)
        return replace(filled, attributes=replace(filled.attributes, diameter_mm=wanted))

    def _known_mask(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> NDArray[np.bool_]:
        """The mask on the patch's voxels [z, y, x] that a nodule will have."""
        assert self._outline is not None
        spec = self.view_of(edit)
        grid = _grid(patch, spec.size, spec.spacing_mm)
        allowed = _mask_onto(region, patch, grid)
        return _mask_onto(self._outline(allowed, edit, seed) & allowed, grid, patch)

    def on_grid(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> GridEdit:
        """Do an edit on the in-painter's own grid, and bring nothing back to the scan.

        Args:
            patch: HU [z, y, x].
            region: bool [z, y, x], where the patch may change.

        Raises:
            InputError: an in-painter whose result is not finite, or not of its grid.
        """
        spec = self.view_of(edit)
        grid = _grid(patch, spec.size, spec.spacing_mm)
        hu = _reaching(replace(patch, voxels=patch.voxels.astype(np.float32)), grid)
        grid = resample_like(hu, grid, fill=AIR_HU)  # as it is read for training
        seen = grid.voxels.clip(*spec.window_hu)
        allowed = _mask_onto(region, patch, grid)
        asked = edit if edit.mask is None else replace(edit, mask=_mask_onto(edit.mask, patch, grid))
        made = GridFill(*self._fill(seen.copy(), allowed, asked, seed))
        if made.hu.shape != seen.shape or not np.isfinite(made.hu).all():
            raise InputError(self.name, f"a patch {made.hu.shape} with or without NaN", f"finite HU, {seen.shape}")
        return GridEdit(grid, seen, allowed, asked, made)

    def _brought_back(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, done: GridEdit, seed: int) -> Filled:
        """Bring an edit on the in-painter's grid back to the voxels of a patch."""
        grid, seen, allowed, asked, (made, mask, attributes, outline, notes) = done
        hu, there = patch.voxels.astype(np.float32), grid.voxels
        # Beyond the window the in-painter saw a clipped value; what it left there is left in the scan.
        change = (np.where(made == seen, 0, made - there) * allowed).astype(np.float32)
        replaced = _replaced(change, grid)
        if self._exchanges_noise:
            own_noise = np.where(made == seen, 0, made - _without_fine_noise(replace(grid, voxels=made)))
            change -= (replaced * own_noise * allowed).astype(np.float32)
        changed, share = (onto(replace(grid, voxels=v), patch, fill=0) for v in (change, replaced))
        share = share * region
        if self._keeps_noise:
            result = hu + share * changed
        else:  # the fine noise of what was replaced goes, and noise of the same kind comes
            before = onto(grid, patch)
            result = hu + share * (before + changed - hu)
            if self._exchanges_noise:
                result = result + measure_scanner(patch).noise_lost(share, patch.spacing_mm, seed)
        own = _mask_made(done, patch)
        if edit.kind == "inject" and edit.mask is not None and mask is not None and (mask == asked.mask).all():
            own = edit.mask & region  # made as asked for: the grid's voxels would blunt it
        return Filled(result, own, attributes or edit.nodule, outline, notes)


def _grid(patch: Volume, size: Sequence[int], spacing_mm: tuple[float, float, float]) -> Volume:
    """A grid of zeros around the middle of a patch, along the patch's axes.

    Where the patch has the grid's spacing the grid lies on its voxels, as patches for training do, since interpolating
    half-way between voxels would take noise and edges away; its middle is then up to half a voxel off.
    """
    grid = Volume(np.zeros(tuple(size), np.float32), spacing_mm, direction=patch.direction)
    at = patch.to_world((np.array(patch.shape) - 1) / 2) - grid.to_world((np.array(grid.shape) - 1) / 2)
    if np.allclose(patch.spacing_mm, spacing_mm, atol=SAME_VOXELS_MM):
        at = patch.to_world(np.floor(patch.to_voxel(at) + 0.5 + 1e-6))  # half-way goes up, as in training
    return replace(grid, origin_mm=tuple(at.tolist()))


def _reaching(patch: Volume, grid: Volume) -> Volume:
    """A patch, with its mirror image beyond its faces where a grid around its middle is wider than it."""
    wider = np.subtract(np.multiply(grid.shape, grid.spacing_mm), np.multiply(patch.shape, patch.spacing_mm)) / 2
    beyond = np.where(wider > SAME_WIDTH_MM, np.ceil(wider / patch.spacing_mm).astype(int) + 1, 0)
    if not beyond.any():
        return patch
    return mirrored_crop(patch, (-beyond).tolist(), (np.array(patch.shape) + 2 * beyond).tolist())


def onto(values: Volume, grid: Volume, *, fill: float = AIR_HU) -> NDArray[np.float32]:
    """Float32 values [z, y, x] on other voxels; onto larger ones as means, so that no detail turns into noise."""
    larger = np.maximum(np.divide(grid.spacing_mm, values.spacing_mm), 1)
    smooth = gaussian_filter(values.voxels, 0.5 * np.sqrt(larger**2 - 1), mode="nearest")
    found: NDArray[np.float32] = resample_like(replace(values, voxels=smooth), grid, fill=fill).voxels
    return found


def _mask_onto(mask: NDArray[np.bool_], own: Volume, grid: Volume) -> NDArray[np.bool_]:
    """A mask [z, y, x] on other voxels."""
    return half_filled(onto(replace(own, voxels=mask.astype(np.float32)), grid, fill=0))


def _mask_made(edit: GridEdit, patch: Volume) -> NDArray[np.bool_] | None:
    """The mask that an in-painter made, on the voxels of a patch [z, y, x]; None where it made none."""
    return None if edit.made.mask is None else _mask_onto(edit.made.mask & edit.allowed, edit.before, patch)


def half_filled(share: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the voxels that hold at least half as much of a nodule as the voxel that holds most, [z, y, x].

    Those are the voxels filled by half, unless none is filled wholly, as where slices are as thick as the nodule.

    Args:
        share: how much of each voxel is nodule, 0 to 1.
    """
    return (share > 0) & (share >= 0.5 * min(float(share.max()), 1.0))


def check_not_thinner(diameter_mm: float, patch: Volume, name: str) -> None:
    """Refuse a nodule that is narrower than the voxels of a patch are thick: the patch shows no lung of its size.

    Args:
        name: of the method.

    Raises:
        InputError: such a diameter.
    """
    if diameter_mm < max(patch.spacing_mm):
        voxel = " x ".join(f"{s:.3g}" for s in patch.spacing_mm)
        expected = f"at least {max(patch.spacing_mm):.3g} mm with {name}, as voxels are {voxel} mm (z, y, x)"
        raise InputError("diameter", f"{diameter_mm:g} mm", expected)


def _diameter_mm(mask: NDArray[np.bool_] | None, patch: Volume) -> float:
    """The diameter of a mask [z, y, x]; half a pixel of an empty one."""
    if mask is None or not mask.any():
        return min(patch.spacing_mm[1:]) / 2
    return axial_diameter_mm(np.argwhere(mask), patch.spacing_mm)


def _without_fine_noise(made: Volume) -> NDArray[np.float32]:
    """A patch without what differs from voxel to voxel by less than an edge does, float32 [z, y, x]."""
    import SimpleITK as sitk

    found: NDArray[np.float32] = sitk.GetArrayFromImage(sitk.Bilateral(to_sitk(made), FINE_MM, FINE_HU))
    return found


def _replaced(change: NDArray[np.float32], grid: Volume) -> NDArray[np.float32]:
    """How much of each voxel [z, y, x] a change replaces, 0 to 1; noise that came or went is no replacement."""
    strength = np.clip(abs(gaussian_filter(change, np.divide(EVEN_MM, grid.spacing_mm))) / REPLACED_HU, 0, 1)
    return (strength**2 * (3 - 2 * strength)).astype(np.float32)
