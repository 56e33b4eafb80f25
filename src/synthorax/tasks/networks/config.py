"""The configurations of the tasks' networks. Does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from synthorax.errors import InputError

Architecture = Literal["resnet-10", "resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152", "resnext-101"]
CARDINALITY = 32
"""Groups of a ResNeXt's convolutions."""


class _NetworkConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    n_classes: int = Field(default=2, ge=1)


class DetectorConfig(_NetworkConfig):
    """The small nodule detector of Cui's thesis.

    Attributes:
        width: channels of its first convolution; 64 gives the larger detector that section 6 of the paper suggests.
    """

    kind: Literal["detector"] = "detector"
    width: PositiveInt = 32

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return self.width


class ResNetConfig(_NetworkConfig):
    """A 3D ResNet or ResNeXt of Hara et al. (CVPR 2018), as in Yang et al.

    Attributes:
        architecture: family and depth.
        shortcut: shortcut of blocks that change the grid or the channels: A pads the input with channels of zeros, B is
            a 1 x 1 x 1 convolution. If not given, A up to 34 layers and B above, as in the published weights.
        width: channels of the first stage; 64 as published, or fewer for a small machine.
        stem: `video` halves y and x and then all axes, so that a patch needs at least (16, 32, 32) voxels; `cube`
            halves nothing, for patches from 8^3 on. Yang et al. have 32 x 64 x 64 voxels and do not describe its stem.
    """

    kind: Literal["resnet"] = "resnet"
    architecture: Architecture = "resnet-50"
    shortcut: Literal["A", "B"] | None = None
    width: PositiveInt = 64
    stem: Literal["video", "cube"] = "video"

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return self.width

    @model_validator(mode="after")
    def _check(self) -> ResNetConfig:
        if self.architecture == "resnext-101" and 2 * self.width % CARDINALITY:
            raise InputError("width", str(self.width), f"a multiple of {CARDINALITY // 2} for a ResNeXt")
        return self


class SqueezeNetConfig(_NetworkConfig):
    """SqueezeNet v1.1 in 3D, with which CT-SGAN detects nodules; all its layers have fixed widths."""

    kind: Literal["squeezenet"] = "squeezenet"

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return 64


class NoiseNetConfig(_NetworkConfig):
    """A small classifier of a patch and its noise (`networks.noise`).

    Attributes:
        width: channels of its first convolution.
    """

    kind: Literal["noise-net"] = "noise-net"
    width: PositiveInt = 16

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return self.width


class SliceNetConfig(_NetworkConfig):
    """A small classifier of slices, patches of one slice (`networks.slices`).

    Attributes:
        widths: channels of its convolutions, each of which halves the slice.
    """

    kind: Literal["slice-net"] = "slice-net"
    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 64), min_length=1)

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return self.widths[0]


class UNetConfig(_NetworkConfig):
    """NiftyNet's 3D U-Net, the segmenter of Hagvall Hörnstedt.

    Attributes:
        width: channels of the first convolution; 32 as published.
    """

    kind: Literal["unet"] = "unet"
    width: PositiveInt = 32

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return self.width


class MonaiUNetConfig(_NetworkConfig):
    """MONAI's residual U-Net, which needs the extra `monai`.

    Attributes:
        channels: number of channels of each level; each level has half the grid of the one before.
        residual_units: number of residual units in each level.
    """

    kind: Literal["monai-unet"] = "monai-unet"
    channels: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256), min_length=2)
    residual_units: int = Field(default=2, ge=0)

    @property
    def finest_width(self) -> int:
        """Channels of the first convolution."""
        return self.channels[0]


NetworkConfig = Annotated[
    DetectorConfig | ResNetConfig | SqueezeNetConfig | NoiseNetConfig | SliceNetConfig | UNetConfig | MonaiUNetConfig,
    Field(discriminator="kind"),
]
