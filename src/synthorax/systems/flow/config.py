"""The settings of a flow, as one frozen and typed object. Does not import torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from synthorax import makers
from synthorax.errors import InputError
from synthorax.patch import PatchSettings, PatchSpec, ScaledPatch
from synthorax.rendering.config import ShapeOptions
from synthorax.training.config import Decay, NotNegative, Positive, PositiveShare, Precision
from synthorax.training.in_painter_config import MOST_CHANNELS

ShownAttribute = Literal[
    "diameter_mm",
    "texture",
    "malignancy",
    "spiculation",
    "lobulation",
    "margin",
    "sphericity",
    "calcification",
    "subtlety",
]
ALL_ATTRIBUTES_SHOWN: tuple[ShownAttribute, ...] = (
    "diameter_mm",
    "texture",
    "malignancy",
    "spiculation",
    "lobulation",
    "margin",
    "sphericity",
    "calcification",
    "subtlety",
)
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]


class FlowConfig(PatchSettings):
    """Settings of the network and its training.

    Attributes:
        size: voxels of a patch (z, y, x), divisible by `fold` and by 2 for each of `widths` after the first.
        spacing_mm: voxel spacing (z, y, x) of the patch of a small nodule.
        window_hu: HU (low, high) that are mapped to -1 and 1.
        diameters: least widths of a patch in diameters of its nodule, so that voxels grow with large nodules. Training
            shows large nodules in all of these widths; an edit uses the middle one.
        coarsest: largest factor by which voxels grow.
        widths: channels of the network on each grid from the finest to the coarsest, multiples of 8.
        blocks: residual blocks on each grid on the way down, and again on the way up.
        fold: voxels along each axis that become channels on the finest grid.
        embedding: entries of the embedding of time and condition.
        shown: attributes that the network may be conditioned on.
        margin_mm: margin around the nodule of the ball that an edit fills, on each side.
        least_margin_mm: smallest margin in training, which draws the ball's width between this margin and the widest
            ball that fits the patch, so that the width does not give away the diameter.
        outlined: share of nodules whose outline the network gets in training.
        withheld: share of the known attributes that the network does not get in training.
        told_nothing: share of patches without any condition, not even whether there is a nodule; for classifier-free
            guidance.
        whole: share of patches in which all voxels are generated, so that the network also generates whole patches.
        nodule_weight: least share of a patch's loss on the nodule and its neighbouring voxels, if its outline is given.
        time_mean: mean of the logit of the times in training; time 0 is noise and time 1 is CT.
        time_spread: standard deviation of the logit of the times in training.
        batch_size: patches in an update; patches without a nodule and each of three classes of diameter are equally
            frequent.
        steps: number of training steps.
        learning_rate: learning rate of AdamW.
        betas: betas of AdamW.
        weight_decay: weight decay of AdamW.
        most_gradient: largest norm of the gradient; a larger gradient is scaled down to it.
        rate_end: share of the learning rate at the last step.
        rate_end_from: share of the steps after which the learning rate falls linearly.
        ema_decay: decay of the moving average of the weights, which then generates nodules; 0 keeps none.
        turns: whether half of the training patches are rotated by 90 degrees about the z axis, in addition to flips.
        precision: precision of the layers: `auto`, `32`, `tf32` or `bf16`; weights and losses stay in 32 bits. A run
            records what `auto` was resolved to.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (24, 24, 24)
    diameters: tuple[float, ...] = Field(default=(1.75, 2.0, 2.5), min_length=1, max_length=8)
    coarsest: float = Field(default=2.0, ge=1, le=8)
    widths: tuple[PositiveInt, ...] = Field(default=(48, 96, 112), min_length=1, max_length=6)
    blocks: int = Field(default=2, ge=1, le=8)
    fold: Literal[1, 2, 4] = 2
    embedding: PositiveInt = 192
    shown: tuple[ShownAttribute, ...] = ALL_ATTRIBUTES_SHOWN
    margin_mm: NotNegative = 4.5
    least_margin_mm: NotNegative = 2.5
    outlined: ShareBelowOne = 0.75
    withheld: ShareBelowOne = 0.2
    told_nothing: ShareBelowOne = 0.1
    whole: ShareBelowOne = 0.1
    nodule_weight: ShareBelowOne = 0.3
    time_mean: float = 0.3
    time_spread: Positive = 1.0
    batch_size: PositiveInt = 16
    steps: PositiveInt = 20_000
    learning_rate: Positive = 3e-4
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: NotNegative = 0.01
    most_gradient: Positive = 1.0
    rate_end: PositiveShare = 0.02
    rate_end_from: ShareBelowOne = 0.7
    ema_decay: Decay = 0.999
    turns: bool = True
    precision: Precision = "auto"

    @property
    def finest_width(self) -> int:
        """Channels of the network on its finest grid."""
        return self.widths[0]

    @property
    def view(self) -> ScaledPatch:
        """The grid of patches around nodules; its voxels grow with large nodules."""
        return ScaledPatch(self.patch, self.diameters, self.coarsest)

    def least_ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """Return the diameter in mm of the smallest ball that training fills for a nodule.

        Args:
            diameter_mm: diameter of the nodule.
            spec: grid of the patch.
        """
        return min(diameter_mm + 2 * self.least_margin_mm, max(spec.widest_mm, diameter_mm))

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """Return the diameter in mm of the ball that an edit fills for a nodule.

        Args:
            diameter_mm: diameter of the nodule.
            spec: grid of the patch.
        """
        return min(diameter_mm + 2 * self.margin_mm, max(spec.widest_mm, diameter_mm))

    def rate(self, step: int) -> float:
        """Return the share of the initial learning rate at a step."""
        left = (self.steps - step) / (self.steps - self.rate_end_from * self.steps)
        return self.rate_end + (1 - self.rate_end) * min(max(left, 0.0), 1.0)

    @model_validator(mode="after")
    def _check(self) -> FlowConfig:
        largest = max(*self.widths, self.embedding, self.batch_size)
        if largest > MOST_CHANNELS:
            raise InputError("widths, embedding or batch_size", str(largest), f"at most {MOST_CHANNELS}")
        multiple = self.fold * 2 ** (len(self.widths) - 1)
        if any(n % multiple for n in self.size):
            raise InputError("size", str(self.size), f"voxels divisible by {multiple}")
        if not (min(self.diameters) > 1 and math.isfinite(max(self.diameters))):
            raise InputError("diameters", str(self.diameters), "widths above 1")
        if self.least_margin_mm > self.margin_mm:
            raise InputError("least_margin_mm", f"{self.least_margin_mm:g}", f"at most margin_mm, {self.margin_mm:g}")
        if len(set(self.shown)) < len(self.shown) or "diameter_mm" not in self.shown:
            raise InputError("shown", ", ".join(self.shown) or "none", "each attribute once, including diameter_mm")
        if self.turns and (self.size[1] != self.size[2] or self.spacing_mm[1] != self.spacing_mm[2]):
            found = f"true for {self.size} voxels of {self.spacing_mm} mm"
            raise InputError("turns", found, "patches that are as wide along x as along y")
        return self


