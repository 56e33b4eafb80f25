"""Initial weights of networks."""

from __future__ import annotations

import torch
from torch import nn


def initialise_glorot(network: nn.Module) -> None:
    """Set convolutions and linear layers to Glorot-uniform weights and biases of 0, as TensorFlow does."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_alike(conv: nn.Module, block: int) -> None:
    """Set the channels that `resampling.unfolded` makes one block of voxels to the same weights and biases.

    A new network then gives the voxels of a block the same value. With independent weights, a grid of period two lies
    over its output, which training takes thousands of steps to remove (Aitken et al. 2017, arXiv:1707.02937).

    Args:
        conv: the convolution before `unfolded`, or before `pixel_shuffle`.
        block: voxels of a block.
    """
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(parameter[::block].repeat_interleave(block, 0))
