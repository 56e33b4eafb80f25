"""The configuration and presets of the feature network. Does not import torch."""

from __future__ import annotations

from pathlib import Path

from synthorax import makers
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import DetectorConfig

Config = TaskConfig

PRESETS = {
    "compact": TaskConfig(network=DetectorConfig(n_classes=5), shift_voxels=2, scale=(0.9, 1.1)),
    "paper": TaskConfig(network=DetectorConfig(n_classes=5), steps=3000, shift_voxels=2, scale=(0.9, 1.1)),
    "smoke": TaskConfig(
        network=DetectorConfig(width=4, n_classes=5), size=(16, 16, 16), batch_size=10, steps=8, validate_every=4
    ),
}
"""The presets; no paper describes such a network for 3D patches of CT."""

ABOUT_PRESETS = {
    "compact": "takes minutes on a CPU.",
    "paper": "takes longer, with more steps.",
    "smoke": "takes seconds, to try the command.",
}


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        cache: folder in which decoded patches are kept; the user's cache folder if not given.
    """

    cache: Path | None = None
