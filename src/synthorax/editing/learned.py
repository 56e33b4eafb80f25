"""A method around an in-painter that works on a grid and in an HU window of its own. Free of torch.

This module does what every in-painter needs between its grid and a scan. It resamples patches to the grid, brings the
changes back to the scan's voxels, and exchanges the in-painter's noise for the scan's. An in-painter trained with
critics draws the mean noise of its training scans, which in the cores of its nodules is 1.5 times that of the scan.
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
from synthorax.makers import Edit, Filled, Lineage, Role, check_returned
from synthorax.nodule import NoduleAttributes
from synthorax.patch import BallRule, PatchSpec, ScaledPatch, as_wide_as_the_nodule
from synthorax.scanner import CONTEXT_MM, measure_scanner
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

EDITED_DIAMETERS, EDITED_MARGIN_MM = 0.8, 6.0
"""Radius of an edit: the first number times the nodule's diameter, plus the second in mm."""
REPLACED_HU = 60.0
"""A voxel whose HU a network changes by this much counts as replaced, and by less as partly replaced."""
SAME_WIDTH_MM = 1e-3
"""A grid that exceeds a patch by no more than this, in mm, counts as equally wide."""
FINE_MM, FINE_HU = 1.0, 100.0
"""Standard deviations in mm and HU of the bilateral filter that removes an in-painter's noise and keeps edges."""
EVEN_MM = 1.0
"""Standard deviation in mm of the Gaussian that smooths a change before its replaced voxels are determined."""
FITTINGS = 3
"""Most times that a nodule is made until its mask on the scan's voxels has the diameter; the nearest one is used."""
FITTED_SCALES = (0.75, 1.4)
"""Range of the factor between the diameter requested of the in-painter and the one wanted in the scan."""
MISSED_SHARE = 0.1
"""A nodule is made again if its diameter differs from the wanted one by more than this share of it and by more than
half a pixel."""

SAME_VOXELS_MM = 1e-3
"""Two voxel sizes that differ by at most this, in mm, along each axis are the same."""


class GridFill(NamedTuple):
    """A patch after an edit, on the in-painter's own grid.

    Attributes:
        hu: HU after the edit, [z, y, x].
        mask: mask of the nodule, [z, y, x], or None.
        attributes: attributes of the nodule; None for the requested ones.
        outline, notes: see `makers.Filled`.
    """

    hu: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None
    attributes: NoduleAttributes | None = None
    outline: str = ""
    notes: tuple[str, ...] = ()


class GridEdit(NamedTuple):
    """An edit on an in-painter's own grid; arrays are [z, y, x].

    Attributes:
        before: the patch before the edit, HU.
        seen: the same HU clipped to the in-painter's window, its input.
        allowed: the voxels that may change, bool.
        asked: the edit, with its mask on the grid.
        made: the result.
    """

    before: Volume
    seen: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    asked: Edit
    made: GridFill


OutlineOnGrid = Callable[[NDArray[np.bool_], Edit, int], NDArray[np.bool_]]
"""A function `(region, edit, seed)` on a network's grid to the mask [z, y, x] that the nodule will have."""
PaintPatch = Callable[[NDArray[np.float32], NDArray[np.bool_], Edit, int], tuple[Any, ...]]
"""A function `(hu, region, edit, seed)` on a network's grid [z, y, x] to the first two or more fields of `GridFill`."""


