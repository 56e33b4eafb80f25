"""HU of nodules, from their middle to the tissue around them."""

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
"""Shells of a profile, by millimetres from the mask's border; inside is negative."""
SMALLEST_SHELL = 4
"""Fewer voxels of a shell say nothing."""


@dataclass(frozen=True, eq=False)
class Nodules:
    """Cubes of CT with a nodule each.

    Attributes:
        hu: float32 [n, z, y, x].
        masks: bool [n, z, y, x], none empty and none full.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: as said, or shapes that differ.
    """

    hu: NDArray
    masks: NDArray[np.bool_]
    spacing_mm: Sequence[float]

    def __post_init__(self) -> None:
        checks.volumes("nodules", self.hu)
        check_spacing(self.spacing_mm)
        if self.masks.shape != self.hu.shape:
            raise InputError("masks", f"shape {self.masks.shape}", f"{self.hu.shape}, as of the HU")
        share = self.masks.mean((1, 2, 3))
        if not ((share > 0) & (share < 1)).all():
            raise InputError("masks", "an empty or a full one", "a nodule with something around it")

    def __len__(self) -> int:
        return len(self.hu)


def mean_hu(nodules: Nodules) -> NDArray[np.float64]:
    """Mean HU inside each mask, [n]."""
    inside = np.where(nodules.masks, nodules.hu, 0).sum((1, 2, 3), dtype=np.float64)
    return np.asarray(inside / nodules.masks.sum((1, 2, 3)))


def hu_distance(first: Nodules, second: Nodules) -> float:
    """Wasserstein-1 distance, in HU, of the values inside two groups' masks; each nodule counts as much as another."""
    values = [np.asarray(group.hu)[group.masks] for group in (first, second)]
    weights = [np.repeat(1 / (n := group.masks.sum((1, 2, 3))), n) for group in (first, second)]
    return float(wasserstein_distance(*values, *weights))


@dataclass(frozen=True, eq=False)
class Profile:
    """HU by distance from the border of the mask, each [k] a shell.

    Attributes:
        at_mm: the middle of the shell, inside negative.
        hu: mean over nodules of the median HU of their shells; NaN where no nodule has the shell.
        low, high: its interval, by patient.
    """

    at_mm: NDArray[np.float64]
    hu: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def profiles(nodules: Nodules, edges_mm: Sequence[float] = EDGES_MM) -> NDArray[np.float64]:
    """Median HU of each nodule in each shell, [n, k]; NaN where it has under 4 voxels of it.

    Args:
        edges_mm: k + 1 distances from the border, ascending.

    Raises:
        InputError: edges that do not ascend.
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
    """The group's profile with its band.

    Args:
        patients: patient of each nodule, [n].
        edges_mm: k + 1 distances from the border, ascending.

    Raises:
        InputError: fewer than 2 patients, or edges that do not ascend.
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
    """Millimetres of each voxel of [z, y, x] from the mask's border, inside negative.

    The border lies half-way between a voxel inside and its neighbour outside, for which half a mean voxel is taken.
    """
    half = np.float32(np.mean(spacing_mm) / 2)
    inside, outside = distance_inside(mask, spacing_mm), distance_inside(~mask, spacing_mm)
    return np.where(mask, half - inside, outside - half)
