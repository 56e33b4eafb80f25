"""Patches with the ball that an edit may change: around a nodule, or at a healthy place of the lung.

A network that fills balls learns from them to make nodules where there are some, and lung where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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
from synthorax.seeding import generator

SPARE_VOXELS = 0.01
"""A patch is counted as wider than its scan from this many voxels on, as directions are rounded."""
HEALTHY_WIDTHS = 4
"""Healthy places are looked for by patches of this many widths, where patches grow with the nodule."""


class EditPatches(PatchDataset):
    """Patches of a store, each with the ball to edit and what is known of the nodule in it.

    Items and batches hold what those of `PatchDataset` hold (`ct` from -1 to 1 within the window, `mask`, `label`,
    `index`), and besides

    - `region`, float32 [b, 1, z, y, x]: 1 in the ball around the nodule's centre, 0 outside;
    - `mask_known`, bool [b]: whether `mask` shows every voxel of the place's nodule. It is false, and the mask empty,
      where nobody outlined the nodule; at a healthy place the empty mask is the truth;
    - `healthy`, bool [b]: whether the patch has no nodule.

    Attributes:
        diameters_mm: of the nodules, and at healthy places of nodules that could be there, float64 [n].
        attributes: what is known of the nodule of each place, None where unknown; all None at a healthy place. The
            condition of a batch is `nn.conditions.encoded(attributes, names)[batch["index"]]`, NaN where unknown.

    Args:
        spec: grid and window of a patch whose place has the scale 1.
        diameters_mm: one a place.
        ball_mm: the diameter of each ball.
        varied: each patch of a batch gets a ball of its own, whose radius is drawn evenly from that of `ball_mm` to the
            largest that the patch shows whole. Its width then tells little of the nodule's. Places as they are have
            the ball of `ball_mm`.
        augmentation: flips, turns and shifts.

    Raises:
        InputError: no places, a ball that the patch does not show whole or that is narrower than a voxel, or an
            augmentation that scales, after which a nodule's diameter is another.
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
                raise InputError("ball to edit", found, f"{low:g} to {high:g} mm, as a patch shows it whole")
        super().__init__(store, places, spec, augmentation=augmentation, seed=seed, cache=cache, workers=workers)
        self.diameters_mm = np.array(diameters_mm, np.float64)
        self.attributes = tuple(p.nodule.attributes if p.nodule else NoduleAttributes() for p in self.places)
        # In the millimetres of a patch of scale 1, whose distances serve for all places.
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
        """The grid of a place's patch."""
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
        """A ball about a place in its patch with the augmentation's margin, [z, y, x]; it holds a voxel at least.

        Args:
            radius_mm: in a patch of scale 1.
        """
        center = self._centers[row]
        ball: NDArray[np.bool_] = self.padded.distances_mm(center) <= radius_mm
        nearest = np.clip(np.rint(center).astype(int), 0, np.array(ball.shape) - 1)
        ball[tuple(nearest)] = True
        return ball

    def shares_in_ball(self) -> NDArray[np.float64]:
        """Return how much of each outlined nodule its ball holds, 0 to 1; what it leaves out, a network sees."""
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
    healthy: int = 0,
    ball_mm: BallRule = as_wide_as_the_nodule,
    varied: bool = False,
    outlined: bool = False,
    augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
    seed: int = 0,
    cache: Path | None = None,
) -> EditPatches:
    """Return the patches of all nodules of some cases that an edit could make, and of healthy places.

    Where patches grow with the nodule, each nodule has a patch by every view of it. A healthy place gets the diameter
    of one of the nodules, drawn by the seed. The screen tells what there is, and how many nodules were left out for
    which reason.

    Args:
        classify: a nodule's label, 1 or more; None leaves it out. Healthy places have the label 0.
        healthy: number of healthy places to look for in whole scans; cubes give all that they have. 0: none.
        ball_mm: the diameter of each ball.
        varied: as of `EditPatches`.
        outlined: leave out nodules that nobody outlined.
        augmentation: flips, turns and shifts.
        cache: folder for decoded patches, the user's cache folder if not given.

    Raises:
        InputError: no nodule is left, such as where the patches are narrower than the ball of each; or healthy places
            were asked for and there are none.
    """
    cases = list(cases)
    nodules, diameters, told = _editable(cases, spec, classify, ball_mm, augmentation, outlined)
    if not nodules:
        expected = "patches that fit into the scans and show the nodules' balls whole"
        expected += "; and nodules with outlines, or outlines=false" * outlined
        raise InputError(store.path, f"no nodule to edit{told}", expected)
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
    shares = patches.shares_in_ball()
    what = "nodules" if isinstance(spec, PatchSpec) else "views of nodules"
    counts = f"{len(nodules)} {what}, {len(nodules) - len(shares)} of them without a mask"
    if len(shares):
        counts += f" (a ball holds {np.median(shares):.0%} of the others' outlines in the median)"
    tell(f"patches to edit: {counts}; {len(places) - len(nodules)} healthy places{told}")
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
    """Return places without a nodule, each with the diameter of a nodule that could be there and a patch for it.

    Args:
        diameters_mm: drawn from by the seed.
        count: about as many in whole scans; cubes give all that they have.
        margin: voxels (z, y, x) around a patch that augmentation may show.
        cache: as of `edit_patches`.

    Raises:
        InputError: there are none.
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


def _editable(
    cases: Sequence[CaseEntry],
    spec: PatchSpec | ScaledPatch,
    classify: Classify,
    ball_mm: BallRule,
    augmentation: Augmentation,
    outlined: bool,
) -> tuple[list[Place], list[float], str]:
    """The patches of nodules that show them and their balls, the nodules' diameters, and what to tell of others."""
    places, diameters, left_out = [], [], Counter[str]()
    base = spec.finest if isinstance(spec, ScaledPatch) else spec
    for case in cases:
        for nodule in case.nodules:
            label, mm = classify(nodule), nodule.attributes.diameter_mm
            if label == NEGATIVE:
                raise ValueError(f"a nodule of class {NEGATIVE}, which is that of healthy places")
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
            for view in spec.every_view(mm):
                if why := _why_not_shown(case, view, ball_mm(mm, view), augmentation):
                    left_out[why] += 1
                else:
                    places.append(replace(place, scale=_scale(view, base)))
                    diameters.append(float(mm))
    told = ", ".join(f"{count} {why}" for why, count in left_out.items())
    return places, diameters, f"; left out: {told}" if told else ""


