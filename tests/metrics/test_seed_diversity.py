"""Two seeds should differ as much as two real nodules of similar size and texture.

Noise and position do not count as diversity.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.metrics.appearance import Nodules
from synthorax.metrics.bootstrap import patient_bootstrap
from synthorax.metrics.counterparts import MOST_COUNTERPARTS, Counterparts, alike, like_nodules, like_pairs
from synthorax.metrics.seed_diversity import distances, diversity_of
from synthorax.nodule import NoduleAttributes
from tests.helpers.balls import ball_mask

MM = (1.0, 1.0, 1.0)
SHAPE = (26, 26, 26)


def lumpy(random):
    """The mask of a nodule of about 8 mm: a ball whose surface is moved by a smooth field."""
    away = np.sqrt(((np.indices(SHAPE) - 12.5) ** 2).sum(0))
    field = gaussian_filter(random.standard_normal(SHAPE), 3.0)
    mask = away + 2.0 * field / field.std() < 4.5
    return mask & (away < 9)


def scanned(mask, random, wall=0):
    """HU of a solid nodule in noisy lung, beside a wall of some voxels."""
    tissue = gaussian_filter(mask.astype(float), 0.6)
    hu = -850 + 880 * tissue
    hu[..., :wall] = 40
    return hu + random.normal(0, 30, SHAPE)


@pytest.fixture(scope="module")
def real():
    """40 nodules of 20 patients, some of them near a wall."""
    random = np.random.default_rng(0)
    masks = np.stack([lumpy(random) for _ in range(40)])
    return Nodules(np.stack([scanned(mask, random, 4 * (i % 3)) for i, mask in enumerate(masks)]), masks, MM)


@pytest.fixture(scope="module")
def pairs():
    attributes = [NoduleAttributes(8.0, texture=5.0)] * 40
    return like_pairs(attributes[:20], attributes, np.arange(40) // 2)


@pytest.fixture(scope="module")
def apart(real, pairs):
    return distances(real, pairs.real)


def diversity(made, real, pairs):
    """Return the diversity in HU and in shape of pairs of consecutive synthetic nodules."""
    own = distances(made, np.arange(40).reshape(20, 2))
    return [
        float(diversity_of(mine, theirs, pairs).values(np.ones((1, 60)))[0])
        for mine, theirs in ((own.hu, real.hu), (own.shape, real.shape))
    ]


def test_real_nodules_put_into_one_place_have_the_diversity_of_real_pairs(real, apart, pairs):
    random = np.random.default_rng(1)
    masks = real.masks[random.permutation(40)]
    made = Nodules(np.stack([scanned(mask, random) for mask in masks]), masks, MM)
    assert diversity(made, apart, pairs) == pytest.approx([1, 1], abs=0.1)


def test_one_nodule_with_two_draws_of_noise_has_next_to_no_diversity(apart, pairs):
    random = np.random.default_rng(2)
    masks = np.repeat([lumpy(random) for _ in range(20)], 2, axis=0)
    made = Nodules(np.stack([scanned(mask, random) for mask in masks]), masks, MM)
    in_hu, in_shape = diversity(made, apart, pairs)
    assert 0 < in_hu < 0.04
    assert in_shape == 0


def test_masks_that_differ_of_voxels_that_do_not_are_no_diversity_in_hu(apart, pairs):
    random = np.random.default_rng(3)
    hu = np.repeat([scanned(lumpy(random), random) for _ in range(20)], 2, axis=0)
    balls = [ball_mask(SHAPE, mm, center=(12, 12, 12)) for mm in (6, 9)]
    in_hu, in_shape = diversity(Nodules(hu, np.stack(balls * 20), MM), apart, pairs)
    assert in_hu == 0
    assert in_shape > 0.5


def test_a_nodule_that_only_moved_is_the_same_nodule():
    mask = ball_mask(SHAPE, 7, center=(10, 10, 10))
    hu = np.where(mask, 0.0, -850.0)
    moved = [np.roll(each, (3, 2, 1), (0, 1, 2)) for each in (hu, mask)]
    found = distances(Nodules(np.stack([hu, moved[0]]), np.stack([mask, moved[1]]), MM), [[0, 1]])
    assert (found.hu.tolist(), found.shape.tolist()) == ([0], [0])


def test_a_wall_and_a_vessel_beside_one_of_two_nodules_are_no_difference_of_the_nodules():
    mask = ball_mask(SHAPE, 7)
    alone = np.where(mask, 0.0, -850.0)
    beside = alone.copy()
    beside[..., 19:] = 40.0  # both within the reach of the Gaussian
    beside[8:10, 8:10, 8:10] = 40.0  # at a corner of the mask's box
    found = distances(Nodules(np.stack([alone, beside]), np.stack([mask, mask]), MM), [[0, 1]])
    assert found.hu.tolist() == [0]


def test_the_shape_of_two_balls_is_apart_by_what_their_volumes_do_not_share():
    masks = np.stack([ball_mask(SHAPE, mm) for mm in (8, 12)])
    found = distances(Nodules(np.where(masks, 0.0, -850.0), masks, MM), [[0, 1]])
    assert found.shape[0] == pytest.approx(1 - 2 * 8**3 / (8**3 + 12**3), abs=0.02)
    assert 100 < found.hu[0] < 850


def test_nodules_are_alike_within_a_tenth_of_the_diameter_and_half_a_rating_of_texture():
    asked = [NoduleAttributes(10.0, texture=5.0), NoduleAttributes(10.0), NoduleAttributes(texture=5.0)]
    real = [
        NoduleAttributes(11.0, texture=4.5),
        NoduleAttributes(11.2, texture=5.0),
        NoduleAttributes(10.0, texture=4.0),
        NoduleAttributes(9.2),
    ]
    assert alike(asked, real).tolist() == [[True, False, False, False], [True, False, True, True], [False] * 4]


def test_pairs_are_of_two_patients_and_alike_among_themselves():
    asked = [NoduleAttributes(10.0, texture=5.0)]
    real = [NoduleAttributes(mm, texture=5.0) for mm in (9.2, 10.0, 10.1, 10.9)]
    assert like_pairs(asked, real, ["a", "b", "b", "c"]).real.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_a_made_nodule_has_no_more_counterparts_than_the_most_and_the_same_for_a_seed():
    asked = [NoduleAttributes(10.0)] * 2
    found = [like_nodules(asked, [NoduleAttributes(10.0)] * 200, seed) for seed in (0, 0, 1)]
    assert np.bincount(found[0].made).tolist() == [MOST_COUNTERPARTS] * 2
    assert found[0].real.tolist() == found[1].real.tolist() != found[2].real.tolist()


def test_sites_without_a_real_pair_do_not_count():
    two = Counterparts(np.array([0]), np.array([[0, 1]]), 2, 2)
    assert two.known.tolist() == [True, False]
    assert diversity_of([30.0, 1e6], [60.0], two).values(np.ones((1, 4))).tolist() == [0.5]


def test_the_interval_is_wide_where_few_real_patients_make_the_pairs(apart, pairs):
    """Resampling the sites alone would give no width: all of them are equally far apart."""
    statistic = diversity_of(np.full(20, 100.0), apart.hu, pairs)
    patients = np.concatenate([np.arange(100, 120), np.arange(40) // 2])
    found = patient_bootstrap(statistic, patients).interval()
    assert found.high / found.low > 1.1


def test_bad_input_is_one_clear_line(real, pairs):
    for call, text in (
        (lambda: distances(real, [1, 2]), "pairs: found shape"),
        (lambda: diversity_of([1.0], [1.0], pairs), "distances of made nodules: found 1 rows; expected 20"),
        (lambda: like_pairs([], [NoduleAttributes(5.0)], []), "patients: found 0 rows; expected 1"),
    ):
        with pytest.raises(InputError, match=text):
            call()
