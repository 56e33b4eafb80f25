"""Patches with a ball that an edit may change, around a nodule or at a healthy place in the lung.

A network that fills balls is trained on them: on balls around nodules to make nodules, on healthy ones to make lung.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.augmentation import Augmentation, Drawn
from synthorax.datasets.patches import PatchDataset, Place, extent_voxels, patch_grid
from synthorax.datasets.places import Classify, negative_places
from synthorax.datasets.progress import tell
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.nodule import NoduleAttributes, widest_mm
from synthorax.patch import NEGATIVE, POSITIVE, BallRule, PatchSpec, ScaledPatch, as_wide_as_the_nodule
from synthorax.screen import warn
from synthorax.seeding import generator

SPARE_VOXELS = 0.01
"""A patch counts as wider than its scan only if it exceeds it by more than this, in voxels, because directions are
rounded."""
HEALTHY_WIDTHS = 4
"""Number of patch widths for which healthy places are searched, if patches grow with the nodule."""
WHOLE_OUTLINE = 0.995
"""Share of an outline above which the ball around a nodule counts as holding all of it."""
FEW_OF_A_CLASS = 10
"""Warn of a class with fewer nodules than this, too few to learn what they have in common."""


class EditPatches(PatchDataset):
    """Patches of a store, each with a ball to edit and the attributes of its nodule.

    Items and batches have the entries of `PatchDataset` (`ct` from -1 to 1 within the window, `mask`, `label`,
    `index`), and these:

    - `region`, float32 [b, 1, z, y, x]: 1 in the ball around the nodule's centre, 0 outside;
    - `mask_known`, bool [b]: whether `mask` is the true mask of the place. It is false, and the mask empty, if nobody
      outlined the nodule; at a healthy place it is true, and the mask empty;
    - `healthy`, bool [b]: whether the patch has no nodule.

    Attributes:
        diameters_mm: diameter of each nodule; at a healthy place, of a nodule that could be there; float64 [n].
        attributes: attributes of each place's nodule, None for an unknown one; all None at a healthy place. The
            condition of a batch is `nn.conditions.encoded(attributes, names)[batch["index"]]`, NaN where unknown.

    Args:
        store: the store.
        places: the places.
        spec: grid and window of a patch whose place has the scale 1.
        diameters_mm: diameter of each place's nodule.
        ball_mm: function of a diameter and a patch to the diameter of the ball.
        varied: draw the radius of each ball in a batch uniformly from that of `ball_mm` to the largest that fits into
            the patch, so that the ball tells little about the nodule's size. Without augmentation, balls are those of
            `ball_mm`.
        augmentation: flips, turns and shifts.
        seed: seed of the batches.
        cache: folder for decoded patches; by default the user's cache folder.
        workers: number of processes; by default one for each core.

    Raises:
        InputError: there are no places; a ball does not fit into its patch or is narrower than a voxel; or the
            augmentation scales, which would change a nodule's diameter.
    """

    def __init__(
        self,
        store: Store,
        places: Sequence[Place],
        spec: PatchSpec,
        diameters_mm: Sequence[float],
        *,
        ball_mm: BallRule = as_wide_as_the_nodule,
        varied: bool = False,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
        seed: int = 0,
        cache: Path | None = None,
        workers: int | None = None,
    ) -> None:
        if augmentation.scale != (1.0, 1.0):
            expected = "flips, turns and shifts, which leave a nodule its diameter"
            raise InputError("augmentation", f"scale {augmentation.scale}", expected)
        views = [spec.magnified(place.scale) for place in places]
        balls = [ball_mm(mm, view) for mm, view in zip(diameters_mm, views, strict=True)]
        for ball, mm, view in zip(balls, diameters_mm, views, strict=True):
            low, high = _widths_mm(view, augmentation)
            if not low <= ball <= high:
                found = f"{ball:g} mm for a nodule of {mm:g} mm"
                raise InputError("ball to edit", found, f"{low:g} to {high:g} mm, to fit into the patch")
        super().__init__(store, places, spec, augmentation=augmentation, seed=seed, cache=cache, workers=workers)
        self.diameters_mm = np.array(diameters_mm, np.float64)
        self.attributes = tuple(p.nodule.attributes if p.nodule else NoduleAttributes() for p in self.places)
        # In millimetres of a patch of scale 1, because `_ball` computes distances on that patch for all places.
        self._radii_mm = np.array(balls) / 2 / [place.scale for place in self.places]
        self._most_mm = _widths_mm(spec, augmentation)[1] / 2 if varied else None
        margin = augmentation.margin(spec.size)
        grids = [
            patch_grid(store[place.case_id].grid(), place.center_mm, view, margin)
            for place, view in zip(self.places, views, strict=True)
        ]
        self._centers = [grid.to_voxel(p.center_mm) for grid, p in zip(grids, self.places, strict=True)]
        self.healthy = np.array([place.nodule is None for place in self.places])
        self._mask_known = self.healthy | np.array([mask.any() for mask in self._masks])

    def view_of(self, row: int) -> PatchSpec:
        """Return the grid of a place's patch."""
        return self.spec.magnified(self.places[row].scale)

    def _augmented(self, rows: NDArray[np.int64], drawn: Drawn, rng: np.random.Generator | None) -> dict[str, Tensor]:
        radii = self._radii_mm[rows]
        if rng is not None and self._most_mm is not None:
            radii = rng.uniform(radii, np.maximum(radii, self._most_mm))
        balls = [self._ball(row, mm) for row, mm in zip(rows.tolist(), radii.tolist(), strict=True)]
        region = drawn.apply_nearest(np.stack(balls), self.spec.size)
        return {
            **super()._augmented(rows, drawn, rng),
            "region": torch.from_numpy(region).float()[:, None],
            "mask_known": torch.from_numpy(self._mask_known[rows]),
            "healthy": torch.from_numpy(self.healthy[rows]),
        }

    def _ball(self, row: int, radius_mm: float) -> NDArray[np.bool_]:
        """Return the ball around a place in its patch with the augmentation's margin, at least one voxel, [z, y, x].

        Args:
            row: index of the place.
            radius_mm: radius in millimetres of a patch of scale 1.
        """
        center = self._centers[row]
        ball: NDArray[np.bool_] = self.padded.distances_mm(center) <= radius_mm
        nearest = np.clip(np.rint(center).astype(int), 0, np.array(ball.shape) - 1)
        ball[tuple(nearest)] = True
        return ball

    def shares_in_ball(self) -> NDArray[np.float64]:
        """Return the share of each outlined nodule that lies in its ball, 0 to 1; a network sees the rest."""
        outlined = np.flatnonzero(self._mask_known & ~self.healthy).tolist()
        masks = (self._masks[row] > 0 for row in outlined)
        return np.array(
            [
                (mask & self._ball(row, self._radii_mm[row])).sum() / mask.sum()
                for row, mask in zip(outlined, masks, strict=True)
            ]
        )


