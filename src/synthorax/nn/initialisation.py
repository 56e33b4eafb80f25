"""Initial weights of networks."""

from __future__ import annotations

from torch import nn


def initialise_glorot(network: nn.Module) -> None:
    """Set convolutions and linear layers to Glorot-uniform weights and biases of 0, as TensorFlow does."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
