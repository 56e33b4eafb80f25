"""Settings of in-painters of papers/5 (appendix B), whose volumes of interest grow with the nodule. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from synthorax.errors import InputError
from synthorax.patch import ScaledPatch
from synthorax.training.config import Decay, NotNegative, Positive
from synthorax.training.in_painter_config import MOST_CHANNELS, InPainterSettings

LARGEST_VOXEL_MM = 2.0
"""A VOI's voxels are at most this large; wider nodules are refused, as they would come out blurred."""


class VoiSettings(InPainterSettings):
    """Settings of a U-Net that edits volumes of interest (VOIs), and learns against a critic of overlapping parts.

    Attributes:
        size: voxels of a VOI (z, y, x), which the U-Net halves as often as it has widths, less one.
        spacing_mm: of the voxels (z, y, x) of the narrowest VOI. The paper's VOIs have no least width.
        window_hu: HU (low, high) that become -1 and 1. Not in the paper.
        voi: widths of a VOI in diameters of its nodule. Training shows a nodule by each, an edit by the middle one.
        widths: channels of the U-Net on each grid, the finest first. Not in the paper.
        critic_widths: channels of the critic after each convolution. Not in the paper.
        fold: with 2 the U-Net's finest grid has half the voxels along each axis, and blocks of voxels are its channels,
            for a fraction of the work. 1, as published, leaves the voxels as they are.
        near_voxels: voxels around the nodule that count as near it, in the grid's.
        near_weight: alpha, the weight of what is near the nodule in the reconstruction loss.
        reconstruction: weight of the reconstruction loss, beside which the critic's judgement counts 1.
        warm_up: share of the steps in which the reconstruction loss is alone. Not in the paper.
        steps: of one update of each network.
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
        """The VOIs, which grow with their nodules."""
        return ScaledPatch(self.patch, self.voi, max(LARGEST_VOXEL_MM / max(self.spacing_mm), 1.0))

    @property
    def finest_width(self) -> int:
        """Channels on the finest grid."""
        return self.widths[0]

    @property
    def warm_up_steps(self) -> int:
        """Steps in which the reconstruction loss is alone."""
        return round(self.warm_up * self.steps)

    def check_ball(self, name: str, share: float) -> None:
        """Refuse settings that do not fit, among them the diameter of a ball as a share of the VOI's width.

        Raises:
            InputError: names the setting.
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
