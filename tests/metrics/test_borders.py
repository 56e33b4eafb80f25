"""A nodule is seen where it is denser than half-way to its lung; sharp margins are steeper than soft ones."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.metrics.borders import margin_steepness, seen_nodule
from synthorax.shapes.overlap import dice
from tests.helpers.balls import ball_mask

MM = (1.0, 1.0, 1.0)
SHAPE = (34, 34, 34)
LUNG_HU, NODULE_HU = -850.0, 30.0


def patch(mask, blur=0.6, noise_hu=20.0):
    share = gaussian_filter(mask.astype(float), blur)
    return LUNG_HU + (NODULE_HU - LUNG_HU) * share + np.random.default_rng(0).normal(0, noise_hu, SHAPE)


def test_a_nodule_is_seen_where_it_is_though_its_mask_is_too_small_or_too_large():
    truth = ball_mask(SHAPE, 11)
    hu = patch(truth)
    for said in (ball_mask(SHAPE, 8), truth, ball_mask(SHAPE, 14)):
        assert dice(seen_nodule(hu, said, MM)[None], truth[None])[0] > 0.97


def test_a_vessel_beside_the_nodule_ends_3_mm_from_its_mask_and_a_nodule_away_from_it_is_another():
    truth = ball_mask(SHAPE, 10)
    vessel = np.zeros(SHAPE, bool)
    vessel[16:18, 16:18] = True
    other = np.zeros(SHAPE, bool)
    other[16:18, 4:6, 16:18] = True
    found = seen_nodule(patch(truth | vessel | other), truth, MM)
    assert found[17, 17, 17:25].all()
    assert not found[17, 17, 26:].any()
    assert not (found & other).any()


def test_nothing_is_seen_of_a_nodule_that_is_no_denser_than_lung():
    mask = ball_mask(SHAPE, 10)
    assert not seen_nodule(np.where(mask, LUNG_HU - 10, LUNG_HU), mask, MM).any()


def test_a_soft_margin_is_less_steep_and_steepness_counts_millimetres():
    mask = ball_mask(SHAPE, 12)
    sharp, soft = (margin_steepness(patch(mask, blur), mask, MM) for blur in (0.6, 2.0))
    assert sharp > 1.8 * soft
    assert margin_steepness(patch(mask, 2.0), mask, (2.0, 2.0, 2.0)) == pytest.approx(soft / 2, rel=0.4)


def test_a_patch_without_lung_or_with_an_empty_mask_is_refused():
    mask = ball_mask(SHAPE, 10)
    with pytest.raises(InputError, match="no lung around the nodule"):
        seen_nodule(np.full(SHAPE, 40.0), mask, MM)
    for measure in (seen_nodule, margin_steepness):
        with pytest.raises(InputError, match="0 voxels"):
            measure(patch(mask), np.zeros(SHAPE, bool), MM)
