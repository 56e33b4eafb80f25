"""The four networks of CT-SGAN (CT-SGAN, section 2): the path of latent vectors, the slice generator and two critics.

The residual blocks are those of Mescheder et al. (2018), from whom the paper takes its penalty: no normalisation, leaky
ReLUs before the convolutions, and the residual multiplied by 0.1. The critic of slabs is the video critic of Tulyakov
et al. (2018), on which the paper builds, without batch normalisation, which would make the penalty of a sample depend
on the other samples.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from synthorax.nn.critics import LEAK
from synthorax.nn.initialisation import initialise_alike
from synthorax.nn.resampling import UpsampleConv2d, without_grid
from synthorax.systems.ct_sgan.config import CtSganConfig

RESIDUAL = 0.1
"""Factor of a block's residual."""
SLAB_KERNEL = 4
"""Kernel size of the critic of slabs, in slices."""
POSITIONS = 8
"""Number of cosines of a slice's position that the critic of slices gets."""
FINE = 8
"""Channels of a folded generator at full resolution."""


def cosines(position: Float[Tensor, " b"], count: int) -> Float[Tensor, "b n"]:
    """Return cos(pi k p) for positions p within 0 to 1 and k = 1 to `count`."""
    waves = torch.arange(1, count + 1, device=position.device)
    return torch.cos(math.pi * position[:, None] * waves)


class LatentPath(nn.Module):
    """Turns the noise of a scan's slices into their latent vectors: the bidirectional LSTM R_v."""

    def __init__(self, config: CtSganConfig) -> None:
        super().__init__()
        self.positions, self.hidden = config.positions, config.hidden
        self.lstm = nn.LSTM(config.slice_noise + config.positions, config.hidden, batch_first=True, bidirectional=True)

    def forward(self, noise: Float[Tensor, "b d n"], state: Float[Tensor, "b s"]) -> Float[Tensor, "b d h"]:
        """Return the latent vectors of all slices that have two neighbours.

        Args:
            noise: standard normal noise of each slice.
            state: standard normal initial states of the LSTM, before the first slice and after the last.
        """
        with torch.autocast(noise.device.type, enabled=False):
            at = torch.linspace(0, 1, noise.shape[1], device=noise.device)
            positions = cosines(at, self.positions).expand(len(noise), -1, -1)
            before = state.float().unflatten(1, (4, self.hidden)).transpose(0, 1).contiguous()
            made, _ = self.lstm(torch.cat([noise.float(), positions], 2), (before[:2], before[2:]))
        return made


class SliceGenerator(nn.Module):
    """Generates a slice and its two neighbours, as channels, from a latent vector (G_slice)."""

    def __init__(self, config: CtSganConfig) -> None:
        super().__init__()
        self.base = (config.widths[0], *config.base)
        self.fold = config.fold
        style = config.latent if config.styled else 0
        self.start = nn.Linear(config.latent, math.prod(self.base))
        self.first = ResidualBlock(config.widths[0], config.widths[0], style=style)
        grains = [0] * (len(config.widths) - 2) + [3 * config.grain]
        pairs = zip(pairwise(config.widths), grains, strict=True)
        self.blocks = nn.ModuleList([UpBlock(a, b, style=style, grain=grain) for (a, b), grain in pairs])
        fine = config.widths[-1] if self.fold == 1 else FINE
        self.fine = None if self.fold == 1 else nn.Conv2d(config.widths[-1], self.fold**2 * FINE, 3, padding=1)
        self.out = nn.Conv2d(fine, config.channels, 3, padding=1)
        if self.fine is not None and self.fine.bias is not None:
            initialise_alike(self.fine, self.fold**2)
            nn.init.zeros_(self.fine.bias)

    def forward(
        self, latent: Float[Tensor, "b n"], grain: Float[Tensor, "b g v u"] | None = None
    ) -> Float[Tensor, "b c y x"]:
        """Return slices within -1 to 1.

        Args:
            latent: whole latent vectors.
            grain: standard normal noise on the finest grid, of the slice before, the slice itself and the one after;
                None for a network without grain.
        """
        start = self.start(latent).unflatten(1, self.base).contiguous(memory_format=torch.channels_last)
        features = self.first(start, latent)
        for block in self.blocks:
            features = block(features, latent, grain)
        features = functional.leaky_relu(features, LEAK)
        if self.fine is not None:
            features = without_grid(functional.pixel_shuffle(self.fine(features), self.fold), self.fold)
            features = functional.leaky_relu(features, LEAK)
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would round a pixel by up to 3 HU
            return torch.tanh(self.out(features.float()))