def _why_not_shown(case: CaseEntry, view: PatchSpec, ball_mm: float, augmentation: Augmentation) -> str:
    """Why a patch does not show a ball around a nodule; empty if it does."""
    low, high = _widths_mm(view, augmentation)
    if ball_mm > high:
        return f"with a ball wider than the {high:g} mm that a patch shows whole"
    if ball_mm < low:
        return f"with a ball narrower than a voxel of {low:g} mm"
    if (extent_voxels(case.grid(), view.size_mm[::-1]) > np.add(case.shape, SPARE_VOXELS)).any():
        return "with a patch wider than the scan"
    return ""


def _widths(spec: PatchSpec | ScaledPatch, diameters_mm: Sequence[float]) -> list[tuple[PatchSpec, list[float]]]:
    """Patches of several widths, each with those of the diameters whose own patches are no wider."""
    if isinstance(spec, PatchSpec):
        return [(spec, sorted(diameters_mm))]
    parts = np.array_split(np.sort(diameters_mm), HEALTHY_WIDTHS)
    return [(spec.of_nodule(float(part[-1])), part.tolist()) for part in parts if len(part)]


def _scale(view: PatchSpec, base: PatchSpec) -> float:
    """How many times as large as those of another patch the voxels of a patch are."""
    return view.spacing_mm[0] / base.spacing_mm[0]


def _widths_mm(spec: PatchSpec, augmentation: Augmentation) -> tuple[float, float]:
    """The least and the largest diameter of a ball around the middle that augmented patches show whole."""
    room = [n - 2 * augmentation.shift_voxels for n in spec.size]
    return max(spec.spacing_mm), widest_mm(room, spec.spacing_mm)
