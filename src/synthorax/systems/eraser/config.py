"""What an eraser is, as one frozen and typed object. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from synthorax import makers
from synthorax.makers import Names
from synthorax.patch import PatchSpec
from synthorax.training.voi_config import VoiSettings


class EraserConfig(VoiSettings):
    """The networks and their training. The defaults are the paper's where it says, and stated where it does not.

    The paper trains its eraser on healthy scans into which its injector put nodules.

    Attributes:
        changed: diameter of the ball that may change, as a share of the VOI's width. The paper pastes whole VOIs. The
            change fades over the outer `FADED` of the ball.
        told_masks: share of the training VOIs of which the eraser is told the nodule's voxels; so it heeds a mask, and
            does without one. 0 in the paper.
        healthy: healthy VOIs at most. The paper has 600 scans without nodules.
    """

    changed: float = 0.6
    told_masks: float = Field(default=0.0, ge=0, le=1)
    healthy: PositiveInt = 4000

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """The diameter of the ball that may change, the same for every nodule that a VOI shows."""
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
        widths=(48, 64, 96),
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


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        maker: a maker that puts the nodules into healthy places, by its name or run folder, of which none of the
            store's validation and test patients may be known; rendering of the training patients' outlines if not
            given.
        cache: folder for decoded patches; the user's cache folder if not given.
    """

    maker: Annotated[Any, Names("injects")] = None
    cache: Path | None = None


Config = EraserConfig
Options = makers.Options
