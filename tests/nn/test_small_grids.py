"""Convolutions wider than their grid, under autocast to bfloat16 on a processor."""

import pytest
import torch

from synthorax.nn.small_grids import SmallGridsInSingle


@pytest.mark.parametrize(
    ("kernel", "dilation", "grid", "kind"),
    [
        (5, 1, 4, torch.float32),
        (3, 1, 2, torch.float32),
        (3, 4, 8, torch.float32),
        (3, 1, 3, torch.bfloat16),
        (5, 1, 8, torch.bfloat16),
    ],
)
def test_only_convolutions_wider_than_their_grid_are_computed_in_single_precision(kernel, dilation, grid, kind):
    layer = torch.nn.Conv3d(2, 4, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    patches = torch.rand(1, 2, grid, grid, grid)
    with torch.autocast("cpu", torch.bfloat16), SmallGridsInSingle():
        made = layer(patches)
    assert made.dtype == kind
    if kind == torch.float32:
        assert torch.equal(made, layer(patches))


def test_without_autocast_nothing_changes():
    layer = torch.nn.Conv3d(2, 4, 5, padding=2).double()
    patches = torch.rand(1, 2, 4, 4, 4, dtype=torch.float64)
    with SmallGridsInSingle():
        assert layer(patches).dtype == torch.float64
