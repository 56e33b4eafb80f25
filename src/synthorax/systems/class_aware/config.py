"""The configuration, presets and options of the class-aware in-painter. Does not import torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from synthorax import makers
from synthorax.errors import InputError
from synthorax.nodule import MalignancyRule
from synthorax.patch import PatchSpec
from synthorax.rendering.config import ShapeOptions
from synthorax.training.config import NotNegative, Positive, PositiveShare
from synthorax.training.in_painter_config import ALL_SHOWN, MOST_CHANNELS, ConditionedSettings

SIZE_MULTIPLE = 4
"""Sizes must be divisible by this, because both stages halve the grid twice."""


class ClassAwareConfig(ConditionedSettings):
    """The networks and their training. Defaults are those of Yang et al.; "not in the paper" marks our own choices.

    Attributes:
        size: voxels of a patch (z, y, x), divisible by 4 (64 x 64 x 32 in section 3.1).
        spacing_mm: voxel size (z, y, x) (section 3.1).
        window_hu: HU (low, high) that become -1 and 1. Not in the paper.
        width: channels of the in-painter's first convolution. Not in the paper; as in the 2D program on which it
            builds.
        critic_width: channels of the critics' first convolutions. Not in the paper; as in the 2D program.
        dilations: dilations of the convolutions on the coarsest grid; the 2D program has 2, 4, 8 and 16.
        fold: 1, as published; with 2, blocks of voxels are folded into channels, so that the in-painter's finest grid
            has half the voxels along each axis and takes a fraction of the time.
        shown: attributes in the condition besides the class. Not in the paper, which has none.
        outlines: the condition has the nodule's outline too. Not in the paper. Without outlines, a second head predicts
            the mask of the nodule.
        margin_mm: the filled ball is larger than the nodule's radius by this; 0 in the paper.
        rule: a nodule is malignant if the median of its readers' ratings is 4 or more (median), or if more than half of
            its ratings are (majority). Section 3.1 says "the majority score >= 4".
        steps: training steps, each with `n_critic` updates of the critics and one of the in-painter. Not in the paper.
        n_critic: critic updates in a step.
        classes_from: share of the steps after which the critics' classifiers are trained and classes are flipped. The
            paper says "in the later stage of the training".
        flipped: share of a batch that is then filled as the other class, without a reconstruction loss, so that the
            network learns the opposite class in a context. Not in the paper.
        reconstruction: weight of the reconstruction loss, L_recon.
        global_weight: lambda1, the weight of the whole patch in L_recon. Not in the paper.
        adversarial: weight of the critics' scores in the in-painter's loss.
        class_weight: weight of the classifiers' loss in the critics' loss. Not in the paper.
        in_painter_class_weight: weight of the classifiers' loss in the in-painter's loss, as a multiple of
            `adversarial`.
        mask_weight: weight of the loss of the mask's head, without `outlines`.
        penalty: weight of the gradient penalty.
        penalty_share: share of a batch's rows for which the gradient penalty is computed; for all rows it takes as long
            as the rest of the step.
        critics_told: the critics' scores depend on the class, as printed in section 2.2; their classifiers do not.
        as_printed: critics see the whole output of the in-painter, and the penalty is on the whole gradient, as in the
            printed equation 2. Otherwise critics see the output pasted into the patch, and the penalty is on the
            gradient inside the ball, as in the 2D program.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 64, 64)
    spacing_mm: tuple[Positive, Positive, Positive] = (2.0, 1.0, 1.0)
    width: PositiveInt = 32
    critic_width: PositiveInt = 64
    dilations: tuple[PositiveInt, ...] = Field(default=(2, 4, 8), max_length=8)
    fold: Literal[1, 2] = 1
    margin_mm: NotNegative = 0.0
    rule: MalignancyRule = "median"
    n_critic: PositiveInt = 5
    classes_from: float = Field(default=2 / 3, ge=0, le=1)
    flipped: float = Field(default=0.5, ge=0, lt=1)
    reconstruction: NotNegative = 1.2
    global_weight: NotNegative = 1.0
    adversarial: NotNegative = 1e-3
    class_weight: NotNegative = 1.0
    in_painter_class_weight: NotNegative = 0.1
    mask_weight: NotNegative = 0.1
    penalty: NotNegative = 10.0
    penalty_share: PositiveShare = 1.0
    critics_told: bool = False
    as_printed: bool = False

    @property
    def finest_width(self) -> int:
        """Channels on the finest grid."""
        return self.width

    @property
    def conditions(self) -> int:
        """Number of values in the condition: the class, and two for each attribute."""
        return 1 + 2 * len(self.shown)

    @property
    def plain_steps(self) -> int:
        """Steps before the classifiers are trained."""
        return round(self.classes_from * self.steps)

    @property
    def flipped_rows(self) -> int:
        """Rows of a batch that are filled as the other class once the classifiers are trained."""
        return math.floor(self.flipped * self.batch_size)

    @property
    def penalty_rows(self) -> int:
        """Rows of a batch for which the gradient penalty is computed."""
        return math.ceil(self.penalty_share * self.batch_size)

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """Return the diameter in mm of the ball that is filled for a nodule."""
        return diameter_mm + 2 * self.margin_mm

    @model_validator(mode="after")
    def _check(self) -> ClassAwareConfig:
        if (largest := max(self.width, self.critic_width)) > MOST_CHANNELS:
            raise InputError("width or critic_width", str(largest), f"at most {MOST_CHANNELS}")
        if any(n % SIZE_MULTIPLE for n in self.size):
            raise InputError("size", str(self.size), f"voxels divisible by {SIZE_MULTIPLE}")
        if self.batch_size % 2:
            expected = "an even number, because half of a batch is of each class"
            raise InputError("batch_size", str(self.batch_size), expected)
        if self.width % SIZE_MULTIPLE:
            raise InputError("width", str(self.width), f"a multiple of {SIZE_MULTIPLE}")
        return self


