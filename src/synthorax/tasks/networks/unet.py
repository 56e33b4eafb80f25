"""The 3D U-Net of Hagvall Hörnstedt (section 3.3), and MONAI's U-Net as an alternative."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.nn.patches import check_patches
from synthorax.tasks.networks.config import MonaiUNetConfig, UNetConfig


class UNet3d(nn.Module):
    """NiftyNet's 3D U-Net after Çiçek et al. (2016): three poolings, skips joined by concatenation.

    Batch norm and PReLU follow each 3^3 convolution, batch norm each 2^3 transposed convolution. Unlike in NiftyNet,
    the last 1^3 convolution has no norm and no activation, because it gives logits, and convolutions are padded, so
    that no border is cropped.

    Attributes:
        minimum_size: smallest patch in voxels (z, y, x), with 2^3 voxels on the coarsest grid; sizes must be divisible
            by 8.
    """

    minimum_size = (16, 16, 16)

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        a, b, c, d, e = (config.width * 2**i for i in range(5))
        self.down = nn.ModuleList([_pair(1, a, b), _pair(b, b, c), _pair(c, c, d)])
        self.bottom = _pair(d, d, e)
        self.up = nn.ModuleList([_double(e), _double(d), _double(c)])
        self.joined = nn.ModuleList([_pair(d + e, d, d), _pair(c + d, c, c), _pair(b + c, b, b)])
        self.pool = nn.MaxPool3d(2)
        self.out = nn.Conv3d(b, config.n_classes, 1)

    def forward(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b n z y x"]:
        """Return the logits of patches within -1 to 1.

        Raises:
            InputError: the patches are too small, or a size is not divisible by 8.
        """
        check_patches(patches, self.minimum_size, multiple=8)
        skips, x = [], patches
        for block in self.down:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, joined, skip in zip(self.up, self.joined, reversed(skips), strict=True):
            x = joined(torch.cat([skip, up(x)], 1))
        return self.out(x)


class MonaiUNet(nn.Module):
    """MONAI's residual U-Net.

    Attributes:
        minimum_size: smallest patch in voxels (z, y, x), with 2^3 voxels on the coarsest grid.

    Raises:
        InputError: MONAI is not installed.
    """

    def __init__(self, config: MonaiUNetConfig) -> None:
        super().__init__()
        try:
            from monai.networks.nets import UNet
        except ImportError as error:
            found = "that MONAI is not installed"
            raise InputError("network monai-unet", found, "`pip install 'synthorax[monai]'`") from error
        strides = [2] * (len(config.channels) - 1)
        self.multiple = 2 ** len(strides)
        self.minimum_size = (2 * self.multiple, 2 * self.multiple, 2 * self.multiple)
        self.network = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=config.n_classes,
            channels=config.channels,
            strides=strides,
            num_res_units=config.residual_units,
        )

    def forward(self, patches: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b n z y x"]:
        """Return the logits of patches within -1 to 1.

        Raises:
            InputError: the patches are too small, or a size cannot be halved often enough.
        """
        check_patches(patches, self.minimum_size, self.multiple)
        return self.network(patches)


def _pair(channels_in: int, inner: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((channels_in, inner), (inner, channels_out)):
        layers += [nn.Conv3d(a, b, 3, padding=1, bias=False), nn.BatchNorm3d(b), nn.PReLU(b)]
    return nn.Sequential(*layers)


def _double(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose3d(channels, channels, 2, 2, bias=False), nn.BatchNorm3d(channels))
