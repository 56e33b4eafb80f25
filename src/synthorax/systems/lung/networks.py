"""LuNG's networks (LuNG's paper, III-B): an autoencoder that consists of a feature network and a generator network."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.systems.lung.config import LungConfig


class ShapeAutoencoder(nn.Module):
    """Fully connected layers with tanh between them and a sigmoid at the end.

    Args:
        config: its `layers` are the hidden widths.
        support: flat indices of the v voxels that the network takes and makes; all others are 0.
    """

    support: Tensor

    def __init__(self, config: LungConfig, support: Int[Tensor, " v"]) -> None:
        super().__init__()
        self.grid = config.grid
        self.register_buffer("support", support)
        widths = [len(support), *config.widths, len(support)]
        latent = 1 + config.bottleneck
        self.features = _perceptron(widths[: latent + 1], nn.Tanh())
        self.generator = _perceptron(widths[latent:], nn.Sigmoid())

    @property
    def output(self) -> nn.Linear:
        """The generator's last layer, before its sigmoid."""
        return cast(nn.Linear, self.generator[-2])

    def select(self, fields: NDArray[np.float32]) -> Float[Tensor, "b v"]:
        """Return the voxels of the support of fields [b, z, y, x], on the network's device."""
        return torch.from_numpy(fields.reshape(len(fields), -1))[:, self.support.cpu()].to(self.support.device)

    def encode(self, fields: Float[Tensor, "b z y x"]) -> Float[Tensor, "b latent"]:
        """Map fields of grey values from 0 to 1 to latent vectors within -1 to 1, by the feature network."""
        return self.features(fields.flatten(1)[:, self.support])

    def decode(self, latents: Float[Tensor, "b latent"]) -> Float[Tensor, "b z y x"]:
        """Map latent vectors to fields, by the generator network."""
        fields = latents.new_zeros(len(latents), self.grid[0] * self.grid[1] * self.grid[2])
        fields[:, self.support] = self.generator(latents)
        return fields.unflatten(1, self.grid)

    def forward(self, voxels: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """Reconstruct the voxels of the support."""
        return self.generator(self.features(voxels))

    @torch.no_grad()
    def widen(self, gain: float) -> None:
        """Multiply the weights of the generator's hidden layers, so that few latent numbers can give detail."""
        hidden = [layer for layer in self.generator if isinstance(layer, nn.Linear)][:-1]
        for layer in hidden:
            layer.weight.mul_(gain)
        if hidden:
            hidden[0].bias.mul_(gain)

    @torch.no_grad()
    def initialise_from(self, voxels: Float[Tensor, "b v"]) -> None:
        """Initialise the layers from training samples instead of by PyTorch's default.

        In the feature network, each neuron gets mean 0 and variance 1 over `voxels`, and the latent neurons are
        decorrelated. Their tanh then covers -1 to 1 about evenly, which is the cube from which samples are drawn; by
        default all samples would lie near its centre.

        In the generator network, the biases of the last layer give the mean sample, so that a latent vector far from
        all samples gives few voxels instead of a random half of the grid.

        Args:
            voxels: training samples at the voxels of the support.
        """
        linear = [layer for layer in self.features if isinstance(layer, nn.Linear)]
        values = voxels
        for layer in linear:
            raw = layer(values)
            if layer is linear[-1]:
                variances, directions = torch.linalg.eigh(torch.atleast_2d(torch.cov(raw.T)))
                scale = directions @ torch.diag(variances.clamp_min(1e-6).rsqrt()) @ directions.T
            else:
                scale = torch.diag(1 / raw.std(0).clamp_min(1e-3))
            layer.weight.copy_(scale @ layer.weight)
            layer.bias.copy_(scale @ (layer.bias - raw.mean(0)))
            values = torch.tanh(layer(values))
        self.output.bias.copy_(torch.logit(voxels.mean(0), eps=1e-3))


def _perceptron(widths: list[int], last: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1], last)
