"""The network of a rectified flow: a U-Net on folded voxels, with time and condition as inputs of every block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.patches import check_patches
from synthorax.nn.resampling import folded, unfolded

GROUPS = 8
"""Number of groups of every group norm; widths must be multiples of it."""
MAPS = 3
"""Input channels of the network: the patch with noise in its region, the region, and the outline."""
TIME_WAVES = 32
"""Number of frequencies of the sinusoidal time embedding."""
FASTEST_WAVE = 1000.0
"""Highest of these frequencies, in radians from time 0 to 1; the lowest is 1."""


class VelocityNet(nn.Module):
    """Predicts the velocity of a patch between noise and CT, from the patch, the time and the condition.

    Blocks of `fold`^3 voxels are channels of the first and the last convolution, so that no layer runs on all voxels.

    Args:
        conditions: length of the condition vector.
        widths: channels on each grid, from the finest to the coarsest, multiples of `GROUPS`.
        blocks: residual blocks on each grid on the way down, and again on the way up.
        fold: voxels along each axis that become channels.
        embedding: entries of the embedding of time and condition.

    Raises:
        InputError: a width is not a multiple of `GROUPS`.
    """

    def __init__(
        self, conditions: int, *, widths: Sequence[int], blocks: int = 2, fold: int = 2, embedding: int = 256
    ) -> None:
        super().__init__()
        if any(width % GROUPS for width in widths):
            raise InputError("widths", ", ".join(map(str, widths)), f"multiples of {GROUPS}")
        self.conditions, self.fold = conditions, fold
        first = widths[0]
        self.embedded = nn.Sequential(
            nn.Linear(2 * TIME_WAVES + conditions, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.entry = _conv(MAPS * fold**3, first)
        self.down, self.halving = nn.ModuleList(), nn.ModuleList()
        for width, coarser in zip(widths, [*widths[1:], None], strict=True):
            self.down.append(nn.ModuleList(_Block(width, width, embedding) for _ in range(blocks)))
            if coarser is not None:
                self.halving.append(nn.Conv3d(width, coarser, 2, stride=2))
        self.doubling, self.up = nn.ModuleList(), nn.ModuleList()
        for width, coarser in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True):
            self.doubling.append(nn.ConvTranspose3d(coarser, width, 2, stride=2))
            entering = [2 * width, *[width] * (blocks - 1)]
            self.up.append(nn.ModuleList(_Block(channels, width, embedding) for channels in entering))
        self.last = nn.GroupNorm(GROUPS, first)
        self.out = _conv(first, fold**3)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    @property
    def step(self) -> int:
        """Voxels of a patch along each axis that make one voxel of the coarsest grid."""
        return self.fold * 2 ** len(self.halving)

    def forward(
        self,
        patches: Float[Tensor, "b 1 z y x"],
        region: Float[Tensor, "b 1 z y x"],
        outline: Float[Tensor, "b 1 z y x"],
        time: Float[Tensor, " b"],
        condition: Float[Tensor, "b k"],
    ) -> Float[Tensor, "b 1 z y x"]:
        """Return the velocity, an estimate of CT minus noise; only its values in the region have a meaning.

        Args:
            patches: time * CT + (1 - time) * noise in the region, CT outside it. Sizes are divisible by `step`.
            region: 1 in voxels to generate, 0 elsewhere.
            outline: 1 in the nodule to generate; 0 everywhere if no outline is given.
            time: 0 for noise to 1 for CT.
            condition: condition vectors.

        Raises:
            InputError: the size is not divisible by `step`, or the condition vectors have another length.
        """
        check_patches(patches, (self.step,) * 3, self.step)
        if condition.shape[1] != self.conditions:
            found = f"{condition.shape[1]} numbers"
            raise InputError("condition", found, f"{self.conditions}, as the network was built for")
        embedded = self.embedded(torch.cat([waves(time), condition], 1))
        features = self.entry(folded(torch.cat([patches, region, outline], 1), self.fold))
        kept = []
        for depth, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                features = block(features, embedded)
            if depth < len(self.halving):
                kept.append(features)
                features = self.halving[depth](features)
        for double, blocks in zip(self.doubling, self.up, strict=True):
            features = torch.cat([double(features), kept.pop()], 1)
            for block in blocks:  # type: ignore[attr-defined]
                features = block(features, embedded)
        features = functional.silu(self.last(features))
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would round a voxel by some HU
            made: Tensor = self.out(features.to(self.out.weight.dtype))
        return unfolded(made, self.fold)


class _Block(nn.Module):
    """A residual block of two convolutions; the embedding scales and shifts the output of the second norm.

    The weights of the second convolution are initialised to 0, so that a new block adds nothing to its shortcut.
    """

    def __init__(self, entering: int, width: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(GROUPS, entering), nn.SiLU(), _conv(entering, width))
        self.norm = nn.GroupNorm(GROUPS, width)
        self.told = nn.Linear(embedding, 2 * width)  # for the condition; named as in weights that are saved
        self.second = _conv(width, width)
        self.shortcut = nn.Conv3d(entering, width, 1) if entering != width else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Float[Tensor, "b c z y x"], embedded: Float[Tensor, "b e"]) -> Tensor:
        """Return features on the same grid, with `width` channels."""
        scale, shift = self.told(embedded)[:, :, None, None, None].chunk(2, 1)
        scaled = self.norm(self.first(features)) * (1 + scale) + shift
        added: Tensor = self.shortcut(features) + self.second(functional.silu(scaled))
        return added


def waves(time: Float[Tensor, " b"]) -> Float[Tensor, "b w"]:
    """Return sine and cosine of the times at `TIME_WAVES` frequencies in geometric series from 1 to `FASTEST_WAVE`."""
    steps = torch.arange(TIME_WAVES, device=time.device) / (TIME_WAVES - 1)
    angles = time[:, None] * torch.exp(steps * math.log(FASTEST_WAVE))
    return torch.cat([angles.sin(), angles.cos()], 1)


def _conv(entering: int, width: int) -> nn.Conv3d:
    """Return a 3 x 3 x 3 convolution with zero padding."""
    return nn.Conv3d(entering, width, 3, padding=1)
