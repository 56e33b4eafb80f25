"""What a model of the AC-WGAN-GP is, as one frozen and typed object. No torch here."""

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
"""Channels, entries of the noise and cubes of a batch at most."""
MOST_BLOCKS = 8
"""Residual blocks of a network at most."""


class AcWganConfig(PatchSettings):
    """The networks and their training; the defaults are the thesis' where it says, and stated where it does not.

    Attributes:
        size: voxels of a cube (z, y, x), divisible by `fold` and by 2 for each residual block, so by 8 (48^3 in
            section 2.1.4).
        spacing_mm: of its voxels (z, y, x) (section 2.1.1).
        window_hu: HU (low, high) that become -1 and 1 (section 2.1.2).
        noise: entries of the generator's input. Not in the thesis.
        widths: the generator's channels from its coarsest grid to the finest, one residual block between two; the
            critic has them the other way round. Not in the thesis, whose networks have three blocks.
        fold: voxels along each axis that become channels: with 2 the finest grid of both networks has half the voxels
            along each axis, the critic's first convolution takes 8 channels and the generator's last one gives 8.
            1, as in the thesis, leaves the voxels as they are.
        grain: channels of white noise on the finest grid that the last block of the generator takes beside its
            features, so that the texture of a cube need not come out of the noise vector. Not in the thesis.
        styled: the noise vector sets the scale and shift of every norm in the generator, instead of constants. Not in
            the thesis.
        critic_norm: `layer` norms as in the thesis, or `none`, as in the WGAN-GP program's critic for CIFAR-10.
        n_classes: the first entries of the noise are overwritten by the class as one-hot (section 3.1).
        attributes: what else the generator is told and the critic has heads for, of diameter_mm, texture and malignancy
            (section 6, "further research"); each overwrites two further entries of the noise, by its value and by
            whether it is given.
        batch_size: cubes that an update learns from (section 4.1.1).
        steps: of five critic updates and one of the generator, which the thesis calls epochs.
        segmenter_steps: steps in which the network learns that gives made nodules their masks; 0 for none, and samples
            without masks. It learns on the outlines of the store's training patients (`tasks.made_masks`).
        n_critic: critic updates a step.
        generator_learning_rate: Adam's.
        critic_learning_rate: Adam's.
        betas: Adam's.
        rate_end: share of both learning rates that is left at the last step.
        rate_end_from: share of the steps after which the learning rates begin to fall linearly.
        penalty: weight lambda of the gradient penalty.
        penalty_share: share of a batch's rows at which the penalty is taken, which costs as much as all the rest.
        alpha_start: weight alpha of the auxiliary losses, for real and fake samples alike.
        alpha_end: alpha "at the end of the training when both have stabilized".
        critic_alpha: share of alpha with which the critic's own auxiliary losses count; 1, as in the thesis.
        judges_fakes: the critic's heads learn from generated cubes too, as in the thesis; otherwise from real ones
            alone, as in the WGAN-GP program, so that they cannot agree with the generator on a reading of their own.
        alpha_end_from: share of the steps after which that is. Not in the thesis, which judged it by eye.
        accumulate: parts in which a batch is taken, one after the other, for less memory.
        precision: of the layers, `auto`, `32`, `tf32` or `bf16`; weights, losses and the gradient penalty stay in 32
            bits. A run notes what `auto` was.
        cuda_graphs: the updates are recorded once and replayed, which spares small networks on a GPU the launching
            of their kernels; elsewhere it does nothing.
        turns: training patches are turned by 90 degrees about the z axis half of the time, beside the flips.
        negatives: patches without a nodule are learned too, as the thesis has it; without them the class says nothing.
        ema_decay: of a running mean of the generator's weights, which then makes the samples; 0 is none.
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
        """The finest grid (z, y, x) of both networks, that of the cubes unless they are folded."""
        z, y, x = (n // self.fold for n in self.size)
        return z, y, x

    @property
    def finest_width(self) -> int:
        """Channels on the finest grid."""
        return self.widths[-1]

    @property
    def base(self) -> tuple[int, int, int]:
        """The coarsest grid (z, y, x), 6^3 for the thesis' cubes."""
        z, y, x = (n // 2 ** (len(self.widths) - 1) for n in self.finest)
        return z, y, x

    @property
    def drawn(self) -> int:
        """Random numbers that a cube is made of: the noise vector, then the grain."""
        return self.noise + self.grain * math.prod(self.finest)

    @property
    def conditions(self) -> int:
        """Entries of the noise that the condition overwrites."""
        return self.n_classes + 2 * len(self.attributes)

    @property
    def widest_mm(self) -> float:
        """Diameter of the widest nodule that the cubes show whole."""
        return self.patch.widest_mm

    def rate(self, step: int) -> float:
        """The share of the learning rates at a step."""
        left = (self.steps - step) / (self.steps - self.rate_end_from * self.steps)
        return self.rate_end + (1 - self.rate_end) * min(max(left, 0.0), 1.0)

    def alpha(self, step: int) -> float:
        """The weight of the auxiliary losses at a step."""
        return self.alpha_start if step < self.alpha_end_from * self.steps else self.alpha_end

    @model_validator(mode="after")
    def _check(self) -> AcWganConfig:
        wide = max(*self.widths, self.noise, self.grain, self.batch_size)
        if wide > MOST_WIDE:
            raise InputError("widths, noise, grain or batch_size", str(wide), f"at most {MOST_WIDE}")
        if not self.steps and not self.segmenter_steps:
            raise InputError("steps", "0, and no segmenter_steps", "1 or more of either")
        multiple = self.fold * 2 ** (len(self.widths) - 1)
        if any(n % multiple for n in self.size):
            raise InputError("size", str(self.size), f"voxels divisible by {multiple}")
        if self.turns and (self.size[1] != self.size[2] or self.spacing_mm[1] != self.spacing_mm[2]):
            found = f"true for {self.size} voxels of {self.spacing_mm} mm"
            raise InputError("turns", found, "cubes that are as wide along x as along y")
        if len(set(self.attributes)) < len(self.attributes):
            raise InputError("attributes", ", ".join(self.attributes), "each at most once")
        if self.noise <= self.conditions:
            raise InputError("noise", f"{self.noise} entries", f"more than the {self.conditions} the condition takes")
        return self


SEGMENTER_STEPS = 600
"""Steps in which a segmenter learns enough, .3 to .4 s each on one core for cubes of 24 mm."""
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
"""Million parameters of generator and critic:

- `paper` (8.9 and 2.0) as published, on a GPU; `large` (21.4 and 7.5) the larger one that section 6 asks for;
- `patch48` (8.9 and 2.1) told all attributes, for real cubes of 48 mm; `patch24` (2.7 and 1.8) of 24 mm;
- `compact` (0.9 and 0.5, together 2.7 MB in half precision) for 50 minutes on two cores, a step taking 1 s;
- `folded24` (1.3 and 0.7) for a CPU too, a third of `compact`'s work a step: both networks on the half grid, white
  noise for the texture, no norms in the critic, one critic update a step with the penalty at a quarter of its rows;
- `smoke` for seconds.

All but the published ones and `smoke` also train the segmenter that gives nodules their masks.
"""

ABOUT_PRESETS = {
    "paper": "cubes of 48 mm, as published, on a GPU.",
    "large": "twice its channels.",
    "patch48": "cubes of 48 mm, told diameter, texture and malignancy.",
    "patch24": "the same of 24 mm, with patches without a nodule.",
    "compact": "the same for a CPU.",
    "folded24": "for a CPU too, not published: folded voxels, grain, styles; a third of compact's work a step.",
    "smoke": "seconds.",
}


class AcWganOptions(makers.Options):
    """Options of sampling.

    Attributes:
        select: keep only the samples that the critic takes for real and for their class.
        precision: of the networks, 32 or bf16; auto is the one that they learned in where this machine has it, else 32.
            The manifest tells which.
    """

    select: bool = False
    precision: Literal["auto", "32", "bf16"] = "auto"


Options = AcWganOptions
Config = AcWganConfig


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        cache: folder for decoded patches; the user's cache folder if not given.
    """

    cache: Path | None = None


def ac_wgan_config(preset: str, settings: Mapping[str, Any]) -> AcWganConfig:
    """A preset with some settings changed.

    Raises:
        InputError: no such preset, or a setting that does not exist or whose value does not fit.
    """
    return choose(PRESETS, preset, settings)
