"""The crop around an edit that a local critic sees, resampled to one size by a matrix an axis.

Matrices are differentiable twice and sum in the same order in every run, which `grid_sample` on a GPU does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LocalCrop:
    """Where each sample of a batch is cropped.

    Attributes:
        along: weights of a patch's voxels in each voxel of the crop along z, y and x, each [b, out, in].
    """

    along: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def around(cls, region: Float[Tensor, "b 1 z y x"]) -> LocalCrop:
        """Crop half a patch along each axis around the middle of its region, moved where it would leave the patch.

        Where the region is wider than that along any axis, the crop grows by the same factor along all axes, to at
        most the whole patch. What has grown is resampled to half a patch again; what has not keeps its very voxels.

        Args:
            region: above 0 at the voxels of the edit; an empty one is taken to be the middle of the patch.
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
        """Return the crops, in the precision of the voxels whatever the autocast around it."""
        with torch.autocast(voxels.device.type, enabled=False):
            for axis, weights in enumerate(self.along, 2):
                last = voxels.movedim(axis, -1)
                voxels = torch.einsum("bczyi,boi->bczyo", last, weights.to(last.dtype)).movedim(-1, axis)
        return voxels


def _bounds(region: Float[Tensor, "b 1 z y x"], axis: int) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """The first voxel of each region along an axis, and the one after the last."""
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
    """Weights of an axis: linear interpolation, over as many voxels as one of the crop covers."""
    growth = growth.clamp(max=n / half)
    length = growth * half
    start = ((low + high) / 2 - length / 2).clamp(min=0).minimum(n - length)
    start = torch.where(growth == 1, start.floor(), start)  # whole voxels, so that nothing is interpolated
    device = low.device
    middles = start[:, None] + (torch.arange(half, device=device) + 0.5) * growth[:, None] - 0.5
    away = (torch.arange(n, device=device) - middles[:, :, None]).abs() / growth[:, None, None]
    weights = (1 - away).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)
