"""The network whose features patches are compared by: trained here, on the real patches' own tasks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import training_data
from synthorax.datasets.patches import PatchDataset, Place
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.metrics.extractors import FromNetwork
from synthorax.nodule import Nodule
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.training import augmentation, check_size, patch_spec, task_training
from synthorax.training.system import Training

SUBSOLID = 4.0
"""Textures below this are not solid."""
SIZES_MM = (6.0, 10.0)


def feature_class(nodule: Nodule) -> int:
    """1 not solid, 2 to 4 solid below 6 mm, below 10 mm, from 10 mm; 0 is a patch without a nodule."""
    attributes = nodule.attributes
    if attributes.texture is not None and attributes.texture < SUBSOLID:
        return 1
    return 2 + sum((attributes.diameter_mm or 0.0) >= edge for edge in SIZES_MM)


class FeatureNet(Classification):
    """A detector that also tells nodules by texture and size, so that its features see both."""

    name = "features"

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> FeatureNet:
        """What a run folder or a bundled model holds."""
        system = cls(TaskConfig.model_validate(config))
        system.load_weights(weights)
        return system

    def extractor(self, name: str, weights_sha256: str) -> FromNetwork:
        """Its features, as the metrics take them."""
        config = self.config
        return FromNetwork(
            self.network,
            name,
            weights_sha256,
            dimensions=int(self.network.feature_size),  # type: ignore[arg-type]
            window_hu=config.window_hu,
            spacing_mm=config.spacing_mm,
            classes=True,
        )


def features_training(
    config: TaskConfig, data: str | Path | Store, seed: int, *, cache: Path | None = None
) -> Training:
    """A fresh network and the patches of a store's training patients; the best on validation patients is kept.

    Raises:
        InputError: no store, or one without nodules.
    """
    if config.select != "val_loss":
        raise InputError("select", repr(config.select), "val_loss, which several classes have")
    model = FeatureNet(config, seed)
    check_size(model)
    store = Store.of(data)
    spec = patch_spec(config)

    def patches(split: str, drawn: Augmentation) -> PatchDataset:
        cases = store.in_split(split)
        places: list[Place] = nodule_places(cases, feature_class)
        margin = drawn.margin(spec.size)
        places += negative_places(store, cases, spec, len(places), seed, margin=margin, cache=cache)
        return PatchDataset(store, places, spec, augmentation=drawn, seed=seed, cache=cache)

    train, val = patches("train", augmentation(config)), patches("val", Augmentation(flip=False))
    about = {"patches": len(train), **training_data(store)}
    batches = partial(train.batch, size=config.batch_size)
    return task_training(model, batches, partial(model.validate, val), about)
