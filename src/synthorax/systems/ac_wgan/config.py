"""The configuration of an AC-WGAN-GP: its networks, their training, and named presets. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from synthorax import makers
from synthorax.errors import InputError
from synthorax.patch import PatchSettings
from synthorax.training.config import Decay, NotNegative, Positive, PositiveShare, Precision, choose

Attribute = Literal["diameter_mm", "texture", "malignancy"]

MOST_WIDE = 2**16
"""Largest number of channels, of entries of the noise vector, and of cubes in a batch."""
MOST_BLOCKS = 8
"""Largest number of residual blocks in a network."""


class AcWganConfig(PatchSettings):
    """Settings of the networks and of their training; a default that the thesis does not give is marked so.

    Attributes:
        size: voxels of a cube (z, y, x), each divisible by `fold` times 2 for each residual block, so by 8 with the
            defaults; 48^3 in section 2.1.4.
        spacing_mm: voxel spacing of the cubes in mm (z, y, x), 1 mm in section 2.1.1.
        window_hu: HU (low, high) that are scaled to -1 and 1 (section 2.1.2).
        noise: length of the generator's noise vector, condition included. Not in the thesis.
        widths: channels of the generator from its coarsest grid to the finest, with a residual block between each two;
            the critic has the same from fine to coarse. Not in the thesis, whose networks have three blocks.
        fold: voxels along each axis that are folded into channels. With 2 both networks work on half the grid, and
            their outermost convolutions take and give 8 channels; with 1, as in the thesis, nothing is folded.
        grain: channels of white noise on the finest grid that the generator's last block takes beside its features,
            so that it can make texture from them. Not in the thesis.
        styled: let the noise vector set the scale and shift of every norm in the generator. Not in the thesis.
        critic_norm: norms of the critic: `layer`, as in the thesis, or `none`, as the WGAN-GP authors' code for
            CIFAR-10.
        n_classes: number of classes; the class as one-hot replaces the first entries of the noise (section 3.1).
        attributes: attributes that the generator is conditioned on and the critic predicts: diameter_mm, texture,
            malignancy (section 6, "further research"). Each replaces two more entries of the noise: its value, and 1
            where the value is known.
        batch_size: cubes in a batch, a multiple of the number of processes times `accumulate` (section 4.1.1).
        steps: training steps, each of `n_critic` critic updates and one generator update; the thesis' epochs.
        segmenter_steps: training steps of the segmenter that gives generated nodules their masks, on outlines of the
            store's training patients; 0 trains none, and samples then have no masks.
        n_critic: critic updates in each step.
        generator_learning_rate: learning rate of the generator's Adam optimizer.
        critic_learning_rate: learning rate of the critic's Adam optimizer.
        betas: betas of both Adam optimizers.
        rate_end: share of both learning rates that is left at the last step.
        rate_end_from: share of the steps after which both learning rates begin to fall linearly.
        penalty: weight lambda of the gradient penalty.
        penalty_share: share of each batch at which the gradient penalty is computed; on all of it, the penalty costs
            as much as the rest of the update.
        alpha_start: weight alpha of the auxiliary losses at first.
        alpha_end: weight alpha after `alpha_end_from` of the steps: "at the end of the training when both have
            stabilized".
        critic_alpha: factor on alpha in the critic's loss; 1 in the thesis.
        judges_fakes: train the critic's class and attribute heads on generated cubes too, as in the thesis; otherwise
            on real cubes alone, as the WGAN-GP authors' code does.
        alpha_end_from: share of the steps after which alpha is `alpha_end`. Not in the thesis, which judged by eye.
        accumulate: parts that a batch is split into to save memory; their gradients are added up.
        precision: arithmetic of the layers: `32`, `tf32`, `bf16`, or `auto` for the fastest that the device has;
            weights, losses and the gradient penalty stay in 32 bits.
        cuda_graphs: record the updates as CUDA graphs and replay them, which is faster for small networks; has no
            effect without a GPU.
        turns: rotate half of the training patches by 90 degrees about the z axis, beside the flips.
        negatives: learn from patches without a nodule too, as in the thesis; the model can then make them, and judge
            whether a patch shows a nodule.
        ema_decay: decay of an exponential moving average of the generator's weights, which then makes the samples;
            0 for no average.
    """

    noise: PositiveInt = 128
    widths: tuple[PositiveInt, ...] = Field(default=(256, 128, 64, 32), min_length=2, max_length=MOST_BLOCKS + 1)
    fold: Literal[1, 2, 4] = 1
    grain: NonNegativeInt = 0
    styled: bool = False
    critic_norm: Literal["layer", "none"] = "layer"
    n_classes: int = Field(default=2, ge=2)
    attributes: tuple[Attribute, ...] = ()
    batch_size: PositiveInt = 64
    steps: NonNegativeInt = 20_000
    segmenter_steps: NonNegativeInt = 0
    n_critic: PositiveInt = 5
    generator_learning_rate: Positive = 1e-4
    critic_learning_rate: Positive = 1e-4
    betas: tuple[Decay, Decay] = (0.0, 0.9)
    rate_end: PositiveShare = 1.0
    rate_end_from: float = Field(default=0.5, ge=0, lt=1)
    penalty: NotNegative = 10.0
    penalty_share: PositiveShare = 1.0
    alpha_start: NotNegative = 1.0
    alpha_end: NotNegative = 10.0
    alpha_end_from: float = Field(default=0.75, ge=0, le=1)
    critic_alpha: PositiveShare = 1.0
    judges_fakes: bool = True
    ema_decay: Decay = 0.0
    accumulate: PositiveInt = 1
    precision: Precision = "auto"
    cuda_graphs: bool = False
    turns: bool = False
    negatives: bool = True

    @property
    def finest(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) of both networks' finest grid: the cubes' own, divided by `fold`."""
        z, y, x = (n // self.fold for n in self.size)
        return z, y, x

    @property
    def finest_width(self) -> int:
        """Channels on the finest grid."""
        return self.widths[-1]

    @property
    def base(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) of both networks' coarsest grid, 6^3 for the thesis' cubes."""
        z, y, x = (n // 2 ** (len(self.widths) - 1) for n in self.finest)
        return z, y, x

    @property
    def drawn(self) -> int:
        """Random numbers that a cube is made from: the noise vector, followed by the grain."""
        return self.noise + self.grain * math.prod(self.finest)

    @property
    def conditions(self) -> int:
        """Entries of the noise vector that are replaced by the condition."""
        return self.n_classes + 2 * len(self.attributes)

    @property
    def widest_mm(self) -> float:
        """Diameter in mm of the widest nodule that fits into a cube with a margin."""
        return self.patch.widest_mm

    def rate(self, step: int) -> float:
        """Return the factor on both learning rates at a step (0 is the first)."""
        left = (self.steps - step) / (self.steps - self.rate_end_from * self.steps)
        return self.rate_end + (1 - self.rate_end) * min(max(left, 0.0), 1.0)

    def alpha(self, step: int) -> float:
        """Return the weight alpha of the auxiliary losses at a step (0 is the first)."""
        return self.alpha_start if step < self.alpha_end_from * self.steps else self.alpha_end

    @model_validator(mode="after")
    def _check(self) -> AcWganConfig:
        wide = max(*self.widths, self.noise, self.grain, self.batch_size)
        if wide > MOST_WIDE:
            raise InputError("widths, noise, grain or batch_size", str(wide), f"at most {MOST_WIDE}")
        if not self.steps and not self.segmenter_steps:
            raise InputError("steps", "0, and segmenter_steps 0", "1 or more steps of either")
        multiple = self.fold * 2 ** (len(self.widths) - 1)
        if any(n % multiple for n in self.size):
            raise InputError("size", str(self.size), f"voxels divisible by {multiple}")
        if self.turns and (self.size[1] != self.size[2] or self.spacing_mm[1] != self.spacing_mm[2]):
            found = f"true for {self.size} voxels of {self.spacing_mm} mm"
            raise InputError("turns", found, "cubes with the same voxels and spacing along x and y")
        if len(set(self.attributes)) < len(self.attributes):
            raise InputError("attributes", ", ".join(self.attributes), "each name at most once")
        if self.noise <= self.conditions:
            expected = f"more than the {self.conditions} entries that the condition replaces"
            raise InputError("noise", f"{self.noise} entries", expected)
        return self


SEGMENTER_STEPS = 600
"""Training steps of the segmenter in the presets; a step takes 0.3 to 0.4 s on one core for cubes of 24 mm."""
ALL_ATTRIBUTES: tuple[Attribute, ...] = ("diameter_mm", "texture", "malignancy")

PRESETS = {
    "paper": AcWganConfig(),
    "large": AcWganConfig(widths=(512, 256, 128, 64)),
    "patch48": AcWganConfig(
        attributes=ALL_ATTRIBUTES, batch_size=32, ema_decay=0.999, negatives=False, segmenter_steps=SEGMENTER_STEPS
    ),
    "patch24": AcWganConfig(
        size=(24, 24, 24), attributes=ALL_ATTRIBUTES, ema_decay=0.999, segmenter_steps=SEGMENTER_STEPS
    ),
    "compact": AcWganConfig(
        size=(24, 24, 24),
        widths=(128, 64, 32, 8),
        attributes=ALL_ATTRIBUTES,
        batch_size=8,
        steps=3000,
        segmenter_steps=SEGMENTER_STEPS,
        n_critic=2,
        generator_learning_rate=2e-4,
        critic_learning_rate=2e-4,
        ema_decay=0.99,
    ),
    "folded24": AcWganConfig(
        size=(24, 24, 24),
        widths=(160, 80, 32),
        fold=2,
        grain=8,
        styled=True,
        critic_norm="none",
        attributes=ALL_ATTRIBUTES,
        batch_size=8,
        steps=20_000,
        n_critic=1,
        generator_learning_rate=2e-4,
        critic_learning_rate=4e-4,
        rate_end=0.05,
        rate_end_from=0.6,
        penalty_share=0.25,
        alpha_start=5.0,
        alpha_end=15.0,
        critic_alpha=0.2,
        judges_fakes=False,
        ema_decay=0.999,
        turns=True,
        segmenter_steps=SEGMENTER_STEPS,
    ),
    "smoke": AcWganConfig(
        size=(16, 16, 16),
        noise=16,
        widths=(16, 8, 8, 8),
        attributes=ALL_ATTRIBUTES,
        batch_size=4,
        steps=6,
        n_critic=2,
    ),
}
"""Configurations by name. In brackets: million parameters of generator and critic.

- `paper` (8.9, 2.0): as published, for a GPU;
- `large` (21.4, 7.5): twice the channels, the larger network that section 6 proposes;
- `patch48` (8.9, 2.1): conditioned on all attributes, cubes of 48 mm;
- `patch24` (2.7, 1.8): conditioned on all attributes, cubes of 24 mm;
- `compact` (0.9, 0.5; 2.7 MB in half precision): small enough to train in 50 minutes on two cores, 1 s a step;
- `folded24` (1.3, 0.7): a third of `compact`'s work in a step, since both networks have half the grid, the critic has
  no norms, and a step has one critic update with the penalty at a quarter of its batch; texture from white noise;
- `smoke`: for tests, trains in seconds.

All but `paper`, `large` and `smoke` also train a segmenter, which gives the generated nodules their masks.
"""

ABOUT_PRESETS = {
    "paper": "cubes of 48 mm as published, for a GPU.",
    "large": "paper with twice the channels.",
    "patch48": "cubes of 48 mm, conditioned on diameter, texture and malignancy; no patches without a nodule.",
    "patch24": "cubes of 24 mm, conditioned on diameter, texture and malignancy.",
    "compact": "patch24 with fewer channels, to train on a CPU.",
    "folded24": "cubes of 24 mm on a CPU, a third of compact's work in a step; not a published design.",
    "smoke": "a tiny network that trains in seconds, for tests.",
}
CORE_SECONDS = {"paper": 1500.0, "large": 6000.0, "patch48": 750.0, "patch24": 190.0}
"""Seconds of a CPU's core for a step of each preset that is too large for one: `paper` as measured, the others reckoned
from it by voxels, channels and batch."""
CPU_PRESET = "folded24"
"""Preset that suits a CPU."""


class AcWganOptions(makers.Options):
    """Options of sampling.

    Attributes:
        select: keep only samples whose critic score and class probability reach the model's thresholds.
        precision: arithmetic of the networks: 32, bf16, or auto for the precision of training if this device has it,
            else 32. The manifest records which.
    """

    select: bool = False
    precision: Literal["auto", "32", "bf16"] = "auto"


Options = AcWganOptions
Config = AcWganConfig


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        cache: folder for decoded patches; by default the user's cache folder.
    """

    cache: Path | None = None


def ac_wgan_config(preset: str, settings: Mapping[str, Any]) -> AcWganConfig:
    """Return a preset's configuration with some settings changed.

    Example:
        >>> ac_wgan_config("patch24", {"steps": 100}).steps
        100

    Raises:
        InputError: the preset or a setting does not exist, or a value is not allowed.
    """
    return choose(PRESETS, preset, settings)
