"""Decisions, probabilities and marks compared with the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from synthorax.errors import InputError
from synthorax.metrics.bootstrap import by_rows, difference, patient_bootstrap
from synthorax.metrics.classification import (
    average_precision,
    brier,
    calibration_error,
    choose_threshold,
    confusion,
    confusion_of,
)
from synthorax.metrics.froc import RATES, ScanMarks, cpm_of, froc, hits


def readings(seed, n=40, levels=12):
    random = np.random.default_rng(seed)
    return np.arange(n) % 2, random.integers(0, levels, n) / levels


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_measures_of_decisions_are_sklearns(seed, level):
    labels, scores = readings(seed)
    found, decided = confusion(labels, scores, level / 12), scores >= level / 12
    assert sk.confusion_matrix(labels, decided).ravel().tolist() == [
        found.true_negative,
        found.false_positive,
        found.false_negative,
        found.true_positive,
    ]
    assert found.sensitivity == pytest.approx(sk.recall_score(labels, decided))
    assert found.specificity == pytest.approx(sk.recall_score(labels, decided, pos_label=0))
    assert found.accuracy == pytest.approx(sk.accuracy_score(labels, decided))
    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, decided))
    assert found.f1 == pytest.approx(sk.f1_score(labels, decided))
    assert found.f2 == pytest.approx(sk.fbeta_score(labels, decided, beta=2))
    if decided.any():
        assert found.precision == pytest.approx(sk.precision_score(labels, decided))


def test_a_measure_that_is_not_defined_is_nan():
    assert np.isnan(confusion([0, 1], [0.1, 0.2], 0.5).precision)
    assert np.isnan(confusion([0, 0], [0.1, 0.2], 0.5).sensitivity)


@given(st.integers(0, 10**6))
def test_a_measure_is_resampled_as_its_rows_are(seed):
    labels, scores = readings(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (4, 40)).astype(float)
    for measure in (lambda c: c.f2, lambda c: c.specificity):
        slow = by_rows(lambda rows, m=measure: m(confusion(labels[rows], scores[rows], 0.5)), 40)
        np.testing.assert_allclose(confusion_of(labels, scores, 0.5, measure).values(weights), slow.values(weights))


@given(st.integers(0, 10**6))
def test_the_chosen_threshold_is_the_best_of_all(seed):
    labels, scores = readings(seed)
    for measure in (lambda c: c.balanced_accuracy, lambda c: c.f2):
        best = max(measure(confusion(labels, scores, each)) for each in np.unique(scores))
        chosen = choose_threshold(labels, scores, measure)
        assert measure(confusion(labels, scores, chosen)) == pytest.approx(best)
    assert choose_threshold(labels, scores) in scores


@given(st.integers(0, 10**6))
def test_average_precision_and_brier_are_sklearns(seed):
    labels, scores = readings(seed)
    assert average_precision(labels, scores) == pytest.approx(sk.average_precision_score(labels, scores))
    assert brier(labels, scores) == pytest.approx(sk.brier_score_loss(labels, scores))


def test_probabilities_that_come_true_are_calibrated():
    random = np.random.default_rng(0)
    probability = random.random(20000)
    labels = random.random(20000) < probability
    assert calibration_error(labels, probability) < 0.02
    # Probabilities that are pushed towards the ends are wrong by as much as they were pushed.
    sure = np.where(probability > 0.5, 1.0, 0.0)
    assert calibration_error(labels, sure) == pytest.approx(0.25, abs=0.01)
    assert calibration_error(labels, np.full(20000, 0.8), bins=7) == pytest.approx(0.8 - labels.mean())


def marked(seed, scans=15):
    """Scans with marks near and far from nodules, of few scores, so that there are ties."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(scans):
        count = random.integers(0, 4)
        nodules = np.c_[random.uniform(0, 60, (count, 3)), random.uniform(4, 20, count)]
        other = np.c_[random.uniform(0, 60, (2, 3)), random.uniform(4, 20, 2)]
        near = np.repeat(np.concatenate([nodules, other]), 2, 0)[:, :3]
        places = np.concatenate([near + random.normal(0, 4, near.shape), random.uniform(0, 60, (6, 3))])
        kept = places[random.random(len(places)) < 0.8]
        made.append(ScanMarks(np.c_[kept, random.integers(0, 30, len(kept))], nodules, other))
    return made


def counted(scans, threshold):
    """Nodules found and false positives at a threshold, mark by mark."""
    found = wrong = 0
    for scan in scans:
        marks = [c for c in scan.candidates if c[3] >= threshold]

        def on(mark, places):
            return any(np.linalg.norm(mark[:3] - place[:3]) < place[3] / 2 for place in places)

        found += sum(any(on(mark, [nodule]) for mark in marks) for nodule in scan.nodules)
        wrong += sum(not on(mark, scan.nodules) and not on(mark, scan.irrelevant) for mark in marks)
    return found, wrong


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_what_counting_at_every_threshold_gives(seed):
    scans = marked(seed)
    total = sum(len(scan.nodules) for scan in scans)
    points = [counted(scans, threshold) for threshold in range(30, -1, -1)]
    found = froc(scans, replicates=20)
    expected = {(wrong / len(scans), right / total) for right, wrong in points}
    assert set(zip(found.false_positives.tolist(), found.sensitivity.tolist(), strict=True)) == expected
    assert (found.n_scans, found.n_nodules) == (len(scans), total)
    assert found.cpm.value == pytest.approx(np.mean([each.value for each in found.at_rates]))


