"""The vanilla 3D GAN makes a scan in one piece and resizes it."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from synthorax.errors import InputError
from synthorax.makers import Lineage
from synthorax.systems.volume_gan.config import PRESETS, VolumeGanConfig, VolumeGanOptions
from synthorax.systems.volume_gan.networks import VolumeCritic, VolumeGenerator
from synthorax.systems.volume_gan.system import VolumeGan
from synthorax.training.devices import make_fabric
from synthorax.training.scan_gan import ScanFacts

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = PRESETS["smoke"]
KNOWN = ScanFacts(torch.tensor([[10.0, 12.0, 14.0]]), torch.tensor([-1.0]), torch.tensor(1.0))


def test_the_papers_baseline_is_of_128_voxels_along_each_axis():
    config = PRESETS["paper"]
    with FakeTensorMode():  # shapes alone
        scans = VolumeGenerator(config)(torch.empty(2, config.noise), torch.empty(2, 0))
        scores = VolumeCritic(config)(scans, torch.empty(2, 0))
    assert scans.shape == (2, 1, 128, 128, 128)
    assert scores.shape == (2,)


def test_a_resized_scan_is_as_large_and_has_smaller_voxels():
    made = VolumeGan(SMOKE, 0, KNOWN).maker(Lineage(""))
    own, larger = made.scan(0, 0).whole(), made.scan(0, 0, VolumeGanOptions(edge=28)).whole()
    assert (own.shape, larger.shape) == ((16, 16, 16), (28, 28, 28))
    np.testing.assert_allclose(np.multiply(own.shape, own.spacing_mm), np.multiply(28, larger.spacing_mm), rtol=1e-4)
    assert np.abs(larger.voxels.mean() - own.voxels.mean()) < 0.1 * own.voxels.std()


def test_sampling_leaves_a_model_that_trains_as_it_was():
    made = VolumeGan(SMOKE, 0, KNOWN)
    before = {name: tensor.clone() for name, tensor in made.weights().items()}
    made.maker(Lineage("")).scan(0, 0).whole()
    assert made.networks["generator"].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.weights().items())


@pytest.mark.parametrize("settings", [{}, {"objective": "wasserstein", "penalty": 10.0}, {"conditions": ()}])
def test_both_networks_learn_in_a_step(settings):
    made = VolumeGan(SMOKE.model_copy(update=settings), 0, KNOWN)
    before = {name: tensor.clone() for name, tensor in made.weights().items()}
    made.prepare_training(make_fabric("cpu"))
    made.enter("gan")
    figures = made.training_step({"ct": torch.rand(2, 1, 16, 16, 16), "index": torch.tensor([0, 0])}, 0)
    for network in ("generator.", "volumes."):
        assert any(not torch.equal(made.weights()[name], before[name]) for name in before if name.startswith(network))
    assert ("penalty_volumes" in figures) == ("penalty" in settings)


def test_sizes_that_are_not_doubled_from_a_whole_number_are_refused():
    with pytest.raises(InputError, match="voxels divisible by 32"):
        VolumeGanConfig(size=(128, 128, 120))
