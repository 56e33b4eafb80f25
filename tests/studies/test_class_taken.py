"""Pairs of in-paintings show what requesting the other class changes, and nothing if the class is ignored."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.nodule import NoduleAttributes
from synthorax.studies.class_taken import HALF_WIDTH, IRREGULARITY, MEAN_HU, STEEPNESS, class_figures
from synthorax.studies.painted import Painted

MM = (1.0, 1.0, 1.0)
SHAPE = (30, 30, 30)
SITES = 8


def painted_as(mm, blur, hu, lobes=0.0, seed=0):
    """In-paintings of two seeds at some sites: nodules of a width, of soft edges, of some HU, with a wavy surface."""
    random, before, after, masks = np.random.default_rng(seed), [], [], []
    z, y, x = np.indices(SHAPE) - 15.0
    for i in range(2 * SITES):
        lung = np.random.default_rng(i).normal(-850, 20, SHAPE)
        wave = lobes * np.sin(4 * np.arctan2(y, x) + random.uniform(0, 6))
        mask = np.sqrt(z**2 + y**2 + x**2) <= (mm + random.normal(0, 0.2)) / 2 + wave
        share = gaussian_filter(mask.astype(float), blur)
        before.append(lung)
        after.append(lung + share * (hu - lung))
        masks.append(mask)
    return Painted(
        before=np.stack(before),
        after=np.stack(after),
        regions=np.ones((2 * SITES, *SHAPE), bool),
        masks=np.stack(masks),
        sites=np.repeat(np.arange(SITES), 2),
        seeds=np.tile([0, 1], SITES),
        asked=[NoduleAttributes(10.0)] * SITES,
        patients=np.array([f"P{i}" for i in range(SITES)]),
        spacing_mm=MM,
    )


def denser(hu):
    return hu[:, 12:18, 12:18, 12:18].mean((1, 2, 3)).astype(np.float64)


@pytest.fixture(scope="module")
def benign():
    return painted_as(10, 0.6, 0.0)


def test_larger_denser_softer_and_wavier_nodules_are_measured_as_such(benign):
    found = class_figures(benign, painted_as(13, 1.5, 200.0, lobes=1.5, seed=1), denser, (20, 20, 20))
    assert found.pairs == 2 * SITES
    assert found.measures[HALF_WIDTH].difference.difference == pytest.approx(3, abs=1)
    assert found.measures[MEAN_HU].difference.low > 0
    assert found.measures[STEEPNESS].difference.high < 0
    assert found.measures[IRREGULARITY].difference.low > 0
    assert found.auc.value == 1
    assert found.wins.value == 1


def test_a_method_that_ignores_the_class_changes_nothing(benign):
    found = class_figures(benign, benign, denser, (20, 20, 20))
    assert (found.auc.value, found.wins.value) == (0.5, 0.5)
    for measure in found.measures.values():
        assert (measure.difference.difference, measure.difference.p) == (0, 1)


def test_pairs_are_those_of_site_and_seed_in_whatever_order(benign):
    turned = benign.rows(np.arange(2 * SITES)[:0:-1])  # all but the first, backwards
    found = class_figures(benign, turned, denser, (20, 20, 20))
    assert found.pairs == 2 * SITES - 1
    assert found.wins.value == 0.5
    assert found.measures[HALF_WIDTH].difference.difference == 0


def test_in_paintings_of_other_sites_or_without_a_pair_are_refused(benign):
    with pytest.raises(InputError, match="other sites for the other class"):
        class_figures(benign, replace(benign, patients=np.array([f"Q{i}" for i in range(SITES)])), denser, (20,) * 3)
    with pytest.raises(InputError, match="no site and seed painted as both classes"):
        class_figures(benign, replace(benign, seeds=benign.seeds + 2), denser, (20, 20, 20))
