"""The AC-WGAN-GP's configuration and networks."""

import json
import math
import subprocess
import sys

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.conditions import encoded
from synthorax.nn.resampling import ConvPool, UpsampleConv, folded, unfolded, without_grid
from synthorax.nodule import NoduleAttributes
from synthorax.systems.ac_wgan.config import PRESETS, AcWganConfig, ac_wgan_config
from synthorax.systems.ac_wgan.networks import Critic, CubeGenerator
from synthorax.training.losses import gradient_penalty

pytestmark = pytest.mark.usefixtures("one_thread")

SMOKE = PRESETS["smoke"]
PLAIN = AcWganConfig(size=(8, 16, 24), noise=8, widths=(8, 6, 4, 4))
FOLDED = AcWganConfig(size=(16, 16, 16), noise=8, widths=(8, 8), fold=2, styled=True, critic_norm="none")
FOUR_MB = 4 * 2**20


def networks(config, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CubeGenerator(config), Critic(config)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def sizes(config):
    with torch.device("meta"):
        return count(CubeGenerator(config)), count(Critic(config))


# Configuration


def test_the_defaults_are_the_thesis():
    paper = PRESETS["paper"]
    assert (paper.size, paper.base, paper.batch_size, paper.steps) == ((48,) * 3, (6,) * 3, 64, 20_000)
    assert (paper.n_critic, paper.penalty, paper.betas) == (5, 10, (0, 0.9))
    assert paper.generator_learning_rate == paper.critic_learning_rate == 1e-4
    assert (paper.attributes, paper.ema_decay) == ((), 0)


def test_alpha_is_1_and_then_10_at_the_end_of_training():
    paper = PRESETS["paper"]
    assert [paper.alpha(step) for step in (0, 14_999, 15_000, 19_999)] == [1, 1, 10, 10]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_yaml(name):
    text = yaml.safe_dump(PRESETS[name].model_dump(mode="json"))
    assert AcWganConfig.model_validate(yaml.safe_load(text)) == PRESETS[name]


def test_the_configuration_needs_no_torch():
    code = "import sys, synthorax.systems.ac_wgan.config as c; print('torch' in sys.modules, len(c.PRESETS))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(len(PRESETS))]


def test_learning_rates_fall_from_a_share_of_the_steps_to_the_last_one():
    config = AcWganConfig(steps=100, rate_end=0.1, rate_end_from=0.6)
    assert [round(config.rate(step), 3) for step in (0, 60, 80, 100)] == [1, 1, 0.55, 0.1]
    assert PRESETS["paper"].rate(19_999) == 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"size": (48, 48, 44)}, "divisible by 8"),
        ({"size": (24, 24, 24), "fold": 2}, "divisible by 16"),
        ({"size": (48, 48, 24), "turns": True}, "same voxels and spacing along x and y"),
        ({"size": (48, 48, 0)}, "setting size"),
        ({"noise": 2}, "more than the 2"),
        ({"noise": 8, "attributes": ("texture", "diameter_mm", "malignancy")}, "more than the 8"),
        ({"attributes": ("texture", "texture")}, "at most once"),
        ({"attributes": ("colour",)}, "setting attributes.0"),
        ({"widths": (4,)}, "setting widths"),
        ({"window_hu": (400, -1000)}, "low < high"),
        ({"learning_rate": 1}, "setting learning_rate"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, line):
    with pytest.raises(InputError, match=line):
        ac_wgan_config("paper", settings)


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match="paper or large"):
        ac_wgan_config("tiny", {})


# Sizes


def by_hand(config):
    """Parameters of the generator and the critic, added up from the description in section 3.1."""
    a, b, c, d = config.widths
    cells, extra = math.prod(config.base), len(config.attributes)

    def convolution(channels_in, channels_out):
        return 27 * channels_in * channels_out + channels_out + 2 * channels_out

    def block(channels_in, inner, channels_out):
        shortcut = channels_in * channels_out + channels_out
        return convolution(channels_in, inner) + convolution(inner, channels_out) + shortcut

    up = block(a, b, b) + block(b, c, c) + block(c, d, d)
    generator = (config.noise + 1) * a * cells + up + 27 * d + 1
    down = block(d, d, c) + block(c, c, b) + block(b, b, a)
    critic = convolution(1, d) + down + (a * cells + 1) * (1 + config.n_classes + extra)
    return generator, critic


LAYERED = {name: config for name, config in PRESETS.items() if len(config.widths) == 4 and not config.styled}


