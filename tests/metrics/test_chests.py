"""Measures of whole chests: anatomy along z compared with the range of real chests, and copies of training chests."""

import numpy as np
import pytest

from synthorax.errors import InputError
from synthorax.metrics.chest_anatomy import UsualChests, air_curve, chest_measures
from synthorax.metrics.chest_copies import aligned_distances, chest_copies, coarse
from tests.helpers.chests import small_chest


def chest(seed):
    return small_chest(seed).voxels


@pytest.fixture(scope="module")
def usual():
    return UsualChests.of([chest(seed) for seed in range(4)])


def test_the_air_curve_is_the_share_of_air_from_the_feet_up():
    hu = np.full((8, 4, 4), 40)
    hu[4:, :2] = -900
    assert air_curve(hu, 8).tolist() == [0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5]
    assert air_curve(hu, 4)[[0, -1]].tolist() == [0, 0.5]


def test_slices_that_go_on_correlate_and_shuffled_ones_less():
    hu = chest(0)
    curve = air_curve(hu)
    found = chest_measures(hu, curve)
    shuffled = chest_measures(np.random.default_rng(0).permutation(hu), curve)
    name = "correlation of neighbouring slices"
    assert found[name] > 0.97 > 0.9 > shuffled[name]
    assert shuffled["roughness of the air curve"] > 3 * found["roughness of the air curve"]
    assert found["distance from the usual air curve"] == 0


def test_a_lung_missing_on_one_side_is_outside_of_the_real_range(usual):
    hu = chest(9)
    assert max(usual.outside(hu).values()) < 1
    lame = hu.copy()
    half = lame[:, :, : lame.shape[2] // 2]
    half[half < -700] = 40
    assert usual.outside(lame)["share of the air on one side"] > 10


def test_real_chests_themselves_are_within_their_range(usual):
    assert not any(any(usual.outside(chest(seed)).values()) for seed in range(4))


def other_chest(seed, solid):
    """A chest of other anatomy: in some slices there is no lung."""
    hu = chest(seed).copy()
    hu[solid] = np.maximum(hu[solid], 0)
    return hu


def test_a_moved_copy_is_nearer_than_another_patients_chest():
    training, fresh = [other_chest(1, slice(0, 8)), chest(2)], [other_chest(3, slice(30, 40))]
    copy = np.roll(training[0], 3, 2) + 5
    found = chest_copies([chest(4), copy, other_chest(5, slice(0, 30))], training, fresh)
    assert found.copies.tolist() == [True, True, False]
    assert found.nearest.tolist() == [1, 0, 0]
    assert found.made[1] < 30


def test_distances_are_at_the_best_shift():
    volumes = coarse([chest(1)])
    moved = np.roll(volumes, 2, 3)
    assert aligned_distances(volumes, moved)[0, 0] == pytest.approx(0, abs=1e-3)
    assert aligned_distances(volumes, np.roll(volumes, 4, 3))[0, 0] > 20


def test_no_chests_are_refused():
    with pytest.raises(InputError, match="fresh chests: found none"):
        chest_copies([chest(0)], [chest(1)], [])
    with pytest.raises(InputError, match="3 slices or more"):
        chest_measures(np.zeros((2, 4, 4)), np.zeros(4))
