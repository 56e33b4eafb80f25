"""Prepares the training of an eraser: the model, and healthy VOIs of training patients with nodules added to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from synthorax import hub
from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.injected import InjectedPatches, injected_patches
from synthorax.datasets.lineage import check_unseen, outline_patients, training_data
from synthorax.datasets.store import Store
from synthorax.makers import Method
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcOutlines
from synthorax.systems.eraser.config import EraserConfig, TrainingOptions
from synthorax.systems.eraser.system import Eraser
from synthorax.training.in_painter import PREVIEWED
from synthorax.training.system import Training
from synthorax.training.voi_gan import voi_stages


def training(config: EraserConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a new model on healthy VOIs of a store's training patients with added nodules.

    Args:
        config: settings.
        data: a prepared store.
        seed: seed of all random draws.
        options: options of training.

    Raises:
        InputError: there is no store, it has no healthy places, or the maker of nodules was trained on patients of the
            validation or test split, or does not record its training patients.
    """
    store = Store.of(data)
    if options.maker is None:
        method: Method = Renderer(LidcOutlines(outline_patients(store)))
    else:
        method = cast(Method, hub.find(options.maker, "injects"))
        check_unseen(method.lineage, store)
    patches = injected_patches(
        store,
        store.in_split("train"),
        config.view,
        method,
        healthy=config.healthy,
        ball_mm=config.ball_mm,
        augmentation=Augmentation(turn=config.turns),
        seed=seed,
        cache=options.cache,
    )
    model = Eraser(config, seed)
    model.shown = patches.rows(range(0, len(patches), max(len(patches) // PREVIEWED, 1)))
    about = {"patches": len(patches), "nodules_by": method.name, **training_data(store, method.lineage)}
    stages = voi_stages(config, lambda start: HealthyVois(patches, config.batch_size, start))
    return Training(model, stages, about, max(config.steps // 400, 1), config.precision)


@dataclass(frozen=True, eq=False)
class HealthyVois:
    """Gives batches of healthy VOIs and of the same VOIs with nodules.

    Attributes:
        patches: pairs of VOIs.
        size: VOIs in a batch.
        start: step of the whole training at which the stage begins.
    """

    patches: InjectedPatches
    size: int
    start: int = 0

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step: `ct`, `injected`, `region` and `mask`, each [b, 1, z, y, x]."""
        batch = self.patches.batch(self.start + step, self.size)
        return {name: batch[name] for name in ("ct", "injected", "region", "mask")}
