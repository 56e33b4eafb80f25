"""A classifier of a patch and its noise, to distinguish generated patches from real ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.tasks.networks.classifier import PatchClassifier, normed_convolution
from synthorax.tasks.networks.config import NoiseNetConfig

GAIN = 30.0
"""Factor by which the noise is multiplied; 23 HU in a window of 1400 HU become 1."""
MOST_NOISE = 3.0
"""Bound of the multiplied noise on both sides of 0, so that edges do not dominate it."""


class NoiseNet(PatchClassifier):
    """Three convolutions over two channels: the patch, and the patch minus the mean of 3^3 voxels around each voxel.

    The second channel is the noise residual of image forensics (Fridrich and Kodovsky 2012). Without it, a network of
    this size needs several times the steps to detect that a patch is blurred by half a voxel. The convolutions have 3^3
    kernels and w, 2w and 2w channels, with batch norm and ReLU; the first two halve every axis. A mean over the grid
    follows.
    """

    minimum_size = (8, 8, 8)

    def __init__(self, config: NoiseNetConfig) -> None:
        super().__init__()
        width = config.width
        self.feature_size = 2 * width
        self.layers = nn.Sequential(
            *normed_convolution(2, width, stride=2),
            *normed_convolution(width, 2 * width, stride=2),
            *normed_convolution(2 * width, 2 * width, stride=1),
        )
        self.fc = nn.Linear(self.feature_size, config.n_classes)

    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """Return the last convolution's channels, on a quarter of the patch's grid along every axis."""
        noise = ((patches - _mean(patches)) * GAIN).clamp(-MOST_NOISE, MOST_NOISE)
        return self.layers(torch.cat([patches, noise], 1))

    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """Return logits, linear in the channels' means."""
        return self.fc(maps.mean((2, 3, 4)))


def _mean(patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b 1 z y x"]:
    """Return the mean of the 3^3 voxels around each voxel; beyond the patch its outermost voxels are repeated."""
    for axis in (2, 3, 4):  # one axis after the other takes a quarter of the time of PyTorch's pooling
        n = patches.shape[axis]
        padded = torch.cat([patches.narrow(axis, 0, 1), patches, patches.narrow(axis, n - 1, 1)], axis)
        patches = (padded.narrow(axis, 0, n) + padded.narrow(axis, 1, n) + padded.narrow(axis, 2, n)) / 3
    return patches