def test_luna16s_rules_of_what_is_a_hit():
    nodule, near = [10, 10, 10, 8], [40, 40, 40, 6]
    marks = [[12, 10, 10, 0.5], [10, 10, 12, 0.9], [10, 10, 14, 0.7], [40, 40, 41, 0.8], [90, 0, 0, 0.3]]
    found, wrong = hits(
        ScanMarks(np.array(marks, float), np.array([nodule, [0, 0, 70, 5]], float), np.array([near], float))
    )
    assert found.tolist() == [0.9, -np.inf]  # the best of two hits; the third lies on the radius, and is none
    assert wrong.tolist() == [0.7, 0.3]  # and the mark on the irrelevant finding is neither


def test_a_mark_within_two_nodules_finds_both():
    found, wrong = hits(ScanMarks(np.array([[0, 0, 0, 1.0]]), np.array([[1, 0, 0, 8], [-1, 0, 0, 8.0]])))
    assert (found.tolist(), wrong.tolist()) == ([1, 1], [])


def test_a_perfect_detector_has_a_cpm_of_1_and_a_silent_one_of_0():
    nodules = np.array([[5, 5, 5, 6.0]])
    perfect = froc([ScanMarks(nodules * [1, 1, 1, 0] + [0, 0, 0, 1], nodules)] * 4, replicates=50)
    silent = froc([ScanMarks(nodules=nodules)] * 4, replicates=50)
    assert (perfect.cpm.value, perfect.cpm.low, silent.cpm.high) == (1, 1, 0)
    assert [each.value for each in perfect.at_rates] == [1] * len(RATES)


def test_resampled_scans_are_scans_repeated():
    scans = marked(7)
    weights = np.random.default_rng(0).integers(0, 3, (5, len(scans))).astype(float)
    slow = by_rows(lambda rows: froc([scans[i] for i in rows], replicates=1).cpm.value, 15)
    assert cpm_of(scans).values(weights) == pytest.approx(slow.values(weights))


def test_the_interval_is_by_patient_where_a_patient_has_several_scans():
    scans = marked(1, 30)
    by_scan = froc(scans, replicates=300)
    doubled = froc(scans * 4, patients=np.tile(np.arange(30), 4), replicates=300)
    careless = froc(scans * 4, replicates=300)
    width, honest, narrow = (each.cpm.high - each.cpm.low for each in (by_scan, doubled, careless))
    assert honest == pytest.approx(width)
    assert narrow < 0.7 * width


def test_two_detectors_are_compared_on_the_same_scans():
    scans = marked(2, 40)
    worse = [ScanMarks(scan.candidates + np.array([9, 0, 0, 0]), scan.nodules, scan.irrelevant) for scan in scans]
    same = patient_bootstrap(difference(cpm_of(scans), cpm_of(scans)), np.arange(40), replicates=100).comparison()
    found = patient_bootstrap(difference(cpm_of(scans), cpm_of(worse)), np.arange(40), replicates=500).comparison()
    assert (same.difference, same.p) == (0, 1)
    assert found.low > 0
    assert found.p < 0.05


def test_bad_input_is_one_clear_line():
    nodules = np.array([[0, 0, 0, 5.0]])
    for call, text in (
        (lambda: confusion([], [], 0.5), "labels: found shape"),
        (lambda: confusion([0, 1], [0.5], 0.5), "scores: found 1 rows; expected 2"),
        (lambda: confusion([0, 3], [0.5, 1], 0.5), "labels: found the value 3"),
        (lambda: choose_threshold([1, 1], [0.5, 1]), "labels: found only class 1 in 2 rows"),
        (lambda: average_precision([0, 0], [0.5, 1]), "labels: found only class 0 in 2 rows"),
        (lambda: brier([0, 1], [0.5, 1.5]), "probabilities: found 0.5 to 1.5; expected 0 to 1"),
        (lambda: calibration_error([0, 1], [0.5, np.nan]), "not finite"),
        (lambda: ScanMarks(np.zeros((2, 3))), "candidates: found shape"),
        (lambda: ScanMarks(np.full((2, 4), np.inf)), "candidates: found values that are not finite"),
        (lambda: ScanMarks(nodules=np.zeros((1, 4))), "nodules: found a diameter of 0 mm"),
        (lambda: froc([ScanMarks(), ScanMarks()]), "scans: found no nodule in 2"),
        (lambda: froc([ScanMarks(nodules=nodules)]), "patients: found 1 of them"),
        (lambda: froc([ScanMarks(nodules=nodules)] * 3, patients=[1, 2]), "patients: found 2 rows; expected 3"),
    ):
        with pytest.raises(InputError, match=text):
            call()
