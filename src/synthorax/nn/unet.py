"""A 3D U-Net from patches to patches, optionally on folded blocks of voxels (Çiçek et al. 2016; CT-SGAN)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.nn.initialisation import initialise_alike, initialise_glorot
from synthorax.nn.inpainter import activated_conv
from synthorax.nn.resampling import UpsampleConv, folded, unfolded


class PatchUNet(nn.Module):
    """A U-Net that maps patches and a condition to patches; skips are joined by concatenation, without a norm.

    Args:
        channels: number of channels of the patches.
        conditions: number of values of the condition, each the same at all voxels of a patch; 0 for no condition.
        outputs: channels of the result.
        widths: channels on each grid, the finest first; each grid halves the one before along each axis.
        fold: 1; or 2, with which blocks of 2^3 voxels are folded into channels, so that only the last layer runs on all
            voxels.

    Raises:
        InputError: there are fewer than two widths, or the first is not a multiple of 4.
    """

    def __init__(self, channels: int, conditions: int, outputs: int, widths: Sequence[int], *, fold: int = 1) -> None:
        super().__init__()
        if len(widths) < 2 or widths[0] % 4:
            raise InputError("widths", str(tuple(widths)), "two or more widths, the first a multiple of 4")
        self.fold, self.multiple = fold, fold * 2 ** (len(widths) - 1)
        first, last = widths[0], widths[0] if fold == 1 else widths[0] // 4
        down = [nn.Sequential(activated_conv(channels * fold**3 + conditions, first), activated_conv(first, first))]
        for wide, wider in pairwise(widths):
            down.append(nn.Sequential(activated_conv(wide, wider, stride=2), activated_conv(wider, wider)))
        self.down = nn.ModuleList(down)
        steps = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList([nn.Sequential(UpsampleConv(wider, wide), nn.ELU()) for wider, wide in steps])
        self.joined = nn.ModuleList([activated_conv(2 * wide, wide) for _, wide in steps])
        voxels = nn.Conv3d(first, last * fold**3, 3, padding=1)
        self.finest = nn.Sequential(voxels, nn.ELU())
        self.out = nn.Conv3d(last, outputs, 3, padding=1)
        initialise_glorot(self)
        initialise_alike(voxels, fold**3)

    def forward(
        self, patches: Float[Tensor, "b c z y x"], conditions: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b o z y x"]:
        """Return the result for patches, unbounded, in float32 because bfloat16 would round voxels to 3 HU.

        Raises:
            InputError: a size cannot be halved often enough.
        """
        if any(n % self.multiple for n in patches.shape[2:]):
            raise InputError("patches", f"a tensor of {list(patches.shape)}", f"sizes divisible by {self.multiple}")
        features, skips = folded(patches, self.fold), []
        if conditions is not None:
            same = conditions.to(features.dtype)[:, :, None, None, None].expand(-1, -1, *features.shape[2:])
            features = torch.cat([features, same], 1)
        for block in self.down:
            features = block(features)
            skips.append(features)
        for up, joined, skip in zip(self.up, self.joined, reversed(skips[:-1]), strict=True):
            features = joined(torch.cat([skip, up(features)], 1))
        voxels = unfolded(self.finest(features), self.fold)
        with torch.autocast(voxels.device.type, enabled=False):
            made: Tensor = self.out(voxels.to(self.out.weight.dtype))
        return made
