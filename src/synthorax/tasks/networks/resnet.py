"""3D ResNets and ResNeXt of Hara et al. (CVPR 2018), the malignancy classifiers of Yang et al. (section 2.3).

Modules have the names of the published program, so that its weights load by name (`kinetics`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from synthorax.tasks.networks.classifier import PatchClassifier
from synthorax.tasks.networks.config import CARDINALITY, ResNetConfig

RESNET_BLOCKS = {
    "resnet-10": (1, 1, 1, 1),
    "resnet-18": (2, 2, 2, 2),
    "resnet-34": (3, 4, 6, 3),
    "resnet-50": (3, 4, 6, 3),
    "resnet-101": (3, 4, 23, 3),
    "resnet-152": (3, 8, 36, 3),
    "resnext-101": (3, 4, 23, 3),
}
BASIC = ("resnet-10", "resnet-18", "resnet-34")
"""Architectures whose blocks have two 3^3 convolutions; blocks of the others are bottlenecks."""


class ResNet3d(PatchClassifier):
    """A 7^3 convolution, max pooling, four stages of residual blocks, and a linear head.

    The z axis of a patch takes the place of time in a video. Millions of parameters with one input channel and two
    classes: ResNet-10, 18 and 34 (shortcut A) 14.2, 33.0 and 63.3; ResNet-50, 101 and 152 (shortcut B) 46.2, 85.2 and
    117.4; ResNeXt-101 47.5.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.architecture = config.architecture
        self.shortcut = config.shortcut or ("A" if config.architecture in BASIC else "B")
        width = config.width
        video = config.stem == "video"
        self.minimum_size = (16, 32, 32) if video else (8, 8, 8)
        self.conv1 = nn.Conv3d(1, width, 7, (1, 2, 2) if video else 1, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool = nn.MaxPool3d(3, 2, padding=1) if video else nn.Identity()
        self._channels = width
        self.layer1 = self._stage(width, 0)
        self.layer2 = self._stage(2 * width, 1)
        self.layer3 = self._stage(4 * width, 2)
        self.layer4 = self._stage(8 * width, 3)
        self.feature_size = self._channels
        self.fc = nn.Linear(self.feature_size, config.n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b f k j i"]:
        """Return the channels of the fourth stage."""
        start = self.maxpool(torch.relu(self.bn1(self.conv1(patches))))
        return self.layer4(self.layer3(self.layer2(self.layer1(start))))

    def classify(self, maps: Float[Tensor, "b f k j i"]) -> Float[Tensor, "b n"]:
        """Return logits, linear in the channels' means."""
        return self.fc(maps.mean((2, 3, 4)))

    def _stage(self, channels: int, index: int) -> nn.Sequential:
        """A stage, whose first block changes the channels and, except in the first stage, halves the grid."""
        blocks: list[nn.Module] = []
        for i in range(RESNET_BLOCKS[self.architecture][index]):
            stride = 2 if index and not i else 1
            if self.architecture in BASIC:
                block: _Block = BasicBlock(self._channels, channels, stride, self.shortcut)
            elif self.architecture == "resnext-101":
                block = Bottleneck(self._channels, 2 * channels, 4 * channels, stride, self.shortcut, CARDINALITY)
            else:
                block = Bottleneck(self._channels, channels, 4 * channels, stride, self.shortcut)
            self._channels = block.channels_out
            blocks.append(block)
        return nn.Sequential(*blocks)


class _Block(nn.Module):
    """The shortcut of a residual block, the identity if grid and channels do not change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.channels_out = channels_out
        if stride == 1 and channels_in == channels_out:
            self.downsample: nn.Module = nn.Identity()
        elif shortcut == "A":
            self.downsample = PaddedShortcut(channels_out - channels_in, stride)
        else:
            convolution = nn.Conv3d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm3d(channels_out))


class BasicBlock(_Block):
    """A residual block of two 3^3 convolutions."""

    def __init__(self, channels_in: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__(channels_in, channels, stride, shortcut)
        self.conv1 = nn.Conv3d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(channels)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d k j i"]:
        """Return the block's output after its ReLU."""
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.downsample(x))


class Bottleneck(_Block):
    """A residual block of a 3^3 convolution, grouped in a ResNeXt, between two 1^3 convolutions."""

    def __init__(
        self, channels_in: int, inner: int, channels_out: int, stride: int, shortcut: str, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, stride, shortcut)
        self.conv1 = nn.Conv3d(channels_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(channels_out)

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d k j i"]:
        """Return the block's output after its ReLU."""
        residual = torch.relu(self.bn1(self.conv1(x)))
        residual = torch.relu(self.bn2(self.conv2(residual)))
        return torch.relu(self.bn3(self.conv3(residual)) + self.downsample(x))


class PaddedShortcut(nn.Module):
    """Shortcut A: every `stride`-th voxel, with further channels of zeros.

    The published program stops its gradient; here it flows.
    """

    def __init__(self, more_channels: int, stride: int) -> None:
        super().__init__()
        self.more_channels = more_channels
        self.stride = stride

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b d k j i"]:
        """Return every `stride`-th voxel of `x`, with `more_channels` more channels."""
        s = self.stride
        return functional.pad(x[:, :, ::s, ::s, ::s], (0, 0, 0, 0, 0, 0, 0, self.more_channels))
