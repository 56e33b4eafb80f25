"""The layers of the thesis, and why its painter collapses on empty slices while this project's does not."""

import pytest
import torch
from torch import nn

from synthorax.systems.translation.networks import (
    LocalCritic,
    LocalPainter,
    ThesisCritic,
    ThesisResNet,
    ThesisUNet,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def convolutions(network):
    """Channels in and out, kernel and stride of every convolution, in order."""
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    return [(one.in_channels, one.out_channels, one.kernel_size[0], one.stride[0]) for one in layers]


def test_cyclegans_generator_has_the_layers_of_section_4_3_5():
    made = convolutions(ThesisResNet(2, 1, 1, width=32, blocks=6, end="tanh"))
    blocks = [(128, 128, 3, 1)] * 12
    ends = [(1, 32, 7, 1), (32, 64, 3, 2), (64, 128, 3, 2)], [(128, 64, 3, 2), (64, 32, 3, 2), (32, 1, 7, 1)]
    assert made == [*ends[0], *blocks, *ends[1]]


def test_pix2pix_generator_has_the_layers_of_section_4_3_4():
    network = ThesisUNet(2, 1, 1, width=64, levels=7, end="tanh")
    down = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 1)]
    assert convolutions(network) == [(a, b, 4, 2) for a, b in down + up]
    assert [any(isinstance(one, nn.Dropout) for one in layer) for layer in network.up] == [True] * 3 + [False] * 3
    assert sum(isinstance(one, nn.BatchNorm2d) for one in network.modules()) == 12


@pytest.mark.parametrize("axes", [2, 3])
def test_the_thesis_critic_gives_a_share_for_each_sixteenth_of_a_window(axes):
    scores = ThesisCritic(axes, 1, width=4, norm="instance")(torch.randn(2, 1, *(64,) * axes))
    assert scores.shape == (2, 1, *(4,) * axes)
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize(
    "network",
    [
        lambda axes: ThesisResNet(axes, 3, 2, width=4, blocks=1, end="tanh"),
        lambda axes: ThesisResNet(axes, 3, 2, width=4, blocks=1, end="tanh", checkpoints=True),
        lambda axes: ThesisUNet(axes, 3, 2, width=4, levels=4, end="tanh"),
        lambda axes: LocalPainter(axes, 3, 2, width=4, blocks=1, end="tanh", fold=2),
    ],
    ids=["resnet", "checkpoints", "unet", "local"],
)
@pytest.mark.parametrize("axes", [2, 3])
def test_painters_keep_the_grid_of_slices_and_of_volumes_within_their_range(network, axes):
    made = network(axes)(torch.randn(2, 3, *(16,) * axes))
    assert made.shape == (2, 2, *(16,) * axes)
    assert made.abs().max() <= 1
    made.sum().backward()


def test_a_reader_ends_in_shares_of_the_classes():
    made = LocalPainter(2, 1, 7, width=4, blocks=1, end="classes")(torch.randn(2, 1, 16, 16))
    torch.testing.assert_close(made.sum(1), torch.ones(2, 16, 16))


def test_layers_computed_again_give_the_same_gradients():
    torch.manual_seed(0)
    plain = ThesisResNet(2, 1, 1, width=4, blocks=1, end="tanh")
    again = ThesisResNet(2, 1, 1, width=4, blocks=1, end="tanh", checkpoints=True)
    again.load_state_dict(plain.state_dict())
    windows = torch.randn(1, 1, 32, 32)
    for network in (plain, again):
        network(windows).square().mean().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def middle(network, windows):
    with torch.no_grad():
        return network(windows)[0, 0, 24:40, 24:40]


def test_of_an_empty_slice_the_thesis_painter_keeps_rounding_errors_and_ours_keeps_its_class():
    """An instance norm subtracts a window's mean, and a slice of one class is nothing but its mean."""
    torch.manual_seed(0)
    thesis = ThesisResNet(2, 1, 1, width=8, blocks=2, end="tanh")
    for code in (0, 4):  # lung, bone
        with torch.no_grad():
            assert thesis.layers[0](torch.full((1, 1, 64, 64), code / 3 - 1)).abs().max() < 1e-4
    ours = LocalPainter(2, 8, 1, width=8, blocks=2, end="linear")
    noise = torch.randn(1, 1, 64, 64)
    lung, bone = (
        torch.cat([torch.nn.functional.one_hot(torch.full((1, 64, 64), own), 7).movedim(-1, 1).float(), noise], 1)
        for own in (1, 5)
    )
    assert (middle(ours, lung) - middle(ours, bone)).abs().mean() > 0.02
    assert middle(ours, lung).std() > 0.01  # and it has texture, by the noise


def test_ours_paints_a_place_alike_in_windows_of_other_surroundings():
    torch.manual_seed(0)
    ours = LocalPainter(2, 1, 1, width=8, blocks=1, end="linear")
    near = torch.randn(1, 1, 64, 64)
    far = near.clone()
    far[..., :4], far[..., -4:] = 5, -5
    assert (middle(ours, near) - middle(ours, far)).abs().max() < 1e-5


def test_no_layer_of_our_critic_makes_much_more_of_its_input():
    critic = LocalCritic(2, 1, width=4)
    for _ in range(30):
        critic(torch.randn(1, 1, 32, 32))
    critic.eval()
    for layer in critic.layers:
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) < 1.1


def test_our_critic_sees_the_ct_enlarged_and_the_label_map_as_it_is():
    torch.manual_seed(0)
    critic = LocalCritic(2, 3, width=4, contrast=5.0).eval()
    plain = LocalCritic(2, 3, width=4).eval()
    plain.load_state_dict(critic.state_dict())
    windows = torch.randn(2, 3, 32, 32)
    enlarged = windows * torch.tensor([1.0, 1.0, 5.0])[:, None, None]
    torch.testing.assert_close(critic(windows), plain(enlarged))


@pytest.mark.parametrize("axes", [2, 3])
def test_a_folded_painter_whose_training_made_a_grid_does_not_paint_it(axes):
    torch.manual_seed(0)
    painter = LocalPainter(axes, 1, 1, width=8, blocks=1, end="linear", fold=2)
    nn.init.normal_(painter.finest[2].weight, std=0.5)
    with torch.no_grad():
        made = painter(torch.ones(1, 1, *[64] * axes))[(0, 0, *[slice(24, 40)] * axes)]
    assert made.std() < 1e-3 * made.abs().mean()


@pytest.mark.parametrize("axes", [2, 3])
def test_a_new_folded_painter_lays_no_grid_of_period_two_over_its_output(axes):
    torch.manual_seed(0)
    painter = LocalPainter(axes, 8, 1, width=16, blocks=1, end="linear", fold=2)
    made = painter(torch.ones(1, 8, *[48] * axes)).detach()[0, 0]
    middle = made[(slice(20, 28),) * axes]  # the same input everywhere, away from the padded border
    torch.testing.assert_close(middle, middle.mean().expand_as(middle), atol=1e-5, rtol=0)


def test_the_last_layer_of_a_painter_is_not_rounded_to_bfloat16():
    torch.manual_seed(0)
    painter = LocalPainter(3, 8, 1, width=16, blocks=1, end="tanh", fold=2)
    with torch.autocast("cpu", torch.bfloat16):
        made = painter(torch.rand(1, 8, 16, 16, 16)).detach()
    assert (made != made.bfloat16().float()).float().mean() > 0.9
