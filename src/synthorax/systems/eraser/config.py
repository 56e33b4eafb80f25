"""The settings of an eraser, as one frozen and typed object. Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from synthorax import makers
from synthorax.makers import Names
from synthorax.patch import PatchSpec
from synthorax.training.voi_config import VoiSettings


class EraserConfig(VoiSettings):
    """Settings of the networks and their training. The defaults are the paper's; values that it lacks are marked.

    The paper trains its eraser on healthy scans to which its injector added nodules.

    Attributes:
        changed: diameter of the ball that may change, as a share of the VOI's width. The paper pastes whole VOIs. The
            change fades out over the outer quarter of the ball's radius.
        told_masks: share of the training VOIs for which the eraser gets the nodule's mask, so that it can use a mask
            but also works without one. 0 in the paper.
        healthy: largest number of healthy VOIs. The paper has 600 scans without nodules.
    """

    changed: float = 0.6
    told_masks: float = Field(default=0.0, ge=0, le=1)
    healthy: PositiveInt = 4000

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """Return the diameter in mm of the ball that may change; it depends on the VOI's width only."""
        return self.changed * min(spec.size_mm)

    @model_validator(mode="after")
    def _check(self) -> EraserConfig:
        self.check_ball("changed", self.changed)
        return self


PRESETS = {
    "paper": EraserConfig(),
    "compact": EraserConfig(
        size=(32, 32, 32),
        spacing_mm=(0.5, 0.5, 0.5),
        changed=0.8,
        told_masks=0.5,
        widths=(32, 64, 96),
        critic_widths=(32, 64, 96),
        fold=2,
        near_voxels=2,
        near_weight=1.0,
        reconstruction=20.0,
        batch_size=8,
        steps=8_000,
        warm_up=0.1,
        rate_end=0.05,
        ema_decay=0.999,
        turns=True,
    ),
    "smoke": EraserConfig(
        size=(16, 16, 16),
        spacing_mm=(0.75, 0.75, 0.75),
        changed=0.8,
        told_masks=0.5,
        widths=(4, 8),
        critic_widths=(4, 8),
        fold=2,
        near_voxels=1,
        batch_size=4,
        steps=6,
        warm_up=0.5,
        healthy=20,
    ),
}

ABOUT_PRESETS = {
    "paper": "VOIs of 64^3, as published, on a GPU.",
    "compact": "VOIs of 32^3 for a CPU, folded.",
    "smoke": "seconds.",
}
CORE_SECONDS: dict[str, float | None] = {"paper": None}
"""Presets that are too large for a CPU; nobody measured the seconds of their steps."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""


class TrainingOptions(makers.Options):
    """Options of training in addition to the configuration.

    Attributes:
        maker: name or run folder of a maker that adds the nodules to healthy places; it must not have been trained on
            the store's validation or test patients. If not given, outlines of the training patients are rendered.
        cache: folder for decoded patches; the user's cache folder if not given.
    """

    maker: Annotated[Any, Names("injects")] = None
    cache: Path | None = None


Config = EraserConfig
Options = makers.Options
