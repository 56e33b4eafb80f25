"""Erased nodules compared with healthy sites of the same scans.

A correct eraser passes, and each kind of failure is detected.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthorax.errors import InputError
from synthorax.makers import Filled, Lineage
from synthorax.region import Region
from synthorax.studies.erased import NoduleSite, erased, nodule_sites
from synthorax.studies.healed import healed_figures, healed_places
from synthorax.studies.responses import Detectors, Rated, called_apart, way_left
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import DETECTION
from tests.helpers.balls import ball_mask
from tests.helpers.cubes import LUNG_HU, ball_case, ball_in_lung
from tests.helpers.stores import store_of

SIZE = 40
CORNERS = [(z, y, x) for z in (9, 30) for y in (9, 30) for x in (9, 30)]
CONFIG = DETECTION["smoke"]


class Filler:
    """An eraser that fills a nodule's place with noise of some mean and spread; a share of the nodule stays."""

    name, lineage = "filler", Lineage("filler")
    heeds, roles = frozenset({"diameter_mm"}), frozenset({"erases"})

    def __init__(self, hu=LUNG_HU, noise_hu=30.0, kept=0.0, widest_mm=30.0):
        self.hu, self.noise_hu, self.kept, self.widest_mm = hu, noise_hu, kept, widest_mm

    def reach_mm(self, edit):
        if edit.nodule.diameter_mm > self.widest_mm:
            raise InputError("diameter", f"{edit.nodule.diameter_mm:.3g} mm", f"at most {self.widest_mm:g} mm")
        return edit.nodule.diameter_mm + 4, edit.nodule.diameter_mm / 2 + 4

    def fill_many(self, patches, regions, edits, seeds):
        return [self.fill(*one) for one in zip(patches, edits, seeds, strict=True)]

    def fill(self, patch, edit, seed):
        gone = ball_mask(patch.shape, edit.nodule.diameter_mm + 2, patch.spacing_mm)
        lung = np.random.default_rng(seed).normal(self.hu, self.noise_hu, patch.shape)
        filled = self.kept * patch.voxels + (1 - self.kept) * lung
        return Filled(np.where(gone, filled, patch.voxels).astype(np.float32), None, edit.nodule)


class Bright(Classification):
    """Takes the mean HU of the middle, in units of the window, for log odds."""

    def logits(self, patches):
        middle = patches[:, 0, 6:10, 6:10, 6:10].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(middle), middle], 1)


@pytest.fixture(scope="module")
def sites():
    found = []
    for i in range(8):
        ct, mask = ball_in_lung((SIZE,) * 3, (1.0,) * 3, diameter_mm=8 + i % 2, seed=i)
        found.append(NoduleSite(ct, Region.of(mask), f"P{i}", f"c{i}"))
    return found


@pytest.fixture(scope="module")
def healthy(sites):
    """Places away from the nodule, by case."""
    return {site.case_id: [site.ct.to_world(corner).tolist() for corner in CORNERS] for site in sites}


@pytest.fixture(scope="module")
def detectors():
    return Detectors([Bright(CONFIG)], 0.0)


def rated(detectors, sites, healthy, made):
    """Return detectors' outputs for the nodules, for their places after an erasure, and for healthy places."""
    patients = [site.patient for site in sites]
    places = [(site.ct, center) for site in sites for center in healthy[site.case_id]]
    return (
        detectors.rated([(site.ct, site.ball.center_mm) for site in sites], patients),
        detectors.rated([(one.after, one.site.ball.center_mm) for one in made.made], made.patients),
        detectors.rated(places, [site.patient for site in sites for _ in healthy[site.case_id]]),
    )


def test_an_eraser_that_gives_back_lung_leaves_nothing_of_the_response_and_one_that_does_nothing_leaves_all(
    sites, healthy, detectors
):
    nodules, lung, well = rated(detectors, sites, healthy, erased(Filler(), sites, 0, with_masks=False))
    assert nodules.called(detectors.cut).value == 1
    assert well.called(detectors.cut).value == 0
    assert way_left(lung, well, nodules).equivalent
    assert called_apart(lung, well, detectors.cut).difference == 0
    untouched = way_left(nodules, well, nodules)
    assert untouched.difference == 1
    assert not untouched.equivalent
    half = rated(detectors, sites, healthy, erased(Filler(kept=0.5), sites, 0, with_masks=False))[1]
    assert way_left(half, well, nodules).difference == pytest.approx(0.5, abs=0.1)
    assert not way_left(half, well, nodules).equivalent


def test_two_patients_are_too_few_to_show_that_responses_that_scatter_are_the_same():
    patients = np.array(["a", "b"])
    before, after = Rated(np.array([9.0, 11.0]), patients), Rated(np.array([-4.0, 4.0]), patients)
    healthy = Rated(np.array([-1.0, 1.0]), patients)
    found = way_left(after, healthy, before)
    assert found.difference == 0
    assert not found.equivalent


def test_the_response_of_detectors_is_their_mean_and_a_patient_counts_with_all_its_places():
    rows = Rated(np.array([0.0, 0.0, 3.0]), np.array(["a", "a", "b"]))
    assert rows.mean().value == 1
    assert rows.called(3.0).value == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="3 responses of 2 patients"):
        Rated(np.zeros(3), np.array(["a", "b"]))


def test_lung_of_other_hu_or_without_texture_or_with_a_seam_is_seen(sites, healthy):
    def figures(eraser):
        return healed_figures(healed_places(erased(eraser, sites, 1, with_masks=False), healthy))

    right = figures(Filler())
    assert right.n == len(sites)
    assert right.more_hu.equivalent
    assert right.texture.value == pytest.approx(right.site_texture.value, rel=0.1)
    assert right.site_texture.value == pytest.approx(1, rel=0.1)
    denser, smooth = figures(Filler(hu=LUNG_HU + 150)), figures(Filler(noise_hu=3.0))
    assert denser.apart_hu.value == pytest.approx(150, abs=10)
    assert not denser.more_hu.equivalent
    assert smooth.texture.value < 0.2
    assert right.seam.value == pytest.approx(1, abs=0.05)


def test_nodules_that_a_method_refuses_are_told_and_places_without_a_nodule_are_counted(sites):
    made = erased(Filler(widest_mm=9.0), sites, 0, with_masks=True)
    assert [one.number for one in made.made] == [0, 2, 4, 6]
    assert len(made.refused) == 4
    assert "at most 9 mm" in made.refused[0]
    assert not any(one.is_doubted for one in made.made)
    lung = np.random.default_rng(0).normal(LUNG_HU, 30, (SIZE,) * 3).astype(np.int16)
    (empty,) = erased(Filler(), [replace(sites[0], ct=replace(sites[0].ct, voxels=lung))], 0, with_masks=False).made
    assert empty.is_doubted
    with pytest.raises(InputError, match="none that filler can erase"):
        erased(Filler(widest_mm=1), sites, 0, with_masks=False)


def test_the_nodules_of_a_split_are_those_of_its_cases(tmp_path):
    cases = [ball_case(f"P{i}", 8, split=("train", "val", "test")[i % 3], outlined=i != 2) for i in range(6)]
    store = store_of(tmp_path / "store", cases)
    assert [site.patient for site in nodule_sites(store, "test")] == ["P5"]
    assert nodule_sites(store, "val")[0].ball.diameter_mm == pytest.approx(8, abs=1)
