"""What a measurement ends in: a value with its interval, a difference with its test."""

from __future__ import annotations

from dataclasses import dataclass

CONFIDENCE = 0.95
"""Of intervals, if nothing else is asked for."""
ALPHA = 0.05
"""Level of tests, if nothing else is asked for."""
POWER = 0.8
"""Share of all studies that would find the smallest difference that is told of."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval it is known to."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A difference, first less second, its interval, and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference, first less second, against a margin (Schuirmann 1987).

    Attributes:
        low, high: the interval of 1 - 2 alpha, which lies within the margin just where both tests reject.
        margin: differences smaller than this are taken for none.
        p: the greater one of the two tests'; of a difference of at least the margin.
        alpha: level of each test.
    """

    difference: float
    low: float
    high: float
    margin: float
    p: float
    alpha: float

    @property
    def equivalent(self) -> bool:
        """Whether the difference is shown to be smaller than the margin."""
        return self.p < self.alpha
