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
    return InPaintingNet(2, **{"maps": 1, "width": 4, "masks": True, **options})


def inputs(seed=0):
    """Return patches [2, 1, 8, 16, 24], a region of 4 x 6 x 6 voxels in them, noise, two conditions and a map."""
    random = torch.Generator().manual_seed(seed)
    patches, noise = (torch.rand(2, 1, *SIZE, generator=random) * 2 - 1 for _ in range(2))
    region = torch.zeros(2, 1, *SIZE)
    region[:, :, 2:6, 5:11, 9:15] = 1
    return patches, region, noise, torch.randn(2, 2, generator=random), torch.randn(2, 1, *SIZE, generator=random)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_composite_has_the_very_bits_of_the_patch_outside_the_region():
    patches, region, noise, *_ = inputs()
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
    network, (patches, region, *others) = painter(fold=fold), inputs()
    other = torch.where(region > 0, -patches, patches)
    for one, two in zip(network(patches, region, *others), network(other, region, *others), strict=True):
        assert torch.equal(one, two)


def test_noise_counts_in_the_region_alone():
    network, (patches, region, noise, *condition) = painter(), inputs()
    made = network(patches, region, noise, *condition).refined
    assert torch.equal(made, network(patches, region, noise * region, *condition).refined)
    assert not torch.equal(made, network(patches, region, -noise, *condition).refined)


@pytest.mark.parametrize("fold", [1, 2])
def test_conditions_and_maps_count(fold):
    network, (patches, region, noise, conditions, maps) = painter(fold=fold), inputs()
    made = network(patches, region, noise, conditions, maps).refined
    assert not torch.equal(made, network(patches, region, noise, -conditions, maps).refined)
    assert not torch.equal(made, network(patches, region, noise, conditions, -maps).refined)


def test_a_condition_counts_as_a_map_that_repeats_it():
    """With the weights of the one moved to the other."""
    network, (patches, region, noise, conditions, maps) = painter(), inputs()
    other = InPaintingNet(0, maps=3, width=4, masks=True)
    weights = network.state_dict()
    for name in ("coarse.0.0.0.weight", "dilated.0.0.0.weight", "matched.0.0.weight"):
        weights[name] = weights[name][:, [0, 1, 2, 5, 6, 3, 4]]  # patch, region, noise, map, ones, two conditions
    other.load_state_dict(weights)
    repeated = torch.cat([conditions[:, :, None, None, None].expand(-1, -1, *SIZE), maps], 1)
    found = other(patches, region, noise, torch.zeros(2, 0), repeated)
    torch.testing.assert_close(found.refined, network(patches, region, noise, conditions, maps).refined)


def test_the_loss_of_the_second_stage_reaches_every_weight():
    """The region lies at one end, so that the attention finds patches without it."""
    network, (patches, region, *others) = painter(), inputs()
    made = network(patches, region.roll(8, 4), *others)
    (made.refined.sum() + made.mask.sum()).backward()
    unreached = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert unreached == []


def test_the_widths_and_dilations_are_the_programs_in_3d():
    """Counted by hand from the channels: 1/2 to 4 times the width; patch, region, noise, ones and the condition in."""

    def weights(kernel, *channels):
        return sum(kernel**3 * a * b + b for a, b in pairwise(channels))

    c, conditions = 8, 3
    start, up = weights(5, 4 + conditions, c), weights(3, 4 * c, 2 * c, 2 * c, c, c // 2, 1)
    coarse = start + weights(3, c, 2 * c, 2 * c, *[4 * c] * 3) + weights(3, *[4 * c] * 6) + up
    dilated = start + weights(3, c, c, 2 * c, 2 * c, *[4 * c] * 2) + weights(3, *[4 * c] * 4)
    matched = start + weights(3, c, c, 2 * c, *[4 * c] * 3) + weights(3, *[4 * c] * 3)
    joined = weights(3, 8 * c, 4 * c, 4 * c) + up
    assert count(InPaintingNet(conditions, width=c)) == coarse + dilated + matched + joined
    reach = {layer.dilation[0] for layer in InPaintingNet(conditions, width=c).modules() if hasattr(layer, "dilation")}
    assert reach == {1, 2, 4, 8}


def test_patches_that_cannot_be_halved_twice_and_other_conditions_are_refused():
    patches, region, noise, conditions, maps = inputs()
    with pytest.raises(InputError, match="divisible by 4"):
        painter()(*(one[..., :22] for one in (patches, region, noise)), conditions, maps[..., :22])
    with pytest.raises(InputError, match=r"conditions: found 1 channels"):
        painter()(patches, region, noise, conditions[:, :1], maps)
    with pytest.raises(InputError, match=r"maps: found 0 channels"):
        painter()(patches, region, noise, conditions)


def test_it_learns_in_bfloat16_and_makes_voxels_in_single_precision():
    network = painter()
    with torch.autocast("cpu", torch.bfloat16):
        made = network(*inputs())
    assert {one.dtype for one in made} == {torch.float32}
    made.refined.sum().backward()
    torch.testing.assert_close(made.refined, network(*inputs()).refined, rtol=0, atol=0.05)
