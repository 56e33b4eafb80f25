"""The in-painter fills a hole that it cannot see into, and keeps what lies outside it."""

from itertools import pairwise

import pytest
import torch

from synthorax.errors import InputError
from synthorax.nn.inpainter import InPaintingNet, pasted

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (8, 16, 24)


def painter(**options):
    torch.manual_seed(0)
    return InPaintingNet(2, **{"width": 4, "masks": True, **options})


def inputs(seed=0):
    """Patches [2, 1, 8, 16, 24], a region of 4 x 6 x 6 voxels in them, noise, and two maps of one value each."""
    random = torch.Generator().manual_seed(seed)
    patches, noise = (torch.rand(2, 1, *SIZE, generator=random) * 2 - 1 for _ in range(2))
    region = torch.zeros(2, 1, *SIZE)
    region[:, :, 2:6, 5:11, 9:15] = 1
    return patches, region, noise, torch.randn(2, 2, 1, 1, 1, generator=random)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_composite_has_the_very_bits_of_the_patch_outside_the_region():
    patches, region, noise, _ = inputs()
    made = pasted(noise.bfloat16(), patches, region)
    outside = region == 0
    assert torch.equal(made[outside], patches[outside])
    assert torch.equal(made[~outside], noise.bfloat16().float()[~outside])


@pytest.mark.parametrize("fold", [1, 2])
def test_both_stages_fill_whole_patches_within_the_window(fold):
    made = painter(fold=fold)(*inputs())
    assert made.coarse.shape == made.refined.shape == made.mask.shape == (2, 1, *SIZE)
    assert max(made.coarse.abs().max(), made.refined.abs().max()) <= 1


@pytest.mark.parametrize("fold", [1, 2])
def test_what_is_in_the_hole_is_not_seen(fold):
    network, (patches, region, noise, maps) = painter(fold=fold), inputs()
    other = torch.where(region > 0, -patches, patches)
    for one, two in zip(network(patches, region, noise, maps), network(other, region, noise, maps), strict=True):
        assert torch.equal(one, two)


def test_noise_counts_in_the_region_alone():
    network, (patches, region, noise, maps) = painter(), inputs()
    made = network(patches, region, noise, maps).refined
    assert torch.equal(made, network(patches, region, noise * region, maps).refined)
    assert not torch.equal(made, network(patches, region, -noise, maps).refined)


def test_a_condition_is_the_same_as_a_map_that_repeats_it():
    network, (patches, region, noise, maps) = painter(), inputs()
    repeated = maps.expand(-1, -1, *SIZE)
    made = network(patches, region, noise, maps).refined
    assert torch.equal(made, network(patches, region, noise, repeated).refined)
    assert not torch.equal(made, network(patches, region, noise, -maps).refined)


def test_the_loss_of_the_second_stage_reaches_every_weight():
    """The region lies at one end, so that the attention finds patches without it."""
    network, (patches, region, noise, maps) = painter(), inputs()
    made = network(patches, region.roll(8, 4), noise, maps)
    (made.refined.sum() + made.mask.sum()).backward()
    unreached = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == []


def test_the_widths_and_dilations_are_the_programs_in_3d():
    """Counted by hand from the channels: 1/2 to 4 times the width, 4 + maps channels in, 1 out."""

    def weights(kernel, *channels):
        return sum(kernel**3 * a * b + b for a, b in pairwise(channels))

    c, maps = 8, 3
    start, up = weights(5, 4 + maps, c), weights(3, 4 * c, 2 * c, 2 * c, c, c // 2, 1)
    coarse = start + weights(3, c, 2 * c, 2 * c, *[4 * c] * 3) + weights(3, *[4 * c] * 6) + up
    dilated = start + weights(3, c, c, 2 * c, 2 * c, *[4 * c] * 2) + weights(3, *[4 * c] * 4)
    matched = start + weights(3, c, c, 2 * c, *[4 * c] * 3) + weights(3, *[4 * c] * 3)
    joined = weights(3, 8 * c, 4 * c, 4 * c) + up
    assert count(InPaintingNet(maps, width=c)) == coarse + dilated + matched + joined
    reach = {layer.dilation[0] for layer in InPaintingNet(maps, width=c).modules() if hasattr(layer, "dilation")}
    assert reach == {1, 2, 4, 8}


def test_patches_that_cannot_be_halved_twice_and_other_maps_are_refused():
    patches, region, noise, maps = inputs()
    with pytest.raises(InputError, match="divisible by 4"):
        painter()(*(one[..., :22] for one in (patches, region, noise)), maps)
    with pytest.raises(InputError, match="1 channels"):
        painter()(patches, region, noise, maps[:, :1])


def test_it_learns_in_bfloat16_and_makes_voxels_in_single_precision():
    network = painter()
    with torch.autocast("cpu", torch.bfloat16):
        made = network(*inputs())
    assert {one.dtype for one in made} == {torch.float32}
    made.refined.sum().backward()
    torch.testing.assert_close(made.refined, network(*inputs()).refined, rtol=0, atol=0.05)
