"""Configuration of the study of segmentation: training and measurement of its networks. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from synthorax.errors import InputError
from synthorax.patch import PatchSpec
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import UNetConfig
from synthorax.training.config import choose

HALVED = 8
"""Sizes of volumes and windows must be multiples of this, since the U-Net halves its grid three times."""


class SegmenterConfig(TaskConfig):
    """The thesis' U-Net, the windows on which it is trained, and the volumes on which it is measured.

    Attributes:
        size: voxels (z, y, x) of a window.
        batch_size: windows of a batch, each from a volume drawn at random.
        volume: voxels (z, y, x) of a volume, which is segmented as a whole.
        empty: voxels (z, y, x) of a test volume without a nodule.
        at_nodules: share of the windows around a nodule's voxel; the others lie around another voxel.
        offset_voxels: largest distance, along each axis, of the nodule's voxel from the middle of its window.
        checkpoints: steps after which the network is measured, rising; the last one ends the training.
        headline: checkpoint of the main results, chosen before anything was measured.
    """

    volume: tuple[PositiveInt, PositiveInt, PositiveInt] = (48, 48, 48)
    empty: tuple[PositiveInt, PositiveInt, PositiveInt] = (24, 24, 24)
    at_nodules: float = Field(default=0.5, gt=0, le=1)
    offset_voxels: NonNegativeInt = 8
    checkpoints: tuple[PositiveInt, ...] = Field(default=(500, 1250, 1500), min_length=1)
    headline: PositiveInt = 1250

    @property
    def volume_spec(self) -> PatchSpec:
        """Grid of a volume."""
        return PatchSpec(self.volume, self.spacing_mm, self.window_hu)

    @property
    def empty_spec(self) -> PatchSpec:
        """Grid of a test volume without a nodule."""
        return PatchSpec(self.empty, self.spacing_mm, self.window_hu)

    @model_validator(mode="after")
    def _check(self) -> SegmenterConfig:
        sides = (*self.size, *self.volume, *self.empty)
        if any(n % HALVED for n in sides) or any(n > m for n, m in zip(self.size, self.volume, strict=True)):
            found = f"{self.size}, {self.volume} and {self.empty}"
            expected = f"multiples of {HALVED}, and no window larger than a volume"
            raise InputError("size, volume or empty", found, expected)
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or self.checkpoints[-1] != self.steps:
            expected = f"rising numbers, the last of them the {self.steps} steps"
            raise InputError("checkpoints", str(self.checkpoints), expected)
        if self.headline not in self.checkpoints:
            raise InputError("headline", str(self.headline), " or ".join(map(str, self.checkpoints)))
        return self


SEGMENTERS = {
    "paper": SegmenterConfig(
        network=UNetConfig(),
        size=(96, 96, 96),
        volume=(128, 128, 128),
        empty=(128, 128, 128),
        spacing_mm=(1.0, 0.48828125, 0.48828125),
        batch_size=2,
        steps=120_000,
        late_rate=1e-3,
        turn=True,
        offset_voxels=24,
        checkpoints=(25_000, 50_000, 75_000, 100_000, 120_000),
        headline=100_000,
    ),
    "compact": SegmenterConfig(
        network=UNetConfig(width=8),
        size=(32, 32, 32),
        batch_size=4,
        steps=1_500,
        late_rate=3e-4,
        ema_decay=0.99,
        turn=True,
    ),
    "smoke": SegmenterConfig(
        network=UNetConfig(width=2),
        size=(16, 16, 16),
        volume=(24, 24, 24),
        empty=(16, 16, 16),
        batch_size=2,
        steps=4,
        turn=True,
        offset_voxels=4,
        checkpoints=(2, 4),
        headline=2,
    ),
}
"""Presets. `paper` follows Hagvall Hörnstedt, section 4.2: NiftyNet's U-Net on balanced windows of 96^3 voxels, two a
step, measured after 100,000 and 120,000 steps; the thesis does not state the learning rate. `compact` has a quarter of
the channels and an 80th of the steps, for a CPU, and measures the moving average of the weights. Windows are flipped
and turned in every arm."""


def segmenter(preset: str, settings: Mapping[str, Any]) -> SegmenterConfig:
    """Return the configuration of a preset with some settings changed.

    If the steps are changed alone, each checkpoint and the headline keep their share of them.

    Args:
        preset: name of the preset.
        settings: new values by the names of the settings.

    Raises:
        InputError: the preset or a setting does not exist, or a value is not valid.

    >>> changed = segmenter("compact", {"steps": 3_000})
    >>> changed.checkpoints, changed.headline
    ((1000, 2500, 3000), 2500)
    """
    usual, steps = choose(SEGMENTERS, preset, {}), settings.get("steps")
    if not isinstance(steps, int) or steps < 1 or settings.keys() & {"checkpoints", "headline"}:
        return choose(SEGMENTERS, preset, settings)
    moved = {at: max(round(at * steps / usual.steps), 1) for at in usual.checkpoints}
    own = {"checkpoints": sorted(set(moved.values())), "headline": moved[usual.headline]}
    return choose(SEGMENTERS, preset, {**settings, **own})