def edit_patches(
    store: Store,
    cases: Iterable[CaseEntry],
    spec: PatchSpec | ScaledPatch,
    *,
    classify: Classify = lambda nodule: POSITIVE,
    classes: Mapping[str, int] | None = None,
    what: str = "training nodules",
    healthy: int = 0,
    ball_mm: BallRule = as_wide_as_the_nodule,
    varied: bool = False,
    outlined: bool = False,
    augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
    seed: int = 0,
    cache: Path | None = None,
) -> EditPatches:
    """Return the patches of all nodules of some cases whose balls fit into a patch, and of healthy places.

    If patches grow with the nodule, each nodule has one patch for each of its views. A healthy place gets the diameter
    of a randomly drawn nodule. A line on the screen gives the numbers, and the number of nodules left out for each
    reason; a warning names each class with few nodules.

    Args:
        store: the store.
        cases: the cases.
        spec: grid and window of the patches, fixed or growing with the nodule.
        classify: function of a nodule to its label, 1 or more, or to None to leave it out. Healthy places have label 0.
        classes: label of each class by its name, for the line on the screen; None for classes that are not named.
        what: what the line on the screen calls the nodules.
        healthy: number of healthy places to search in whole scans; cubes give all that they have. 0 for none.
        ball_mm: function of a diameter and a patch to the diameter of the ball.
        varied: see `EditPatches`.
        outlined: whether to leave out nodules without an outline.
        augmentation: flips, turns and shifts.
        seed: seed of places, diameters and batches.
        cache: folder for decoded patches; by default the user's cache folder.

    Raises:
        InputError: no nodule is left, for example because no ball fits into a patch; or healthy places are requested
            and there are none.
    """
    cases = list(cases)
    nodules, diameters, left_out = _editable(cases, spec, classify, ball_mm, augmentation, outlined)
    if not nodules:
        expected = "patches that fit into the scans, with room for the nodules' balls"
        expected += "; and nodules with outlines, or outlines=false" * outlined
        raise InputError(store.path, f"no nodule to edit{left_out}", expected)
    places, base = list(nodules), spec.finest if isinstance(spec, ScaledPatch) else spec
    if healthy:
        found = healthy_places(
            store, cases, spec, diameters, healthy, seed, margin=augmentation.margin(spec.size), cache=cache
        )
        places += [place for place, _ in found]
        diameters += [mm for _, mm in found]
    patches = EditPatches(
        store,
        places,
        base,
        diameters,
        ball_mm=ball_mm,
        varied=varied,
        augmentation=augmentation,
        seed=seed,
        cache=cache,
    )
    tell(_counts(patches, nodules, what, classes or {}) + left_out)
    for name, label in (classes or {}).items():
        if 0 < (count := sum(place.label == label for place in nodules)) < FEW_OF_A_CLASS:
            warn(
                f"only {count} of {len(nodules)} {what} {'is' if count == 1 else 'are'} {name}; a network needs "
                f"{FEW_OF_A_CLASS} or more to learn what they have in common"
            )
    return patches


