"""The real nodules, or pairs of them, with which generated nodules are compared: similar in diameter and texture."""

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
"""Two nodules are alike if the larger diameter is at most this many times the smaller one."""
ALIKE_TEXTURES = 0.5
"""Two nodules are alike if their ratings of texture differ by at most this much."""
MOST_COUNTERPARTS = 40
"""Most real nodules, or pairs of them, with which a generated nodule is compared, drawn if there are more."""


@dataclass(frozen=True, eq=False)
class Counterparts:
    """The p comparisons of n generated nodules with real nodules, or with pairs of real nodules.

    Attributes:
        made: index of the generated nodule in each comparison, int64 [p].
        real: indices of the real nodule or of the pair in each comparison, int64 [p, 1] or [p, 2].
        n_made, n_real: numbers of generated and real nodules, also of those without a comparison.
    """

    made: NDArray[np.int64]
    real: NDArray[np.int64]
    n_made: int
    n_real: int

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each generated nodule has a comparison, bool [n]."""
        return np.isin(np.arange(self.n_made), self.made)

    def means(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted mean over each generated nodule's comparisons, [b, n]; NaN if all weights are 0.

        Args:
            values: values of each comparison, [p].
            weights: how often each of m real nodules counts in b replicates, [b, m]. The weight of a pair is the
                product of its nodules' weights.
        """
        counted = weights[:, self.real].prod(2)
        belongs = csr_array(
            (np.ones(len(self.made)), (np.arange(len(self.made)), self.made)), (len(self.made), self.n_made)
        )
        return ratio((counted * values) @ belongs, counted @ belongs)


def like_nodules(made: Sequence[NoduleAttributes], real: Sequence[NoduleAttributes], seed: int = 0) -> Counterparts:
    """Find the real nodules that are `alike` each generated nodule.

    Args:
        made: requested attributes of the generated nodules.
        real: attributes of the real nodules.
        seed: seed of the draw, if there are more than `MOST_COUNTERPARTS`.
    """
    rows = [np.flatnonzero(each)[:, None] for each in alike(made, real)]
    return _drawn(rows, len(real), seed)


def like_pairs(
    made: Sequence[NoduleAttributes], real: Sequence[NoduleAttributes], patients: ArrayLike, seed: int = 0
) -> Counterparts:
    """Find the pairs of real nodules, of two patients, that are `alike` each generated nodule and each other.

    Args:
        made: requested attributes of the generated nodules.
        real: attributes of m real nodules.
        patients: patient of each real nodule, [m].
        seed: seed of the draw, if there are more than `MOST_COUNTERPARTS`.

    Raises:
        InputError: there are not m patients.
    """
    owners = np.asarray(patients)
    if len(owners) != len(real):
        raise InputError("patients", f"{len(owners)} rows", f"{len(real)} rows, one for each real nodule")
    pairs = np.triu(alike(real, real) & (owners[:, None] != owners))
    rows = [np.argwhere(pairs & each & each[:, None]) for each in alike(made, real)]
    return _drawn(rows, len(real), seed)


def alike(first: Sequence[NoduleAttributes], second: Sequence[NoduleAttributes]) -> NDArray[np.bool_]:
    """Return whether nodules are alike in diameter (`ALIKE_DIAMETERS`) and texture (`ALIKE_TEXTURES`), bool [n, m].

    A nodule without a diameter is like no other. If a first nodule has no texture, textures are not compared. A second
    nodule without texture is not alike one that has a texture.

    Args:
        first: attributes of n nodules.
        second: attributes of m nodules.
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