PRESETS = {
    "compact": FlowConfig(),
    "large": FlowConfig(
        size=(64, 64, 64),
        spacing_mm=(0.75, 0.75, 0.75),
        coarsest=1.5,
        widths=(96, 192, 256, 320),
        embedding=512,
        batch_size=32,
        steps=100_000,
        learning_rate=2e-4,
        ema_decay=0.9995,
    ),
    "smoke": FlowConfig(
        size=(16, 16, 16),
        widths=(8, 16),
        blocks=1,
        embedding=16,
        margin_mm=2.0,
        least_margin_mm=1.0,
        whole=0.25,
        batch_size=4,
        steps=6,
        ema_decay=0.5,
    ),
}

ABOUT_PRESETS = {
    "compact": "patches of 24 mm, wider for large nodules; for a CPU.",
    "large": "patches of 48 mm and 64 voxels, on a GPU.",
    "smoke": "seconds.",
}
CORE_SECONDS: dict[str, float | None] = {"large": None}
"""Presets that are too large for a CPU; nobody measured the seconds of their steps."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""


class FlowOptions(ShapeOptions):
    """Options of adding nodules, of erasing and of sampling.

    Attributes:
        steps: number of integration steps from noise to CT, 1 to 200. The time is proportional to it; beyond about 8
            the result changes little.
        solver: euler, or heun, which evaluates the network twice in a step.
        guidance: scale of classifier-free guidance. 1 is none, and takes half the time of any other scale. A larger
            scale makes the requested attributes and the outline more pronounced. Of 1, 1.5, 2 and 3 the default gave
            nodules of validation patients' attributes the lowest KID.
        precision: precision of the network, 32 or bf16; auto is the precision of the training if this machine supports
            it, else 32.
    """

    steps: int = Field(default=16, ge=1, le=200)
    solver: Literal["euler", "heun"] = "euler"
    guidance: float = Field(default=1.5, ge=0, le=20)
    precision: Literal["auto", "32", "bf16"] = "auto"


class TrainingOptions(makers.Options):
    """Options of training in addition to the configuration.

    Attributes:
        cache: folder for decoded patches; the user's cache folder if not given.
    """

    cache: Path | None = None


Config = FlowConfig
Options = FlowOptions
