"""The U-Net of patches maps sizes that it can halve, and a new one lays no grid of period two over its output."""

import pytest
import torch

from synthorax.errors import InputError
from synthorax.nn.resampling import folded
from synthorax.nn.unet import PatchUNet

pytestmark = pytest.mark.usefixtures("one_thread")


def unet(fold):
    torch.manual_seed(0)
    return PatchUNet(2, 3, 1, (8, 8), fold=fold)


@pytest.mark.parametrize("fold", [1, 2])
def test_patches_keep_their_size(fold):
    made = unet(fold)(torch.randn(2, 2, 8, 16, 8), torch.randn(2, 3))
    assert made.shape == (2, 1, 8, 16, 8)
    assert made.isfinite().all()


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(InputError, match="sizes divisible by 4"):
        unet(2)(torch.randn(1, 2, 8, 8, 6), torch.randn(1, 3))


def test_a_new_network_lays_no_grid_of_period_two_over_its_output():
    made = unet(2)(torch.randn(4, 2, 24, 24, 24), torch.randn(4, 3))[..., 4:-4, 4:-4, 4:-4]
    blocks = folded(made, 2)  # one channel for each place of a voxel in its block
    assert blocks.mean((0, 2, 3, 4)).std() < 0.05 * made.std()
