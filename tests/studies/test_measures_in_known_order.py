"""The measures of similarity on sets whose order is known beforehand."""

import numpy as np
import pytest

from synthorax.studies.fidelity import Patches, likeness, sanity_samples
from synthorax.tasks.features.config import PRESETS as FEATURES
from synthorax.tasks.features.system import FeatureNet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def everyone():
    """Soft balls of many widths in noise; three patches a patient."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(16) - 7.5] * 3, indexing="ij"))
    distance = np.sqrt(np.square(grid + rng.normal(0, 1, (90, 3, 1, 1, 1))).sum(1))
    inside = distance < rng.uniform(2, 6, (90, 1, 1, 1))
    hu = np.where(inside, 0, -850) + rng.normal(0, 60, inside.shape)
    return Patches(hu.astype(np.float32), np.repeat([f"P{i:02d}" for i in range(30)], 3))


def test_parts_are_of_different_patients_with_all_their_patches(everyone):
    parts = everyone.parts(3, seed=0)
    assert [len(part.hu) for part in parts] == [30, 30, 30]
    assert sorted(np.concatenate([np.unique(part.patients) for part in parts])) == sorted(set(everyone.patients))
    for part in parts:
        np.testing.assert_array_equal(part.hu, everyone.hu[np.isin(everyone.patients, part.patients)])
    assert set(everyone.parts(3, seed=1)[0].patients) != set(parts[0].patients)


def test_copies_are_nearer_than_other_patients_and_those_than_blurred_ones_and_those_than_noise(everyone):
    extractor = FeatureNet(FEATURES["smoke"]).extractor("fresh", "")
    real, other, held_out = everyone.parts(3, seed=0)
    found = likeness(sanity_samples(real, other), real, held_out, extractor, (1.0, 1.0, 1.0))
    others, blurred, noise, copies = found.rows.values()
    assert copies["FID"][0] < others["FID"][0] < blurred["FID"][0] < noise["FID"][0]
    assert others["KID x 1000"][0] < blurred["KID x 1000"][0] < noise["KID x 1000"][0]
    assert copies["attraction"][0] == 1
    value, low, high = others["KID x 1000"]
    assert low < value < high
    less = found.kid_less("noise of the same mean and spread", "real, other patients")
    assert less.value == pytest.approx(noise["KID x 1000"][0] - value)
    assert 0 < less.low < less.value < less.high
    assert 0.3 < others["attraction"][0] < 0.7
    assert copies["membership AUC"][1] > others["membership AUC"][0]


def test_fewer_samples_than_the_inception_score_has_splits_have_every_figure(everyone):
    extractor = FeatureNet(FEATURES["smoke"]).extractor("fresh", "")
    real, other, held_out = everyone.parts(3, seed=0)
    few = likeness({"few": Patches.unrelated(other.hu[:5])}, real, held_out, extractor, (1.0, 1.0, 1.0)).rows["few"]
    assert all(np.isfinite(value) for value, _, _ in few.values())
    assert few["IS"][0] == pytest.approx(1)


def test_kid_has_no_interval_with_fewer_than_four_patients(everyone):
    extractor = FeatureNet(FEATURES["smoke"]).extractor("fresh", "")
    real, other, held_out = everyone.parts(3, seed=0)
    sets = {"three": other.among(np.unique(other.patients)[:3]), "all": other}
    found = likeness(sets, real, held_out, extractor, (1.0, 1.0, 1.0))
    assert found.rows["three"]["KID x 1000"][1:] == (None, None)
    assert found.rows["all"]["KID x 1000"][1] is not None
    assert found.kid_less("three", "all") is None
