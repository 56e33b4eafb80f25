"""Settings that in-painters share. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from synthorax.errors import InputError
from synthorax.patch import PatchSettings, PatchSpec, ScaledPatch
from synthorax.training.config import Decay, Positive, PositiveShare, Precision

Shown = Literal["diameter_mm", "texture", "spiculation", "lobulation", "margin"]
"""Attributes that an in-painter may be told."""
ALL_SHOWN: tuple[Shown, ...] = ("texture", "spiculation", "lobulation", "margin")
"""The ratings among them."""
MOST_CHANNELS = 2**12
"""Channels of a layer, and patches of a batch, at most."""


class InPainterSettings(PatchSettings):
    """Settings of an in-painter that learns against a critic.

    Attributes:
        batch_size: patches of an update.
        steps: of the whole training.
        learning_rate: Adam's, of the in-painter.
        critic_learning_rate: Adam's, of the critic.
        betas: Adam's.
        rate_end: share of both learning rates that is left at the last step; they fall linearly in the last third.
        ema_decay: of a running mean of the in-painter's weights, which then fills; 0 is none.
        turns: training patches are turned by 90 degrees about the z axis half of the time, beside the flips.
        precision: of the layers, `auto`, `32`, `tf32` or `bf16`; weights and losses stay in 32 bits. A run notes what
            `auto` was.
    """

    batch_size: PositiveInt = 16
    steps: PositiveInt = 20_000
    learning_rate: Positive = 1e-4
    critic_learning_rate: Positive = 1e-4
    betas: tuple[Decay, Decay] = (0.5, 0.9)
    rate_end: PositiveShare = 1.0
    ema_decay: Decay = 0.0
    turns: bool = False
    precision: Precision = "auto"

    @property
    def view(self) -> PatchSpec | ScaledPatch:
        """The patches that are edited, which may grow with their nodules."""
        return self.patch

    def rate(self, step: int) -> float:
        """The share of the learning rates at a step of the whole training."""
        left = 3 * (self.steps - step) / self.steps
        return self.rate_end + (1 - self.rate_end) * min(max(left, 0.0), 1.0)

    @model_validator(mode="after")
    def _check_training(self) -> InPainterSettings:
        if self.batch_size > MOST_CHANNELS:
            raise InputError("batch_size", str(self.batch_size), f"at most {MOST_CHANNELS}")
        if self.turns and (self.size[1] != self.size[2] or self.spacing_mm[1] != self.spacing_mm[2]):
            found = f"true for {self.size} voxels of {self.spacing_mm} mm"
            raise InputError("turns", found, "patches that are as wide along x as along y")
        return self


class ToldSettings(InPainterSettings):
    """Settings of an in-painter that puts nodules in.

    Attributes:
        shown: attributes that the in-painter is told.
        outlines: the in-painter is told the nodule's outline too, and makes what is inside and around it. Outlines of
            other patients then bring the variety that a reconstruction loss takes away: in trials without them every
            seed gave the same nodule. Without outlines a second head gives the mask of what was made.
    """

    shown: tuple[Shown, ...] = ()
    outlines: bool = False

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """The diameter of the ball that is filled for a nodule in a patch."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check_shown(self) -> ToldSettings:
        if len(set(self.shown)) < len(self.shown):
            raise InputError("shown", ", ".join(self.shown), "each attribute at most once")
        return self
