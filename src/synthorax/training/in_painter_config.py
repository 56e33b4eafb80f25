"""Settings that in-painters share. Does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt, model_validator

from synthorax.errors import InputError
from synthorax.patch import PatchSettings, PatchSpec, ScaledPatch
from synthorax.training.config import Decay, Positive, PositiveShare, Precision

Shown = Literal["diameter_mm", "texture", "spiculation", "lobulation", "margin"]
"""Attributes that an in-painter may be conditioned on."""
ALL_SHOWN: tuple[Shown, ...] = ("texture", "spiculation", "lobulation", "margin")
"""The attributes of `Shown` that are ratings."""
MOST_CHANNELS = 2**12
"""Largest number of channels in a layer, and of patches in a batch."""


class InPainterSettings(PatchSettings):
    """Settings of an in-painter that trains against a critic.

    Attributes:
        batch_size: patches in an update.
        steps: number of steps of the whole training.
        learning_rate: learning rate of the in-painter's Adam optimiser.
        critic_learning_rate: learning rate of the critic's Adam optimiser.
        betas: betas of both Adam optimisers.
        rate_end: share of both learning rates at the last step; they fall linearly in the last third of the training.
        ema_decay: decay of the moving average of the in-painter's weights, which then fills patches; 0 keeps none.
        turns: whether half of the training patches are rotated by 90 degrees about the z axis, in addition to flips.
        precision: precision of the layers: `auto`, `32`, `tf32` or `bf16`; weights and losses stay in 32 bits. A run
            records what `auto` was resolved to.
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
        """The grid of the patches that are edited; a `ScaledPatch` grows with the nodule."""
        return self.patch

    def rate(self, step: int) -> float:
        """Return the share of the initial learning rates at a step of the whole training."""
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


class ConditionedSettings(InPainterSettings):
    """Settings of an in-painter that adds nodules.

    Attributes:
        shown: attributes that the in-painter is conditioned on.
        outlines: whether the in-painter is also given the nodule's outline, and fills its inside and surroundings.
            Outlines of other patients then bring the variety that a reconstruction loss removes: in trials without
            them every seed gave the same nodule. Without outlines a second head predicts the nodule's mask.
    """

    shown: tuple[Shown, ...] = ()
    outlines: bool = False

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """Return the diameter in mm of the ball that is filled for a nodule.

        Args:
            diameter_mm: diameter of the nodule.
            spec: grid of the patch.
        """
        raise NotImplementedError

    @model_validator(mode="after")
    def _check_shown(self) -> ConditionedSettings:
        if len(set(self.shown)) < len(self.shown):
            raise InputError("shown", ", ".join(self.shown), "each attribute at most once")
        return self