@pytest.mark.parametrize("config", [*LAYERED.values(), PLAIN], ids=[*LAYERED, "plain"])
def test_the_networks_have_the_parameters_of_their_description(config):
    assert sizes(config) == by_hand(config)


def test_the_stated_counts_are_true():
    generator, critic = sizes(PRESETS["paper"])
    assert f"{generator:,} parameters" in CubeGenerator.__doc__
    assert f"{critic:,} parameters" in Critic.__doc__
    with torch.device("meta"):
        assert f"{count(CubeGenerator(PRESETS['paper']).start):,}" in CubeGenerator.__doc__


def test_both_networks_of_compact_fit_4_mb_in_half_precision():
    assert 2 * sum(sizes(PRESETS["compact"])) < FOUR_MB


def test_without_attributes_the_networks_are_the_thesis():
    names = {name for name, _ in networks(PLAIN)[1].named_parameters()}
    assert not [name for name in names if "attributes" in name]
    assert PRESETS["patch48"].model_copy(update={"attributes": ()}).conditions == PRESETS["paper"].conditions == 2


# What they take and give


@settings(max_examples=10)
@given(st.tuples(*[st.integers(1, 3)] * 3), st.integers(1, 3))
@torch.no_grad()
def test_any_size_divisible_by_8_works(eights, n):
    config = AcWganConfig(size=tuple(8 * e for e in eights), noise=6, widths=(4, 4, 4, 4), attributes=("texture",))
    generator, critic = networks(config)
    cubes = generator(normal(n, 6), torch.zeros(n, dtype=torch.long))
    assert cubes.shape == (n, 1, *config.size)
    assert cubes.abs().max() <= 1
    score, classes, attributes = critic(cubes)
    assert (score.shape, classes.shape, attributes.shape) == ((n,), (n, 2), (n, 1))


def test_the_critic_refuses_cubes_of_another_size():
    with pytest.raises(InputError, match=r"\(8, 16, 24\)"):
        networks(PLAIN)[1](torch.zeros(1, 1, 8, 16, 16))


@torch.no_grad()
def test_the_critics_word_on_a_cube_does_not_depend_on_its_company():
    _, critic = networks(PLAIN)
    cubes = normal(3, 1, *PLAIN.size)
    torch.testing.assert_close(critic(cubes).score[:1], critic(cubes[:1]).score)


# Conditions


def test_the_class_overwrites_the_first_two_entries_of_the_noise():
    generator, _ = networks(PLAIN)
    noise = normal(2, 8)
    latents = generator.latents(noise, torch.tensor([0, 1]), None)
    assert latents[:, :2].tolist() == [[1, 0], [0, 1]]
    assert torch.equal(latents[:, 2:], noise[:, 2:])


def test_attributes_overwrite_the_next_entries_with_value_and_given():
    generator, _ = networks(SMOKE)
    noise = normal(2, 16)
    attributes = torch.tensor([[0.5, math.nan, -1.0], [math.nan, math.nan, math.nan]])
    latents = generator.latents(noise, torch.tensor([1, 0]), attributes)
    assert latents[:, 2:8].tolist() == [[0.5, 1, 0, 0, -1, 1], [0] * 6]
    assert torch.equal(latents[:, 8:], noise[:, 8:])


def test_no_attributes_are_unknown_attributes():
    generator, _ = networks(SMOKE)
    unknown = torch.full((2, 3), math.nan)
    assert torch.equal(
        generator.latents(normal(2, 16), torch.tensor([1, 0]), None),
        generator.latents(normal(2, 16), torch.tensor([1, 0]), unknown),
    )


