"""What a class-aware in-painter is, as one frozen and typed object. No torch here."""

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
from synthorax.training.in_painter_config import ALL_SHOWN, MOST_CHANNELS, ToldSettings

SIZE_MULTIPLE = 4
"""Sizes are divisible by this, as both stages halve the grid twice."""


class ClassAwareConfig(ToldSettings):
    """The networks and their training. The defaults are the paper's where it says, and stated where it does not.

    Attributes:
        size: voxels of a patch (z, y, x), divisible by 4 (64 x 64 x 32 in section 3.1).
        spacing_mm: of its voxels (z, y, x) (section 3.1).
        window_hu: HU (low, high) that become -1 and 1. Not in the paper.
        width: channels of the in-painter's first convolution. Not in the paper; that of the 2D program it builds on.
        critic_width: channels of the critics' first convolutions. Likewise.
        dilations: of the convolutions on the coarsest grid; the 2D program has 2, 4, 8 and 16.
        fold: with 2 the in-painter's finest grid has half the voxels along each axis, and blocks of voxels are its
            channels, for a fraction of the work. 1, as published, leaves the voxels as they are.
        shown: attributes that the in-painter is told beside the class. Not in the paper, which has none.
        outlines: the in-painter is told the nodule's outline too, and makes what is inside and around it. Not in the
            paper. Without outlines a second head gives the mask of what was made.
        margin_mm: the ball that is filled is wider by this than half the nodule's diameter; 0 in the paper.
        rule: a nodule is malignant if the median of its readers' ratings is 4 or more, or if the majority rate it so
            (section 3.1 says "the majority score >= 4").
        steps: of `n_critic` updates of the critics and one of the in-painter. Not in the paper.
        n_critic: critic updates a step.
        classes_from: share of the steps after which the critics' classifiers and the flipped classes come in. The
            paper says "in the later stage of the training".
        flipped: share of a batch that is filled as the other class from then on, without a reconstruction loss, so
            that the opposite class in a context is learned at all. Not in the paper.
        reconstruction: weight of L_recon.
        global_weight: lambda1, the weight of the whole patch in L_recon. Not in the paper.
        adversarial: weight of the critics' judgement in the in-painter's loss.
        class_weight: weight of the classifiers' loss in the critics' loss. Not in the paper.
        in_painter_class_weight: its weight in the in-painter's loss, as a multiple of `adversarial`.
        mask_weight: weight of the loss of the mask's head; counts without `outlines` alone.
        penalty: weight of the gradient penalty.
        penalty_share: share of a batch's rows at which the penalty is taken, which costs as much as all the rest.
        critics_told: the critics' scores depend on the class, as printed in section 2.2; their classifiers do not.
        as_printed: critics see all that the in-painter makes, and the penalty counts the whole gradient, as equation 2
            is printed; else they see composites, and the gradient counts inside the ball alone, as in the 2D program.
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
        """Numbers of the condition: the class, and each attribute with a mark of whether it is known."""
        return 1 + 2 * len(self.shown)

    @property
    def plain_steps(self) -> int:
        """Steps before the classifiers come in."""
        return round(self.classes_from * self.steps)

    @property
    def flipped_rows(self) -> int:
        """Rows of a batch that are filled as the other class once the classifiers are in."""
        return math.floor(self.flipped * self.batch_size)

    @property
    def penalty_rows(self) -> int:
        """Rows of a batch at which the gradient penalty is taken."""
        return math.ceil(self.penalty_share * self.batch_size)

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """The diameter of the ball that is filled for a nodule."""
        return diameter_mm + 2 * self.margin_mm

    @model_validator(mode="after")
    def _check(self) -> ClassAwareConfig:
        if (largest := max(self.width, self.critic_width)) > MOST_CHANNELS:
            raise InputError("width or critic_width", str(largest), f"at most {MOST_CHANNELS}")
        if any(n % SIZE_MULTIPLE for n in self.size):
            raise InputError("size", str(self.size), f"voxels divisible by {SIZE_MULTIPLE}")
        if self.batch_size % 2:
            raise InputError("batch_size", str(self.batch_size), "an even number, as half of a batch is of each class")
        if self.width % SIZE_MULTIPLE:
            raise InputError("width", str(self.width), f"a multiple of {SIZE_MULTIPLE}")
        return self


def spread_rows(count: int, size: int) -> NDArray[np.bool_]:
    """Choose rows of a batch evenly, bool [size]: equal parts of the batch have as many, if their number divides it.

    The classes of a batch take turns, and the rows chosen are of one class and the other in turn if there is room.
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
    "paper": "patches of 64 x 64 x 32, as published, on a GPU.",
    "patch48": "patches of 48 mm, told outline, texture, spiculation, lobulation and margin too.",
    "compact": "the same of 32 mm for a CPU, folded.",
    "smoke": "seconds.",
}


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        cache: folder for decoded patches; the user's cache folder if not given.
    """

    cache: Path | None = None


Config = ClassAwareConfig
Options = ShapeOptions
