"""3D-SqueezeNet (Iandola et al. 2016, in 3D by Köpüklü et al. 2019), the detector of CT-SGAN (section 4.2)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.tasks.networks.classifier import PatchClassifier
from synthorax.tasks.networks.config import SqueezeNetConfig

FIRE_STAGES = ((16, 128), (32, 256), (48, 384), (64, 512))
"""Squeezed and output channels of the two Fire blocks after each pooling."""


class SqueezeNet3d(PatchClassifier):
    """Version 1.1 of the 3D program: a convolution, then four times max pooling and two Fire blocks.

    The head is dropout, a 1^3 convolution, ReLU and a mean, so that logits are never negative.
    """

    minimum_size = (16, 32, 32)
    feature_size = 512

    def __init__(self, config: SqueezeNetConfig) -> None:
        super().__init__()
        layers = [nn.Conv3d(1, 64, 3, (1, 2, 2), padding=1), nn.BatchNorm3d(64), nn.ReLU(inplace=True)]
        channels = 64
        for squeezed, given in FIRE_STAGES:
            layers += [nn.MaxPool3d(3, 2, padding=1), Fire(channels, squeezed, given), Fire(given, squeezed, given)]
            channels = given
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(), nn.Conv3d(channels, config.n_classes, 1), nn.ReLU())
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")

    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b 512 k j i"]:
        """Return the last block's channels, on a grid of a sixteenth along z and a thirty-second along y and x."""
        return self.layers((patches + 1) / 2)  # CT-SGAN has volumes from 0 to 1

    def classify(self, maps: Float[Tensor, "b 512 k j i"]) -> Float[Tensor, "b n"]:
        """Return the means of the head's maps."""
        return self.head(maps).mean((2, 3, 4))


class Fire(nn.Module):
    """A convolution to few channels, then 1^3 and 3^3 convolutions side by side; the input is added if it fits."""

    def __init__(self, channels_in: int, squeezed: int, given: int) -> None:
        super().__init__()
        self.bypass = channels_in == given
        self.squeeze = nn.Sequential(nn.Conv3d(channels_in, squeezed, 1), nn.BatchNorm3d(squeezed), nn.ReLU())
        self.expand1 = nn.Sequential(nn.Conv3d(squeezed, given // 2, 1), nn.BatchNorm3d(given // 2))
        self.expand3 = nn.Sequential(nn.Conv3d(squeezed, given // 2, 3, padding=1), nn.BatchNorm3d(given // 2))

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d z y x"]:
        """Map `channels_in` to `given` channels."""
        squeezed = self.squeeze(x)
        made = _Joined.apply(self.expand1(squeezed), self.expand3(squeezed))
        return torch.relu(made + x if self.bypass else made)


class _Joined(torch.autograd.Function):
    """Two tensors as the channels of one, whose gradients are laid out as the tensors are.

    Those of `torch.cat` are views, on which the gradients of batch norms take 20 times as long, a third of a step.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        """Return the channels of the first, then those of the second."""
        ctx.widths = [first.shape[1], second.shape[1]]
        ctx.layout = (
            torch.channels_last_3d
            if first.is_contiguous(memory_format=torch.channels_last_3d)
            else torch.contiguous_format
        )
        return torch.cat([first, second], 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Of each tensor."""
        (gradient,) = gradients
        return tuple(part.contiguous(memory_format=ctx.layout) for part in gradient.split(ctx.widths, 1))
