"""The settings of a CT-SGAN, as one frozen and typed object. Does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from synthorax.errors import InputError
from synthorax.training.scan_config import MOST_SCAN_CHANNELS, ScanOptions, ScanSettings, ScanTrainingOptions

MOST_LEVELS = 8
"""Largest number of resolution levels in a network."""
MOST_SCAN_SLICES = 8192
"""Largest number of slices in a scan."""


class CtSganConfig(ScanSettings):
    """Settings of the networks and their training; the defaults are the paper's if it states them.

    For values that the paper does not state, the defaults are those of the works that it builds on: Mescheder et al.
    (2018) for the residual networks, their penalty and their optimiser, Tulyakov et al. (2018) for the critic of slabs.

    Attributes:
        patient_noise: entries of the noise vector that all slices of a scan share; 0 is the ablation without it.
        slice_noise: entries of the noise vector of each slice, which a bidirectional LSTM turns into the slice's latent
            vector; 0 is the ablation without it.
        positions: number of cosines of the slice's position that the LSTM gets in addition to the noise. Not in the
            paper, where the LSTM has to count slices.
        hidden: entries of the LSTM's state in each direction; the slice's latent vector has twice as many.
        widths: channels of the slice generator from its coarsest grid to its finest; each grid has twice the pixels
            along each axis of the one before.
        fold: pixels along each axis that become channels: 2 halves the finest grid along each axis, in the generator
            and in both critics. 1, as in the paper, keeps the pixels.
        grain: channels of white noise on the finest grid of each slice, so that the latent vectors need not produce
            CT noise. A slice also gets the noise of both neighbours. Not in the paper.
        styled: whether the latent vector also scales and shifts the channels of every block. Not in the paper.
        channels: slices that the generator gives at once: 3, a slice and both neighbours, as in the paper; 1 is the
            ablation.
        slab: slices of a slab (T); the critic of slabs sees the middle channel of each.
        slices: slices of each slab that the critic of slices sees (N).
        slice_widths: channels of the critic of slices from its finest grid to its coarsest; each grid has half the
            pixels along each axis of the one before.
        slab_widths: channels of the critic of slabs; each convolution halves the pixels along y and x, not the number
            of slices.
        cuda_graphs: record the updates as CUDA graphs and replay them, which is faster for small networks; has no
            effect without a GPU.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (224, 224, 224)
    patient_noise: NonNegativeInt = 128
    slice_noise: NonNegativeInt = 128
    positions: NonNegativeInt = 0
    hidden: PositiveInt = 64
    widths: tuple[PositiveInt, ...] = Field(default=(1024, 512, 256, 128, 64, 64), min_length=2, max_length=MOST_LEVELS)
    fold: Literal[1, 2, 4] = 1
    grain: NonNegativeInt = 0
    styled: bool = False
    channels: Literal[1, 3] = 3
    slab: PositiveInt = 16
    slices: PositiveInt = 8
    slice_widths: tuple[PositiveInt, ...] = Field(
        default=(64, 128, 256, 512, 1024, 1024), min_length=2, max_length=MOST_LEVELS
    )
    slab_widths: tuple[PositiveInt, ...] = Field(default=(64, 128, 256, 512), min_length=1, max_length=MOST_LEVELS)
    cuda_graphs: bool = False

    @property
    def finest(self) -> tuple[int, int]:
        """Pixels (y, x) of the networks' finest grid: those of a slice divided by `fold`."""
        return self.size[1] // self.fold, self.size[2] // self.fold

    @property
    def finest_width(self) -> int:
        """Channels of the generator on its finest grid."""
        return self.widths[-1]

    @property
    def base(self) -> tuple[int, int]:
        """Pixels (y, x) of the generator's coarsest grid."""
        y, x = (n // 2 ** (len(self.widths) - 1) for n in self.finest)
        return y, x

    @property
    def latent(self) -> int:
        """Entries of a slice's whole latent vector: the patient's noise, the LSTM's output and the condition."""
        return self.patient_noise + 2 * self.hidden + self.condition_length

    @property
    def path(self) -> int:
        """Number of latent vectors of a scan of the trained depth: one for each slice that has two neighbours."""
        return self.size[0] - 2

    @model_validator(mode="after")
    def _check(self) -> CtSganConfig:
        numbers = (*self.widths, *self.slice_widths, *self.slab_widths, self.latent, self.slice_noise, self.grain)
        if (most := max(numbers)) > MOST_SCAN_CHANNELS:
            raise InputError("widths, noise or grain", str(most), f"at most {MOST_SCAN_CHANNELS}")
        halved = max(len(self.widths), len(self.slice_widths)) - 1
        multiple = self.fold * 2 ** (len(self.widths) - 1)
        if any(n % multiple for n in self.size[1:]):
            raise InputError("size", str(self.size), f"slices of pixels divisible by {multiple}")
        if min(self.finest) < 2 ** max(halved, len(self.slab_widths)):
            raise InputError("widths", f"{halved + 1} grids of slices of {self.size[1:]}", "fewer, or larger slices")
        if not self.slice_noise + self.positions:
            raise InputError("slice_noise", "0, and positions 0", "either above 0, or all slices would be the same")
        if not self.slices <= self.slab <= self.path:
            found = f"{self.slices} slices of slabs of {self.slab}"
            raise InputError("slices", found, f"slices <= slab <= {self.path}, in scans of {self.size[0]} slices")
        return self


PRESETS = {
    "paper": CtSganConfig(),
    "compact": CtSganConfig(
        size=(128, 128, 128),
        conditions=("spacing",),
        positions=8,
        hidden=48,
        patient_noise=64,
        slice_noise=32,
        widths=(160, 160, 112, 80, 48),
        fold=2,
        grain=2,
        styled=True,
        slab=8,
        slices=4,
        slice_widths=(32, 64, 96, 128, 128),
        slab_widths=(16, 32, 64, 96),
        penalty_every=4,
        steps=24_000,
        generator_learning_rate=4e-4,
        critic_learning_rate=4e-4,
        rate_end=0.05,
    ),
    "patch48": CtSganConfig(
        size=(48, 48, 48),
        region="cube",
        positions=8,
        hidden=48,
        patient_noise=64,
        slice_noise=32,
        widths=(128, 112, 80, 48),
        fold=2,
        grain=2,
        styled=True,
        slab=8,
        slices=4,
        slice_widths=(32, 64, 96),
        slab_widths=(16, 32, 64),
        objective="js",
        penalty=1.0,
        penalty_every=4,
        batch_size=8,
        steps=20_000,
        generator_learning_rate=2e-4,
        critic_learning_rate=2e-4,
        rate_end=0.05,
    ),
    "smoke": CtSganConfig(
        size=(16, 16, 16),
        conditions=("spacing", "nodules"),
        positions=2,
        hidden=8,
        patient_noise=8,
        slice_noise=8,
        widths=(16, 8),
        fold=2,
        grain=1,
        styled=True,
        slab=4,
        slices=2,
        slice_widths=(8, 8),
        slab_widths=(8, 8),
        penalty_every=2,
        batch_size=2,
        steps=6,
        ema_decay=0.9,
    ),
}
"""Million parameters of generator, critic of slices and critic of slabs:

- `paper` as published, on a GPU;
- `compact` for two cores: scans of 128^3, folded slices, noise for the texture, styles, conditioned on the spacing;
- `patch48` for cubes of 48 mm; with logits, because scans of `compact` had only stripes with the Wasserstein objective;
- `smoke` for seconds.
"""

ABOUT_PRESETS = {
    "paper": "chests of 224^3, as published, on a GPU.",
    "compact": "chests of 128^3 for two cores, conditioned on the spacing.",
    "patch48": "48 slices of 48 x 48 pixels, from cubes.",
    "smoke": "seconds.",
}
CORE_SECONDS: dict[str, float | None] = {"paper": None}
"""Presets that are too large for a CPU; nobody measured the seconds of their steps."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""


class CtSganOptions(ScanOptions):
    """Options of sampling.

    Attributes:
        depth: slices of each scan, 3 or more; as many as in training if not given. The chest keeps its height; its
            slices get thinner or thicker.
        patient: number of a scan whose patient noise and spacing all scans get; each has its own if not given.
        path: number of a scan whose slice noise all scans get; each has its own if not given. Each scan keeps its own
            grain, which affects the texture only.
    """

    depth: int | None = Field(default=None, ge=3, le=MOST_SCAN_SLICES)
    patient: NonNegativeInt | None = None
    path: NonNegativeInt | None = None


class TrainingOptions(ScanTrainingOptions):
    """Options of training in addition to the configuration."""


Config = CtSganConfig
Options = CtSganOptions
