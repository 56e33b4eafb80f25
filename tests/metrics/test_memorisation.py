"""Similarity of volumes, the nearest of them, and whether a generator copies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from scipy.spatial.distance import cdist
from skimage.metrics import structural_similarity

from synthorax.errors import InputError
from synthorax.metrics.memorisation import membership, memorisation
from synthorax.metrics.ms_ssim import SCALE_WEIGHTS, diversity, ms_ssim, scales_of
from synthorax.metrics.neighbours import nearest, nearest_volume
from tests.helpers.features import features


def volumes(seed, n=2, size=32):
    return gaussian_filter(np.random.default_rng(seed).normal(0, 3000, (n, size, size, size)), (0, 2, 2, 2)) - 500


def patients(seed, n, each=3, first=0):
    """Features of patients whose patches are alike, and the patient of each."""
    random = np.random.default_rng([seed, first])
    sizes = random.integers(1, each + 1, n)
    level = np.repeat(random.normal(size=(n, 5)), sizes, 0)
    return features(level + 0.5 * random.normal(size=level.shape)), np.repeat(np.arange(first, first + n), sizes)


def test_one_scale_is_skimages_ssim():
    a, b = volumes(0, size=14)
    _, whole = structural_similarity(
        a, b, data_range=1000, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert scales_of(a.shape) == 1
    assert ms_ssim(a, b, 1000) == pytest.approx(whole[5:-5, 5:-5, 5:-5].mean())


def test_two_scales_are_wangs_formula():
    a, b = volumes(0)
    b = a + 0.3 * b
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.einsum("i,j,k", *[line / line.sum()] * 3)
    expected = 1.0
    for scale, weight in enumerate(np.array(SCALE_WEIGHTS[:2]) / sum(SCALE_WEIGHTS[:2])):
        ma, mb, aa, bb, ab = (fftconvolve(v, window, "valid") for v in (a, b, a * a, b * b, a * b))
        found = (2 * (ab - ma * mb) + 900) / (aa - ma**2 + bb - mb**2 + 900)  # (0.03 x 1000)^2
        if scale:
            found = found * (2 * ma * mb + 100) / (ma**2 + mb**2 + 100)
        expected *= found.mean() ** weight
        a, b = (v.reshape(16, 2, 16, 2, 16, 2).mean((1, 3, 5)) for v in (a, b)) if not scale else (a, b)
    assert ms_ssim(volumes(0)[0], volumes(0)[0] + 0.3 * volumes(0)[1], 1000) == pytest.approx(expected)


def test_a_volume_has_as_many_scales_as_the_window_fits_into():
    assert [scales_of((n, 400, 400)) for n in (11, 21, 22, 44, 48, 88, 176, 352)] == [1, 1, 2, 3, 3, 4, 5, 5]


def test_similarity_falls_with_noise_and_is_one_with_itself():
    a, noise = volumes(1)
    found = [ms_ssim(a, a + share * noise, 1400) for share in (0, 0.2, 0.5, 1)]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    assert ms_ssim(a, a + 0.5 * noise, 1400) == pytest.approx(ms_ssim(a + 0.5 * noise, a, 1400))
    assert 0 <= ms_ssim(a, -a, 1400) < 0.1


def test_a_set_with_less_variety_is_more_alike():
    varied = volumes(2, n=8, size=24)
    alike = varied[:1] + 0.3 * (varied - varied[:1])
    wide, narrow = diversity(varied, 1400), diversity(alike, 1400)
    assert narrow.ms_ssim.low > wide.ms_ssim.high
    assert (wide.n, wide.pairs, wide.scales) == (8, 28, 2)
    few = diversity(varied, 1400, pairs=10, seed=3)
    assert few == diversity(varied, 1400, pairs=10, seed=3) != diversity(varied, 1400, pairs=10, seed=4)
    assert wide.ms_ssim.low < wide.ms_ssim.value < wide.ms_ssim.high


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 20), st.integers(1, 30))
def test_the_nearest_row_is_the_nearest_of_all(seed, n, m, d):
    random = np.random.default_rng(seed)
    queries, known = random.normal(size=(n, d)), random.normal(size=(m, d))
    found = nearest(queries, known)
    expected = cdist(queries, known)
    np.testing.assert_allclose(found.distance, expected.min(1))
    assert (found.index == expected.argmin(1)).all()


def test_a_copy_is_found_at_distance_0():
    known = np.random.default_rng(0).normal(1000, 1, (50, 300))
    found = nearest(known[[7, 3]], known)
    assert (found.index.tolist(), found.distance.tolist()) == ([7, 3], [0, 0])


def test_a_mirrored_copy_of_a_volume_is_found_if_mirrors_are_tried():
    known = volumes(3, n=70, size=8)
    queries = np.concatenate([known[:66, ::-1, :, ::-1], known[66:] + 10])
    found = nearest_volume(queries, known)
    assert (found.index == np.arange(70)).all()
    assert found.distance == pytest.approx([0] * 66 + [10] * 4, abs=0.01)
    plain = nearest_volume(queries, known, flips=False)
    expected = cdist(queries.reshape(70, -1), known.reshape(70, -1)) / np.sqrt(8**3)
    assert (plain.index == expected.argmin(1)).all()
    assert plain.distance == pytest.approx(expected.min(1), rel=1e-4)
    assert plain.distance[:66].min() > 100


def test_fresh_samples_are_not_taken_for_memorised():
    inside = np.zeros(4)
    for seed in range(40):
        (known, p), (fresh, q), (made, _) = (
            patients(seed, 120),
            patients(seed, 40, first=500),
            patients(seed, 200, 1, 900),
        )
        found = memorisation(made, known, fresh, p, q)
        estimates = [found.attraction, found.nearer, membership(made, known, fresh, p, q).auc]
        inside += [
            *(each.low <= 0.5 <= each.high for each in estimates),
            found.distance_ratio.low <= 1 <= found.distance_ratio.high,
        ]
    assert (inside / 40 > 0.85).all()


def test_copies_are_taken_for_memorised():
    (known, p), (fresh, q) = patients(0, 120), patients(0, 40, first=500)
    copies = features(known.values + 0.01 * np.random.default_rng(0).normal(size=known.values.shape))
    found = memorisation(copies, known, fresh, p, q)
    assert found.attraction.value == found.nearer.value == 1
    assert found.attraction.low > 0.95
    assert found.distance_ratio.high < 0.1
    assert membership(copies, known, fresh, p, q).auc.low > 0.99
    assert (found.n_samples, found.n_training, found.n_held_out) == (len(known), len(known), len(fresh))
    assert found.extractor == known.extractor


def test_a_few_copies_among_many_fresh_samples_are_seen():
    (known, p), (fresh, q), (made, _) = patients(1, 120), patients(1, 120, first=500), patients(1, 300, 1, 900)
    some = features(np.concatenate([made.values[:200], known.values[:100] + 0.01]))
    found = memorisation(some, known, fresh, p, q)
    assert 0.55 < found.attraction.low < found.attraction.high < 0.85
    assert 0.5 < membership(some, known, fresh, p, q).auc.low < 0.99


def test_samples_without_variety_are_near_everyone_and_drawn_to_no_one():
    (known, p), (fresh, q) = patients(2, 120), patients(2, 120, first=500)
    middling = features(0.3 * patients(2, 300, 1, 900)[0].values)
    found = memorisation(middling, known, fresh, p, q)
    assert found.nearer.low > 0.6
    assert found.attraction.low < 0.5 < found.attraction.high


def test_what_hangs_on_one_patient_is_not_known_well():
    (known, p), (fresh, q) = patients(3, 40), patients(3, 40, first=500)
    one = features(known.values[p == 5][:1] + 0.01 * np.random.default_rng(0).normal(size=(100, 5)))
    found = memorisation(one, known, fresh, p, q).attraction
    assert (found.value, found.low) == (1, 0.5)


def test_bad_input_is_one_clear_line():
    (known, p), (fresh, q) = patients(0, 5), patients(0, 5, first=500)
    for call, text in (
        (lambda: ms_ssim(np.zeros((10, 20, 20)), np.zeros((10, 20, 20)), 1), "found 10 x 20 x 20 voxels; expected 11"),
        (lambda: ms_ssim(np.zeros((12, 12, 12)), np.zeros((12, 12, 13)), 1), "volumes: found shapes"),
        (lambda: ms_ssim(np.full((12, 12, 12), np.nan), np.zeros((12, 12, 12)), 1), "not finite"),
        (lambda: ms_ssim(np.zeros((12, 12, 12)), np.zeros((12, 12, 12)), 0), "value range: found 0"),
        (lambda: diversity(np.zeros((2, 12, 12, 12)), 1), "volumes: found 2; expected 3 or more"),
        (lambda: diversity(np.zeros((3, 12, 12, 12)), 1, pairs=0), "pairs: found 0"),
        (lambda: nearest(np.zeros((2, 3)), np.zeros((2, 4))), "queries: found shape"),
        (lambda: nearest(np.zeros((0, 3)), np.zeros((2, 3))), "queries: found shape"),
        (lambda: nearest_volume(np.zeros((1, 4, 4, 4)), np.zeros((1, 4, 4, 5))), "queries: found shape"),
        (lambda: memorisation(known, known, fresh, p, p[: len(q)]), "both in training and held out, such as 0"),
        (lambda: memorisation(known, known, fresh, p, np.full(len(q), 9)), "patients: found 1 of them"),
        (lambda: memorisation(known, known, fresh, p[1:], q), "patients: found .* rows; expected"),
        (lambda: membership(features(known.values[:, :3]), known, fresh, p, q), "expected the same extractor for all"),
    ):
        with pytest.raises(InputError, match=text):
            call()
