"""Convolutions wider than their grid, under autocast to bfloat16 on a processor."""

import pytest
import torch

from synthorax.nn.cpu_convolutions import CpuConvolutions


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
    with torch.autocast("cpu", torch.bfloat16), CpuConvolutions():
        made = layer(patches)
    assert made.dtype == kind
    if kind == torch.float32:
        assert torch.equal(made, layer(patches))


def test_without_autocast_nothing_changes():
    layer = torch.nn.Conv3d(2, 4, 5, padding=2).double()
    patches = torch.rand(1, 2, 4, 4, 4, dtype=torch.float64)
    with CpuConvolutions():
        assert layer(patches).dtype == torch.float64


@pytest.mark.parametrize("given", [{}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"bias": False}])
def test_a_single_patch_is_convolved_as_in_a_batch(given):
    layer = torch.nn.Conv3d(4, 6, 3, **{"padding": 1} | given)
    patches = torch.rand(2, 4, 8, 8, 8)
    with torch.no_grad():
        both = layer(patches)
        with CpuConvolutions():
            one = layer(patches[:1])
            again = layer(patches.to(memory_format=torch.channels_last_3d)[:1])
    assert torch.allclose(one, both[:1], atol=1e-6)
    assert torch.allclose(again, both[:1], atol=1e-6)


def test_a_single_patch_keeps_its_gradients():
    layer, patch = torch.nn.Conv3d(2, 4, 3), torch.rand(1, 2, 6, 6, 6)
    with CpuConvolutions():
        layer(patch).sum().backward()
    assert layer.weight.grad is not None
