"""The configuration of a task: network, patches and training. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt

from synthorax.patch import PatchSettings
from synthorax.tasks.networks.config import DetectorConfig, NetworkConfig, ResNetConfig, SqueezeNetConfig, UNetConfig
from synthorax.training.config import Decay, NotNegative, Positive, Precision, choose


class TaskConfig(PatchSettings):
    """A network, its patches, and its training.

    Attributes:
        network: architecture.
        size: voxels of a patch (z, y, x); in the study of volumes, those to which a chest is resized.
        spacing_mm: voxel size (z, y, x); not used in the study of volumes.
        window_hu: HU (low, high) that become -1 and 1.
        batch_size: patches of a batch, equally many of each class.
        steps: training steps.
        learning_rate: in the first part of training.
        late_rate: learning rate in the last part of training.
        late_from: share of the steps after which `late_rate` is used.
        weight_decay: weight decay of AdamW.
        ema_decay: decay of the moving average of the weights, which is then used outside training; 0 keeps none.
        flip: mirror each axis with probability 0.5.
        turn: rotate by 90 degrees about the z axis with probability 0.5.
        shift_voxels: largest random shift along each axis.
        scale: least and greatest random magnification.
        validate_every: steps between two validations; the weights of the best one are kept.
        select: validation measure that chooses the best weights.
        precision: precision of the layers; weights and losses are float32.
    """

    network: NetworkConfig
    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (24, 24, 24)
    batch_size: PositiveInt = 64
    steps: PositiveInt = 1200
    learning_rate: Positive = 1e-3
    late_rate: Positive = 1e-4
    late_from: float = Field(default=0.5, ge=0, le=1)
    weight_decay: NotNegative = 0.0
    ema_decay: Decay = 0.0
    flip: bool = True
    turn: bool = False
    shift_voxels: NotNegative = 0.0
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    validate_every: PositiveInt = 50
    select: Literal["val_loss", "val_auc", "val_dice"] = "val_loss"
    precision: Precision = "auto"

    @property
    def finest_width(self) -> int:
        """Channels on the network's finest grid."""
        return self.network.finest_width

    @property
    def larger_is_better(self) -> bool:
        """Whether a larger value of `select` is better."""
        return self.select != "val_loss"

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.learning_rate if step < self.late_from * self.steps else self.late_rate


DETECTION = {
    "paper": TaskConfig(network=DetectorConfig(), size=(48, 48, 48), steps=60 * 178),
    "compact": TaskConfig(network=DetectorConfig()),
    "smoke": TaskConfig(network=DetectorConfig(width=4), size=(16, 16, 16), batch_size=8, steps=8, validate_every=4),
}
"""Presets of the detector of Cui's thesis, trained by Adam with rate 1e-3, and 1e-4 from epoch 30 of 60, on batches of
32 + 32 patches. `paper` has 178 batches in an epoch, which is 714 x 8 positives / 32. `compact` has patches of
24 mm."""

MALIGNANCY = {
    "paper": TaskConfig(
        network=ResNetConfig(architecture="resnet-50"),
        size=(32, 64, 64),
        spacing_mm=(2.0, 1.0, 1.0),
        batch_size=16,
        steps=5000,
        shift_voxels=4,
        scale=(0.9, 1.1),
        select="val_auc",
    ),
    "compact": TaskConfig(
        network=ResNetConfig(architecture="resnet-10", width=16),
        size=(32, 32, 32),
        batch_size=32,
        steps=500,
        weight_decay=1e-4,
        shift_voxels=2,
        scale=(0.9, 1.1),
        validate_every=25,
        select="val_auc",
    ),
    "smoke": TaskConfig(
        network=ResNetConfig(architecture="resnet-10", width=4, stem="cube"),
        size=(16, 16, 16),
        batch_size=8,
        steps=8,
        validate_every=4,
        select="val_auc",
    ),
}
"""Presets of the classifiers of Yang et al.: 3D ResNets on 64 x 64 x 32 voxels of 1 x 1 x 2 mm, with cropping and
scaling, chosen by the best validation AUC. The paper does not name its optimiser."""

SEGMENTATION = {
    "paper": TaskConfig(
        network=UNetConfig(), size=(64, 64, 64), batch_size=2, steps=20_000, shift_voxels=8, select="val_dice"
    ),
    "compact": TaskConfig(
        network=UNetConfig(width=4),
        size=(32, 32, 32),
        batch_size=8,
        steps=400,
        learning_rate=3e-3,
        late_rate=5e-4,
        shift_voxels=4,
        scale=(0.9, 1.1),
        select="val_dice",
    ),
    "smoke": TaskConfig(
        network=UNetConfig(width=2), size=(16, 16, 16), batch_size=2, steps=6, validate_every=3, select="val_dice"
    ),
}
"""Presets of the segmenter of Hagvall Hörnstedt, on cubes around nodules."""

VOLUME_TASKS = {
    "paper": TaskConfig(
        network=SqueezeNetConfig(),
        size=(224, 224, 224),
        batch_size=8,
        steps=20_000,
        learning_rate=1e-4,
        shift_voxels=8,
        scale=(0.9, 1.1),
        validate_every=250,
    ),
    "compact": TaskConfig(
        network=SqueezeNetConfig(),
        size=(64, 64, 64),
        batch_size=8,
        steps=600,
        learning_rate=1e-4,
        shift_voxels=3,
        scale=(0.9, 1.1),
    ),
    "patch48": TaskConfig(
        network=SqueezeNetConfig(),
        size=(48, 48, 48),
        batch_size=16,
        steps=600,
        learning_rate=1e-4,
        shift_voxels=3,
        scale=(0.9, 1.1),
    ),
    "smoke": TaskConfig(
        network=SqueezeNetConfig(),
        size=(16, 32, 32),
        batch_size=4,
        steps=4,
        learning_rate=1e-4,
        shift_voxels=1,
        validate_every=2,
    ),
}
"""CT-SGAN: 3D-SqueezeNet on whole volumes, Adam of 1e-4 throughout; batches and steps are not said. The voxels are
those of the chests, whose spacing differs. Only the arm of plain augmentation flips, moves and scales."""

TASKS: Mapping[str, Mapping[str, TaskConfig]] = {
    "detection": DETECTION,
    "malignancy": MALIGNANCY,
    "segmentation": SEGMENTATION,
    "volumes": VOLUME_TASKS,
}


def task_config(task: str, preset: str, settings: Mapping[str, Any]) -> TaskConfig:
    """Return a preset of a task with some settings changed.

    Args:
        task: a key of `TASKS`.
        preset: preset of the task.
        settings: name -> new value.

    Raises:
        InputError: there is no such preset or setting, or a value does not fit.
    """
    return choose(TASKS[task], preset, settings)
