"""Preparing the training of the class-aware in-painter on rated nodules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.edits import EditPatches, edit_patches
from synthorax.datasets.lineage import training_data
from synthorax.datasets.outlines import one_readers
from synthorax.datasets.progress import tell
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.nn.conditions import encoded
from synthorax.nodule import MALIGNANT_FROM, Nodule, malignancy_of
from synthorax.systems.class_aware.conditions import conditions_of
from synthorax.systems.class_aware.config import ClassAwareConfig, TrainingOptions
from synthorax.systems.class_aware.system import BENIGN, CLASSES_STAGE, FILL_STAGE, MALIGNANT, ClassAware
from synthorax.training.diversity import SeedDiversity, diversity_limit, real_distance_hu
from synthorax.training.in_painter import PREVIEWED
from synthorax.training.system import Stage, Training


def training(config: ClassAwareConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a fresh model on patches of the rated nodules of a store's training patients.

    Args:
        config: configuration of the model.
        data: a prepared store.
        seed: seed of weights and batches.
        options: options of training.

    Raises:
        InputError: there is no store; there are no training nodules of both classes; or no nodule has an outline,
            although the model uses outlines.
    """
    store = Store.of(data)

    def classify(nodule: Nodule) -> int | None:
        found = malignancy_of(nodule, config.rule)
        return None if found is None else MALIGNANT if found else BENIGN

    patches = edit_patches(
        store,
        store.in_split("train"),
        config.patch,
        classify=classify,
        classes=CLASSES,
        ball_mm=config.ball_mm,
        outlined=config.outlines,
        augmentation=Augmentation(turn=config.turns),
        seed=seed,
        cache=options.cache,
    )
    counts = {name: int((patches.labels == label).sum()) for name, label in CLASSES.items()}
    if missing := [name for name, count in counts.items() if not count]:
        rule = f"malignant: a {config.rule} of the ratings of malignancy from {MALIGNANT_FROM} to 5"
        found = f"{len(patches)} rated training nodules, none of them {missing[0]} ({rule})"
        raise InputError(store.path, found, "training nodules of both classes")
    attributes = encoded(patches.attributes, config.shown)
    fill, classes = (ClassBatches(patches, attributes, config, stage) for stage in (FILL_STAGE, CLASSES_STAGE))
    model = ClassAware(config, seed, attributes)
    model.shown = fill.shown()
    if not config.outlines:
        try:
            model.seed_diversity = SeedDiversity(_real_distance_hu(patches, seed), config.patch)
            model.limits = {"diversity": diversity_limit(round(WARM_UP * config.steps))}
        except InputError as error:  # a small store
            tell(f"training does not check that two seeds give different nodules: {error}")
    about = {"patches": len(patches), "classes": counts, **training_data(store)}
    stages = [
        Stage(FILL_STAGE, config.plain_steps, fill),
        Stage(CLASSES_STAGE, config.steps - config.plain_steps, classes),
    ]
    stages = [stage for stage in stages if stage.steps]
    return Training(model, stages, about, max(config.steps // 400, 1), config.precision)


def _real_distance_hu(patches: EditPatches, seed: int) -> float:
    """Return the mean distance in HU of similar real nodules, to which the diversity of seeds is compared."""
    whole = patches.rows(range(len(patches)))
    patients = [place.patient_id for place in patches.places]
    return real_distance_hu(whole["ct"], whole["region"], patches.attributes, patients, patches.spec, seed)


CLASSES = {"benign": BENIGN, "malignant": MALIGNANT}
WARM_UP = 0.1
"""Share of the steps after which training checks that two seeds give different nodules."""


@dataclass(frozen=True, eq=False)
class ClassBatches:
    """The batches of a step, one for each critic update, with equally many patches of each class.

    Attributes:
        patches: patches of the rated nodules.
        attributes: encoded attributes of each nodule, [places, a].
        config: configuration of the model.
        stage: stage of training; each stage has its own batches.
    """

    patches: EditPatches
    attributes: Tensor
    config: ClassAwareConfig
    stage: str

    def __call__(self, step: int) -> list[dict[str, Tensor]]:
        """Return the batches of a step, as `ClassAware.training_step` takes them."""
        n = self.config.n_critic
        before = self.config.plain_steps * n if self.stage == CLASSES_STAGE else 0
        turns = range(before + step * n, before + (step + 1) * n)
        return [self._of(self.patches.batch(turn, self.config.batch_size)) for turn in turns]

    def shown(self) -> dict[str, Tensor]:
        """Return the first patches without augmentation, for the preview."""
        return self._of(self.patches.rows(range(min(PREVIEWED, len(self.patches)))))

    def _of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = one_readers(batch["mask"], [self.config.spacing_mm] * len(batch["mask"])) * batch["region"]
        malignant = 2.0 * (batch["label"] == MALIGNANT) - 1
        condition = conditions_of(malignant, self.attributes[batch["index"]])
        kept = {name: batch[name] for name in ("ct", "region", "label", "mask_known")}
        outline = {"outline": mask} if self.config.outlines else {}
        return {**kept, **outline, "mask": mask, "condition": condition}
