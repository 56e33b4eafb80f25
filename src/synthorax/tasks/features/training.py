"""The network of features made ready for the loop."""

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
    """Return a fresh network and the patches of a store's training patients; the best on validation patients is kept.

    Raises:
        InputError: no store, or one without nodules.
    """
    if config.select != "val_loss":
        raise InputError("select", repr(config.select), "val_loss, which several classes have")
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
