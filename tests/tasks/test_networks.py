"""The task networks: their sizes, their shapes, what they can learn, and the weights they can start from."""

import importlib.util
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn

from synthorax.errors import InputError
from synthorax.nn.patches import check_patches
from synthorax.tasks.networks.build import build
from synthorax.tasks.networks.config import (
    DetectorConfig,
    MonaiUNetConfig,
    NetworkConfig,
    NoiseNetConfig,
    ResNetConfig,
    SqueezeNetConfig,
    UNetConfig,
)
from synthorax.tasks.networks.kinetics import GREY_LEVELS, load_kinetics
from synthorax.tasks.networks.resnet import BasicBlock, Bottleneck, PaddedShortcut
from synthorax.tasks.networks.squeezenet import _Joined

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSIFIERS = {
    "detector": DetectorConfig(width=4),
    "resnet-10": ResNetConfig(architecture="resnet-10", width=8, stem="cube"),
    "resnet-50": ResNetConfig(architecture="resnet-50", width=4),
    "resnext-101": ResNetConfig(architecture="resnext-101", width=16, stem="cube"),
    "squeezenet": SqueezeNetConfig(),
    "noise-net": NoiseNetConfig(width=8),
}
LEARNERS = [name for name in CLASSIFIERS if name != "resnext-101"]
"""A hundred layers take too long to train in a test; ResNet-50 has their blocks."""
UNET = UNetConfig(width=4)
BUILT = {}


def network(name):
    """A network for tests that do not change it."""
    if name not in BUILT:
        BUILT[name] = made(CLASSIFIERS.get(name, UNET))
    return BUILT[name].eval()


