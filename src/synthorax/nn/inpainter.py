"""A 3D in-painter of two stages, each an hourglass: a coarse one, and one with an attention branch that refines it.

The topology is that of Yu et al. (2018) in 3D, as papers/2 uses it (section 2.1): ELU, no norm, two steps of stride 2.
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
"""Voxels of a patch along each axis for one on the coarsest grid."""
OWN_CHANNELS = 3
"""Channels of voxels that a stage sees beside the maps: the patch, the region, and the noise in the region."""


class InPainted(NamedTuple):
    """What the in-painter makes of patches. Both stages fill whole patches; `pasted` keeps what lies outside a region.

    Attributes:
        coarse: of the first stage, within -1 to 1.
        refined: of the second, within -1 to 1.
        mask: logits of the voxels of the nodule that was made; None from a network without that head.
    """

    coarse: Float[Tensor, "b 1 z y x"]
    refined: Float[Tensor, "b 1 z y x"]
    mask: Float[Tensor, "b 1 z y x"] | None


def pasted(
    made: Float[Tensor, "b c z y x"], patches: Float[Tensor, "b c z y x"], region: Float[Tensor, "b 1 z y x"]
) -> Float[Tensor, "b c z y x"]:
    """Return what was made in the region (above 0), and the very values of the patches outside it."""
    return torch.where(region > 0, made.to(patches.dtype), patches)


class InPaintingNet(nn.Module):
    """Patches with a hole, noise and a condition to whole patches.

    Args:
        conditions: numbers of the condition, each the same all over a patch.
        maps: channels of the condition that differ from voxel to voxel, such as an outline.
        width: channels of the first convolution, a multiple of 4; 32 as published.
        dilations: of the convolutions on the coarsest grid; 2, 4, 8 and 16 in the 2D program.
        fuse: see `contextual_attention`.
        masks: whether a second head says which voxels are the nodule's.
        fold: 1, or 2: blocks of 2^3 voxels enter as channels in the place of the first step of stride 2, and leave as
            channels in the place of the last upsampling. No layer but the last then runs on all voxels. Conditions
            that are the same all over enter once for each block.

    Raises:
        InputError: a width that is no multiple of 4, or another fold.
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
            patches: within -1 to 1; what they have in the region is not seen. Sizes are divisible by 4.
            region: 1 where to fill, 0 elsewhere.
            noise: any; it is seen in the region alone. papers/2 draws it uniformly from -1 to 1.
            conditions: the same all over a patch.
            maps: the part of the condition that differs from voxel to voxel.

        Raises:
            InputError: other sizes, or another number of conditions or maps.
        """
        check_patches(patches, (STEP,) * 3, STEP)
        self._check(conditions, maps)
        told = [region, noise * region, *([] if maps is None else [maps.to(patches.dtype)])]
        beside = folded(torch.cat(told, 1), self.fold)
        same = torch.cat([conditions.new_ones(len(conditions), 1), conditions], 1).to(patches.dtype)
        beside = torch.cat([beside, same[:, :, None, None, None].expand(-1, -1, *beside.shape[2:])], 1)
        hole = pasted(torch.zeros_like(patches), patches, region)
        coarse = self.coarse(torch.cat([folded(hole, self.fold), beside], 1)).clip(-1, 1)
        seen = torch.cat([folded(pasted(coarse, patches, region), self.fold), beside], 1)
        # A feature is masked if any voxel of its block lies in the hole, so that none is borrowed from it.
        masked = functional.max_pool3d(region, STEP)
        borrowed = self.borrowed(contextual_attention(self.matched(seen), masked, fuse=self.fuse))
        made = self.refined(torch.cat([self.dilated(seen), borrowed], 1))
        return InPainted(coarse, made[:, :1].clip(-1, 1), made[:, 1:] if made.shape[1] > 1 else None)

    def _check(self, conditions: Tensor, maps: Tensor | None) -> None:
        given = 0 if maps is None else maps.shape[1]
        for name, found, own in (("conditions", conditions.shape[1], self.conditions), ("maps", given, self.maps)):
            if found != own:
                raise InputError(name, f"{found} channels", f"{own}, as the network was built for")


class _Encoder(nn.Sequential):
    """Six convolutions from folded voxels to the coarsest grid, the first with a 5^3 kernel, two of them halving.

    Args:
        widths: channels after each of the first four.
        end: channels of the last two, those of the fourth if 0.
        last: activation after the last.
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
    """Features on the coarsest grid to voxels, which are computed in single precision.

    In bfloat16 a voxel would be rounded to 3 HU.
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
    """A convolution padded with zeros, and an activation."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(nn.Conv3d(channels_in, channels_out, kernel, stride, padding, dilation), last())


def _convs(channels: int) -> nn.Sequential:
    """Two convolutions of the same width."""
    return nn.Sequential(activated_conv(channels, channels), activated_conv(channels, channels))
