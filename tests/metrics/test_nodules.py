"""Outlines of nodules compared with each other, and their HU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from synthorax.errors import InputError
from synthorax.metrics.appearance import Nodules, border_distance, hu_distance, mean_hu, profile, profiles
from synthorax.metrics.contrast import invisible
from synthorax.metrics.overlap import overlap

MM = (1.0, 1.0, 1.0)


def blobs(seed, shape=(7, 9, 8)):
    random = np.random.default_rng(seed)
    masks = random.random((2, *shape)) < random.uniform(0.02, 0.9, (2, 1, 1, 1))
    masks[:, 3, 4, 4] = True
    return masks


@given(st.integers(0, 10**6))
def test_distances_of_surfaces_are_those_of_all_pairs_of_their_voxels(seed):
    a, b = blobs(seed)
    spacing = np.array((2.5, 0.7, 0.7))
    points = [np.argwhere(mask & ~binary_erosion(mask)) * spacing for mask in (a, b)]
    apart = cdist(*points)
    there, back = apart.min(1), apart.min(0)
    found = overlap(a, b, spacing)
    assert found.hausdorff_95_mm == pytest.approx(max(np.quantile(there, 0.95), np.quantile(back, 0.95)), rel=1e-5)
    assert found.surface_mm == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)
    assert found.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert found.jaccard == pytest.approx((a & b).sum() / (a | b).sum())
    assert found.volume_mm3 == pytest.approx(a.sum() * 2.5 * 0.7 * 0.7)


@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 5))
def test_overlap_does_not_depend_on_where_the_nodule_lies(seed, before, after):
    a, b = blobs(seed)
    moved = [np.pad(mask, [(before, after)] * 3) for mask in (a, b)]
    assert overlap(*moved, MM) == overlap(a, b, MM)
    assert overlap(a, a, MM).hausdorff_95_mm == 0


def test_a_ball_that_is_a_millimetre_thicker_is_a_millimetre_away(ball):
    spacing = (1.25, 0.7, 0.7)
    found = overlap(ball(14), ball(12), spacing)
    assert found.surface_mm == pytest.approx(1, abs=0.15)
    assert found.hausdorff_95_mm == pytest.approx(1, abs=0.5)
    assert found.reference_mm3 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)


def test_a_nodule_that_was_missed_overlaps_nothing_and_is_infinitely_far(ball):
    found = overlap(np.zeros((20, 40, 40), bool), ball(10), MM)
    assert (found.dice, found.jaccard, found.volume_mm3) == (0, 0, 0)
    assert found.hausdorff_95_mm == found.surface_mm == np.inf


def test_the_distance_from_a_balls_border_is_that_from_its_radius(ball):
    mask = ball(12, (25, 25, 25), MM)
    from_middle = np.linalg.norm(np.indices(mask.shape) - 12, axis=0)
    apart = abs(border_distance(mask, MM) - (from_middle - 6))
    assert apart.max() < 0.8
    assert apart.mean() < 0.35


def nodules(ball, n=12, level=40.0, sizes=(6, 9, 12)):
    """Balls in lung, denser by 10 HU from one to the next."""
    masks = np.stack([ball(sizes[i % len(sizes)], (25, 25, 25), MM) for i in range(n)])
    hu = np.where(masks, level + 10 * np.arange(n)[:, None, None, None], -850)
    return Nodules(hu, masks, MM)


def test_mean_hu_is_that_inside_the_mask(ball):
    assert mean_hu(nodules(ball)) == pytest.approx(40 + 10 * np.arange(12))


def test_groups_of_hu_are_as_far_apart_as_scipy_says_when_all_nodules_count_alike(ball):
    first, second = nodules(ball, 6), nodules(ball, 9, 100, sizes=(12, 6))
    assert hu_distance(first, first) == 0
    expected = wasserstein_distance(40 + 10 * np.arange(6), 100 + 10 * np.arange(9))
    assert hu_distance(first, second) == pytest.approx(expected)


def test_a_profile_falls_from_the_nodule_to_the_lung_at_the_border(ball):
    found = profile(nodules(ball), np.arange(12))
    inside = found.at_mm < 0
    assert found.hu[~inside] == pytest.approx(np.full((~inside).sum(), -850.0))
    assert found.hu[inside][-2:] == pytest.approx([95, 95])  # the mean of 40 to 150
    assert found.low[5] < 95 < found.high[5]
    spread = np.std(10 * np.arange(12)) / np.sqrt(12) * 1.96
    assert found.high[5] - found.low[5] == pytest.approx(2 * spread, rel=0.1)
    single = profiles(nodules(ball))
    assert np.isnan(single[0, 0])  # 6 mm across has nothing deeper than 5 mm
    assert found.hu[1] == pytest.approx(np.nanmean(single[:, 1]))  # only the large ones are as deep


def test_a_shell_that_no_nodule_has_is_not_made_up(ball):
    found = profile(nodules(ball, 3, sizes=(6,)), ["a", "b", "b"])
    assert np.isnan([found.hu[0], found.low[0], found.high[0]]).all()
    assert np.isfinite(found.low[5])


def test_bad_input_is_one_clear_line(ball):
    mask = np.ones((1, 4, 4, 4), bool)
    some = nodules(ball, 3)
    for call, text in (
        (lambda: overlap(mask[0], mask[0, 1:], MM), "masks: found shapes"),
        (lambda: overlap(mask[0], ~mask[0], MM), "reference mask: found no voxel; expected a nodule"),
        (lambda: overlap(mask[0], mask[0], (1, 1, 0)), "spacing: found"),
        (lambda: Nodules(np.zeros((1, 4, 4, 4)), mask, MM), "masks: found an empty or a full mask"),
        (lambda: Nodules(np.zeros((2, 4, 4, 4)), mask, MM), "masks: found shape"),
        (lambda: Nodules(np.full((1, 4, 4, 4), np.nan), mask, MM), "nodules: found values that are not finite"),
        (lambda: Nodules(np.zeros((0, 4, 4, 4)), mask[:0], MM), "nodules: found shape"),
        (lambda: profile(some, [0, 1]), "patients: found 2 rows; expected 3"),
        (lambda: profile(some, [0, 0, 0]), "patients: found 1 of them"),
        (lambda: profiles(some, (3, 1)), "edges: found"),
    ):
        with pytest.raises(InputError, match=text):
            call()


def with_ball(hu_above, diameter, noise, seed=0):
    away = np.sqrt(((np.indices((21, 21, 21)) - 10.0) ** 2).sum(0))
    lung = np.random.default_rng(seed).normal(-850, noise, (21, 21, 21))
    return lung + hu_above * (away <= diameter / 2)


def test_a_nodule_is_invisible_below_two_deviations_of_the_noise_over_its_voxels():
    """A ball of 8 mm has 257 voxels of 1 mm, over which noise of 80 HU averages to 5 HU: 10 HU are seen, 9 are not."""
    for above, expected in ((9.8, True), (10.2, False)):
        hu = with_ball(above, 8, noise=0)
        assert invisible(hu[None], [8.0], [80 * (257 / 256) ** 0.5], MM).tolist() == [expected]


def test_a_vessel_in_the_shell_hides_a_nodule_unless_it_is_left_out():
    hu = with_ball(200, 6, noise=20)
    vessel = np.zeros(hu.shape, bool)
    vessel[:, 6, :] = True
    hu[vessel] = 3000
    assert invisible(hu[None], [6.0], [20.0], MM).all()
    assert not invisible(hu[None], [6.0], [20.0], MM, vessel[None]).any()


def test_noise_alone_is_called_visible_as_often_as_two_deviations_are_passed():
    hu = np.stack([with_ball(0, 6, noise=30, seed=i) for i in range(300)])
    found = invisible(hu, [6.0] * 300, [30.0] * 300, MM)
    assert found.mean() == pytest.approx(0.97, abs=0.03)  # the shell's own mean varies too


def test_a_ball_that_fills_its_patch_has_no_shell_and_is_refused():
    with pytest.raises(InputError, match="diameter: found 40 mm"):
        invisible(with_ball(0, 6, 0)[None], [40.0], [10.0], MM)
