"""The class-aware in-painter made ready for the loop: rated training nodules, and what it is told of them."""

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
from synthorax.nodule import Nodule, malignancy_of
from synthorax.systems.class_aware.conditions import conditions_of
from synthorax.systems.class_aware.config import ClassAwareConfig, TrainingOptions
from synthorax.systems.class_aware.system import BENIGN, CLASSES_STAGE, FILL_STAGE, MALIGNANT, ClassAware
from synthorax.training.diversity import SeedDiversity, diversity_limit, real_distance_hu
from synthorax.training.in_painter import PREVIEWED
from synthorax.training.system import Stage, Training


def training(config: ClassAwareConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return a fresh model and the patches of the rated nodules of a store's training patients.

    Args:
        data: a prepared store.

    Raises:
        InputError: no store, or one without training nodules of both classes; for a model that is told outlines, one
            whose nodules have none.
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
        ball_mm=config.ball_mm,
        outlined=config.outlines,
        augmentation=Augmentation(turn=config.turns),
        seed=seed,
        cache=options.cache,
    )
    counts = {name: int((patches.labels == label).sum()) for name, label in CLASSES.items()}
    if missing := [name for name, count in counts.items() if not count]:
        found = f"{len(patches)} rated training nodules, none of them {missing[0]} by the {config.rule} rule"
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
            tell(f"whether two seeds make one nodule is not watched: {error}")
    about = {"patches": len(patches), "classes": counts, **training_data(store)}
    stages = [
        Stage(FILL_STAGE, config.plain_steps, fill),
        Stage(CLASSES_STAGE, config.steps - config.plain_steps, classes),
    ]
    stages = [stage for stage in stages if stage.steps]
    return Training(model, stages, about, max(config.steps // 400, 1), config.precision)


def _real_distance_hu(patches: EditPatches, seed: int) -> float:
    """How far pairs of real nodules that are alike lie apart, for the guard of variety."""
    whole = patches.rows(range(len(patches)))
    patients = [place.patient_id for place in patches.places]
    return real_distance_hu(whole["ct"], whole["region"], patches.attributes, patients, patches.spec, seed)


CLASSES = {"benign": BENIGN, "malignant": MALIGNANT}
WARM_UP = 0.1
"""Share of the steps after which two seeds have to make two nodules."""


@dataclass(frozen=True, eq=False)
class ClassBatches:
    """A batch for each critic update of a step, with as many patches of each class.

    Attributes:
        attributes: [places, a], as the networks take them.
        stage: batches of another stage are others.
    """

    patches: EditPatches
    attributes: Tensor
    config: ClassAwareConfig
    stage: str

    def __call__(self, step: int) -> list[dict[str, Tensor]]:
        """For each update ct, region, mask, perhaps outline [b, 1, z, y, x], told [b, k], label and mask_known [b]."""
        n = self.config.n_critic
        before = self.config.plain_steps * n if self.stage == CLASSES_STAGE else 0
        turns = range(before + step * n, before + (step + 1) * n)
        return [self._of(self.patches.batch(turn, self.config.batch_size)) for turn in turns]

    def shown(self) -> dict[str, Tensor]:
        """The first patches as they are, for the preview."""
        return self._of(self.patches.rows(range(min(PREVIEWED, len(self.patches)))))

    def _of(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = one_readers(batch["mask"], [self.config.spacing_mm] * len(batch["mask"])) * batch["region"]
        malignant = 2.0 * (batch["label"] == MALIGNANT) - 1
        told = conditions_of(malignant, self.attributes[batch["index"]])
        kept = {name: batch[name] for name in ("ct", "region", "label", "mask_known")}
        outline = {"outline": mask} if self.config.outlines else {}
        return {**kept, **outline, "mask": mask, "told": told}
