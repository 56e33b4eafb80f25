"""The analyzer's pre-filter, acceptance and Score."""

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.shapes.acceptance import (
    ALNSB_LIMITS,
    LUNG_LIMITS,
    WARM_UP_NODULES,
    Analysis,
    Score,
    accept,
    analyse,
    measure,
)
from synthorax.systems.lung.base_set import base_set, to_occupancy

SPACING_MM = (1.25, 0.7, 0.7)
N_FEATURES = 12


def normal(n, seed=0, shift=0.0):
    """Features of `n` nodules, each feature around `shift` with unit variance."""
    return np.random.default_rng(seed).normal(shift, 1, (n, N_FEATURES))


def all_passed(features):
    return Analysis(features, np.ones(len(features), bool))


def test_the_released_runs_figures_give_its_score():
    assert Score(0.86, 1.7048, 0.0620, 0.0757).score == pytest.approx(177, abs=0.5)


def test_a_generator_of_which_everything_is_kept_has_an_infinite_score():
    assert Score(1.0, 1.5, 0.1, 0.1).score == np.inf


def test_nodules_like_the_seeds_are_nearly_all_accepted():
    kept = accept(all_passed(normal(3000, seed=1)), normal(200), seed=0)
    assert 0.93 < kept.mean() < 0.999


def test_nodules_far_from_the_seeds_are_kept_as_often_as_twelve_draws_of_seven_tenths():
    kept = accept(all_passed(np.full((20_000, N_FEATURES), 1e6)), normal(200), seed=0)
    assert kept[:WARM_UP_NODULES].all()
    assert kept[WARM_UP_NODULES:].mean() == pytest.approx(0.7**N_FEATURES, rel=0.25)


def test_a_nodule_that_pulls_the_mean_back_is_always_accepted():
    features = np.concatenate([np.full((WARM_UP_NODULES, N_FEATURES), 3.0), np.full((1, N_FEATURES), -50.0)])
    assert accept(all_passed(features), normal(200), seed=0).all()


def test_only_nodules_that_pass_the_pre_filter_are_kept_or_warm_up():
    features = normal(100, seed=2)
    passed = np.arange(100) % 3 == 0
    kept = accept(Analysis(features, passed), normal(200), seed=0)
    assert not (kept & ~passed).any()
    assert kept[np.flatnonzero(passed)[:WARM_UP_NODULES]].all()


def test_acceptance_is_decided_by_its_seed():
    analysis, seeds = all_passed(normal(500, seed=3, shift=0.8)), normal(200)
    first, again, other = (accept(analysis, seeds, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_seeds_themselves_are_at_distance_zero_with_the_same_mean():
    seeds = normal(200)
    twice = all_passed(np.concatenate([seeds, seeds]))
    found = measure(Analysis(twice.features, twice.passed), seeds, mse=0.1, seed=0)
    assert found.feature_distance == pytest.approx(0, abs=1e-9)
    assert found.feature_mmse < 0.05


def test_a_shift_of_half_a_deviation_is_the_feature_mmse_it_should_be():
    seeds = normal(4000)
    found = measure(all_passed(normal(4000, seed=5, shift=0.5)), seeds, mse=0.1, seed=0)
    # Acceptance leans against the shift, so less than the whole of it is left.
    assert 0.1 < found.feature_mmse < 0.25


def test_too_few_kept_nodules_are_refused():
    with pytest.raises(InputError, match="kept of"):
        measure(all_passed(normal(WARM_UP_NODULES)), normal(50), mse=0.1, seed=0)


def test_pieces_under_five_voxels_do_not_count(ball):
    nodule = ball(diameter_mm=8)
    dust, companion, nothing = nodule.copy(), nodule.copy(), np.zeros_like(nodule)
    dust[0, 0, :4] = True
    companion[0, 0, :5] = True
    analysis = analyse(np.stack([nodule, dust, companion, nothing]), SPACING_MM)
    assert analysis.passed.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(analysis.features[0], analysis.features[1])
    assert np.isnan(analysis.features[3]).all()


def test_loosened_limits_let_through_what_the_analyzer_would_not(ball):
    masks = np.stack([ball(diameter_mm=d) for d in (2, 4, 8)])
    assert analyse(masks, SPACING_MM, LUNG_LIMITS).passed.tolist() == [False, True, True]
    assert analyse(masks, SPACING_MM, ALNSB_LIMITS).passed.tolist() == [False, False, True]


def test_no_nodule_at_all_is_an_analysis_of_none():
    analysis = analyse(np.zeros((2, 20, 40, 40), bool), SPACING_MM)
    assert not analysis.passed.any()


@pytest.mark.real_data
def test_95_percent_of_random_reflections_of_the_seeds_are_accepted(real_data):
    """Section III-D says so of random base nodules; it holds for those that are not shifted by half a pixel."""
    seeds = np.load(real_data / "lung-seeds" / "seeds.npy")
    given = np.loadtxt(real_data / "lung-seeds" / "features.csv", delimiter=",")[:, :N_FEATURES]
    reflections = base_set(seeds)[::2]
    analysis = analyse(to_occupancy(reflections) > 0, SPACING_MM)
    chosen = np.random.default_rng(0).integers(0, len(reflections), 4000)
    kept = accept(Analysis(analysis.features[chosen], analysis.passed[chosen]), given, seed=0)
    assert kept.mean() == pytest.approx(0.95, abs=0.025)