def healthy_places(
    store: Store,
    cases: Sequence[CaseEntry],
    spec: PatchSpec | ScaledPatch,
    diameters_mm: Sequence[float],
    count: int,
    seed: int,
    *,
    margin: tuple[int, int, int] = (0, 0, 0),
    cache: Path | None = None,
) -> list[tuple[Place, float]]:
    """Return places without a nodule, each with a diameter of a nodule that could be there, and with its patch's scale.

    Args:
        store: the store.
        cases: the cases.
        spec: grid of the patches.
        diameters_mm: diameters from which one is drawn for each place.
        count: approximate number of places in whole scans; cubes give all that they have.
        seed: seed of places and diameters.
        margin: voxels (z, y, x) around a patch that augmentation can bring into it.
        cache: see `edit_patches`.

    Raises:
        InputError: there is no such place.
    """
    found: list[tuple[Place, float]] = []
    random = generator(seed, "diameters of healthy places")
    base = spec.finest if isinstance(spec, ScaledPatch) else spec
    for view, some in _widths(spec, diameters_mm):
        own = -(-count * len(some) // len(diameters_mm))
        places = negative_places(store, cases, view, own, seed, NEGATIVE, margin=margin, cache=cache)
        for place, mm in zip(places, random.choice(some, len(places)).tolist(), strict=True):
            found.append((replace(place, scale=_scale(spec.of_nodule(mm), base)), mm))
    if not found:
        expected = "larger cubes or whole scans of which all nodules are known"
        raise InputError(store.path, "no room for a patch without a nodule", expected)
    return found


def _counts(patches: EditPatches, nodules: Sequence[Place], what: str, classes: Mapping[str, int]) -> str:
    """Return a text with the numbers of nodules, of nodules of each class, and of healthy places."""
    single = len({(place.case_id, place.center_mm) for place in nodules})
    of_classes = [f"{sum(place.label == label for place in nodules)} {name}" for name, label in classes.items()]
    text = f"{what}: {single}" + (f" ({', '.join(of_classes)})" if of_classes else "")
    if single < len(nodules):
        text += f", in {len(nodules)} patches of different widths"
    shares = patches.shares_in_ball()
    if len(shares) < len(nodules):
        text += f"; {len(nodules) - len(shares)} without an outline"
    if len(shares) and (share := float(np.median(shares))) < WHOLE_OUTLINE:
        text += (
            f"; the ball that is edited holds {share:.0%} of a nodule's outline (median), and the rest stays as it is"
        )
    healthy = len(patches.places) - len(nodules)
    return text + (f"; healthy places: {healthy}" if healthy else "")


def _editable(
    cases: Sequence[CaseEntry],
    spec: PatchSpec | ScaledPatch,
    classify: Classify,
    ball_mm: BallRule,
    augmentation: Augmentation,
    outlined: bool,
) -> tuple[list[Place], list[float], str]:
    """Return the places of nodules whose balls fit into their patches, their diameters, and a text about the others."""
    places, diameters, left_out = [], [], Counter[str]()
    base = spec.finest if isinstance(spec, ScaledPatch) else spec
    for case in cases:
        for nodule in case.nodules:
            label, mm = classify(nodule), nodule.attributes.diameter_mm
            if label == NEGATIVE:
                raise ValueError(f"a nodule of class {NEGATIVE}, which is the class of healthy places")
            if label is None:
                left_out["without a class"] += 1
                continue
            if mm is None:
                left_out["without a diameter"] += 1
                continue
            if outlined and not nodule.label:
                left_out["without an outline"] += 1
                continue
            place = Place(case.case_id, case.patient_id, nodule.center_mm, nodule, label)
            views = [
                (view, _why_not_shown(case, view, ball_mm(mm, view), augmentation)) for view in spec.every_view(mm)
            ]
            fitting = [view for view, why in views if not why]
            if not fitting:
                left_out[views[0][1]] += 1
            places += [replace(place, scale=_scale(view, base)) for view in fitting]
            diameters += [float(mm)] * len(fitting)
    reasons = ", ".join(f"{count} {why}" for why, count in left_out.items())
    return places, diameters, f"; left out: {reasons}" if reasons else ""


def _why_not_shown(case: CaseEntry, view: PatchSpec, ball_mm: float, augmentation: Augmentation) -> str:
    """Return the reason why a ball around a nodule does not fit into a patch; empty if it does."""
    low, high = _widths_mm(view, augmentation)
    if ball_mm > high:
        return f"with a ball wider than the {high:g} mm that fit into this preset's patches"
    if ball_mm < low:
        return f"with a ball narrower than a voxel of {low:g} mm"
    if (extent_voxels(case.grid(), view.size_mm[::-1]) > np.add(case.shape, SPARE_VOXELS)).any():
        return "with a patch wider than the scan"
    return ""


def _widths(spec: PatchSpec | ScaledPatch, diameters_mm: Sequence[float]) -> list[tuple[PatchSpec, list[float]]]:
    """Return patches of several widths, each with the diameters of nodules whose own patches are not wider."""
    if isinstance(spec, PatchSpec):
        return [(spec, sorted(diameters_mm))]
    parts = np.array_split(np.sort(diameters_mm), HEALTHY_WIDTHS)
    return [(spec.of_nodule(float(part[-1])), part.tolist()) for part in parts if len(part)]


def _scale(view: PatchSpec, base: PatchSpec) -> float:
    """Return the factor by which the voxels of a patch are larger than those of another patch."""
    return view.spacing_mm[0] / base.spacing_mm[0]


def _widths_mm(spec: PatchSpec, augmentation: Augmentation) -> tuple[float, float]:
    """Return the smallest and the largest diameter in mm of a ball that fits into augmented patches."""
    room = [n - 2 * augmentation.shift_voxels for n in spec.size]
    return max(spec.spacing_mm), widest_mm(room, spec.spacing_mm)