def spread_rows(count: int, size: int) -> NDArray[np.bool_]:
    """Choose `count` rows of a batch evenly, bool [size].

    Equal parts of the batch have the same number of chosen rows, if the number of parts divides `count`. The classes of
    a batch alternate from row to row, and the chosen rows alternate between the classes if `count` allows it.
    """
    if count > size / 2:
        return ~spread_rows(size - count, size)
    chosen = np.zeros(size, bool)
    which = np.arange(count)
    chosen[which * size // max(count, 1) + which % 2] = True
    return chosen


PRESETS = {
    "paper": ClassAwareConfig(critics_told=True, as_printed=True),
    "patch48": ClassAwareConfig(
        size=(48, 48, 48),
        spacing_mm=(1.0, 1.0, 1.0),
        shown=ALL_SHOWN,
        outlines=True,
        margin_mm=3.0,
        ema_decay=0.999,
        turns=True,
    ),
    "compact": ClassAwareConfig(
        size=(32, 32, 32),
        spacing_mm=(1.0, 1.0, 1.0),
        width=16,
        critic_width=12,
        dilations=(2, 4),
        fold=2,
        shown=ALL_SHOWN,
        outlines=True,
        margin_mm=3.0,
        batch_size=8,
        steps=8_000,
        n_critic=1,
        adversarial=1e-2,
        penalty_share=0.25,
        learning_rate=2e-4,
        critic_learning_rate=4e-4,
        rate_end=0.05,
        ema_decay=0.999,
        turns=True,
    ),
    "smoke": ClassAwareConfig(
        size=(16, 16, 16),
        spacing_mm=(1.0, 1.0, 1.0),
        width=4,
        critic_width=4,
        dilations=(2,),
        shown=("texture",),
        outlines=True,
        margin_mm=1.0,
        batch_size=4,
        steps=6,
        n_critic=2,
    ),
}

ABOUT_PRESETS = {
    "paper": "patches of 64 x 64 x 32 voxels, as published, for a GPU.",
    "patch48": "patches of 48 mm; conditions are also outline, texture, spiculation, lobulation and margin.",
    "compact": "as patch48 with folded patches of 32 mm, for a CPU.",
    "smoke": "takes seconds, to try the command.",
}
CORE_SECONDS = {"paper": 500.0, "patch48": 440.0}
"""Seconds of a CPU's core for a step of each preset that is too large for one, reckoned from 25 and 22 TFLOP at
0.05 TFLOP a second."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        cache: folder in which decoded patches are kept; the user's cache folder if not given.
    """

    cache: Path | None = None


Config = ClassAwareConfig
Options = ShapeOptions
