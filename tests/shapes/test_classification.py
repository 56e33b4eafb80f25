"""Suspicious or not by shape: the released centroids and a support vector machine."""

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.shapes.classification import (
    BENIGN_CENTROID,
    DEVIATION,
    MEAN,
    SUSPICIOUS_CENTROID,
    centroid_distances,
    cross_validated_auc,
    fit_svm,
    nearest_centroid,
)
from synthorax.shapes.features import shape_features

N_FEATURES = 12
SPACING_MM = (1.25, 0.7, 0.7)
CLIPPED_SEED = 0
"""Its features were measured before the seed was cut to its grid."""


@pytest.fixture(scope="module")
def seed_features(real_data):
    return shape_features(np.load(real_data / "lung-seeds" / "seeds.npy") > 0.1, SPACING_MM)


@pytest.fixture(scope="module")
def lidc_training_set(lidc):
    """Features, suspicious and patient of LIDC's nodules that readers rate 4 and more or 2 and less on average."""
    shapes = lidc.shapes
    features = shape_features(shapes.occupancy > 0, shapes.spacing_mm)
    rating = np.array([record.attributes.malignancy for record in shapes.records], float)
    clear = np.isfinite(features).all(1) & ((rating >= 4) | (rating <= 2))
    patients = np.array([record.patient_id for record in shapes.records])
    return features[clear], rating[clear] >= 4, patients[clear]


def within_a_ball(n, seed=0):
    """Return nodules of which a third, within a radius, is suspicious: no plane separates the classes."""
    features = np.random.default_rng(seed).normal(0, 1, (n, N_FEATURES))
    radius = np.linalg.norm(features[:, :2], axis=1)
    return features, radius < np.sqrt(-2 * np.log(2 / 3))


def test_a_centroids_own_point_is_of_its_class():
    points = MEAN + DEVIATION * [SUSPICIOUS_CENTROID, BENIGN_CENTROID]
    assert nearest_centroid(points).tolist() == [True, False]
    np.testing.assert_allclose(centroid_distances(points).diagonal(), 0, atol=1e-20)


@pytest.mark.real_data
def test_two_of_the_51_seeds_are_suspicious_by_nearest_centroid(seed_features):
    suspicious = nearest_centroid(seed_features)
    assert len(suspicious) == 51
    assert suspicious.sum() == 2


@pytest.mark.real_data
def test_the_seeds_distances_are_those_the_analyzer_wrote(real_data, seed_features):
    written = np.loadtxt(real_data / "lung-seeds" / "features.csv", delimiter=",")[:, N_FEATURES:]
    ours = np.delete(centroid_distances(seed_features), CLIPPED_SEED, axis=0)
    np.testing.assert_allclose(ours, np.delete(written, CLIPPED_SEED, axis=0), atol=0.02)


def test_a_machine_tells_nodules_apart_that_no_plane_does():
    features, suspicious = within_a_ball(600)
    machine = fit_svm(features, suspicious, None, seed=0)
    unseen, truth = within_a_ball(400, seed=1)
    found = machine.suspicious(unseen)
    assert found[truth].mean() > 0.75
    assert found[~truth].mean() < 0.25
    np.testing.assert_array_equal(found, machine.decision(unseen) > 0)


def test_units_of_a_feature_do_not_matter():
    features, suspicious = within_a_ball(200)
    units = np.logspace(-3, 3, N_FEATURES)
    plain = fit_svm(features, suspicious, None, seed=0).decision(features)
    scaled = fit_svm(features * units, suspicious, None, seed=0).decision(features * units)
    np.testing.assert_allclose(plain, scaled, atol=1e-6)


def test_a_seed_decides_the_machine_and_its_auc():
    features, suspicious = within_a_ball(60)
    first, again = (fit_svm(features, suspicious, None, seed=3).decision(features) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    one, same = (cross_validated_auc(features, suspicious, None, seed=3) for _ in range(2))
    assert one == same


def test_labels_that_mean_nothing_give_an_auc_of_a_half():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (300, N_FEATURES))
    results = [cross_validated_auc(features, rng.permutation(300) < 100, None, seed=0) for _ in range(2)]
    # An AUC of 100 and 200 nodules varies by 0.035, the mean of two by 0.025.
    assert np.mean([auc.mean for auc in results]) == pytest.approx(0.5, abs=0.07)


def test_patients_known_from_another_nodule_do_not_raise_the_auc():
    """Labels by coin for each patient, all of whose nodules are nearly the same."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 3)
    features = rng.normal(0, 1, (60, N_FEATURES))[patients] + rng.normal(0, 0.05, (180, N_FEATURES))
    suspicious = (rng.permutation(60) < 30)[patients]
    apart = cross_validated_auc(features, suspicious, None, seed=0)
    together = cross_validated_auc(features, suspicious, patients, seed=0)
    assert apart.low > 0.9
    assert together.low < 0.5 < together.high
    # 60 independent patients: the AUC varies by 0.075.
    assert together.high - together.low == pytest.approx(4 * 0.075, rel=0.25)


def test_six_nodules_of_which_three_are_suspicious_are_enough():
    features = np.random.default_rng(0).normal(0, 1, (6, N_FEATURES))
    auc = cross_validated_auc(features, np.arange(6) % 2 == 0, None, seed=0)
    assert 0 <= auc.low <= auc.mean <= auc.high <= 1


def test_what_cannot_be_learned_from_is_refused():
    features, suspicious = within_a_ball(30)
    broken = features.copy()
    broken[7, 5] = np.inf
    one_class = np.ones(30, bool)
    for learn in (fit_svm, cross_validated_auc):
        with pytest.raises(InputError, match="nodule 7: found a value that is not finite"):
            learn(broken, suspicious, None, seed=0)
        with pytest.raises(InputError, match="a class with 0 patients"):
            learn(features, one_class, None, seed=0)
        with pytest.raises(InputError, match="a class with 1 patients"):
            learn(features, suspicious, np.zeros(30), seed=0)
        with pytest.raises(InputError, match="found int64"):
            learn(features, suspicious.astype(int), None, seed=0)
        with pytest.raises(InputError, match=r"groups \(29,\)"):
            learn(features, suspicious, np.arange(29), seed=0)
        with pytest.raises(InputError, match="a class with 0 patients"):
            learn(features[:0], suspicious[:0], None, seed=0)


def test_what_cannot_be_classified_is_refused():
    machine = fit_svm(*within_a_ball(30), None, seed=0)
    for classify in (nearest_centroid, machine.suspicious):
        with pytest.raises(InputError, match="not finite"):
            classify(np.full((2, N_FEATURES), np.nan))
        with pytest.raises(InputError, match=r"shape \(2, 11\)"):
            classify(np.zeros((2, 11)))
        assert len(classify(np.empty((0, N_FEATURES)))) == 0


def test_shape_tells_lidcs_likely_malignant_nodules_of_unseen_patients(lidc_training_set):
    """0.974 (0.960 to 0.984); most of it is size, the mid slice's extent alone gives 0.966."""
    features, suspicious, patients = lidc_training_set
    assert (len(suspicious), suspicious.sum()) == (577, 175)
    auc = cross_validated_auc(features, suspicious, patients, seed=0)
    assert auc.mean > 0.95
    assert auc.low > 0.93
    assert auc.low < auc.mean < auc.high < 1