def made(config, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(config)


def patches(n, size, seed=0):
    return torch.rand(n, 1, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def count(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(config).parameters())


# How large they are


def residual_network(layers, widths, block, kernel1=343, colours=1, classes=2, projected=True):
    """Parameters of a residual network, added up from the tables of the paper."""
    total, channels = colours * kernel1 * 64 + 2 * 64, 64
    for stage, (n, width) in enumerate(zip(layers, widths, strict=True)):
        for i in range(n):
            weights, given = block(channels, width)
            if projected and i == 0 and (stage > 0 or given != channels):
                weights += channels * given + 2 * given
            total, channels = total + weights, given
    return total + channels * classes + classes


def basic(channels, width):
    return 27 * width * (channels + width) + 4 * width, width


def bottleneck(channels, width):
    return channels * width + 27 * width * width + 4 * width * width + 2 * (width + width + 4 * width), 4 * width


def grouped(channels, width):
    return channels * width + 27 * width * width // 32 + 2 * width * width + 2 * (width + width + 2 * width), 2 * width


NARROW, WIDE = (64, 128, 256, 512), (128, 256, 512, 1024)


@pytest.mark.parametrize(
    ("architecture", "layers", "widths", "block"),
    [
        ("resnet-10", (1, 1, 1, 1), NARROW, basic),
        ("resnet-18", (2, 2, 2, 2), NARROW, basic),
        ("resnet-34", (3, 4, 6, 3), NARROW, basic),
        ("resnet-50", (3, 4, 6, 3), NARROW, bottleneck),
        ("resnet-101", (3, 4, 23, 3), NARROW, bottleneck),
        ("resnet-152", (3, 8, 36, 3), NARROW, bottleneck),
        ("resnext-101", (3, 4, 23, 3), WIDE, grouped),
    ],
)
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_residual_networks_have_the_parameters_of_their_tables(architecture, layers, widths, block, shortcut):
    expected = residual_network(layers, widths, block, projected=shortcut == "B")
    assert count(ResNetConfig(architecture=architecture, shortcut=shortcut)) == expected


def test_resnet_18_is_torchvisions_but_for_the_first_kernel():
    torchvision_r3d_18, its_first_kernel = 33_371_472, 3 * 3 * 7 * 7 * 64
    ours = count(ResNetConfig(architecture="resnet-18", shortcut="B", n_classes=400))
    assert ours - 343 * 64 == torchvision_r3d_18 - its_first_kernel


def test_joined_channels_have_the_gradients_of_a_concatenation_in_the_layout_of_their_tensors():
    torch.manual_seed(0)
    parts = [torch.randn(2, n, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d) for n in (3, 5)]
    given = torch.randn(2, 8, 4, 4, 4)
    gradients = []
    for join in (lambda *both: torch.cat(both, 1), _Joined.apply):
        own = [part.clone().requires_grad_() for part in parts]
        join(*own).backward(given)
        gradients.append([part.grad for part in own])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    seen = []
    first = parts[0].clone().requires_grad_()
    through = first * 1
    through.register_hook(lambda g: seen.append(g.is_contiguous(memory_format=torch.channels_last_3d)))
    _Joined.apply(through, parts[1]).backward(given)
    assert seen == [True]


def test_squeezenet_has_the_published_2_15_million_parameters():
    colours_and_classes = count(SqueezeNetConfig(n_classes=600)) + 2 * 27 * 64
    assert round(colours_and_classes / 1e6, 2) == 2.15


def test_the_unet_has_the_published_19_07_million_parameters():
    """Çiçek et al. give 19,069,955 for three inputs and three classes, with ReLU where NiftyNet has PReLU."""
    assert count(UNetConfig(n_classes=3)) + 2 * 27 * 32 == pytest.approx(19_069_955, rel=5e-4)


def test_the_detector_has_the_parameters_its_docstring_states():
    assert count(DetectorConfig()) == 278_050
    assert count(DetectorConfig(width=64)) > 3.9 * count(DetectorConfig())


# What they take and give


@settings(max_examples=25)
@given(st.sampled_from(["detector", "resnet-10", "resnet-50", "squeezenet"]), st.tuples(*[st.integers(0, 9)] * 3))
@torch.no_grad()
def test_a_classifier_takes_any_size_from_its_smallest(name, more):
    net = network(name)
    x = patches(1, [least + extra for least, extra in zip(net.minimum_size, more, strict=True)])
    assert net(x).shape == (1, 2)
    assert net.features(x).shape == (1, net.feature_size)


@settings(max_examples=10)
@given(st.tuples(*[st.integers(2, 4)] * 3))
@torch.no_grad()
def test_the_unet_gives_logits_of_every_voxel(eights):
    size = [8 * n for n in eights]
    assert network("unet")(patches(1, size)).shape == (1, 2, *size)


@pytest.mark.parametrize("name", [*CLASSIFIERS, "unet"])
def test_patches_that_are_too_small_are_refused(name):
    net = network(name)
    for axis in range(3):
        size = list(net.minimum_size)
        size[axis] -= 1
        with pytest.raises(InputError, match="at least"):
            net(patches(1, size))


@pytest.mark.parametrize("shape", [(1, 3, 16, 16, 16), (1, 16, 16, 16)])
def test_patches_without_an_axis_of_one_channel_are_refused(shape):
    with pytest.raises(InputError, match=r"\[b, 1, z, y, x\]"):
        check_patches(torch.zeros(shape), (8, 8, 8))


def test_the_unet_refuses_sizes_that_do_not_halve_three_times():
    with pytest.raises(InputError, match="divisible by 8"):
        network("unet")(patches(1, (16, 20, 16)))


@pytest.mark.parametrize(
    ("name", "size"), [("resnet-10", 512 // 8), ("resnet-50", 4 * 32), ("resnext-101", 2 * 256), ("squeezenet", 512)]
)
def test_features_are_as_many_as_the_last_stage_has_channels(name, size):
    assert network(name).feature_size == size


@pytest.mark.parametrize("name", ["detector", "resnet-10", "resnet-50", "resnext-101"])
@torch.no_grad()
def test_logits_are_linear_in_the_features(name):
    net, x = network(name), patches(2, (32, 32, 32))
    torch.testing.assert_close(net(x), net.fc(net.features(x)))


@pytest.mark.parametrize("name", [*CLASSIFIERS, "unet"])
@torch.no_grad()
def test_channels_last_gives_the_same_numbers(name):
    net, x = network(name), patches(2, (32, 32, 32))
    expected = net(x)
    turned = made(CLASSIFIERS.get(name, UNET)).to(memory_format=torch.channels_last_3d).eval()
    torch.testing.assert_close(turned(x.to(memory_format=torch.channels_last_3d)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*LEARNERS, "unet"])
@torch.no_grad()
def test_bfloat16_gives_nearly_the_same_numbers(name):
    net, x = network(name), patches(2, (32, 32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x).float()
    exact = net(x)
    assert (rough - exact).norm() < 0.05 * exact.norm() + 0.01


def test_squeezenet_sees_air_as_zero():
    """CT-SGAN has inputs of 0 to 1; so padding continues air."""
    seen = []
    net = network("squeezenet")
    hook = net.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(-torch.ones(1, 1, 16, 32, 32))
    hook.remove()
    assert not seen[0].any()


@pytest.mark.parametrize("config", [*CLASSIFIERS.values(), UNET, MonaiUNetConfig()])
def test_a_configuration_survives_its_own_text(config):
    adapter = TypeAdapter(NetworkConfig)
    assert adapter.validate_json(adapter.dump_json(config)) == config


def test_a_resnext_of_a_width_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="multiple of 16"):
        ResNetConfig(architecture="resnext-101", width=8)


# Residual blocks


@pytest.mark.parametrize("block", [BasicBlock(8, 8, 1, "B"), Bottleneck(8, 4, 8, 1, "B"), Bottleneck(8, 4, 8, 1, "A")])
@torch.no_grad()
def test_a_block_whose_last_norm_is_zero_is_the_identity(block):
    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    nn.init.zeros_(last.weight)
    x = torch.rand(2, 8, 4, 5, 6)
    torch.testing.assert_close(block(x), x)


def test_shortcut_a_keeps_every_second_voxel_and_its_gradient():
    x = torch.rand(2, 3, 4, 5, 6, requires_grad=True)
    y = PaddedShortcut(2, 2)(x)
    torch.testing.assert_close(y[:, :3], x[:, :, ::2, ::2, ::2])
    assert not y[:, 3:].any()
    y.sum().backward()
    assert x.grad.sum() == y[:, :3].numel()


# What they learn


@pytest.mark.parametrize("name", [*LEARNERS, "unet"])
def test_a_gradient_reaches_every_parameter(name):
    net = made(CLASSIFIERS.get(name, UNET)).train()
    x = patches(4, (32, 32, 32))
    logits = net(x)
    target = (x[:, 0] > 0).long() if name == "unet" else torch.tensor([0, 1, 0, 1])
    nn.functional.cross_entropy(logits, target).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@pytest.mark.parametrize("name", LEARNERS)
def test_a_classifier_learns_bright_centres_in_a_few_steps(name):
    net = made(CLASSIFIERS[name]).train()
    labels = torch.arange(8) % 2
    size = [max(16, least) for least in net.minimum_size]
    x = 0.3 * patches(8, size) - 0.5
    x[labels == 1, :, size[0] // 4 : -size[0] // 4, size[1] // 4 : -size[1] // 4, size[2] // 4 : -size[2] // 4] += 0.8
    assert loss_after(net, x, labels, steps=12) < 0.35


def test_the_unet_learns_to_outline_bright_balls_in_a_few_steps():
    net = made(UNET).train()
    x = 0.3 * patches(2, (16, 16, 16)) - 0.5
    target = torch.zeros(2, 16, 16, 16, dtype=torch.long)
    target[:, 4:12, 4:12, 4:12] = 1
    x[:, 0][target == 1] += 0.8
    assert loss_after(net, x, target, steps=20) < 0.2


def loss_after(net, x, target, steps):
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(steps):
            loss = nn.functional.cross_entropy(net(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


# Published weights


def published(config, path, seed=1, **changes):
    """A file as Hara et al. publish them, of a colour network with random weights."""
    state = {name: t for name, t in made(config, seed).state_dict().items() if not name.endswith("num_batches_tracked")}
    generator = torch.Generator().manual_seed(seed)
    state["conv1.weight"] = torch.randn(config.width, 3, 7, 7, 7, generator=generator)
    state["fc.weight"], state["fc.bias"] = torch.zeros(400, state["fc.weight"].shape[1]), torch.zeros(400)
    state["bn1.running_mean"] = torch.randn(config.width, generator=generator)
    state |= changes
    state = {f"module.{name}": tensor for name, tensor in state.items() if tensor is not None}
    torch.save({"epoch": 200, "arch": "resnet-10", "state_dict": state, "optimizer": {}}, path)
    return state


SMALL = ResNetConfig(architecture="resnet-10", width=8)


@torch.no_grad()
def test_published_weights_see_a_grey_clip_as_they_did_in_colour(tmp_path):
    state = published(SMALL, tmp_path / "resnet.pth")
    net = made(SMALL).eval()
    load_kinetics(net, tmp_path / "resnet.pth")
    x = patches(1, (16, 32, 32))
    grey_clip = GREY_LEVELS * x.expand(-1, 3, -1, -1, -1)
    colour = nn.functional.conv3d(grey_clip, state["module.conv1.weight"], stride=(1, 2, 2), padding=3)
    torch.testing.assert_close(net.conv1(x), colour, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(net.bn1.running_mean, state["module.bn1.running_mean"])
    torch.testing.assert_close(net.layer4[0].conv2.weight, state["module.layer4.0.conv2.weight"])


def test_the_class_layer_stays_as_it_was(tmp_path):
    published(SMALL, tmp_path / "resnet.pth")
    net = made(SMALL)
    before = net.fc.weight.clone()
    load_kinetics(net, tmp_path / "resnet.pth")
    assert torch.equal(net.fc.weight, before)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"layer2.0.conv1.weight": None}, "missing: layer2.0.conv1.weight"),
        ({"layer9.weight": torch.zeros(1)}, "unknown: layer9.weight"),
        ({"bn1.weight": torch.zeros(3)}, "of other sizes: bn1.weight"),
        ({"conv1.weight": torch.zeros(8, 4, 7, 7, 7)}, "of other sizes: conv1.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path, changes, fault):
    published(SMALL, tmp_path / "resnet.pth", **changes)
    net = made(SMALL)
    before = net.conv1.weight.clone()
    with pytest.raises(InputError, match="resnet-10 with shortcut A") as error:
        load_kinetics(net, tmp_path / "resnet.pth")
    assert fault in str(error.value)
    assert "\n" not in str(error.value)
    assert torch.equal(net.conv1.weight, before)


def test_weights_of_the_other_shortcut_are_refused_in_one_short_line(tmp_path):
    published(SMALL.model_copy(update={"shortcut": "B"}), tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"unknown: layer2\.0\.downsample\.0\.weight") as error:
        load_kinetics(made(SMALL), tmp_path / "resnet.pth")
    assert "and 12 more" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_files_that_are_no_checkpoint_are_refused(tmp_path, content):
    path = tmp_path / "resnet.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"resnet\.pth"):
        load_kinetics(made(SMALL), path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": nn.Linear(2, 2)}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match="not a plain torch checkpoint"):
        load_kinetics(made(SMALL), tmp_path / "resnet.pth")


# MONAI


def test_without_monai_its_unet_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(InputError, match=r"synthorax\[monai\]"):
        build(MonaiUNetConfig())


@pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="needs the extra monai")
def test_monais_unet_does_what_ours_does():
    net = made(MonaiUNetConfig(channels=(4, 8, 16)))
    assert net(patches(1, (16, 8, 12))).shape == (1, 2, 16, 8, 12)
    with pytest.raises(InputError, match="at least"):
        net(patches(1, (4, 8, 8)))
