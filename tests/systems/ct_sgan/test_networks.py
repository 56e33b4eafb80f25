"""The networks of CT-SGAN have the sizes of CT-SGAN, and optimised layers give the same numbers as plain ones."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.resampling import UpsampleConv2d
from synthorax.systems.ct_sgan.config import PRESETS, CtSganConfig
from synthorax.systems.ct_sgan.networks import LatentPath, SlabCritic, SliceCritic, SliceGenerator, UpBlock

PAPER, SMOKE = PRESETS["paper"], PRESETS["smoke"]


def test_papers_slices_have_224_pixels_and_3_channels_out_of_patient_and_slice_noise_of_128():
    with FakeTensorMode():  # shapes alone
        slices = SliceGenerator(PAPER)(torch.empty(2, PAPER.latent))
        path = LatentPath(PAPER)(torch.empty(1, 222, 128), torch.empty(1, 256))
    assert PAPER.latent == 128 + 128
    assert slices.shape == (2, 3, 224, 224)
    assert path.shape == (1, 222, 128)
    assert PAPER.path == 222
    assert PAPER.base == (7, 7)


def test_papers_critics_see_slices_of_three_channels_and_slabs_of_16_middle_channels():
    with FakeTensorMode():  # shapes alone
        score = SliceCritic(PAPER)(torch.empty(2, 3, 224, 224), torch.empty(2), torch.empty(2, 0))
        of_slab = SlabCritic(PAPER)(torch.empty(2, 1, 16, 224, 224), torch.empty(2, 0))
    assert score.shape == of_slab.shape == (2,)


def test_the_weights_that_ship_fit_in_six_megabytes_of_half_precision():
    config = PRESETS["compact"]
    networks = (LatentPath(config), SliceGenerator(config), SliceCritic(config), SlabCritic(config))
    assert min(config.size) >= 128
    assert sum(p.numel() for network in networks for p in network.parameters()) * 2 < 6e6


@pytest.mark.parametrize("grain", [0, 2])
def test_an_up_block_is_a_residual_block_on_the_doubled_grid(grain):
    torch.manual_seed(0)
    block = UpBlock(6, 4, style=3, grain=grain)
    x, latent = torch.randn(2, 6, 5, 5), torch.randn(2, 3)
    noise = torch.randn(2, grain, 10, 10) if grain else None
    doubled = functional.interpolate(x, scale_factor=2, mode="nearest")
    residual = functional.conv2d(functional.leaky_relu(doubled, 0.2), block.conv1.weight, block.conv1.bias, padding=1)
    scale, shift = block.style(latent)[:, :, None, None].chunk(2, 1)
    residual = functional.leaky_relu(residual * (1 + scale) + shift, 0.2)
    residual = block.conv2(residual if noise is None else torch.cat([residual, noise], 1))
    torch.testing.assert_close(block(x, latent, noise), block.shortcut(doubled) + 0.1 * residual, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_a_doubled_convolution_is_the_same_but_for_rounding():
    torch.manual_seed(0)
    layer, x = UpsampleConv2d(8, 8), torch.randn(1, 8, 6, 6)
    plain = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), plain, rtol=0.05, atol=0.03)


def test_a_folded_generator_begins_without_a_grid():
    torch.manual_seed(0)
    made = SliceGenerator(SMOKE).fine(torch.randn(1, 8, 4, 4))
    pixels = functional.pixel_shuffle(made, 2)
    torch.testing.assert_close(pixels[:, :, ::2, ::2], pixels[:, :, 1::2, 1::2])


def test_a_folded_generator_whose_training_made_a_grid_does_not_show_it():
    torch.manual_seed(0)
    generator = SliceGenerator(SMOKE)
    nn.init.normal_(generator.fine.bias, std=3.0)  # each pixel of a block of 2 x 2 has a brightness of its own
    nn.init.zeros_(generator.fine.weight)
    with torch.no_grad():
        made = generator(torch.randn(2, SMOKE.latent), torch.randn(2, 3 * SMOKE.grain, 8, 8) if SMOKE.grain else None)
    inner = made[..., 2:-2, 2:-2]
    assert inner.std((-1, -2)).max() < 1e-4


def test_the_critic_of_slices_listens_to_position_and_spacing():
    torch.manual_seed(0)
    critic, slices = SliceCritic(SMOKE), torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1)
    here, there = critic(slices, torch.tensor([0.1, 0.9]), torch.zeros(2, 4))
    assert here != there
    small, large = critic(slices, torch.tensor([0.5, 0.5]), torch.eye(2, 4))
    assert small != large


def test_the_path_listens_to_both_ends():
    torch.manual_seed(0)
    path, noise, state = LatentPath(SMOKE), torch.randn(1, 14, 8), torch.randn(1, 32)
    before = path(noise, state)
    for changed in (0, 13):
        other = noise.clone()
        other[:, changed] += 1
        assert ((path(other, state) - before).abs().sum(2) > 0).all()
    assert not torch.equal(path(noise, -state), before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": (224, 224, 230)}, "slices of pixels divisible by 32"),
        ({"size": (16, 224, 224)}, "slices <= slab <= 14"),
        ({"slices": 17}, "slices <= slab"),
        ({"slice_noise": 0}, "either above 0, or all slices would be the same"),
        ({"size": (2, 224, 224)}, "3 to 1024"),
        ({"size": (224, 64, 64), "slice_widths": (8,) * 8}, "fewer, or larger slices"),
        ({"conditions": ("spacing", "spacing")}, "each name at most once"),
    ],
)
def test_settings_that_make_no_networks_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        CtSganConfig(**settings)
