"""The settings of an injector, as one frozen and typed object. Does not import torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from synthorax import makers
from synthorax.patch import PatchSpec
from synthorax.rendering.config import ShapeOptions
from synthorax.training.config import NotNegative
from synthorax.training.in_painter_config import ALL_SHOWN, ConditionedSettings
from synthorax.training.voi_config import VoiSettings


class InjectorConfig(VoiSettings, ConditionedSettings):
    """Settings of the networks and their training. The defaults are the paper's; values that it lacks are marked.

    The paper names the works that it builds on and gives figures B.1 to B.3; the numbers are those of Jin et al.
    (2018).

    Attributes:
        erased: diameter of the ball that is erased and filled, as a share of the VOI's width. Half in the paper: in a
            VOI of 2 diameters the blurred edge of the real nodule then remains outside the ball, and shows the network
            where the nodule was.
        shown: attributes that the injector is conditioned on. Not in the paper.
        outlines: whether the injector gets the nodule's outline, and noise in the ball. Not in the paper, whose
            injector sees the erased VOI only, so that a place always gets the same nodule. Without outlines a second
            head predicts the nodule's mask.
        mask_weight: weight of the loss of the mask head; used without `outlines` only.
    """

    erased: float = 0.5
    mask_weight: NotNegative = 0.1

    def ball_mm(self, diameter_mm: float, spec: PatchSpec) -> float:
        """Return the diameter in mm of the ball that is erased and filled; it depends on the VOI's width only."""
        return self.erased * min(spec.size_mm)

    @property
    def conditions(self) -> int:
        """Length of the condition vector: each attribute, and for each an entry that says whether it is known."""
        return 2 * len(self.shown)

    @model_validator(mode="after")
    def _check(self) -> InjectorConfig:
        self.check_ball("erased", self.erased)
        return self


PRESETS = {
    "paper": InjectorConfig(),
    "compact": InjectorConfig(
        size=(32, 32, 32),
        spacing_mm=(0.5, 0.5, 0.5),
        erased=0.7,
        widths=(32, 64, 96),
        critic_widths=(32, 64, 96),
        fold=2,
        shown=("diameter_mm", *ALL_SHOWN),
        outlines=True,
        near_voxels=2,
        near_weight=1.0,
        reconstruction=20.0,
        batch_size=8,
        steps=8_000,
        warm_up=0.1,
        learning_rate=2e-4,
        critic_learning_rate=2e-4,
        rate_end=0.05,
        ema_decay=0.999,
        turns=True,
    ),
    "smoke": InjectorConfig(
        size=(16, 16, 16),
        spacing_mm=(0.75, 0.75, 0.75),
        erased=0.8,
        widths=(4, 8),
        critic_widths=(4, 8),
        fold=2,
        shown=("texture",),
        outlines=True,
        near_voxels=1,
        batch_size=4,
        steps=6,
        warm_up=0.5,
    ),
}

ABOUT_PRESETS = {
    "paper": "VOIs of 64^3, as published, on a GPU.",
    "compact": "VOIs of 32^3 for a CPU, folded; given outline, diameter, texture, spiculation, lobulation and margin.",
    "smoke": "seconds.",
}
CORE_SECONDS: dict[str, float | None] = {"paper": None}
"""Presets that are too large for a CPU; nobody measured the seconds of their steps."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""


class TrainingOptions(makers.Options):
    """Options of training in addition to the configuration.

    Attributes:
        cache: folder for decoded patches; the user's cache folder if not given.
    """

    cache: Path | None = None


Config = InjectorConfig
Options = ShapeOptions
