"""AUCs with their variance, and tests of paired results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from synthorax.errors import InputError
from synthorax.metrics.bootstrap import difference, patient_bootstrap
from synthorax.metrics.comparisons import equivalence_by_error, holm, mcnemar, paired_equivalence
from synthorax.metrics.roc import (
    auc,
    auc_of,
    delong_comparison,
    delong_covariance,
    delong_equivalence,
    delong_interval,
)

TRUE_AUC = stats.norm.cdf(1 / np.sqrt(2))
"""Of scores that are a standard deviation apart."""


def readings(seed, n=120, models=2, shared=0.7):
    """Labels, and correlated scores of models of equal worth."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    common = random.normal(size=n)
    noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * random.normal(size=(models, n))
    return labels, labels + noise


@given(st.integers(0, 10**6), st.integers(4, 60), st.integers(1, 6))
def test_the_auc_is_sklearns_with_ties_too(seed, n, levels):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    scores = random.integers(0, levels, n)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert delong_covariance(labels, scores[None])[0][0] == pytest.approx(auc(labels, scores))


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.integers(2, 8))
def test_delongs_covariance_is_that_of_the_pairs_counted_one_by_one(seed, m, n, levels):
    random = np.random.default_rng(seed)
    up, down = random.integers(0, levels, (3, m)) + 1, random.integers(0, levels, (3, n))
    won = (up[:, :, None] > down[:, None]) + 0.5 * (up[:, :, None] == down[:, None])
    expected = np.cov(won.mean(2)) / m + np.cov(won.mean(1)) / n
    _, found = delong_covariance(np.arange(m + n) < m, np.concatenate([up, down], 1))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_delongs_interval_covers_the_true_auc_and_its_test_keeps_its_level():
    covered, rejected, equivalent = 0, 0, 0
    for seed in range(600):
        labels, (a, b) = readings(seed)
        found = delong_interval(labels, a)
        covered += found.low <= TRUE_AUC <= found.high
        rejected += delong_comparison(labels, a, b).p < 0.05
        # Scores that are worse by just the margin are taken for equivalent as often as the level says.
        worse = b - (1 - np.sqrt(2) * stats.norm.ppf(TRUE_AUC - 0.08)) * labels
        equivalent += delong_equivalence(labels, a, worse, 0.08).equivalent
    assert 0.925 < covered / 600 < 0.975
    assert 0.02 < rejected / 600 < 0.08
    assert equivalent / 600 < 0.08


def test_the_patient_bootstrap_of_the_auc_agrees_with_delong_where_a_patient_has_one_row():
    labels, (a, b) = readings(5, n=300)
    delong = delong_interval(labels, a)
    found = patient_bootstrap(auc_of(labels, a), np.arange(300)).interval()
    assert (found.low, found.high) == pytest.approx((delong.low, delong.high), abs=0.01)
    delong = delong_comparison(labels, a, b)
    found = patient_bootstrap(difference(auc_of(labels, a), auc_of(labels, b)), np.arange(300)).comparison()
    assert (found.low, found.high) == pytest.approx((delong.low, delong.high), abs=0.01)
    assert found.p == pytest.approx(delong.p, abs=0.05)


def test_a_thousand_rows_are_resampled_two_thousand_times_without_two_thousand_sorts(monkeypatch):
    """What takes seconds in place of minutes is that a resample sorts nothing; seconds depend on who else works."""
    labels, (a, _) = readings(0, n=1000)
    statistic, calls = auc_of(labels, a), []
    sort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda *args, **more: calls.append(1) or sort(*args, **more))
    patient_bootstrap(statistic, np.arange(1000) // 2)
    assert len(calls) < 50


def test_models_that_rank_alike_do_not_differ():
    labels, (a, _) = readings(0)
    found = delong_comparison(labels, a, 3 * a + 1)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert delong_equivalence(labels, a, 3 * a + 1, 0.01).equivalent
    assert delong_interval([0, 0, 1, 1], [1, 2, 3, 4]).low == 1


def test_mcnemar_counts_only_rows_on_which_the_models_part():
    first = np.array([1] * 30 + [0] * 2 + [1] * 100)
    second = np.array([0] * 30 + [1] * 2 + [1] * 100)
    expected = 2 * sum(stats.binom.pmf(k, 32, 0.5) for k in range(3))
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(first[:32], second[:32]) == pytest.approx(expected)
    assert mcnemar(first, first) == 1


def test_paired_equivalence_is_two_t_tests():
    random = np.random.default_rng(0)
    first = random.normal(size=30)
    second = first + random.normal(0.02, 0.1, 30)
    found = paired_equivalence(first, second, 0.1)
    above = stats.ttest_1samp(first - second, -0.1, alternative="greater").pvalue
    below = stats.ttest_1samp(first - second, 0.1, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below))
    interval = stats.ttest_1samp(first - second, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx(tuple(interval))
    assert found.equivalent == (max(-found.low, found.high) < 0.1)


@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_equivalence_holds_just_where_the_interval_lies_within_the_margin(apart, error, margin):
    found = equivalence_by_error(apart, error, margin)
    assert found.equivalent == (-margin < found.low and found.high < margin)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_stepping_down_rejects(p_values):
    found = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    for alpha in (0.01, 0.05, 0.2):
        rejected = np.zeros(len(p_values), bool)
        for step, i in enumerate(order):
            if p_values[i] * (len(p_values) - step) > alpha:
                break
            rejected[i] = True
        assert ((found <= alpha) == rejected).all()


def test_bad_input_is_one_clear_line():
    for call, text in (
        (lambda: auc([1, 1], [0.2, 0.3]), "labels: found only class 1 in 2 rows; expected both classes"),
        (lambda: auc([0, 1, 2], [1, 2, 3]), "labels: found the value 2; expected 0 or 1"),
        (lambda: auc([0, 1], [1, 2, 3]), "scores: found 3 rows; expected 2"),
        (lambda: auc([], []), "labels: found shape"),
        (lambda: auc([0, 1], [0, np.nan]), "not finite"),
        (lambda: delong_interval([0, 1, 1], [1, 2, 3]), "found 2 positive and 1 negative rows"),
        (lambda: delong_covariance([0, 1], np.zeros((2, 3))), "scores: found 3 of them; expected 2"),
        (lambda: mcnemar([1, 0], [1]), "second_right: found 1 rows; expected 2"),
        (lambda: paired_equivalence([1.0], [1.0], 1), "pairs: found 1"),
        (lambda: paired_equivalence([1.0, 2], [1.0, 2], -1), "margin: found -1"),
        (lambda: holm([0.5, 1.5]), "p values: found 0.5 to 1.5; expected 0 to 1"),
    ):
        with pytest.raises(InputError, match=text):
            call()
