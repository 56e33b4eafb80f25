"""Features of patches, which never part from the name of the network that found them."""

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
    """Which extractor exactly: a figure is only comparable with figures of the same one.

    Attributes:
        sha256: of its weights.
        dimensions: of a feature vector.
        preprocessing: what is done to HU before the network, in words.
    """

    name: str
    sha256: str
    dimensions: int
    preprocessing: str


@dataclass(frozen=True, eq=False)
class Features:
    """What an extractor sees in n patches.

    Attributes:
        values: float64 [n, d].
        extractor: that found them.
        probabilities: of its classes, [n, k], rows summing to 1; None if it has none.

    Raises:
        InputError: none, values that are not finite, a width that is not the extractor's, or rows of probabilities
            that do not sum to 1.
    """

    values: NDArray[np.float64]
    extractor: ExtractorCard
    probabilities: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checks.matrix("features", self.values))
        n, d = self.values.shape
        if d != self.extractor.dimensions:
            raise InputError("features", f"{d} columns", f"{self.extractor.dimensions}, as of {self.extractor.name}")
        if self.probabilities is not None:
            classes = checks.matrix("probabilities", self.probabilities, n)
            if (classes < 0).any() or abs(classes.sum(1) - 1).max() > 1e-3:
                raise InputError("probabilities", "rows that are no distribution", "none negative and a sum of 1")

    def __len__(self) -> int:
        return len(self.values)


def common_extractor(*sets: Features) -> ExtractorCard:
    """The extractor that all features are of.

    Raises:
        InputError: there are several.
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
        """The features of patches.

        Args:
            patches_hu: HU [n, z, y, x].
            spacing_mm: voxel size (z, y, x).

        Raises:
            InputError: patches that the network does not take.
        """
        ...
