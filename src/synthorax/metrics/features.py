"""Features of patches, kept together with the identity of the network that computed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.metrics import checks


@dataclass(frozen=True)
class ExtractorCard:
    """The identity of an extractor; measures are comparable only if their extractors are the same.

    Attributes:
        name: name of the extractor.
        sha256: hash of its weights file.
        dimensions: number of dimensions of a feature vector.
        preprocessing: preprocessing of the HU before the network, in words.
    """

    name: str
    sha256: str
    dimensions: int
    preprocessing: str


@dataclass(frozen=True, eq=False)
class Features:
    """The features of n patches.

    Attributes:
        values: float64 [n, d].
        extractor: extractor that computed them.
        probabilities: probabilities of its classes, [n, k], each row with a sum of 1; None if it has no classes.

    Raises:
        InputError: there are no patches, values are not finite, d is not the extractor's, or probabilities are negative
            or do not sum to 1.
    """

    values: NDArray[np.float64]
    extractor: ExtractorCard
    probabilities: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checks.matrix("features", self.values))
        n, d = self.values.shape
        if d != self.extractor.dimensions:
            expected = f"{self.extractor.dimensions} columns, as {self.extractor.name} has"
            raise InputError("features", f"{d} columns", expected)
        if self.probabilities is not None:
            classes = checks.matrix("probabilities", self.probabilities, n)
            if (classes < 0).any() or abs(classes.sum(1) - 1).max() > 1e-3:
                raise InputError("probabilities", "negative values, or sums that are not 1", "rows with a sum of 1")

    def __len__(self) -> int:
        return len(self.values)


def common_extractor(*sets: Features) -> ExtractorCard:
    """Return the extractor that computed all of these features.

    Raises:
        InputError: the extractors differ.
    """
    cards = dict.fromkeys(each.extractor for each in sets)
    if len(cards) > 1:
        found = " against ".join(f"{card.name} ({card.sha256[:8]})" for card in cards)
        raise InputError("features", found, "the same extractor for all")
    return sets[0].extractor


class Extractor(Protocol):
    """A network that turns patches into features."""

    card: ExtractorCard

    def __call__(self, patches_hu: NDArray, spacing_mm: Sequence[float]) -> Features:
        """Return the features of patches.

        Args:
            patches_hu: HU [n, z, y, x].
            spacing_mm: voxel size (z, y, x).

        Raises:
            InputError: the network does not take such patches.
        """
        ...
