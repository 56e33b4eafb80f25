"""A network that distinguishes synthetic from real patches, on sets with a known answer."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.studies import told_apart as module
from synthorax.studies.fidelity import Patches
from synthorax.studies.told_apart import TELLER, Controls, Judged, controls, folds_of, smallest_auc, told_apart
from synthorax.tasks.networks.config import NoiseNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = TELLER.model_copy(
    update={"network": NoiseNetConfig(width=4), "size": (8, 8, 8), "steps": 40, "batch_size": 32, "shift_voxels": 1.0}
)


def soft_balls(seed, n_patients=30, radius=3.0):
    """Four patches a patient of 10^3 voxels: a ball in smooth tissue with noise."""
    random = np.random.default_rng(seed)
    grid = np.indices((10, 10, 10)) - 4.5
    away = np.sqrt((grid**2).sum(0))
    n = 4 * n_patients
    hu = (
        np.where(away < radius, 0.0, -850.0)
        + random.normal(0, 40, (n, 1, 1, 1))
        + random.normal(0, 30, (n, 10, 10, 10))
    )
    hu = gaussian_filter(hu, (0, 0.4, 0.4, 0.4))
    return Patches(hu.astype(np.float32), np.repeat([f"P{i:02d}" for i in range(n_patients)], 4))


@pytest.fixture(scope="module")
def real():
    return soft_balls(0)


@pytest.fixture(scope="module")
def known(real):
    return controls(real, config=SMALL, device="cpu")


def test_patches_of_one_distribution_are_not_told_apart(real):
    found = told_apart(real, soft_balls(1), config=SMALL, device="cpu").auc()
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.25


def test_balls_twice_as_wide_are_told_from_others(real):
    assert told_apart(real, soft_balls(1, radius=4.5), config=SMALL, device="cpu").auc().value > 0.98


def test_half_a_voxel_of_blur_is_told_and_real_from_real_is_not(known):
    assert known.blurred.auc().value > 0.95
    same = known.same.auc()
    assert same.low <= 0.5 <= same.high
    assert known.void == ""


def test_the_sides_of_the_control_are_alike_in_density_in_every_fold(real, known):
    density = dict(zip(real.patients, real.hu.reshape(30, -1).mean(1).repeat(4), strict=True))
    same = known.same
    found = np.array([density[patient] for patient in same.patients])
    for fold in np.unique(same.folds):
        sides = [found[(same.folds == fold) & (same.labels == label)] for label in (0, 1)]
        assert len(sides[0]) == len(sides[1])
        assert abs(sides[0].mean() - sides[1].mean()) < 0.25 * found.std()


def test_controls_in_which_blur_goes_unseen_void_the_verdict(known):
    blind = dataclasses.replace(known, blurred=known.same)
    assert blind.void.startswith("void: the network distinguishes blurred from sharp patches with an AUC of 0.")


def test_controls_that_tell_real_from_real_void_the_verdict(known):
    said = Controls(known.blurred, known.blurred).void
    assert said.startswith("void: the network distinguishes real patches from other real ones, AUC 0.9")


def test_each_patch_is_judged_once_by_a_network_that_has_not_seen_its_patient(real, monkeypatch):
    learned, judged = [], []
    learn, score = module._learned, module._scores

    def learning(patches, labels, rows, *rest):
        learned.append(set(patches.patients[rows]))
        return learn(patches, labels, rows, *rest)

    def judging(task, hu, seed):
        judged.append({owner[float(each[0, 0, 0])] for each in hu})
        return score(task, hu, seed)

    made = soft_balls(1)
    owner = {float(hu[0, 0, 0]): p for each in (real, made) for hu, p in zip(each.hu, each.patients, strict=True)}
    monkeypatch.setattr(module, "_learned", learning)
    monkeypatch.setattr(module, "_scores", judging)
    found = told_apart(real, made, config=SMALL.model_copy(update={"steps": 1}), device="cpu")
    assert len(learned) == len(judged) == 6
    assert not any(seen & held_out for seen, held_out in zip(learned, judged, strict=True))
    assert sorted(p for held_out in judged for p in held_out) == sorted(set(real.patients))
    assert len(found.scores) == 240
    assert np.isfinite(found.scores).all()


def test_all_patches_of_a_patient_are_in_one_fold():
    patients = np.repeat([f"P{i}" for i in range(17)], 3)[np.random.default_rng(0).permutation(51)]
    folds = folds_of(patients, 3)
    assert {len(set(folds[patients == p])) for p in patients} == {1}
    assert np.ptp([len(set(patients[folds == k])) for k in range(3)]) <= 1


def test_the_same_seed_gives_the_same_scores(real):
    once, again = (
        told_apart(real, soft_balls(1), 5, config=SMALL.model_copy(update={"steps": 3}), device="cpu") for _ in range(2)
    )
    np.testing.assert_array_equal(once.scores, again.scores)


def test_a_better_maker_is_less_told_apart_with_an_interval():
    random = np.random.default_rng(0)
    labels, patients = np.repeat([0, 1], 200), np.tile(np.repeat([f"P{i:02d}" for i in range(40)], 5), 2)
    shared = random.normal(0, 1, 400)
    worse, better = (Judged(labels, shared + gap * labels, patients, labels) for gap in (2.0, 0.5))
    found = better.less(worse)
    assert found.difference == pytest.approx(better.auc().value - worse.auc().value)
    assert found.high < 0
    with pytest.raises(InputError, match="rows with different kinds"):
        better.less(dataclasses.replace(worse, patients=patients[::-1]))


def test_the_smallest_auc_that_is_found_is_found_in_four_of_five_draws():
    random = np.random.default_rng(0)
    shift = 2**0.5 * module.norm.ppf(smallest_auc(60, 60))  # of two normal distributions with that AUC
    scores = random.normal(0, 1, (2000, 2, 60)) + np.array([0, shift])[:, None]
    auc = (scores[:, 1, :, None] > scores[:, 0, None, :]).mean((1, 2))
    error = (121 / (12 * 60 * 60)) ** 0.5
    assert ((auc - 0.5) / error > 1.96).mean() == pytest.approx(0.8, abs=0.04)


def test_patches_of_another_size_than_the_window_needs_are_refused(real):
    with pytest.raises(InputError, match=r"expected \(22, 22, 22\), the network's window"):
        told_apart(real, real, device="cpu")
