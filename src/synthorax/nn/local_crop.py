"""The crop around an edit for a local critic, resampled to one size by a matrix for each axis.

Unlike `grid_sample` on a GPU, matrix products can be differentiated twice and sum in the same order in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LocalCrop:
    """The crop of each sample of a batch.

    Attributes:
        along: weights of the patch's voxels in the crop's voxels along z, y and x, [b, out, in] each.
    """

    along: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def around(cls, region: Float[Tensor, "b 1 z y x"]) -> LocalCrop:
        """Return crops half as wide as the patch along each axis, around the middle of the region but inside the patch.

        If the region is wider along any axis, the crop is enlarged by the same factor along all axes, up to the whole
        patch, and resampled to half the patch's size. A crop that is not enlarged has the unchanged voxels.

        Args:
            region: above 0 at the voxels of the edit; if empty, the crop is around the middle of the patch.
        """
        size = region.shape[2:]
        bounds = [_bounds(region, axis) for axis in range(3)]
        halves = [n // 2 for n in size]
        widths = [(high - low).float() / half for (low, high), half in zip(bounds, halves, strict=True)]
        growth = torch.stack(widths).amax(0).clamp(min=1)
        z, y, x = (
            _weights(low, high, growth, n, half) for (low, high), n, half in zip(bounds, size, halves, strict=True)
        )
        return cls((z, y, x))

    def __call__(self, voxels: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c z//2 y//2 x//2"]:
        """Return the crops, in the precision of the voxels also under autocast."""
        with torch.autocast(voxels.device.type, enabled=False):
            for axis, weights in enumerate(self.along, 2):
                last = voxels.movedim(axis, -1)
                voxels = torch.einsum("bczyi,boi->bczyo", last, weights.to(last.dtype)).movedim(-1, axis)
        return voxels


def _bounds(region: Float[Tensor, "b 1 z y x"], axis: int) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """Return the first voxel of each region along an axis, and the voxel after the last."""
    n = region.shape[2 + axis]
    inside = (region > 0).movedim(2 + axis, 1).flatten(2).any(2)
    at = torch.arange(n, device=region.device)
    low = torch.where(inside, at, n).amin(1)
    high = torch.where(inside, at + 1, 0).amax(1)
    empty = low >= high
    return torch.where(empty, n // 2, low), torch.where(empty, n // 2, high)


def _weights(
    low: Int[Tensor, " b"], high: Int[Tensor, " b"], growth: Float[Tensor, " b"], n: int, half: int
) -> Float[Tensor, "b out in"]:
    """Return the weights along an axis: linear interpolation, widened to the voxels that a voxel of the crop covers."""
    growth = growth.clamp(max=n / half)
    length = growth * half
    start = ((low + high) / 2 - length / 2).clamp(min=0).minimum(n - length)
    start = torch.where(growth == 1, start.floor(), start)  # at whole voxels, so that crops are not interpolated
    device = low.device
    middles = start[:, None] + (torch.arange(half, device=device) + 0.5) * growth[:, None] - 0.5
    away = (torch.arange(n, device=device) - middles[:, :, None]).abs() / growth[:, None, None]
    weights = (1 - away).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)
