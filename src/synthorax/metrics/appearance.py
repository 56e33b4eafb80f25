"""HU of nodules: means, distributions, and profiles from the middle to the surrounding tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

from synthorax.anatomy.morphology import distance_inside
from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, ratio, resampled
from synthorax.metrics.estimates import CONFIDENCE
from synthorax.volume import check_spacing

EDGES_MM = tuple(range(-6, 7))
"""Borders of a profile's shells, in mm from the mask's border; negative inside."""
SMALLEST_SHELL = 4
"""Fewest voxels of a shell; with fewer, its HU is NaN."""


@dataclass(frozen=True, eq=False)
class Nodules:
    """Patches of CT with a nodule each.

    Attributes:
        hu: HU, float32 [n, z, y, x].
        masks: voxels of the nodules, bool [n, z, y, x]; no mask is empty or full.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: shapes differ, HU are not finite, or a mask is empty or full.
    """

    hu: NDArray
    masks: NDArray[np.bool_]
    spacing_mm: Sequence[float]

    def __post_init__(self) -> None:
        checks.volumes("nodules", self.hu)
        check_spacing(self.spacing_mm)
        if self.masks.shape != self.hu.shape:
            raise InputError("masks", f"shape {self.masks.shape}", f"{self.hu.shape}, the shape of the HU")
        share = self.masks.mean((1, 2, 3))
        if not ((share > 0) & (share < 1)).all():
            raise InputError("masks", "an empty or a full mask", "a nodule with tissue around it in every mask")

    def __len__(self) -> int:
        return len(self.hu)


def mean_hu(nodules: Nodules) -> NDArray[np.float64]:
    """Return the mean HU inside each mask, [n]."""
    inside = np.where(nodules.masks, nodules.hu, 0).sum((1, 2, 3), dtype=np.float64)
    return np.asarray(inside / nodules.masks.sum((1, 2, 3)))


def hu_distance(first: Nodules, second: Nodules) -> float:
    """Return the Wasserstein-1 distance in HU between the voxels inside two groups' masks; each nodule counts alike."""
    values = [np.asarray(group.hu)[group.masks] for group in (first, second)]
    weights = [np.repeat(1 / (n := group.masks.sum((1, 2, 3))), n) for group in (first, second)]
    return float(wasserstein_distance(*values, *weights))


@dataclass(frozen=True, eq=False)
class Profile:
    """The HU of a group of nodules in k shells, by distance from the border of the mask.

    Attributes:
        at_mm: distance of the middle of each shell, negative inside, [k].
        hu: mean over nodules of the median HU in each shell, [k]; NaN if no nodule has the shell.
        low, high: 95 % interval of `hu`, over patients, [k].
    """

    at_mm: NDArray[np.float64]
    hu: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def profiles(nodules: Nodules, edges_mm: Sequence[float] = EDGES_MM) -> NDArray[np.float64]:
    """Return the median HU of each nodule in each shell, [n, k]; NaN for a shell of fewer than `SMALLEST_SHELL` voxels.

    Args:
        nodules: n patches.
        edges_mm: k + 1 distances from the mask's border, ascending.

    Raises:
        InputError: the edges do not ascend.
    """
    edges = np.asarray(edges_mm, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise InputError("edges", f"{list(edges_mm)} mm", "two or more, ascending")
    found = np.full((len(nodules), len(edges) - 1), np.nan)
    for i, (hu, mask) in enumerate(zip(nodules.hu, nodules.masks, strict=True)):
        apart = border_distance(mask, nodules.spacing_mm)
        for k, (low, high) in enumerate(pairwise(edges)):
            shell = hu[(apart >= low) & (apart < high)]
            if len(shell) >= SMALLEST_SHELL:
                found[i, k] = np.median(shell)
    return found


def profile(nodules: Nodules, patients: ArrayLike, *, edges_mm: Sequence[float] = EDGES_MM, seed: int = 0) -> Profile:
    """Return the profile of a group of nodules with its interval.

    Args:
        nodules: n patches.
        patients: patient of each nodule, [n].
        edges_mm: k + 1 distances from the mask's border, ascending.
        seed: seed of the bootstrap over patients.

    Raises:
        InputError: there are fewer than 2 patients, or the edges do not ascend.
    """
    single = profiles(nodules, edges_mm)
    there = np.isfinite(single)

    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights @ there
        return ratio(weights @ np.where(there, single, 0), total)

    value = mean(np.ones((1, len(nodules))))[0]
    low, high = np.full((2, len(value)), np.nan)
    known = np.isfinite(value)
    values = resampled(Statistic(len(nodules), mean), patients, seed=seed)[:, known]
    low[known], high[known] = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    edges = np.asarray(edges_mm, np.float64)
    return Profile((edges[1:] + edges[:-1]) / 2, value, low, high)


def border_distance(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return the distance in mm of each voxel from the border of a mask [z, y, x], negative inside.

    The border lies half a voxel from the voxels on both sides of it, where a voxel is as wide as the mean of the three
    spacings.
    """
    half = np.float32(np.mean(spacing_mm) / 2)
    inside, outside = distance_inside(mask, spacing_mm), distance_inside(~mask, spacing_mm)
    return np.where(mask, half - inside, outside - half)
