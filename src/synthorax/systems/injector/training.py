"""Prepares the training of an injector: the model, and VOIs of training nodules with their conditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.edits import EditPatches, edit_patches
from synthorax.datasets.lineage import training_data
from synthorax.datasets.outlines import one_readers
from synthorax.datasets.store import Store
from synthorax.nn.conditions import encoded, with_given
from synthorax.systems.injector.config import InjectorConfig, TrainingOptions
from synthorax.systems.injector.system import Injector
from synthorax.training.in_painter import PREVIEWED
from synthorax.training.system import Training
from synthorax.training.voi_gan import voi_stages


def training(config: InjectorConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a new model on VOIs of the nodules of a store's training patients.

    Args:
        config: settings.
        data: a prepared store.
        seed: seed of all random draws.
        options: options of training.

    Raises:
        InputError: there is no store, it has no training nodules, or none with an outline if the model uses outlines.
    """
    store = Store.of(data)
    patches = edit_patches(
        store,
        store.in_split("train"),
        config.view,
        ball_mm=config.ball_mm,
        outlined=config.outlines,
        augmentation=Augmentation(turn=config.turns),
        seed=seed,
        cache=options.cache,
    )
    attributes = encoded(patches.attributes, config.shown)
    vois = NoduleVois(patches, attributes, config)
    model = Injector(config, seed, attributes)
    model.shown = vois.shown()
    about = {"patches": len(patches), **training_data(store)}
    stages = voi_stages(config, lambda start: NoduleVois(patches, attributes, config, start))
    return Training(model, stages, about, max(config.steps // 400, 1), config.precision)


@dataclass(frozen=True, eq=False)
class NoduleVois:
    """Gives batches of VOIs around nodules.

    Attributes:
        patches: the VOIs.
        attributes: encoded attributes of each place, [places, a].
        config: settings.
        start: step of the whole training at which the stage begins.
    """

    patches: EditPatches
    attributes: Tensor
    config: InjectorConfig
    start: int = 0

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step, see `Injector.training_step`."""
        return self._of(self.patches.batch(self.start + step, self.config.batch_size))

    def shown(self) -> dict[str, Tensor]:
        """Return VOIs of the first nodules for the preview, not augmented."""
        rows = range(0, len(self.patches), len(self.config.voi))
        return self._of(self.patches.rows(rows[:PREVIEWED]))

    def _of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        spacings = [self.patches.view_of(row).spacing_mm for row in batch["index"].tolist()]
        mask = one_readers(batch["mask"], spacings) * batch["region"]
        outline = {"outline": mask} if self.config.outlines else {}
        condition = with_given(self.attributes[batch["index"]])
        kept = {name: batch[name] for name in ("ct", "region", "mask_known")}
        return {**kept, **outline, "mask": mask, "condition": condition}
