"""Settings of the in-painters of CT-SGAN (appendix B), whose volumes of interest grow with the nodule.

Does not import torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from synthorax.errors import InputError
from synthorax.patch import ScaledPatch
from synthorax.training.config import Decay, NotNegative, Positive
from synthorax.training.in_painter_config import MOST_CHANNELS, InPainterSettings

LARGEST_VOXEL_MM = 2.0
"""Largest voxel of a VOI; a nodule that would need larger voxels is refused, because it would be blurred."""


class VoiSettings(InPainterSettings):
    """Settings of a U-Net that edits volumes of interest (VOIs) and trains against a critic of overlapping parts.

    Attributes:
        size: voxels of a VOI (z, y, x). The U-Net halves them once for each of its widths after the first.
        spacing_mm: least voxel spacing (z, y, x) of a VOI; 0.01 mm sets no limit, as in the paper.
        window_hu: HU (low, high) that are mapped to -1 and 1. Not in the paper.
        voi: widths of a VOI in diameters of its nodule. Training shows a nodule in all of them, an edit uses the middle
            one.
        widths: channels of the U-Net on each grid, the finest first. Not in the paper.
        critic_widths: channels of the critic after each convolution. Not in the paper.
        fold: 2 halves the U-Net's finest grid along each axis and makes blocks of 2 x 2 x 2 voxels its channels, for a
            fraction of the computation. 1, as published, keeps the voxels.
        near_voxels: distance in voxels up to which the surroundings of a nodule count as near it.
        near_weight: alpha, the weight in the reconstruction loss of the voxels in and near the nodule.
        reconstruction: weight of the reconstruction loss; the adversarial loss has weight 1.
        warm_up: share of the steps at the beginning that use the reconstruction loss alone. Not in the paper.
        steps: number of steps, each with one update of each network.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 64, 64)
    spacing_mm: tuple[Positive, Positive, Positive] = (0.01, 0.01, 0.01)
    voi: tuple[Positive, ...] = Field(default=(2.0, 2.25, 2.5), min_length=1, max_length=8)
    widths: tuple[PositiveInt, ...] = Field(default=(64, 128, 256, 512), min_length=2, max_length=6)
    critic_widths: tuple[PositiveInt, ...] = Field(default=(64, 128, 256, 512), min_length=1, max_length=6)
    fold: Literal[1, 2] = 1
    near_voxels: PositiveInt = 4
    near_weight: NotNegative = 5.0
    reconstruction: NotNegative = 100.0
    warm_up: float = Field(default=0.1, ge=0, le=1)
    learning_rate: Positive = 2e-4
    critic_learning_rate: Positive = 2e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)

    @property
    def view(self) -> ScaledPatch:
        """The grid of the VOIs, which grow with their nodules."""
        return ScaledPatch(self.patch, self.voi, max(LARGEST_VOXEL_MM / max(self.spacing_mm), 1.0))

    @property
    def finest_width(self) -> int:
        """Channels of the U-Net on its finest grid."""
        return self.widths[0]

    @property
    def warm_up_steps(self) -> int:
        """Number of steps that use the reconstruction loss alone."""
        return round(self.warm_up * self.steps)

    def check_ball(self, name: str, share: float) -> None:
        """Check that the settings are consistent, including the diameter of the ball that is edited.

        Args:
            name: name of the setting that holds the ball's diameter.
            share: diameter of the ball as a share of the VOI's width.

        Raises:
            InputError: a setting is out of its range, or the size cannot be halved often enough; names the setting.
        """
        if not 0 < share < 1:
            raise InputError(name, f"{share:g}", "a share of the VOI's width between 0 and 1")
        if min(self.voi) <= 1:
            raise InputError("voi", str(self.voi), "widths above 1 diameter")
        if max(*self.widths, *self.critic_widths) > MOST_CHANNELS:
            raise InputError("widths or critic_widths", str(self.widths), f"at most {MOST_CHANNELS}")
        multiple = self.fold * 2 ** (len(self.widths) - 1)
        if any(n % max(multiple, 2 ** len(self.critic_widths)) for n in self.size):
            expected = f"voxels divisible by {multiple} and by {2 ** len(self.critic_widths)}, for U-Net and critic"
            raise InputError("size", str(self.size), expected)
        if self.widths[0] % 4:
            raise InputError("widths", str(self.widths), "a multiple of 4 first")
