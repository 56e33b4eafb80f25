"""Prepares the training of a CT-SGAN: the model, and slabs of the scans of a store's training patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from synthorax import hub
from synthorax.datasets.chests import Chests
from synthorax.datasets.store import Store
from synthorax.makers import Method
from synthorax.systems.ct_sgan.config import CtSganConfig, TrainingOptions
from synthorax.systems.ct_sgan.system import CtSgan
from synthorax.training.scan_gan import ScanFacts, training_chests
from synthorax.training.system import Stage, Training


def training(config: CtSganConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
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
    model = CtSgan(config, seed, ScanFacts.of(chests))
    stage = Stage("gan", config.steps, SlabBatches(chests, config))
    return Training(model, [stage], about, max(config.steps // 400, 1), config.precision)


@dataclass(frozen=True, eq=False)
class SlabBatches:
    """Gives a batch of slabs for each step.

    Attributes:
        chests: the training scans.
        config: settings.
    """

    chests: Chests
    config: CtSganConfig

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step, see `Chests.batch`."""
        config = self.config
        return self.chests.batch(step, config.batch_size, depth=config.slab, slices=config.slices)
