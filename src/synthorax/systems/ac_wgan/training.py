"""What training an AC-WGAN-GP takes from a store: patches with and without a nodule, and the nodules' attributes."""

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
"""Nodule patches read at once when the threshold of the selection is computed."""


def training(config: AcWganConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return a new model and its training data, patches of a store's training patients.

    Args:
        config: configuration of the model.
        data: a prepared store, or its folder.
        seed: seed of the weights, of the order of patches and of the places without a nodule.
        options: where decoded patches are kept.

    Raises:
        InputError: there is no store at `data`, or no nodule in its training patients; there is no place for a patch
            without a nodule; or a segmenter is to be trained and no nodule has an outline.
    """
    store = Store.of(data)
    spec = config.patch
    cases = store.in_split("train")
    places = nodule_places(cases, lambda nodule: POSITIVE)
    if config.negatives and places:
        others = negative_places(store, cases, spec, len(places), seed, cache=options.cache)
        if not others:
            expected = "larger crops or whole scans with all their nodules listed; or --set negatives=false"
            raise InputError(store.path, f"{len(places)} nodules and no place for a patch without a nodule", expected)
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
    """Batches of a training step, one for each critic update, with equal numbers of patches of both classes.

    Attributes:
        patches: patches with and without a nodule.
        attributes: attributes [places, a] of each patch, scaled as by `nn.conditions.encoded`, nan where unknown.
        config: configuration of the model.
    """

    patches: PatchDataset
    attributes: Tensor
    config: AcWganConfig

    def __call__(self, step: int) -> list[dict[str, Tensor]]:
        """Return for each critic update ct [b, 1, z, y, x], label [b] and attributes [b, a]."""
        turns = range(step * self.config.n_critic, (step + 1) * self.config.n_critic)
        return [self._of(self.patches.batch(turn, self.config.batch_size)) for turn in turns]

    def positives(self) -> Iterator[Tensor]:
        """Iterate over the patches of all nodules, [b, 1, z, y, x], without augmentation."""
        rows = torch.from_numpy(self.patches.labels == POSITIVE).nonzero()[:, 0]
        for part in rows.split(NODULES_READ_AT_ONCE):
            yield self.patches.rows(part.tolist())["ct"]

    def _of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"ct": batch["ct"], "label": batch["label"], "attributes": self.attributes[batch["index"]]}
