"""A run is stopped if two seeds of an in-painter give the same nodule, but not if they give two, nor in its warm-up."""

import numpy as np
import pytest
import torch
from torch import nn

from synthorax.errors import InputError, TrainingError
from synthorax.metrics.appearance import Nodules
from synthorax.metrics.seed_diversity import distances
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.training import loop
from synthorax.training.devices import make_fabric
from synthorax.training.diversity import SeedDiversity, distances_hu, diversity_limit, real_distance_hu
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training
from synthorax.training.trainable import Trainable
from tests.helpers.balls import ball_mask

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = PatchSpec((16, 16, 16))
DENSITIES_HU = [-600.0, -400.0, -200.0, 0.0, 100.0, 200.0]
REGION = torch.from_numpy(ball_mask(SPEC.size, 14)).float()[None, None]


def patches(densities_hu, noise_hu=0.0, seed=0):
    """Return patches within -1 to 1 of balls of 7 mm and given densities in lung, [n, 1, z, y, x]."""
    random = np.random.default_rng(seed)
    hu = np.stack([np.where(ball_mask(SPEC.size, 7), density, -850.0) for density in densities_hu])
    return SPEC.to_unit(torch.from_numpy(hu + random.normal(0, noise_hu, hu.shape)).float())[:, None]


@pytest.fixture(scope="module")
def figure():
    """Return the figure for real nodules of six densities."""
    real = patches(DENSITIES_HU)
    distance = real_distance_hu(real, REGION.expand_as(real), [NoduleAttributes(7.0)] * 6, np.arange(6), SPEC)
    return SeedDiversity(distance, SPEC)


def test_seeds_that_make_other_nodules_are_at_a_real_pairs_distance_and_matched_noise_is_near_none(figure):
    real = patches(DENSITIES_HU)
    pairs = [(a, b) for a in range(6) for b in range(6) if a < b]
    first, second = (real[list(rows)] for rows in zip(*pairs, strict=True))
    assert float(figure(first, second, REGION.expand_as(first))) == pytest.approx(1, rel=1e-4)
    same = patches([0.0] * 8, 30.0, seed=1), patches([0.0] * 8, 30.0, seed=2)
    assert 0 < float(figure(*same, REGION.expand_as(same[0]))) < 0.05


def test_the_distance_is_that_of_the_study_where_the_region_is_the_nodule():
    mask = ball_mask(SPEC.size, 7)
    hu = np.stack([np.where(mask, 100.0, -850.0), np.where(mask, -300.0, -850.0)])
    study = distances(Nodules(hu, np.stack([mask, mask]), SPEC.spacing_mm), [[0, 1]]).hu[0]
    unit = SPEC.to_unit(torch.from_numpy(hu).float())[:, None]
    here = distances_hu(unit[:1], unit[1:], torch.from_numpy(mask).float()[None, None], SPEC)
    assert float(here) == pytest.approx(study, rel=1e-4)


def test_what_differs_outside_the_region_does_not_count():
    first = patches([0.0])
    second = torch.where(REGION > 0, first, torch.ones(()))
    assert float(distances_hu(first, second, REGION, SPEC)) == 0


def test_anisotropic_voxels_are_smoothed_in_millimetres():
    """A disturbance that alternates along z is smoothed away on voxels of 1 mm, and less on voxels of 5 mm."""
    stripes = torch.tensor([1.0, -1.0]).repeat(8)[:, None, None].expand(1, 1, 16, 16, 16)
    region = torch.ones_like(stripes)
    found = [float(distances_hu(stripes, -stripes, region, PatchSpec(SPEC.size, (z, 1.0, 1.0)))) for z in (1.0, 5.0)]
    assert found[0] < 0.2 * found[1]


def test_real_nodules_without_a_pair_are_refused():
    real = patches([0.0, 0.0])
    with pytest.raises(InputError, match="real nodules: found 2, of which no two of different patients"):
        real_distance_hu(real, REGION.expand_as(real), [NoduleAttributes(7.0), NoduleAttributes(12.0)], [1, 2], SPEC)
    with pytest.raises(InputError, match="distance between real nodules: found 0 HU"):
        SeedDiversity(0.0, SPEC)


class InPainterToy(Trainable):
    """Adds balls to lung; their density varies with the noise by a given number of HU."""

    name = "toy"

    def __init__(self, figure, heeds, warm_up):
        super().__init__({}, {"net": nn.Linear(1, 1)})
        self.limits = {"diversity": diversity_limit(warm_up)}
        self.figure, self.heeds = figure, heeds

    def make_optimizers(self):
        return {"net": torch.optim.SGD(self.networks["net"].parameters(), lr=0.0)}

    def training_step(self, batch, step):
        first, second = (patches([-self.heeds(step) * seed], 30.0, 2 * step + seed) for seed in (0, 1))
        return {"diversity": self.figure(first, second, REGION)}


def train(model, folder, steps):
    run = RunFolder.open(folder, {"toy": 1}, {})
    training = Training(model, [Stage("all", steps, lambda step: {})], log_every=1)
    return loop.fit(training, run, make_fabric("cpu"))


def test_a_run_whose_seeds_make_one_nodule_stops_after_its_warm_up_and_says_what_to_do(figure, tmp_path):
    with pytest.raises(TrainingError) as caught:
        train(InPainterToy(figure, lambda step: 0, warm_up=6), tmp_path, 30)
    message = str(caught.value)
    assert message.startswith("step 16: two seeds make nearly the same nodule at one site: diversity is 0.0")
    assert (
        "below 0.1 for 10 lines of the log; no state was saved before, so that the same command begins anew; train"
        in message
    )
    assert "\n" not in message


def test_a_run_that_learns_to_heed_its_noise_by_the_end_of_its_warm_up_goes_on(figure, tmp_path):
    assert train(InPainterToy(figure, lambda step: 300 * (step >= 12), warm_up=12), tmp_path, 24).finished
