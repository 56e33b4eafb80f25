"""Roughness measures the noise of voxels and not their level or slope.

Synthetic nodules are compared with real ones.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.metrics.counterparts import Counterparts
from synthorax.metrics.roughness import (
    InsideAndAround,
    core,
    inside_and_around,
    lung_around,
    lung_painted,
    quotient_of,
    relative_to_real_of,
    roughness_hu,
)
from tests.helpers.balls import ball_mask

MM = (1.0, 1.0, 1.0)
SHAPE = (30, 30, 30)


def noise(deviation, seed=0):
    return np.random.default_rng(seed).normal(0, deviation, SHAPE)


def nodule(diameter_mm=14, inside=20, outside=20, seed=0):
    """HU and mask of a soft-edged solid ball, with noise of some HU in it and in the lung around it."""
    mask = ball_mask(SHAPE, diameter_mm)
    hu = np.where(mask, noise(inside, seed), noise(outside, seed + 100))
    return hu - 850 + 880 * gaussian_filter(mask.astype(float), 0.6), mask


def value(statistic):
    return float(statistic.values(np.ones((1, statistic.rows)))[0])


def test_white_noise_is_as_rough_as_its_deviation_on_any_slope():
    everywhere = np.ones(SHAPE, bool)
    slope = 30.0 * np.indices(SHAPE).sum(0) - 500
    assert roughness_hu(noise(25) + slope, everywhere) == pytest.approx(25, rel=0.02)
    assert roughness_hu(slope, everywhere) == pytest.approx(0, abs=1e-9)


def test_edges_along_rows_and_columns_are_no_roughness():
    _, y, x = np.indices(SHAPE)
    assert roughness_hu(np.where(y > 14, 40.0, -850.0) + np.where(x > 9, 200.0, 0.0), np.ones(SHAPE, bool)) == 0


def test_blurred_noise_is_smooth_and_a_few_vessels_do_not_make_lung_rough():
    everywhere = np.ones(SHAPE, bool)
    assert roughness_hu(gaussian_filter(noise(25), 1.0), everywhere) < 3
    vessels = noise(25)
    vessels[:, 5, :] += 800
    vessels[:, :, 20] += 800
    assert roughness_hu(vessels, everywhere) == pytest.approx(25, rel=0.2)


def test_the_edge_of_a_nodule_is_no_roughness_of_its_core():
    hu, mask = nodule(diameter_mm=8, inside=0, outside=0)
    assert roughness_hu(hu, mask) > 3
    assert roughness_hu(hu, core(mask, MM)) < 1


def test_too_few_differences_give_no_figure():
    few = np.zeros(SHAPE, bool)
    few[0, :2, :12] = True
    assert np.isnan(roughness_hu(noise(25), few))
    few[0, :2, :13] = True
    assert np.isfinite(roughness_hu(noise(25), few))


def test_a_smooth_nodule_has_a_small_quotient_and_a_small_one_has_none():
    made = [nodule(inside=5, seed=0), nodule(inside=20, seed=1), nodule(diameter_mm=5)]
    found = inside_and_around(*map(np.stack, zip(*made, strict=True)), MM)
    assert found.known.tolist() == [True, True, False]
    assert found.inside_hu[:2] / found.around_hu[:2] == pytest.approx([0.25, 1], rel=0.15)


def test_lung_around_is_a_shell_without_wall_and_without_the_nodules_edge():
    hu, mask = nodule()
    hu[..., :4] = 40
    found = lung_around(hu, mask, MM)
    away = np.sqrt(((np.indices(SHAPE) - 14.5) ** 2).sum(0))
    assert not found[..., :4].any()
    assert 8.5 < away[found].min() < away[found].max() < 19.5


def test_lung_painted_anew_is_measured_where_it_was_lung_before():
    before = noise(20) - 850
    before[:, 5, :] = 40  # a wall through the region
    mask, region = ball_mask(SHAPE, 8), ball_mask(SHAPE, 24)
    after = np.where(region, -850 + noise(5, 1) + 880 * mask, before)
    found = lung_painted(before, after, region, mask, MM)
    assert not (found & ~region).any()
    assert not found[:, 5, :].any()
    assert roughness_hu(after, found) / roughness_hu(before, found) == pytest.approx(0.25, rel=0.1)


def test_made_nodules_that_are_as_smooth_as_the_real_ones_like_them_are_at_1():
    """Real nodules of the first kind are half as rough as their lung, of the second twice; so are the made ones."""
    real = InsideAndAround(np.array([10.0, 10, 40, 40]), np.full(4, 20.0))
    made = InsideAndAround(np.array([15.0, 60]), np.full(2, 30.0))
    same = Counterparts(np.array([0, 0, 1, 1]), np.arange(4)[:, None], 2, 4)
    assert value(quotient_of(made.inside_hu, made.around_hu)) == pytest.approx(1)
    assert value(relative_to_real_of(made, real, same)) == pytest.approx(1)
    other = Counterparts(np.array([0, 1]), np.array([[2], [3]]), 2, 4)
    assert value(relative_to_real_of(made, real, other)) == pytest.approx(0.5)


def test_one_calcified_nodule_does_not_decide_and_a_constant_one_is_as_rough_as_rounding():
    assert value(quotient_of([10.0] * 9 + [320], [10.0] * 10)) == pytest.approx(32**0.1)
    assert value(quotient_of([0.0], [12**0.5])) == pytest.approx(1 / 12)


def test_made_nodules_without_a_real_one_like_them_do_not_count():
    real = InsideAndAround(np.array([10.0]), np.array([20.0]))
    made = InsideAndAround(np.array([10.0, 1e6]), np.array([20.0, 20]))
    found = value(relative_to_real_of(made, real, Counterparts(np.array([0]), np.array([[0]]), 2, 1)))
    assert found == pytest.approx(1)


def test_marks_of_another_shape_are_refused():
    with pytest.raises(InputError, match="marked voxels: found shape"):
        roughness_hu(noise(1), np.ones((3, 3, 3), bool))
