"""A small classifier of slices, by whose features sets of slices are compared."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.tasks.networks.classifier import PatchClassifier
from synthorax.tasks.networks.config import SliceNetConfig
from synthorax.tasks.networks.noise import GAIN, MOST_NOISE


class SliceNet(PatchClassifier):
    """3^2 convolutions over two channels: the slice, and the slice less the mean of the 3^2 pixels about each pixel.

    Each halves the slice; batch norm and ReLU after each, the mean over the grid, a linear head. The second channel is
    that of `NoiseNet`, so that the features tell of texture too.
    """

    minimum_size = (1, 16, 16)

    def __init__(self, config: SliceNetConfig) -> None:
        super().__init__()
        self.feature_size = config.widths[-1]
        layers: list[nn.Module] = []
        for a, b in pairwise((2, *config.widths)):
            layers += [nn.Conv2d(a, b, 3, 2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(self.feature_size, config.n_classes)

    def maps(self, patches: Float[Tensor, "b 1 1 y x"]) -> Float[Tensor, "b f 1 j i"]:
        """Return the grid after the last convolution."""
        slices = patches[:, :, 0]
        around = nn.functional.avg_pool2d(nn.functional.pad(slices, (1, 1, 1, 1), mode="replicate"), 3, 1)
        noise = ((slices - around) * GAIN).clamp(-MOST_NOISE, MOST_NOISE)
        return self.layers(torch.cat([slices, noise], 1))[:, :, None]

    def classify(self, maps: Float[Tensor, "b f 1 j i"]) -> Float[Tensor, "b n"]:
        """Linear on the mean."""
        return self.fc(maps.mean((2, 3, 4)))
