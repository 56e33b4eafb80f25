"""A classifier that sees a patch beside its noise, for telling made patches from real ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.tasks.networks.classifier import PatchClassifier
from synthorax.tasks.networks.config import NoiseNetConfig

GAIN = 30.0
"""Factor by which the noise is multiplied: 23 HU of a window of 1400 HU become 1."""
MOST_NOISE = 3.0
"""Bound of the multiplied noise on both sides of 0, so that edges do not drown it."""


class NoiseNet(PatchClassifier):
    """Three convolutions over two channels: the patch, and the patch less the mean of the 3^3 voxels about each voxel.

    The second channel is what image forensics calls the noise residual (Fridrich and Kodovsky 2012). Without it a
    network of this size needs several times the steps to see that a patch is blurred by half a voxel. 3^3 kernels,
    channels w, 2w, 2w, of which the first two halve every axis, batch norm and ReLU after each, the mean over the grid.
    """

    minimum_size = (8, 8, 8)

    def __init__(self, config: NoiseNetConfig) -> None:
        super().__init__()
        width = config.width
        self.feature_size = 2 * width
        self.layers = nn.Sequential(
            *_convolution(2, width, stride=2),
            *_convolution(width, 2 * width, stride=2),
            *_convolution(2 * width, 2 * width, stride=1),
        )
        self.fc = nn.Linear(self.feature_size, config.n_classes)

    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """A quarter of the patch along every axis."""
        noise = ((patches - _mean(patches)) * GAIN).clamp(-MOST_NOISE, MOST_NOISE)
        return self.layers(torch.cat([patches, noise], 1))

    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """Linear on the mean."""
        return self.fc(maps.mean((2, 3, 4)))


def _mean(patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b 1 z y x"]:
    """The mean of the 3^3 voxels about each voxel; beyond the patch its edge goes on."""
    for axis in (2, 3, 4):  # one axis after the other: a quarter of the time of PyTorch's pooling
        n = patches.shape[axis]
        padded = torch.cat([patches.narrow(axis, 0, 1), patches, patches.narrow(axis, n - 1, 1)], axis)
        patches = (padded.narrow(axis, 0, n) + padded.narrow(axis, 1, n) + padded.narrow(axis, 2, n)) / 3
    return patches


def _convolution(channels_in: int, channels_out: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm3d(channels_out),
        nn.ReLU(inplace=True),
    )
