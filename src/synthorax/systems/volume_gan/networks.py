"""The generator and critic of a vanilla 3D GAN: convolutions of width 4 and stride 2 (Wu et al. 2016)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.nn.critics import LEAK
from synthorax.systems.volume_gan.config import VolumeGanConfig


class VolumeGenerator(nn.Module):
    """Generates a scan from a noise vector and the condition."""

    def __init__(self, config: VolumeGanConfig) -> None:
        super().__init__()
        self.base = (config.widths[0], *config.base)
        self.start = nn.Linear(config.noise + config.condition_length, math.prod(self.base))
        layers: list[nn.Module] = [nn.BatchNorm3d(config.widths[0]), nn.ReLU()]
        for a, b in pairwise(config.widths):
            layers += [nn.ConvTranspose3d(a, b, 4, 2, 1, bias=False), nn.BatchNorm3d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.out = nn.ConvTranspose3d(config.widths[-1], 1, 4, 2, 1)

    def forward(self, noise: Float[Tensor, "b n"], condition: Float[Tensor, "b k"]) -> Float[Tensor, "b 1 z y x"]:
        """Return scans within -1 to 1.

        Args:
            noise: standard normal noise vectors.
            condition: condition vectors.
        """
        features = self.body(self.start(torch.cat([noise, condition], 1)).unflatten(1, self.base))
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 would round a voxel by up to 3 HU
            return torch.tanh(self.out(features.float()))


class VolumeCritic(nn.Module):
    """Scores a scan, with the condition as further, constant channels."""

    def __init__(self, config: VolumeGanConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((1 + config.condition_length, *widths))):
            layers += [nn.Conv3d(a, b, 4, 2, 1), *([nn.BatchNorm3d(b)] if i else []), nn.LeakyReLU(LEAK)]
        self.body = nn.Sequential(*layers)
        self.score = nn.Linear(widths[-1] * math.prod(config.base), 1)

    def forward(self, scans: Float[Tensor, "b 1 z y x"], condition: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """Return unbounded scores.

        Args:
            scans: scans within -1 to 1.
            condition: condition vectors.
        """
        beside = condition[:, :, None, None, None].expand(-1, -1, *scans.shape[2:])
        return self.score(self.body(torch.cat([scans, beside], 1)).flatten(1))[:, 0].float()
