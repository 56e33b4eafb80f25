"""Building a network from its configuration."""

from __future__ import annotations

from torch import nn

from synthorax.tasks.networks.config import (
    DetectorConfig,
    MonaiUNetConfig,
    NetworkConfig,
    NoiseNetConfig,
    ResNetConfig,
    SliceNetConfig,
    SqueezeNetConfig,
)
from synthorax.tasks.networks.detector import Detector
from synthorax.tasks.networks.noise import NoiseNet
from synthorax.tasks.networks.resnet import ResNet3d
from synthorax.tasks.networks.slices import SliceNet
from synthorax.tasks.networks.squeezenet import SqueezeNet3d
from synthorax.tasks.networks.unet import MonaiUNet, UNet3d


def build(config: NetworkConfig) -> nn.Module:
    """Return the network, initialised from torch's global generator.

    It takes patches [b, 1, z, y, x] within -1 to 1 of at least `minimum_size`. A classifier returns logits
    [b, n_classes] and has a method `features`. A segmenter returns logits [b, n_classes, z, y, x].

    Raises:
        InputError: the network is MONAI's, and MONAI is not installed.
    """
    if isinstance(config, DetectorConfig):
        return Detector(config)
    if isinstance(config, ResNetConfig):
        return ResNet3d(config)
    if isinstance(config, SqueezeNetConfig):
        return SqueezeNet3d(config)
    if isinstance(config, NoiseNetConfig):
        return NoiseNet(config)
    if isinstance(config, SliceNetConfig):
        return SliceNet(config)
    if isinstance(config, MonaiUNetConfig):
        return MonaiUNet(config)
    return UNet3d(config)
