"""Tests of paired results, and the correction for doing many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, rv_continuous
from scipy.stats import t as student

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import check_margin
from synthorax.metrics.estimates import ALPHA, POWER, Equivalence


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> float:
    """Return the exact two-sided p of McNemar's test that two classifiers are right equally often on the same rows.

    Args:
        first_right, second_right: 1 where the classifier is right and 0 where it is wrong, [n].

    Raises:
        InputError: lengths differ, there are no rows, or there are other values.
    """
    first = checks.flags("first_right", first_right)
    second = checks.flags("second_right", second_right, len(first))
    apart = int((first != second).sum())
    return float(binomtest(int((first & ~second).sum()), apart).pvalue) if apart else 1.0


def paired_equivalence(first: ArrayLike, second: ArrayLike, margin: float, alpha: float = ALPHA) -> Equivalence:
    """Test whether the means of paired values differ by less than a margin, by Student's t.

    Args:
        first, second: a value for each patient, [n].
        margin: smallest difference that matters.
        alpha: level of each of the two one-sided tests.

    Raises:
        InputError: there are fewer than 2 pairs, lengths differ, values are not finite, or the margin is not positive.
    """
    before = checks.vector("second", second)
    apart = checks.vector("first", first, len(before)) - before
    if len(apart) < 2:
        raise InputError("pairs", f"{len(apart)}", "2 or more")
    error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
    return equivalence_by_error(float(apart.mean()), error, margin, alpha, student(len(apart) - 1))


def equivalence_by_error(
    difference: float, standard_error: float, margin: float, alpha: float = ALPHA, law: rv_continuous = norm
) -> Equivalence:
    """Test whether a difference with a known standard error is within a margin, by two one-sided tests.

    Args:
        difference: first minus second.
        standard_error: standard error of the difference.
        margin: smallest difference that matters.
        alpha: level of each test.
        law: distribution of the difference over its standard error.

    Raises:
        InputError: the margin is not positive.
    """
    check_margin(margin)
    half = float(law.ppf(1 - alpha) * standard_error)
    room = margin - abs(difference)
    p = float(law.sf(room / standard_error)) if standard_error > 0 else float(room <= 0)
    return Equivalence(difference, difference - half, difference + half, margin, p, alpha)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p values [n], in the same order, corrected for multiple testing (Holm 1979).

    Raises:
        InputError: there are no p values, or one is outside 0 to 1.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    found = checks.vector("p values", p_values)
    if ((found < 0) | (found > 1)).any():
        raise InputError("p values", f"{found.min():g} to {found.max():g}", "0 to 1")
    order = np.argsort(found)
    corrected = np.empty(len(found))
    corrected[order] = np.minimum(np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)), 1)
    return corrected


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values in the same order, corrected by `holm` for the known ones among them; None stays None.

    >>> holm_of_known([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    known = [p for p in p_values if p is not None]
    corrected = iter(holm(known).tolist() if known else [])
    return [None if p is None else next(corrected) for p in p_values]


def smallest_found(half_widths: Sequence[float]) -> float | None:
    """Return the smallest difference that tests at `ALPHA` would find in `POWER` of all cases; None without a test.

    Args:
        half_widths: half-widths of the 95 % intervals of such differences, whose median counts.
    """
    if not len(half_widths):
        return None
    return float(np.median(half_widths)) * float(1 + norm.ppf(POWER) / norm.ppf(1 - ALPHA / 2))
