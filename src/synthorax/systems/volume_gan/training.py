"""Prepares the training of a vanilla 3D GAN: the model, and the scans of a store's training patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from synthorax import hub
from synthorax.datasets.chests import Chests
from synthorax.datasets.store import Store
from synthorax.makers import Method
from synthorax.systems.volume_gan.config import TrainingOptions, VolumeGanConfig
from synthorax.systems.volume_gan.system import VolumeGan
from synthorax.training.scan_gan import ScanFacts, training_chests
from synthorax.training.system import Stage, Training


def training(config: VolumeGanConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a new model on the scans of a store's training patients.

    Args:
        config: settings.
        data: a prepared store.
        seed: seed of all random draws.
        options: options of training.

    Raises:
        InputError: there is no store, it has no whole scans, or no cubes if the model is configured for cubes, or
            `erased_by` is not a maker that erases or was trained on patients of the validation or test split.
    """
    erased_by = None if options.erased_by is None else cast(Method, hub.find(options.erased_by, "erases"))
    chests, about = training_chests(config, Store.of(data), erased_by, seed, options.cache)
    model = VolumeGan(config, seed, ScanFacts.of(chests))
    stage = Stage("gan", config.steps, WholeChests(chests, config.batch_size))
    return Training(model, [stage], about, max(config.steps // 400, 1), config.precision)


@dataclass(frozen=True, eq=False)
class WholeChests:
    """Gives a batch of whole scans for each step.

    Attributes:
        chests: the training scans.
        size: scans in a batch.
    """

    chests: Chests
    size: int

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step: `ct` [b, 1, z, y, x] within -1 to 1, and `index` [b] of the training scans."""
        index = self.chests.drawn(step, self.size)
        return {"ct": self.chests.whole(index.tolist()), "index": torch.from_numpy(index)}
