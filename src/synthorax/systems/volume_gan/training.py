"""The vanilla 3D GAN made ready for the loop: the chests of a store's training patients."""

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
    """Return a fresh model and the chests of a store's training patients.

    Args:
        data: a prepared store.

    Raises:
        InputError: no store, or one without whole scans, or without cubes for a model of cubes.
    """
    erased_by = None if options.erased_by is None else cast(Method, hub.find(options.erased_by, "erases"))
    chests, about = training_chests(config, Store.of(data), erased_by, seed, options.cache)
    model = VolumeGan(config, seed, ScanFacts.of(chests))
    stage = Stage("gan", config.steps, WholeChests(chests, config.batch_size))
    return Training(model, [stage], about, max(config.steps // 400, 1), config.precision)


@dataclass(frozen=True, eq=False)
class WholeChests:
    """A batch of whole chests for each step."""

    chests: Chests
    size: int

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return ct [b, 1, z, y, x] within -1 to 1, and index [b], of the chests."""
        index = self.chests.drawn(step, self.size)
        return {"ct": self.chests.whole(index.tolist()), "index": torch.from_numpy(index)}
