"""Do two seeds of an in-painter make two nodules at one site? The figure that the guard `diversity` looks at.

An in-painter that learns by L1 alone may take no notice of its noise: every seed then makes the same nodule, and no
loss shows it. The figure is the distance of two fills of one site over the distance of two real nodules, both after
the Gaussian of `metrics.seed_diversity`, which leaves little of matched noise. Here it is taken over the whole edit
region, because no masks are needed for that; the study of in-painting takes it over the nodules' masks.
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
"""Share of real pairs' distance below which two seeds count as one nodule; noise like LIDC-IDRI's alone makes .04."""
GAUSSIAN_REACH = 4.0
"""The Gaussian ends at this many standard deviations, as SciPy's does."""
MOST_REAL_PAIRS = 500
"""Pairs of real nodules that the distance is the mean of; more are drawn from."""
PAIRS_AT_ONCE = 32
"""Pairs of real nodules whose distance is computed at once."""


def diversity_limit(warm_up: int) -> Limit:
    """The guard of the figure `diversity` of an in-painter.

    Args:
        warm_up: steps of the whole training after which the figure counts, such as those of training by L1 alone.
    """
    return Limit(
        "two seeds make nearly the same nodule at one site",
        low=LEAST_IN_TRAINING,
        warm_up=warm_up,
        remedy="train a new run with more weight on the adversarial loss, or less on reconstruction",
    )


class SeedDiversity:
    """The figure `diversity`: the mean distance of two fills of each site, as a share of real pairs' distance.

    Args:
        real_hu: distance of pairs of real nodules, as `real_distance_hu` gives it.
        spec: grid and HU window of the patches.

    Raises:
        InputError: a distance that is not positive.
    """

    def __init__(self, real_hu: float, spec: PatchSpec) -> None:
        if not real_hu > 0:
            raise InputError("distance of real nodules", f"{real_hu:g} HU", "a positive one")
        self._real_hu, self._spec = real_hu, spec

    @torch.no_grad()
    def __call__(
        self, first: Float[Tensor, "b 1 z y x"], second: Float[Tensor, "b 1 z y x"], region: Float[Tensor, "b 1 z y x"]
    ) -> Tensor:
        """The figure, a scalar.

        Args:
            first, second: patches from -1 to 1, filled at the same sites by two draws of noise.
            region: 1 where the patches were filled, else 0.
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
    """The mean distance in HU of pairs of real nodules that are alike in diameter and texture.

    Args:
        ct: patches from -1 to 1 with a real nodule in the middle.
        region: 1 where an edit of each patch might change it, else 0; a pair is compared where either might change.
        attributes, patients: of the nodules, [n].
        seed: of the pairs that are drawn where there are many.

    Raises:
        InputError: no two nodules of two patients that are alike.
    """
    pairs = np.unique(like_pairs(attributes, attributes, patients, seed).real, axis=0)
    if not len(pairs):
        raise InputError("real nodules", f"{len(ct)} without a pair alike in diameter and texture", "more nodules")
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
    """The root mean square in HU of two patches' difference within a region, after the Gaussian.

    What lies outside the region does not count.

    Args:
        first, second: patches from -1 to 1.
        region: 1 within, 0 outside; not empty.
    """
    low, high = spec.window_hu
    apart = _smoothed((first - second).float() * region * ((high - low) / 2), spec.spacing_mm)
    axes = (1, 2, 3, 4)
    return ((apart.square() * region).sum(axes) / region.sum(axes)).sqrt()


def _smoothed(values: Float[Tensor, "b 1 z y x"], spacing_mm: Sequence[float]) -> Float[Tensor, "b 1 z y x"]:
    """Values after a Gaussian of `DIVERSITY_BLUR_MM`; beyond the patch they are 0."""
    for axis, spacing in enumerate(spacing_mm):
        sigma = DIVERSITY_BLUR_MM / spacing
        reach = int(GAUSSIAN_REACH * sigma + 0.5)
        weights = torch.exp(-((torch.arange(-reach, reach + 1, device=values.device) / sigma) ** 2) / 2)
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = len(weights), reach
        values = functional.conv3d(values, (weights / weights.sum()).reshape(shape), padding=padding)
    return values
