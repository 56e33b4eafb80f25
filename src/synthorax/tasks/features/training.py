"""Preparing the training of the feature network."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import training_data
from synthorax.datasets.patches import PatchDataset, Place
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.features.classes import feature_class
from synthorax.tasks.features.config import TrainingOptions
from synthorax.tasks.features.system import FeatureNet
from synthorax.tasks.training import augmentation, check_size, task_training
from synthorax.training.system import Training


def training(config: TaskConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a fresh network on a store's training patients, validated on its validation patients.

    Args:
        config: with `select` = `val_loss`.
        data: a prepared store.
        seed: seed of weights and batches.
        options: options of training.

    Raises:
        InputError: there is no store, the store has no nodules, or the configuration does not fit.
    """
    if config.select != "val_loss":
        raise InputError("select", repr(config.select), "val_loss, the measure for more than two classes")
    model = FeatureNet(config, seed)
    check_size(model)
    store = Store.of(data)
    spec = config.patch

    def patches(split: str, drawn: Augmentation) -> PatchDataset:
        cases = store.in_split(split)
        places: list[Place] = nodule_places(cases, feature_class)
        margin = drawn.margin(spec.size)
        places += negative_places(store, cases, spec, len(places), seed, margin=margin, cache=options.cache)
        return PatchDataset(store, places, spec, augmentation=drawn, seed=seed, cache=options.cache)

    train, val = patches("train", augmentation(config)), patches("val", Augmentation(flip=False))
    about = {"patches": len(train), **training_data(store)}
    batches = partial(train.batch, size=config.batch_size)
    return task_training(model, batches, partial(model.validate, val), about)
