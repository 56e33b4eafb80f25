"""Results of measurements: a value with its interval, a difference with its test."""

from __future__ import annotations

from dataclasses import dataclass

CONFIDENCE = 0.95
"""Default confidence of intervals."""
ALPHA = 0.05
"""Default level of tests."""
POWER = 0.8
"""Power at which the smallest detectable difference is reported: 80 % of such studies would find it."""


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A difference, first minus second, the ends of its interval, and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference, first minus second, against a margin (Schuirmann 1987).

    Attributes:
        difference: first minus second.
        low, high: interval of confidence 1 - 2 alpha, which lies within the margin if and only if both tests reject.
        margin: smallest difference that matters.
        p: larger p of the two tests, whose hypothesis is a difference of at least the margin.
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
