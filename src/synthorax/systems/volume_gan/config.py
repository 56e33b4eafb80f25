"""The settings of a vanilla 3D GAN, as one frozen and typed object. Does not import torch."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from synthorax.errors import InputError
from synthorax.training.config import Decay, NotNegative, Positive
from synthorax.training.scan_config import (
    MOST_EDGE_VOXELS,
    MOST_SCAN_CHANNELS,
    Objective,
    ScanOptions,
    ScanSettings,
    ScanTrainingOptions,
)

MOST_DOUBLINGS = 8
"""Largest number of convolutions that double the grid."""


class VolumeGanConfig(ScanSettings):
    """Settings of the networks and their training.

    The paper describes its baseline as a vanilla 3D GAN of 128^3 voxels whose scans are resized. Everything else is
    that of the 3D-GAN of Wu et al. (2016), one level deeper, with the learning rates of Radford et al. (2016).

    Attributes:
        noise: entries of the generator's noise vector.
        widths: channels of the generator on each grid from the coarsest to the last before the scan; each grid has
            twice the voxels along each axis of the one before. The critic has them in reverse order.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 128, 128)
    noise: PositiveInt = 200
    widths: tuple[PositiveInt, ...] = Field(default=(512, 256, 128, 64, 32), min_length=1, max_length=MOST_DOUBLINGS)
    objective: Objective = "js"
    penalty: NotNegative = 0.0
    generator_learning_rate: Positive = 2e-4
    critic_learning_rate: Positive = 2e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    ema_decay: Decay = 0.0

    @property
    def finest_width(self) -> int:
        """Channels of the generator on the last grid before that of the scan."""
        return self.widths[-1]

    @property
    def base(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) of the coarsest grid."""
        z, y, x = (n // 2 ** len(self.widths) for n in self.size)
        return z, y, x

    @model_validator(mode="after")
    def _check(self) -> VolumeGanConfig:
        if (most := max(*self.widths, self.noise)) > MOST_SCAN_CHANNELS:
            raise InputError("widths or noise", str(most), f"at most {MOST_SCAN_CHANNELS}")
        multiple = 2 ** len(self.widths)
        if any(n % multiple for n in self.size):
            raise InputError("size", str(self.size), f"voxels divisible by {multiple}")
        return self


PRESETS = {
    "paper": VolumeGanConfig(),
    "compact": VolumeGanConfig(widths=(128, 64, 32, 16, 8), noise=64, conditions=("spacing",), steps=24_000),
    "patch48": VolumeGanConfig(
        size=(48, 48, 48), region="cube", widths=(128, 64, 32, 16), noise=64, batch_size=8, steps=20_000
    ),
    "smoke": VolumeGanConfig(
        size=(16, 16, 16), conditions=("spacing", "nodules"), widths=(8, 8), noise=8, batch_size=2, steps=6
    ),
}
"""Million parameters of generator and critic: `paper` as published, `compact` for two cores, `patch48` for cubes of
48 mm, `smoke` for seconds."""

ABOUT_PRESETS = {
    "paper": "chests of 128^3, on a GPU.",
    "compact": "the same for two cores, with a quarter of the channels, conditioned on the spacing.",
    "patch48": "cubes of 48 mm.",
    "smoke": "seconds.",
}
CORE_SECONDS: dict[str, float | None] = {"paper": None}
"""Presets that are too large for a CPU; nobody measured the seconds of their steps."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""


class VolumeGanOptions(ScanOptions):
    """Options of sampling.

    Attributes:
        edge: voxels along each axis to which the scans are resized, as in the paper; not resized if not given.
    """

    edge: int | None = Field(default=None, ge=3, le=MOST_EDGE_VOXELS)


class TrainingOptions(ScanTrainingOptions):
    """Options of training in addition to the configuration."""


Config = VolumeGanConfig
Options = VolumeGanOptions
