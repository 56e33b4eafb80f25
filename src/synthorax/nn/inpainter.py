"""A 3D in-painting network of two stages: a coarse one, and one with an attention branch that refines its result.

The topology is that of Yu et al. (2018) in 3D, as in Yang et al. (section 2.1): ELU, no norm, two steps of stride 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.attention import contextual_attention
from synthorax.nn.initialisation import initialise_glorot
from synthorax.nn.patches import check_patches
from synthorax.nn.resampling import UpsampleConv, folded, unfolded

STEP = 4
"""Voxels of a patch along each axis for one voxel of the coarsest grid."""
OWN_CHANNELS = 3
"""Input channels of a stage besides the maps: the patch, the region, and the noise in the region."""


class InPainted(NamedTuple):
    """The output of the in-painter. Both stages fill whole patches; `pasted` restores the voxels outside the region.

    Attributes:
        coarse: output of the first stage, within -1 to 1.
        refined: output of the second stage, within -1 to 1.
        mask: logits of the nodule's voxels; None if the network has no such head.
    """

    coarse: Float[Tensor, "b 1 z y x"]
    refined: Float[Tensor, "b 1 z y x"]
    mask: Float[Tensor, "b 1 z y x"] | None


def pasted(
    made: Float[Tensor, "b c z y x"], patches: Float[Tensor, "b c z y x"], region: Float[Tensor, "b 1 z y x"]
) -> Float[Tensor, "b c z y x"]:
    """Return `made` in the region (above 0) and the unchanged values of `patches` outside it."""
    return torch.where(region > 0, made.to(patches.dtype), patches)


class InPaintingNet(nn.Module):
    """A network that fills a hole in patches, given noise and a condition.

    Args:
        conditions: number of values of the condition that are the same at all voxels of a patch.
        maps: channels of the condition that differ from voxel to voxel, such as an outline.
        width: channels of the first convolution, a multiple of 4; 32 as published.
        dilations: dilations of the convolutions on the coarsest grid; 2, 4, 8 and 16 in the paper's 2D program.
        fuse: see `contextual_attention`.
        masks: whether a second head predicts the nodule's voxels.
        fold: 1; or 2, with which blocks of 2^3 voxels are folded into channels instead of the first step of stride 2,
            and unfolded instead of the last upsampling. Then only the last layer runs on all voxels.

    Raises:
        InputError: the width is not a multiple of 4, or `fold` is neither 1 nor 2.
    """

    def __init__(
        self,
        conditions: int,
        *,
        maps: int = 0,
        width: int = 32,
        dilations: Sequence[int] = (2, 4, 8),
        fuse: bool = False,
        masks: bool = False,
        fold: int = 1,
    ) -> None:
        super().__init__()
        if width < STEP or width % STEP:
            raise InputError("width", str(width), f"a multiple of {STEP}")
        if fold not in (1, 2):
            raise InputError("fold", str(fold), "1 or 2")
        c, channels = width, (OWN_CHANNELS + maps) * fold**3 + 1 + conditions
        self.conditions, self.maps, self.fuse, self.fold = conditions, maps, fuse, fold
        dilated = [activated_conv(4 * c, 4 * c, dilation=n) for n in dilations]
        self.coarse = nn.Sequential(
            _Encoder(channels, (c, 2 * c, 2 * c, 4 * c), fold), *dilated, *_convs(4 * c), _Decoder(c, fold, outputs=1)
        )
        dilated = [activated_conv(4 * c, 4 * c, dilation=n) for n in dilations]
        self.dilated = nn.Sequential(_Encoder(channels, (c, c, 2 * c, 2 * c), fold, 4 * c), *dilated)
        self.matched = _Encoder(channels, (c, c, 2 * c, 4 * c), fold, last=nn.ReLU)
        self.borrowed = _convs(4 * c)
        self.refined = nn.Sequential(
            activated_conv(8 * c, 4 * c), activated_conv(4 * c, 4 * c), _Decoder(c, fold, outputs=2 if masks else 1)
        )
        initialise_glorot(self)

    def forward(
        self,
        patches: Float[Tensor, "b 1 z y x"],
        region: Float[Tensor, "b 1 z y x"],
        noise: Float[Tensor, "b 1 z y x"],
        conditions: Float[Tensor, "b k"],
        maps: Float[Tensor, "b m z y x"] | None = None,
    ) -> InPainted:
        """Fill the region of patches.

        Args:
            patches: within -1 to 1, with sizes divisible by 4; their values in the region are not used.
            region: 1 at voxels to fill, 0 elsewhere.
            noise: used in the region alone; Yang et al. draw it uniformly from -1 to 1.
            conditions: values that are the same at all voxels of a patch.
            maps: channels of the condition that differ from voxel to voxel.

        Raises:
            InputError: sizes are not divisible by 4, or the number of conditions or maps is wrong.
        """
        check_patches(patches, (STEP,) * 3, STEP)
        self._check(conditions, maps)
        given = [region, noise * region, *([] if maps is None else [maps.to(patches.dtype)])]
        beside = folded(torch.cat(given, 1), self.fold)
        same = torch.cat([conditions.new_ones(len(conditions), 1), conditions], 1).to(patches.dtype)
        beside = torch.cat([beside, same[:, :, None, None, None].expand(-1, -1, *beside.shape[2:])], 1)
        hole = pasted(torch.zeros_like(patches), patches, region)
        coarse = self.coarse(torch.cat([folded(hole, self.fold), beside], 1)).clip(-1, 1)
        seen = torch.cat([folded(pasted(coarse, patches, region), self.fold), beside], 1)
        # A feature is masked if any voxel of its block lies in the hole, so that attention does not use it.
        masked = functional.max_pool3d(region, STEP)
        borrowed = self.borrowed(contextual_attention(self.matched(seen), masked, fuse=self.fuse))
        made = self.refined(torch.cat([self.dilated(seen), borrowed], 1))
        return InPainted(coarse, made[:, :1].clip(-1, 1), made[:, 1:] if made.shape[1] > 1 else None)

    def _check(self, conditions: Tensor, maps: Tensor | None) -> None:
        given = 0 if maps is None else maps.shape[1]
        for name, found, own in (("conditions", conditions.shape[1], self.conditions), ("maps", given, self.maps)):
            if found != own:
                raise InputError(name, f"{found} channels", f"{own} channels, for which the network was built")


class _Encoder(nn.Sequential):
    """Six convolutions from folded voxels to the coarsest grid; two of them halve the grid.

    Args:
        channels: number of channels of the input.
        widths: channels after each of the first four convolutions.
        fold: see `InPaintingNet`; without folding, the first kernel is 5^3.
        end: channels of the last two convolutions; those of the fourth if 0.
        last: activation after the last convolution.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, int, int, int],
        fold: int,
        end: int = 0,
        last: type[nn.Module] = nn.ELU,
    ) -> None:
        first, second, third, fourth = widths
        end = end or fourth
        super().__init__(
            activated_conv(channels, first, kernel=5 if fold == 1 else 3),
            activated_conv(first, second, stride=2 // fold),
            activated_conv(second, third),
            activated_conv(third, fourth, stride=2),
            activated_conv(fourth, end),
            activated_conv(end, end, last=last),
        )


class _Decoder(nn.Module):
    """Layers from the coarsest grid to voxels.

    The last convolution is computed in float32, because bfloat16 would round voxels to 3 HU.
    """

    def __init__(self, width: int, fold: int, outputs: int) -> None:
        super().__init__()
        self.fold = fold
        self.middle = nn.Sequential(UpsampleConv(4 * width, 2 * width), nn.ELU(), activated_conv(2 * width, 2 * width))
        if fold == 1:
            channels = width // 2
            self.finest = nn.Sequential(UpsampleConv(2 * width, width), nn.ELU(), activated_conv(width, channels))
        else:
            channels = width // 4
            self.finest = activated_conv(2 * width, channels * fold**3)
        self.out = nn.Conv3d(channels, outputs, 3, padding=1)

    def forward(self, features: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b o 4*z 4*y 4*x"]:
        voxels = unfolded(self.finest(self.middle(features)), self.fold)
        with torch.autocast(voxels.device.type, enabled=False):
            made: Tensor = self.out(voxels.to(self.out.weight.dtype))
        return made


def activated_conv(
    channels_in: int,
    channels_out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    last: type[nn.Module] = nn.ELU,
) -> nn.Sequential:
    """Return a convolution padded with zeros, followed by an activation."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(nn.Conv3d(channels_in, channels_out, kernel, stride, padding, dilation), last())


def _convs(channels: int) -> nn.Sequential:
    """Two convolutions with the same number of channels."""
    return nn.Sequential(activated_conv(channels, channels), activated_conv(channels, channels))