@pytest.mark.parametrize("column", range(3))
@torch.no_grad()
def test_every_attribute_changes_the_cube_and_so_does_its_absence(column):
    generator, _ = networks(SMOKE)
    label, middle = torch.tensor([1]), torch.zeros(1, 3)
    other, unknown = middle.clone(), middle.clone()
    other[0, column], unknown[0, column] = 1, math.nan
    cubes = [generator(normal(1, 16), label, values) for values in (middle, other, unknown)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (cubes[a] - cubes[b]).abs().max() > 1e-3
    assert (generator(normal(1, 16), torch.tensor([0]), middle) - cubes[0]).abs().max() > 1e-3


def test_attributes_are_scaled_to_about_minus_1_to_1():
    nodules = [
        NoduleAttributes(diameter_mm=16, texture=5, malignancy=1),
        NoduleAttributes(diameter_mm=4, texture=3),
        NoduleAttributes(),
    ]
    found = encoded(nodules, ("diameter_mm", "texture", "malignancy"))
    expected = torch.tensor([[1, 1, -1], [-1, 0, math.nan], [math.nan] * 3])
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert encoded(nodules, ()).shape == (3, 0)


@pytest.mark.parametrize(
    ("nodule", "line"),
    [
        (NoduleAttributes(diameter_mm=0), "positive diameter"),
        (NoduleAttributes(diameter_mm=math.nan), "positive diameter"),
        (NoduleAttributes(texture=5.5), "from 1 to 5"),
        (NoduleAttributes(malignancy=math.nan), "from 1 to 5"),
    ],
)
def test_attributes_that_cannot_be_are_refused(nodule, line):
    with pytest.raises(InputError, match=line):
        encoded([nodule], ("diameter_mm", "texture", "malignancy"))


# Blocks


@pytest.mark.parametrize("layer", [UpsampleConv(3, 5), ConvPool(3, 5)])
def test_a_folded_convolution_is_the_plain_pair(layer):
    layer, x = layer.double(), normal(2, 3, 4, 6, 8).double()
    if isinstance(layer, UpsampleConv):
        repeated = functional.interpolate(x, scale_factor=2, mode="nearest")
        expected = functional.conv3d(repeated, layer.weight, layer.bias, padding=1)
    else:
        expected = functional.avg_pool3d(functional.conv3d(x, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(x), expected)


def test_folding_makes_channels_of_every_block_of_voxels_and_unfolding_brings_them_back():
    voxels = normal(2, 1, 4, 6, 8)
    channels = folded(voxels, 2)
    assert channels.shape == (2, 8, 2, 3, 4)
    assert torch.equal(channels[:, :, 1, 2, 3], voxels[:, 0, 2:4, 4:6, 6:8].flatten(1))
    assert torch.equal(unfolded(channels, 2), voxels)


def test_a_grid_of_period_two_does_not_survive_and_plain_voxels_do():
    grid = (-1.0) ** torch.arange(8)
    flat = torch.full((1, 1, 8, 8, 8), 0.5)
    for pattern in (grid[:, None, None], grid[:, None], grid, grid[:, None] * grid):
        torch.testing.assert_close(without_grid(flat + pattern), flat)
    of_four = torch.arange(8.0) % 4 - 1.5
    torch.testing.assert_close(without_grid(flat + of_four, 4), flat)


def test_a_kernel_is_widened_alike_in_bfloat16():
    layer = ConvPool(4, 6)
    x = normal(2, 4, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(x)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), layer(x), rtol=0.02, atol=0.02)


def test_the_grain_alone_changes_the_texture_of_a_cube_and_hardly_its_content():
    config = AcWganConfig.model_validate(FOLDED.model_dump() | {"grain": 8})
    generator = networks(config)[0]
    noise = normal(2, config.drawn)
    noise[1, : config.noise] = noise[0, : config.noise]
    first, second = generator(noise, torch.ones(2, dtype=torch.long)).detach()
    apart = (first - second)[None]
    assert apart.abs().max() > 1e-3
    assert functional.avg_pool3d(apart, 8).std() < apart.std() / 4


def test_a_styled_generator_hears_of_the_condition_in_every_norm():
    generator = networks(FOLDED)[0]
    generator.start.weight.data.zero_()
    made = [generator(normal(1, FOLDED.noise), torch.tensor([label])) for label in (0, 1)]
    assert not torch.equal(*made)


def test_the_norm_is_over_all_channels_and_voxels_of_a_sample():
    generator, _ = networks(PLAIN)
    norm = generator.blocks[0].norm1
    x = normal(2, 6, 4, 5, 3)
    expected = functional.layer_norm(x, x.shape[1:])
    torch.testing.assert_close(norm(x), expected)


@torch.no_grad()
def test_blocks_without_a_residual_only_resample():
    generator, critic = networks(PLAIN)
    for block in (generator.blocks[-1], critic.blocks[0]):
        nn.init.zeros_(block.norm2.weight)
        nn.init.dirac_(block.shortcut.weight)
    x = normal(2, 4, 4, 4, 4)
    torch.testing.assert_close(generator.blocks[-1](x, normal(2, 1)), functional.interpolate(x, scale_factor=2))
    torch.testing.assert_close(critic.blocks[0](x)[:, :4], functional.avg_pool3d(x, 2))


# Training


@pytest.mark.parametrize("config", [PLAIN, SMOKE, FOLDED], ids=["plain", "smoke", "folded"])
def test_a_gradient_reaches_every_parameter(config):
    generator, critic = networks(config)
    cubes = generator(normal(2, config.noise), torch.tensor([0, 1]), torch.zeros(2, len(config.attributes)))
    score, classes, attributes = critic(cubes)
    (score.sum() + classes.square().sum() + attributes.square().sum()).backward()
    for network in (generator, critic):
        assert not [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0]


def test_the_penalty_reaches_the_critics_weights_as_finite_differences_have_it():
    config = AcWganConfig(size=(8, 8, 8), noise=4, widths=(3, 2, 2, 2))
    critic = networks(config)[1].double()
    real, fake = (normal(2, 1, 8, 8, 8, seed=seed).double() for seed in (0, 1))
    epsilon = torch.tensor([0.3, 0.8]).double()

    def penalty():
        return gradient_penalty(lambda x: critic(x).score, real, fake, epsilon)

    names = ["start.weight", "blocks.0.conv1.weight", "blocks.1.conv2.weight", "blocks.2.shortcut.weight"]
    names += ["blocks.0.norm1.weight", "score.weight"]
    parameters = dict(critic.named_parameters())
    gradients = torch.autograd.grad(penalty(), [parameters[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        direction = normal(*gradient.shape, seed=7).double()
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameters[name].add_(step * direction)
            ends.append(penalty().item())
            with torch.no_grad():
                parameters[name].sub_(step * direction)
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx((gradient * direction).sum().item(), rel=1e-4, abs=1e-7), (
            name
        )


def test_the_heads_are_beside_the_penalty():
    critic = networks(SMOKE)[1]
    cubes = normal(2, 1, *SMOKE.size)
    gradient_penalty(lambda x: critic(x).score, cubes, -cubes, torch.tensor([0.3, 0.8])).backward()
    assert critic.classes.weight.grad is None
    assert all(head.weight.grad is None for head in critic.attributes.values())


def test_channels_last_gives_the_same_numbers_and_penalty():
    noise, labels, cubes = normal(2, 16), torch.tensor([0, 1]), normal(2, 1, *SMOKE.size)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        generator, critic = (network.to(memory_format=layout) for network in networks(SMOKE))
        fake = generator(noise, labels)
        penalty = gradient_penalty(lambda x: critic(x).score, cubes, fake, torch.tensor([0.3, 0.8]))  # noqa: B023
        penalty.backward()
        found.append((fake, *critic(fake), penalty, critic.start.weight.grad))
        hidden = generator.blocks[0](normal(2, 16, 2, 2, 2), noise)
        assert hidden.is_contiguous(memory_format=layout)
    for plain, turned in zip(*found, strict=True):
        torch.testing.assert_close(plain, turned, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_cubes():
    generator, _ = networks(SMOKE)
    exact = generator(normal(2, 16), torch.tensor([0, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator(normal(2, 16), torch.tensor([0, 1])).float()
    assert (rough - exact).norm() < 0.05 * exact.norm()


# The paper's size

CRITIC_STEP = """
import json, resource
import torch
from synthorax.systems.ac_wgan.config import PRESETS
from synthorax.systems.ac_wgan.networks import Critic, CubeGenerator
from synthorax.training.losses import class_loss, gradient_penalty, wasserstein_critic_loss

n = 8
torch.manual_seed(0)
torch.set_num_threads(1)
config = PRESETS["paper"]
generator, critic = (made(config).to(memory_format=torch.channels_last_3d) for made in (CubeGenerator, Critic))
optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic_learning_rate, betas=config.betas)
real, labels = torch.rand(n, 1, *config.size) * 2 - 1, torch.arange(n) % 2
with torch.no_grad():
    fake = generator(torch.randn(n, config.noise), labels)
penalty = gradient_penalty(lambda cubes: critic(cubes).score, real, fake, torch.rand(n))
(config.penalty * penalty).backward()
judged = critic(torch.cat([real, fake]))
wasserstein = wasserstein_critic_loss(judged.score[:n], judged.score[n:])
auxiliary = class_loss(judged.classes, torch.cat([labels, labels]))
(wasserstein + config.alpha(0) * auxiliary).backward()
optimizer.step()
peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"penalty": penalty.item(), "peak_gb": peak_gb}))
"""


@pytest.mark.prove
def test_a_critic_step_of_the_paper_fits_the_memory_that_its_docstring_states():
    done = subprocess.run([sys.executable, "-c", CRITIC_STEP], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert math.isfinite(measured["penalty"])
    assert "3.1 GB for 8 cubes" in Critic.__doc__
    assert measured["peak_gb"] < 3.1 * 1.15
