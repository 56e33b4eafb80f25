"""Measures whether two seeds of an in-painter give two different nodules at one site (the guard `diversity`).

An in-painter that is trained by L1 alone may ignore its noise input: every seed then gives the same nodule, and no
loss shows it. The figure is the distance between two fills of one site, divided by the distance between two real
nodules. Both are taken after the Gaussian filter of `metrics.seed_diversity`, which removes most of the noise texture.
Here the distance is taken over the whole edit region, which needs no masks; the study of in-painting takes it over the
nodules' masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.metrics.counterparts import like_pairs
from synthorax.metrics.seed_diversity import DIVERSITY_BLUR_MM
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.seeding import generator
from synthorax.training.trainable import Limit

LEAST_IN_TRAINING = 0.1
"""Share of the real pairs' distance below which two seeds count as the same nodule. CT noise of LIDC-IDRI's level alone
gives 0.04."""
GAUSSIAN_REACH = 4.0
"""Standard deviations at which the Gaussian filter is cut off, as in SciPy."""
MOST_REAL_PAIRS = 500
"""Largest number of pairs of real nodules in the mean distance; if there are more, so many are drawn."""
PAIRS_AT_ONCE = 32
"""Pairs of real nodules in one batch of the computation."""


def diversity_limit(warm_up: int) -> Limit:
    """Return the guard that stops an in-painter's training when the figure `diversity` stays too low.

    Args:
        warm_up: steps at the beginning of the whole training in which the figure is ignored, for instance those that
            train by L1 alone.
    """
    return Limit(
        "two seeds make nearly the same nodule at one site",
        low=LEAST_IN_TRAINING,
        warm_up=warm_up,
        remedy="train a new run with more weight on the adversarial loss, or less on reconstruction",
    )


class SeedDiversity:
    """Computes the figure `diversity`: the mean distance between two fills of a site, divided by real pairs' distance.

    Args:
        real_hu: mean distance in HU between two real nodules, from `real_distance_hu`.
        spec: grid and HU window of the patches.

    Raises:
        InputError: the distance is not positive.
    """

    def __init__(self, real_hu: float, spec: PatchSpec) -> None:
        if not real_hu > 0:
            raise InputError("distance between real nodules", f"{real_hu:g} HU", "a positive distance")
        self._real_hu, self._spec = real_hu, spec

    @torch.no_grad()
    def __call__(
        self, first: Float[Tensor, "b 1 z y x"], second: Float[Tensor, "b 1 z y x"], region: Float[Tensor, "b 1 z y x"]
    ) -> Tensor:
        """Return the figure, a scalar.

        Args:
            first, second: patches within -1 to 1, filled at the same sites with two draws of noise.
            region: 1 in voxels that were filled, 0 elsewhere.
        """
        return distances_hu(first, second, region, self._spec).mean() / self._real_hu


@torch.no_grad()
def real_distance_hu(
    ct: Float[Tensor, "n 1 z y x"],
    region: Float[Tensor, "n 1 z y x"],
    attributes: Sequence[NoduleAttributes],
    patients: ArrayLike,
    spec: PatchSpec,
    seed: int = 0,
) -> float:
    """Return the mean distance in HU between two real nodules of similar diameter and texture.

    Args:
        ct: patches within -1 to 1, each with a real nodule at its centre.
        region: 1 in voxels that an edit of the patch may change, 0 elsewhere; a pair is compared in the union of its
            two regions.
        attributes: attributes of the nodules, [n].
        patients: patient of each nodule, [n].
        spec: grid and HU window of the patches.
        seed: seed of the draw of pairs, if there are more than `MOST_REAL_PAIRS`.

    Raises:
        InputError: no two nodules of different patients are similar.
    """
    pairs = np.unique(like_pairs(attributes, attributes, patients, seed).real, axis=0)
    if not len(pairs):
        problem = f"{len(ct)}, of which no two of different patients have a similar diameter and texture"
        raise InputError("real nodules", problem, "more nodules")
    drawn = generator(seed, "pairs of real nodules").permutation(pairs)[:MOST_REAL_PAIRS]
    found = [
        distances_hu(ct[a], ct[b], torch.maximum(region[a], region[b]), spec)
        for a, b in (part.unbind(1) for part in torch.from_numpy(drawn).split(PAIRS_AT_ONCE))
    ]
    return float(torch.cat(found).mean())


def distances_hu(
    first: Float[Tensor, "b 1 z y x"],
    second: Float[Tensor, "b 1 z y x"],
    region: Float[Tensor, "b 1 z y x"],
    spec: PatchSpec,
) -> Float[Tensor, " b"]:
    """Return the root mean square in HU of the difference between two patches in a region, after the Gaussian filter.

    The difference outside the region is set to 0 before it is filtered.

    Args:
        first, second: patches within -1 to 1.
        region: 1 inside the region, 0 outside; not empty.
        spec: grid and HU window of the patches.
    """
    low, high = spec.window_hu
    apart = _smoothed((first - second).float() * region * ((high - low) / 2), spec.spacing_mm)
    axes = (1, 2, 3, 4)
    return ((apart.square() * region).sum(axes) / region.sum(axes)).sqrt()


def _smoothed(values: Float[Tensor, "b 1 z y x"], spacing_mm: Sequence[float]) -> Float[Tensor, "b 1 z y x"]:
    """Return the values filtered by a Gaussian with a standard deviation of `DIVERSITY_BLUR_MM`, padded with 0."""
    for axis, spacing in enumerate(spacing_mm):
        sigma = DIVERSITY_BLUR_MM / spacing
        reach = int(GAUSSIAN_REACH * sigma + 0.5)
        weights = torch.exp(-((torch.arange(-reach, reach + 1, device=values.device) / sigma) ** 2) / 2)
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = len(weights), reach
        values = functional.conv3d(values, (weights / weights.sum()).reshape(shape), padding=padding)
    return values