class Learned:
    """A `makers.Method` that wraps an in-painter, which gets the middle of a patch on a grid of its own.

    Attributes:
        takes_outlines: whether a new nodule may be requested by its mask.

    Args:
        fill: the in-painter. Its input is clipped to the HU window of `spec`, and `Edit.mask` is on its grid.
        spec: grid and HU window of its input, the same for every nodule or growing with it; `fill` gets the patch
            `spec.of_nodule(edit.diameter_mm)`.
        name, lineage, heeds, roles: attributes of the maker.
        keeps_noise: whether its output already has the noise of the scan; otherwise its noise is exchanged.
        ball_mm: function of a diameter and a patch to the diameter of the ball that it fills; by default the nodule's.
        outline: function that returns the mask of `fill` beforehand, for an in-painter that can tell it. Diameters are
            then fitted by masks alone, and each nodule is made once.
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
        """Return the same method without exchanging the in-painter's noise for the scan's."""
        other = copy(self)
        other._exchanges_noise = False
        return other

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Return half the width in mm of the patch that it needs, and the radius in mm of the ball it may change.

        Raises:
            InputError: the nodule or its ball does not fit into the grid.
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
        """Do the edits on the in-painter's grid, and bring its changes back to the patches' voxels.

        A nodule whose mask on its patch's voxels misses the requested diameter is made again, wider or narrower.

        Raises:
            InputError: a requested diameter is smaller than the longest edge of the patch's voxels.
        """
        return [self._fitted(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def view_of(self, edit: Edit) -> PatchSpec:
        """Return the grid of an edit: that for the nodule's diameter, unless a subclass chooses another one."""
        return self._spec.of_nodule(edit.diameter_mm)

    def _shows(self, diameter_mm: float) -> bool:
        """Return whether a nodule, and the ball that is filled for it, fit into the grid."""
        spec = self._spec.of_nodule(diameter_mm)
        return diameter_mm <= self._spec.widest_mm and self._ball_mm(diameter_mm, spec) <= spec.widest_mm

    def _widest_mm(self) -> float:
        """Return the diameter of the widest nodule that fits with its ball, to a hundredth of a millimetre."""
        low, high = 0.0, self._spec.widest_mm
        while not self._shows(high) and high - low > 0.01:
            low, high = ((low + high) / 2, high) if self._shows((low + high) / 2) else (low, (low + high) / 2)
        return high

    def _fitted(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        """Do an edit; a new nodule is made up to `FITTINGS` times to get its diameter on the patch's voxels."""
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
        """Return the mask that a nodule will have, on the patch's voxels [z, y, x]."""
        assert self._outline is not None
        spec = self.view_of(edit)
        grid = _grid(patch, spec.size, spec.spacing_mm)
        allowed = _mask_onto(region, patch, grid)
        return _mask_onto(self._on_its_grid(self._outline(allowed, edit, seed), grid) & allowed, grid, patch)

    def _on_its_grid(self, mask: NDArray[np.bool_], grid: Volume) -> NDArray[np.bool_]:
        """Return a mask of the in-painter after checking that it is of bool, with the shape of its grid."""
        shape, kind = np.shape(mask), np.asarray(mask).dtype
        if (shape, kind) != (grid.shape, bool):
            found, expected = f"a mask of shape {shape} of {kind}", f"a mask of shape {grid.shape} [z, y, x] of bool"
            raise InputError(self.name, found, expected)
        return mask

    def on_grid(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> GridEdit:
        """Do an edit on the in-painter's own grid, without bringing it back to the scan's voxels.

        Args:
            patch: HU [z, y, x].
            region: edit region, bool [z, y, x].
            edit: the edit.
            seed: seed of the edit.

        Raises:
            InputError: the in-painter's HU are not finite or still the output of a network, its mask is not of bool,
                or one of them has another shape.
        """
        spec = self.view_of(edit)
        grid = _grid(patch, spec.size, spec.spacing_mm)
        hu = _reaching(replace(patch, voxels=patch.voxels.astype(np.float32)), grid)
        grid = resample_like(hu, grid, fill=AIR_HU)  # the same interpolation as in training
        seen = grid.voxels.clip(*spec.window_hu)
        allowed = _mask_onto(region, patch, grid)
        asked = edit if edit.mask is None else replace(edit, mask=_mask_onto(edit.mask, patch, grid))
        parts = self._fill(seen.copy(), allowed.copy(), asked, seed)
        expected = "a tuple of HU and mask, both [z, y, x]"
        check_returned(self.name, "the result of the in-painter", parts, tuple, expected)
        if not 1 <= len(parts) <= len(GridFill._fields):
            raise InputError(self.name, f"{len(parts)} parts of the in-painter's result", expected)
        made = GridFill(*parts)
        check_returned(self.name, "HU of the in-painter", made.hu, np.ndarray, "an array [z, y, x]")
        if made.hu.shape != seen.shape or not np.isfinite(made.hu).all():
            found = f"HU of shape {made.hu.shape}, {'finite' if np.isfinite(made.hu).all() else 'not all finite'}"
            raise InputError(self.name, found, f"finite HU of shape {seen.shape}")
        changed = made.hu[allowed & (made.hu != seen)]
        if changed.size and np.ptp(changed) > 0 and abs(changed).max() <= 1:
            found = "HU of the in-painter from -1 to 1, the range of a network's output"
            raise InputError(self.name, found, "HU, into which PatchSpec.to_hu converts them")
        if made.mask is not None:
            self._on_its_grid(made.mask, grid)
        return GridEdit(grid, seen, allowed, asked, made)

    def _brought_back(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, done: GridEdit, seed: int) -> Filled:
        """Bring an edit on the in-painter's grid back to the voxels of a patch."""
        grid, seen, allowed, asked, (made, mask, attributes, outline, notes) = done
        hu, there = patch.voxels.astype(np.float32), grid.voxels
        # Outside the window the in-painter got a clipped value; where it left that, the scan is left unchanged.
        change = (np.where(made == seen, 0, made - there) * allowed).astype(np.float32)
        replaced = _replaced(change, grid)
        if self._exchanges_noise:
            own_noise = np.where(made == seen, 0, made - _without_fine_noise(replace(grid, voxels=made)))
            change -= (replaced * own_noise * allowed).astype(np.float32)
        changed, share = (onto(replace(grid, voxels=v), patch, fill=0) for v in (change, replaced))
        share = share * region
        # What was there goes with its detail finer than the grid, be it noise, a vessel or the edge of a nodule.
        result = hu + share * (onto(grid, patch) + changed - hu)
        if self._keeps_noise or self._exchanges_noise:
            noise = measure_scanner(patch).noise_lost(share, patch.spacing_mm, seed).astype(np.float32)
            if self._keeps_noise:
                noise = np.where(share > 0, _finer_than(grid, replace(patch, voxels=noise)), 0)
            result = result + noise
        own = _mask_made(done, patch)
        if edit.kind == "inject" and edit.mask is not None and mask is not None and (mask == asked.mask).all():
            own = edit.mask & region  # the requested mask itself, which resampling from the grid would blunt
        return Filled(result, own, attributes or edit.nodule, outline, notes)


def _grid(patch: Volume, size: Sequence[int], spacing_mm: tuple[float, float, float]) -> Volume:
    """Return a grid of zeros around the middle of a patch, along the patch's axes.

    If the patch has the grid's voxel size, the grid is aligned to its voxels, as in training, because interpolation
    half-way between voxels would remove noise and edges. The grid's middle is then up to half a voxel off.
    """
    grid = Volume(np.zeros(tuple(size), np.float32), spacing_mm, direction=patch.direction)
    at = patch.to_world((np.array(patch.shape) - 1) / 2) - grid.to_world((np.array(grid.shape) - 1) / 2)
    if np.allclose(patch.spacing_mm, spacing_mm, atol=SAME_VOXELS_MM):
        at = patch.to_world(np.floor(patch.to_voxel(at) + 0.5 + 1e-6))  # round half up, as in training
    return replace(grid, origin_mm=tuple(at.tolist()))


def _reaching(patch: Volume, grid: Volume) -> Volume:
    """Return a patch, extended by its mirror image along the axes on which a grid around its middle is wider."""
    wider = np.subtract(np.multiply(grid.shape, grid.spacing_mm), np.multiply(patch.shape, patch.spacing_mm)) / 2
    beyond = np.where(wider > SAME_WIDTH_MM, np.ceil(wider / patch.spacing_mm).astype(int) + 1, 0)
    if not beyond.any():
        return patch
    return mirrored_crop(patch, (-beyond).tolist(), (np.array(patch.shape) + 2 * beyond).tolist())


def onto(values: Volume, grid: Volume, *, fill: float = AIR_HU) -> NDArray[np.float32]:
    """Resample float32 values [z, y, x] to another grid, smoothed first for larger voxels to avoid aliasing."""
    larger = np.maximum(np.divide(grid.spacing_mm, values.spacing_mm), 1)
    smooth = gaussian_filter(values.voxels, 0.5 * np.sqrt(larger**2 - 1), mode="nearest")
    found: NDArray[np.float32] = resample_like(replace(values, voxels=smooth), grid, fill=fill).voxels
    return found


def _mask_onto(mask: NDArray[np.bool_], own: Volume, grid: Volume) -> NDArray[np.bool_]:
    """Resample a mask [z, y, x] to another grid."""
    return half_filled(onto(replace(own, voxels=mask.astype(np.float32)), grid, fill=0))


def _mask_made(edit: GridEdit, patch: Volume) -> NDArray[np.bool_] | None:
    """Return the mask that an in-painter returned, on the voxels of a patch [z, y, x]; None if it returned none."""
    return None if edit.made.mask is None else _mask_onto(edit.made.mask & edit.allowed, edit.before, patch)


def half_filled(share: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the voxels in which the share of nodule is at least half the largest share, bool [z, y, x].

    These are the voxels at least half filled, unless no voxel is completely filled, for example in thick slices.

    Args:
        share: share of each voxel that is nodule, 0 to 1, [z, y, x].
    """
    return (share > 0) & (share >= 0.5 * min(float(share.max()), 1.0))


def check_not_thinner(diameter_mm: float, patch: Volume, name: str) -> None:
    """Check that a nodule is not narrower than the longest edge of a patch's voxels, which could not show it.

    Args:
        diameter_mm: diameter of the nodule.
        patch: the patch.
        name: name of the method, for the error.

    Raises:
        InputError: the nodule is narrower.
    """
    if diameter_mm < max(patch.spacing_mm):
        voxel = " x ".join(f"{s:.3g}" for s in patch.spacing_mm)
        expected = f"at least {max(patch.spacing_mm):.3g} mm with {name}, since voxels are {voxel} mm (z, y, x)"
        raise InputError("diameter", f"{diameter_mm:g} mm", expected)


def _diameter_mm(mask: NDArray[np.bool_] | None, patch: Volume) -> float:
    """Return the diameter in mm of a mask [z, y, x]; half a pixel for an empty mask."""
    if mask is None or not mask.any():
        return min(patch.spacing_mm[1:]) / 2
    return axial_diameter_mm(np.argwhere(mask), patch.spacing_mm)


def _finer_than(grid: Volume, noise: Volume) -> NDArray[np.float32]:
    """Return the part of a scan's noise that a coarser grid does not show, in HU [z, y, x].

    It is amplified to restore the scan's variance when added to other noise of the grid, with which it is uncorrelated.
    """
    shown = onto(resample_like(noise, grid, fill=0), noise, fill=0)
    fine = noise.voxels - shown
    missing, found = (float(np.square(part).sum()) for part in (noise.voxels, fine))
    missing -= float(np.square(shown).sum())
    return fine * np.float32(np.sqrt(max(missing, 0) / found) if found else 0)


def _without_fine_noise(made: Volume) -> NDArray[np.float32]:
    """Remove the noise of a patch and keep its edges, by a bilateral filter, float32 [z, y, x]."""
    import SimpleITK as sitk

    found: NDArray[np.float32] = sitk.GetArrayFromImage(sitk.Bilateral(to_sitk(made), FINE_MM, FINE_HU))
    return found


def _replaced(change: NDArray[np.float32], grid: Volume) -> NDArray[np.float32]:
    """Return the share of each voxel that a change replaces, 0 to 1, [z, y, x]; changes of noise do not count."""
    strength = np.clip(abs(gaussian_filter(change, np.divide(EVEN_MM, grid.spacing_mm))) / REPLACED_HU, 0, 1)
    return (strength**2 * (3 - 2 * strength)).astype(np.float32)
