"""Intervals that resample patients: their coverage is right, also for correlated values of a patient."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthorax.errors import InputError
from synthorax.metrics.bootstrap import (
    Statistic,
    bca_interval,
    by_rows,
    difference,
    mean_of,
    patient_bootstrap,
    resampled,
    seed_and_patient_bootstrap,
    seed_and_patient_comparison,
)
from synthorax.metrics.roc import auc_of


def clusters(seed, patients=40, each=4, spread=1.0):
    """Values of patients whose rows are alike, and the patient of each."""
    random = np.random.default_rng(seed)
    level = random.normal(0, spread, patients)
    return np.repeat(level, each) + random.normal(0, 0.3, patients * each), np.repeat(np.arange(patients), each)


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    found = [patient_bootstrap(mean_of(v), p, replicates=400).interval() for v, p in map(clusters, range(300))]
    assert 0.90 < np.mean([each.low <= 0 <= each.high for each in found]) < 0.98


def test_rows_taken_for_patients_give_an_interval_that_is_too_narrow():
    values, patients = clusters(0)
    by_patient = patient_bootstrap(mean_of(values), patients).interval()
    by_row = patient_bootstrap(mean_of(values), np.arange(len(values))).interval()
    assert by_row.high - by_row.low < 0.6 * (by_patient.high - by_patient.low)


@pytest.mark.parametrize("statistic", ["variance", "squared mean"])
@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_with_a_row_a_patient_the_intervals_are_scipys(method, statistic):
    random = np.random.default_rng(0)
    if statistic == "variance":  # its replicates lean to one side
        values, plain = random.gamma(3, size=200), np.var
        ours = difference(mean_of(values**2), square_of(mean_of(values)))
    else:  # its replicates lie above it
        values, plain = random.normal(size=200), lambda x, axis: x.mean(axis) ** 2
        values += 0.05 - values.mean()
        ours = square_of(mean_of(values))
    if method == "BCa":
        found = bca_interval(ours, np.arange(200), replicates=20000)
    else:
        found = patient_bootstrap(ours, np.arange(200), replicates=20000).interval()
    interval = stats.bootstrap((values,), plain, n_resamples=20000, method=method, rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=0.03, abs=1e-4)
    assert found.value == pytest.approx(plain(values, 0))


def test_bca_leans_to_the_side_a_skewed_statistic_leans_to():
    random = np.random.default_rng(2)
    covered = {"percentile": 0, "bca": 0}
    for _ in range(200):
        values = random.exponential(size=25)
        statistic = difference(mean_of(values**2), square_of(mean_of(values)))  # the variance, 1
        plain = patient_bootstrap(statistic, np.arange(25), replicates=500).interval()
        bca = bca_interval(statistic, np.arange(25), replicates=500)
        covered["percentile"] += plain.low <= 1 <= plain.high
        covered["bca"] += bca.low <= 1 <= bca.high
    assert covered["bca"] > covered["percentile"] + 5


@given(st.integers(0, 1000), st.integers(2, 30))
def test_weighted_rows_are_repeated_rows(seed, n):
    random = np.random.default_rng(seed)
    labels, scores = np.arange(n) % 2, random.integers(0, 5, n)
    weights = random.integers(0, 4, (3, n)).astype(float)
    for fast, slow in (
        (mean_of(scores), lambda rows: scores[rows].mean() if len(rows) else np.nan),
        (auc_of(labels, scores), lambda rows: brute_auc(labels[rows], scores[rows])),
    ):
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(fast.values(weights), by_rows(slow, n).values(weights))


def square_of(statistic):
    return Statistic(statistic.rows, lambda weights: statistic.values(weights) ** 2)


def brute_auc(labels, scores):
    gap = scores[labels == 1][:, None] - scores[labels == 0]
    return ((gap > 0) + 0.5 * (gap == 0)).mean() if gap.size else np.nan


def test_a_paired_difference_is_known_better_than_its_parts():
    values, patients = clusters(3)
    better = values + 0.1 + np.random.default_rng(0).normal(0, 0.05, len(values))
    found = patient_bootstrap(difference(mean_of(better), mean_of(values)), patients)
    comparison = found.comparison()
    assert comparison.low < 0.1 < comparison.high
    assert comparison.high - comparison.low < 0.05
    assert comparison.p < 0.001
    assert patient_bootstrap(mean_of(values), patients).interval().high > 0.2


def test_no_difference_has_any_p():
    p = []
    for seed in range(200):
        values, patients = clusters(seed, each=1)
        p.append(patient_bootstrap(mean_of(values), patients, replicates=300).comparison().p)
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_models_are_equivalent_within_a_margin_that_holds_the_90_percent_interval():
    values, patients = clusters(1)
    other = values + np.random.default_rng(1).normal(0, 0.5, len(values))
    found = patient_bootstrap(mean_of(other - values), patients)
    inner = found.interval(0.9)
    edge = max(abs(inner.low), abs(inner.high))
    wide, narrow = found.equivalence(1.05 * edge), found.equivalence(0.95 * edge)
    assert (wide.equivalent, narrow.equivalent) == (True, False)
    assert (wide.low, wide.high) == (inner.low, inner.high)
    with pytest.raises(InputError, match="margin: found 0; expected a positive difference"):
        found.equivalence(0)


def test_training_seeds_widen_the_interval_by_their_own_variance():
    values, patients = clusters(0, patients=400)
    luck = np.array([-0.5, 0.1, 0.4, 0.2, -0.3])
    alone = patient_bootstrap(mean_of(values), patients)
    found = seed_and_patient_bootstrap([mean_of(values + each) for each in luck], patients, replicates=20000)
    assert found.value == pytest.approx(alone.value + luck.mean())
    expected = alone.replicates.var() + luck.var(ddof=1) / len(luck)
    assert found.replicates.var() == pytest.approx(expected, rel=0.05)


def test_the_same_seed_draws_the_same_patients():
    values, patients = clusters(0)
    one, same, other = (resampled(mean_of(values), patients, replicates=50, seed=s) for s in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_bad_input_is_one_clear_line():
    for call, text in (
        (lambda: patient_bootstrap(mean_of([1, 2]), ["a", "a"]), "patients: found 1 of them; expected 2 or more"),
        (lambda: patient_bootstrap(mean_of([1, 2, 3]), ["a", "b"]), "patients: found 2 rows; expected 3"),
        (lambda: difference(mean_of([1, 2, 3]), mean_of([1, 2])), "found 3 rows and 2 rows"),
        (
            lambda: seed_and_patient_bootstrap([mean_of([1, 2]), mean_of([1])], [0, 1]),
            "statistics: found numbers of rows",
        ),
        (lambda: mean_of([]), "values: found shape"),
        (lambda: mean_of([1, np.nan]), "values: found 1 values that are not finite"),
        (lambda: seed_and_patient_bootstrap([mean_of([1, 2])], [0, 1]), "training seeds: found 1 of them"),
        (lambda: patient_bootstrap(auc_of([0, 0, 1], [1, 2, 3]), [0, 1, 2]), "no value on [0-9]+ of 2000 replicates"),
    ):
        with pytest.raises(InputError, match=text):
            call()


def test_a_difference_over_few_seeds_is_seldom_found_where_there_is_none():
    """Three seeds that lie twice as far apart as patients' resampled means: the bootstrap finds one in some 13 %."""
    random, patients, trials = np.random.default_rng(0), 40, 300
    found, by_bootstrap = 0, 0
    for _ in range(trials):
        of_patients, of_seeds = random.normal(0, np.sqrt(patients), patients), random.normal(0, 2 * np.sqrt(3), 3)
        statistics = [mean_of(of_patients + shift) for shift in of_seeds]
        test = seed_and_patient_comparison(statistics, np.arange(patients), replicates=300)
        assert test.low <= test.difference <= test.high
        assert (test.p < 0.05) == (not test.low <= 0 <= test.high)
        found += test.p < 0.05
        both = seed_and_patient_bootstrap(statistics, np.arange(patients), replicates=300)
        by_bootstrap += both.comparison().p < 0.05
    assert 0.01 <= found / trials <= 0.085 < by_bootstrap / trials


def test_seeds_that_agree_leave_the_patients_t():
    values = np.random.default_rng(1).normal(0.3, 1, 60)
    found = seed_and_patient_comparison([mean_of(values)] * 3, np.arange(60), replicates=20_000)
    expected = stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)
    np.testing.assert_allclose([found.low, found.high], expected.confidence_interval(), atol=0.01)


def test_no_difference_at_all_is_none():
    found = seed_and_patient_comparison([mean_of(np.zeros(8))] * 2, np.arange(8))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    with pytest.raises(InputError, match="2 or more"):
        seed_and_patient_comparison([mean_of(np.zeros(8))], np.arange(8))
