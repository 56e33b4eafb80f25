"""Critics of the surroundings of an edit and of whole patches, and the crop that the first of them sees."""

import pytest
import torch

from synthorax.errors import InputError
from synthorax.nn.critics import InPaintingCritic, PatchCritic
from synthorax.nn.local_crop import LocalCrop

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (8, 16, 16)


def region(*box, size=SIZE):
    """A region [1, 1, z, y, x] of the voxels from the first to before the second of each axis' pair."""
    made = torch.zeros(1, 1, *size)
    made[(0, 0, *(slice(a, b) for a, b in box))] = 1
    return made


def ramps(size=SIZE):
    """Voxels whose three channels are their own indices along z, y and x."""
    return torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij"))[None]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# The crop


def test_a_small_edit_is_cropped_to_half_the_patch_without_interpolation():
    patches = normal(1, 1, *SIZE)
    seen = LocalCrop.around(region((3, 5), (7, 9), (7, 9)))(patches)
    assert torch.equal(seen, patches[:, :, 2:6, 4:12, 4:12])


def test_an_edit_near_the_border_moves_the_crop_inside():
    patches = normal(1, 1, *SIZE)
    seen = LocalCrop.around(region((0, 2), (14, 16), (6, 8)))(patches)
    assert torch.equal(seen, patches[:, :, :4, 8:, 3:11])


def test_an_edit_wider_than_half_the_patch_grows_the_crop_by_one_factor_along_all_axes():
    """A region 12 wide where half a patch is 8: every voxel of the crop stands for 1.5 along each axis."""
    seen = LocalCrop.around(region((3, 5), (2, 14), (6, 10)))(ramps())
    along_z, along_y, along_x = seen[0, 0, :, 4, 4], seen[0, 1, 2, :, 4], seen[0, 2, 2, 4, :]
    torch.testing.assert_close(along_z, 3.5 + 1.5 * (torch.arange(4) - 1.5), rtol=0, atol=0.15)
    torch.testing.assert_close(along_y, 7.5 + 1.5 * (torch.arange(8) - 3.5), rtol=0, atol=0.15)
    torch.testing.assert_close(along_x, along_y)
    assert seen.shape == (1, 3, 4, 8, 8)


def test_an_edit_as_wide_as_the_patch_is_seen_whole():
    halved = torch.nn.functional.avg_pool3d(ramps(), 2)
    seen = LocalCrop.around(region((0, 8), (0, 16), (0, 16)))(ramps())
    torch.testing.assert_close(seen[..., 1:-1, 1:-1, 1:-1], halved[..., 1:-1, 1:-1, 1:-1])


def test_each_sample_has_a_crop_of_its_own_and_an_empty_region_is_the_middle():
    regions = torch.cat([region((0, 2), (0, 2), (0, 2)), torch.zeros(1, 1, *SIZE)])
    patches = normal(2, 1, *SIZE)
    seen = LocalCrop.around(regions)(patches)
    assert torch.equal(seen[0], patches[0, :, :4, :8, :8])
    assert torch.equal(seen[1], patches[1, :, 2:6, 4:12, 4:12])


# The critics


def critic(**options):
    torch.manual_seed(0)
    return InPaintingCritic(SIZE, **{"width": 4, **options})


def test_the_global_critic_sees_what_the_local_one_does_not():
    patches, crop = normal(1, 1, *SIZE), LocalCrop.around(region((3, 5), (7, 9), (7, 9)))
    other = patches.clone()
    other[0, 0, 0, 0, 0] += 1
    before, after = critic()(patches, crop), critic()(other, crop)
    assert torch.equal(before.local.score, after.local.score)
    assert not torch.equal(before.whole.score, after.whole.score)


def test_scores_depend_on_the_condition_and_classes_do_not():
    patches, crop = normal(2, 1, *SIZE), LocalCrop.around(torch.zeros(2, 1, *SIZE))
    judge, maps = critic(classes=3, maps=2), normal(2, 2, 1, 1, 1)
    for one, two in zip(judge(patches, crop, maps), judge(patches, crop, -maps), strict=True):
        assert not torch.equal(one.score, two.score)
        assert torch.equal(one.classes, two.classes)
        assert one.classes.shape == (2, 3)


def test_the_class_loss_teaches_the_convolutions_that_do_not_see_the_condition():
    judge = PatchCritic(SIZE, (4, 8), classes=3, maps=1)
    judge(normal(2, 1, *SIZE), torch.ones(2, 1, 1, 1, 1)).classes.sum().backward()
    assert judge.tower[0].weight.grad.any()
    assert judge.told_tower[0].weight.grad is None


def test_the_widths_are_the_programs_in_3d():
    """64, 128, 256 and 512 channels in the local critic, 64, 128, 256 and 256 in the global one."""
    with torch.device("meta"):
        judge = InPaintingCritic((32, 64, 64))
    local, whole = (
        [(layer.in_channels, layer.out_channels) for layer in one.tower if hasattr(layer, "out_channels")]
        for one in (judge.local, judge.whole)
    )
    assert local == [(1, 64), (64, 128), (128, 256), (256, 512)]
    assert whole == [(1, 64), (64, 128), (128, 256), (256, 256)]
    assert (judge.local.score_head.in_features, judge.whole.score_head.in_features) == (512 * 4, 256 * 32)


def test_patches_of_another_size_and_a_missing_condition_are_refused():
    judge = PatchCritic(SIZE, (4, 8), maps=1)
    with pytest.raises(InputError, match="voxels"):
        judge(normal(1, 1, 8, 8, 8), torch.ones(1, 1, 1, 1, 1))
    with pytest.raises(InputError, match="none; expected 1 channels"):
        judge(normal(1, 1, *SIZE))
