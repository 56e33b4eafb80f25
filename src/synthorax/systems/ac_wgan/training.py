"""The AC-WGAN-GP made ready for the loop: nodules, patches without one, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import training_data
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.nn.conditions import encoded
from synthorax.nodule import NoduleAttributes
from synthorax.patch import POSITIVE
from synthorax.systems.ac_wgan.config import AcWganConfig, TrainingOptions
from synthorax.systems.ac_wgan.system import SEGMENTER_STAGE, AcWgan
from synthorax.tasks.made_masks import WindowBatches
from synthorax.training.system import Stage, Training

NODULES_READ_AT_ONCE = 32
"""Nodules' patches read at once where all of them are read as they are."""


def training(config: AcWganConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return a fresh model and the patches of a store's training patients.

    Args:
        data: a prepared store.

    Raises:
        InputError: no store, one without patches of both classes, or, for a segmenter, without outlines of nodules.
    """
    store = Store.of(data)
    spec = config.patch
    cases = store.in_split("train")
    places = nodule_places(cases, lambda nodule: POSITIVE)
    if config.negatives and places:
        others = negative_places(store, cases, spec, len(places), seed, cache=options.cache)
        if not others:
            expected = "larger cubes or whole scans of which all nodules are known, or negatives=false"
            raise InputError(store.path, f"{len(places)} nodules and no room for a patch without one", expected)
        places += others
    turned = Augmentation(turn=config.turns)
    patches = PatchDataset(store, places, spec, augmentation=turned, seed=seed, cache=options.cache)
    known = [place.nodule.attributes if place.nodule else NoduleAttributes() for place in places]
    attributes = encoded(known, config.attributes)
    batches = StepBatches(patches, attributes, config)
    model = AcWgan(config, seed, real_attributes=attributes[torch.from_numpy(patches.labels == POSITIVE)])
    model.real_positives = batches.positives
    about = {"patches": len(places), **training_data(store)}
    stages = [Stage("gan", config.steps, batches, frozenset({"generator", "critic"}))]
    if config.segmenter_steps:
        windows = WindowBatches.of(store, cases, spec, seed, cache=options.cache)
        stages.insert(0, Stage(SEGMENTER_STAGE, config.segmenter_steps, windows, frozenset({"segmenter"})))
    steps = config.segmenter_steps + config.steps
    return Training(model, stages, about, max(steps // 400, 1), config.precision)


@dataclass(frozen=True, eq=False)
class StepBatches:
    """A batch for each critic update of a step, with as many patches of each class.

    Attributes:
        attributes: [places, a], as the networks take them.
    """

    patches: PatchDataset
    attributes: Tensor
    config: AcWganConfig

    def __call__(self, step: int) -> list[dict[str, Tensor]]:
        """For each update ct [b, 1, z, y, x], label [b] and attributes [b, a]."""
        turns = range(step * self.config.n_critic, (step + 1) * self.config.n_critic)
        return [self._of(self.patches.batch(turn, self.config.batch_size)) for turn in turns]

    def positives(self) -> Iterator[Tensor]:
        """Every nodule's patch as it is, [b, 1, z, y, x]."""
        rows = torch.from_numpy(self.patches.labels == POSITIVE).nonzero()[:, 0]
        for part in rows.split(NODULES_READ_AT_ONCE):
            yield self.patches.rows(part.tolist())["ct"]

    def _of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"ct": batch["ct"], "label": batch["label"], "attributes": self.attributes[batch["index"]]}