class ResidualBlock(nn.Module):
    """Twice leaky ReLU and convolution; the result times `RESIDUAL` is added to the input.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        style: entries of the vector that scales and shifts the channels between the convolutions; 0 for none.
        grain: channels of noise that the second convolution also gets.
    """

    def __init__(self, channels_in: int, channels_out: int, *, style: int = 0, grain: int = 0) -> None:
        super().__init__()
        between = min(channels_in, channels_out)
        self.conv1 = self._conv(channels_in, between)
        self.conv2 = nn.Conv2d(between + grain, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False) if channels_in != channels_out else None
        self.style = nn.Linear(style, 2 * between) if style else None
        self.takes_grain = bool(grain)

    def _conv(self, channels_in: int, channels_out: int) -> nn.Module:
        return nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def _passed(self, x: Tensor) -> Tensor:
        return x if self.shortcut is None else self.shortcut(x)

    def forward(
        self,
        x: Float[Tensor, "b c y x"],
        latent: Float[Tensor, "b n"] | None = None,
        grain: Float[Tensor, "b g v u"] | None = None,
    ) -> Float[Tensor, "b d v u"]:
        """Return features on the same grid; an `UpBlock` doubles the grid."""
        residual = self.conv1(functional.leaky_relu(x, LEAK))
        if self.style is not None and latent is not None:
            scale, shift = self.style(latent)[:, :, None, None].chunk(2, 1)
            residual = torch.addcmul(shift, residual, 1 + scale)
        residual = functional.leaky_relu(residual, LEAK)
        if self.takes_grain and grain is not None:
            residual = torch.cat([residual, grain.to(residual.dtype)], 1)
        return torch.add(self._passed(x), self.conv2(residual), alpha=RESIDUAL)


class UpBlock(ResidualBlock):
    """A residual block that doubles the grid, after its first leaky ReLU and its 1 x 1 convolution.

    Both commute with the doubling, so the result equals that of doubling first, with less than half of the
    multiplications.
    """

    def _conv(self, channels_in: int, channels_out: int) -> nn.Module:
        return UpsampleConv2d(channels_in, channels_out)

    def _passed(self, x: Tensor) -> Tensor:
        return functional.interpolate(super()._passed(x), scale_factor=2, mode="nearest")


class SliceCritic(nn.Module):
    """Scores a slice with its neighbours as channels, given its position and the condition (D_slice).

    Position and condition enter through the inner product of their embedding with the summed features (projection
    discriminator, Miyato and Koyama 2018).
    """

    def __init__(self, config: CtSganConfig) -> None:
        super().__init__()
        self.fold = config.fold
        widths = config.slice_widths
        self.start = nn.Conv2d(config.channels * config.fold**2, widths[0], 3, padding=1)
        self.first = ResidualBlock(widths[0], widths[0])
        self.blocks = nn.ModuleList([ResidualBlock(a, b) for a, b in pairwise(widths)])
        y, x = config.finest
        for _ in self.blocks:
            y, x = (y + 1) // 2, (x + 1) // 2
        self.score = nn.Linear(widths[-1] * y * x, 1)
        # For position and condition; named as in weights that are saved.
        self.told = nn.Linear(POSITIONS + config.condition_length, widths[-1], bias=False)

    def forward(
        self, slices: Float[Tensor, "b c y x"], position: Float[Tensor, " b"], condition: Float[Tensor, "b k"]
    ) -> Float[Tensor, " b"]:
        """Return unbounded scores.

        Args:
            slices: slices within -1 to 1.
            position: position of each slice in its scan, from 0 to 1.
            condition: condition vectors.
        """
        folded = functional.pixel_unshuffle(slices, self.fold) if self.fold > 1 else slices
        features = self.first(self.start(folded))
        for block in self.blocks:
            features = block(functional.avg_pool2d(features, 3, 2, 1))
        features = functional.leaky_relu(features, LEAK)
        embedded = self.told(torch.cat([cosines(position, POSITIONS), condition], 1))
        return self.score(features.flatten(1))[:, 0].float() + (features.sum((2, 3)).float() * embedded.float()).sum(1)


class SlabCritic(nn.Module):
    """Scores a slab, made of the middle channel of each of its slices, given the condition (D_slab)."""

    def __init__(self, config: CtSganConfig) -> None:
        super().__init__()
        self.fold, left = config.fold, config.slab
        layers: list[nn.Module] = []
        for a, b in pairwise((config.fold**2, *config.slab_widths)):
            reach = min(SLAB_KERNEL, left)
            left += 1 - reach
            layers += [nn.Conv3d(a, b, (reach, 4, 4), (1, 2, 2), (0, 1, 1)), nn.LeakyReLU(LEAK)]
        self.body = nn.Sequential(*layers)
        self.score = nn.Conv3d(config.slab_widths[-1], 1, (left, 3, 3), padding=(0, 1, 1))
        self.told = (
            nn.Linear(config.condition_length, config.slab_widths[-1], bias=False) if config.condition_length else None
        )

    def forward(self, slabs: Float[Tensor, "b 1 t y x"], condition: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """Return unbounded scores, each the mean of the score map over the slab."""
        features = self.body(_folded(slabs, self.fold))
        score = self.score(features).float().mean((1, 2, 3, 4))
        if self.told is None:
            return score
        return score + (features.mean((2, 3, 4)).float() * self.told(condition).float()).sum(1)


def _folded(slabs: Float[Tensor, "b 1 t y x"], n: int) -> Float[Tensor, "b c t v u"]:
    """Return slabs with blocks of n x n pixels as channels."""
    if n == 1:
        return slabs
    return functional.pixel_unshuffle(slabs.transpose(1, 2), n).transpose(1, 2)
