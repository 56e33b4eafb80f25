"""Real nodules, and pairs of them, that made nodules are measured against: alike in diameter and in texture rating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from synthorax.errors import InputError
from synthorax.metrics.bootstrap import ratio
from synthorax.nodule import NoduleAttributes
from synthorax.seeding import generator

ALIKE_DIAMETERS = 1.1
"""Nodules are alike if the larger diameter is at most this many times the smaller one."""
ALIKE_TEXTURES = 0.5
"""Nodules are alike if their ratings of texture differ by at most this much."""
MOST_COUNTERPARTS = 40
"""A made nodule is compared with at most this many real nodules, or pairs of them; more are drawn from."""


@dataclass(frozen=True, eq=False)
class Counterparts:
    """The real nodules, or pairs of them, that each of n made nodules is compared with.

    Attributes:
        made: number of the made nodule of each comparison, int64 [p].
        real: numbers of the real nodule or of the two, int64 [p, 1] or [p, 2].
        n_made, n_real: made nodules and real ones, those without a comparison too.
    """

    made: NDArray[np.int64]
    real: NDArray[np.int64]
    n_made: int
    n_real: int

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which made nodules have a comparison, bool [n]."""
        return np.isin(np.arange(self.n_made), self.made)

    def means(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over each made nodule's comparisons, [b, n]; NaN where all of them have no weight.

        Args:
            values: of each comparison, [p].
            weights: how often each real nodule counts in b replicates, [b, m]; of a pair the product counts.
        """
        counted = weights[:, self.real].prod(2)
        belongs = csr_array(
            (np.ones(len(self.made)), (np.arange(len(self.made)), self.made)), (len(self.made), self.n_made)
        )
        return ratio((counted * values) @ belongs, counted @ belongs)


def like_nodules(made: Sequence[NoduleAttributes], real: Sequence[NoduleAttributes], seed: int = 0) -> Counterparts:
    """For each made nodule, the real nodules like it.

    Args:
        made: attributes that were asked for.
    """
    rows = [np.flatnonzero(each)[:, None] for each in alike(made, real)]
    return _drawn(rows, len(real), seed)


def like_pairs(
    made: Sequence[NoduleAttributes], real: Sequence[NoduleAttributes], patients: ArrayLike, seed: int = 0
) -> Counterparts:
    """For each made nodule, the pairs of real nodules of two patients that are like it and like each other.

    Args:
        made: attributes that were asked for.
        patients: of the real nodules, [m].

    Raises:
        InputError: not as many patients as real nodules.
    """
    owners = np.asarray(patients)
    if len(owners) != len(real):
        raise InputError("patients", f"{len(owners)} rows", f"{len(real)}, one a real nodule")
    pairs = np.triu(alike(real, real) & (owners[:, None] != owners))
    rows = [np.argwhere(pairs & each & each[:, None]) for each in alike(made, real)]
    return _drawn(rows, len(real), seed)


def alike(first: Sequence[NoduleAttributes], second: Sequence[NoduleAttributes]) -> NDArray[np.bool_]:
    """Whether nodules are alike in diameter (`ALIKE_DIAMETERS`) and texture (`ALIKE_TEXTURES`), bool [n, m].

    A nodule without a diameter is like none. A texture that the first has not is not compared; the second needs one.
    """
    (first_mm, first_texture), (second_mm, second_texture) = (
        np.array([[one.diameter_mm or np.nan, one.texture or np.nan] for one in some]).reshape(-1, 2).T
        for some in (first, second)
    )
    diameters = abs(np.log(first_mm[:, None] / second_mm)) <= np.log(ALIKE_DIAMETERS) + 1e-9
    textures = abs(first_texture[:, None] - second_texture) <= ALIKE_TEXTURES + 1e-9
    found: NDArray[np.bool_] = diameters & (textures | np.isnan(first_texture)[:, None])
    return found


def _drawn(rows: Sequence[NDArray[np.int64]], n_real: int, seed: int) -> Counterparts:
    """At most `MOST_COUNTERPARTS` of each made nodule's rows [k, r]."""
    random = generator(seed, "counterparts")
    kept = [each[np.sort(random.choice(len(each), min(len(each), MOST_COUNTERPARTS), replace=False))] for each in rows]
    made = np.repeat(np.arange(len(rows)), [len(each) for each in kept])
    return Counterparts(made, np.concatenate(kept) if kept else np.zeros((0, 1), np.int64), len(rows), n_real)
