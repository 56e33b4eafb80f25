"""Prepares the training of a flow: the model, and patches with and without nodules with their conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.edits import EditPatches, edit_patches
from synthorax.datasets.lineage import training_data
from synthorax.datasets.outlines import one_readers
from synthorax.datasets.progress import tell
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.nn.conditions import encoded
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameters_mm
from synthorax.systems.flow.conditions import HAS_NODULE, HAS_NONE, NOT_GIVEN, flow_conditions
from synthorax.systems.flow.config import FlowConfig, TrainingOptions
from synthorax.systems.flow.system import Flow
from synthorax.training.in_painter import PREVIEWED
from synthorax.training.system import Stage, Training, Validation

SIZE_CLASSES_MM = (5.5, 9.0)
"""Diameters that separate three classes of nodules, which are equally frequent in a batch; they are the terciles of
LUNA16's diameters."""
MEASURED_AT_ONCE = 256
"""Masks in one batch of the measurement of diameters."""
VALIDATIONS = 40
"""Number of measurements of the validation loss in a training."""
HELD_OUT_BATCHES = 8
"""Number of batches in a measurement of the validation loss."""


def training(config: FlowConfig, data: str | Path | Store, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a new model on patches of a store's training patients, with and without nodules.

    If a store has no space for a patch without a nodule, the model is trained on nodules alone, and a line says so; it
    can then neither erase nor sample patches without a nodule.

    Args:
        config: settings.
        data: a prepared store.
        seed: seed of all random draws.
        options: options of training.

    Raises:
        InputError: there is no store, or it has no training nodule that fits a patch.
    """
    store = Store.of(data)
    patches = _patches(store, "train", config, seed, options.cache)
    rows = FlowRows(patches, encoded(with_widths(patches), config.shown), config)
    model = Flow(config, seed, rows.of_nodules, int(patches.healthy.sum()))
    model.shown = rows.shown()
    validation = None
    try:
        held_out = _patches(store, "val", config, seed, options.cache)
        others = FlowRows(held_out, encoded(with_widths(held_out), config.shown), config)
        model.held_out = [others(turn) for turn in range(HELD_OUT_BATCHES)]
        validation = Validation(model.validation, max(config.steps // VALIDATIONS, 1), "validation_loss")
    except InputError as error:
        tell(f"the best weights are not selected, because there is no validation loss: {error}")
    about = {"patches": len(patches), "healthy": int(patches.healthy.sum()), **training_data(store)}
    stage = Stage("flow", config.steps, rows)
    return Training(model, [stage], about, max(config.steps // 400, 1), config.precision, validation)


def _patches(store: Store, split: str, config: FlowConfig, seed: int, cache: Path | None) -> EditPatches:
    """Return the patches of a split, with healthy places if the split has any."""

    def found(healthy: int) -> EditPatches:
        return edit_patches(
            store,
            cases,
            config.view,
            classify=size_class,
            what="training nodules" if split == "train" else "validation nodules",
            healthy=healthy,
            ball_mm=config.least_ball_mm,
            varied=True,
            augmentation=Augmentation(turn=config.turns),
            seed=seed,
            cache=cache,
        )

    cases = store.in_split(split)
    try:
        return found(max(sum(len(case.nodules) for case in cases), 1))
    except InputError as error:
        patches = found(0)
        tell(f"trains on nodules alone, so the model will not be able to erase: {error}")
        return patches


def size_class(nodule: Nodule) -> int:
    """Return the class of a nodule's diameter, 1 to 3; 1 if the diameter is unknown."""
    return 1 + sum((nodule.attributes.diameter_mm or 0) >= mm for mm in SIZE_CLASSES_MM)


def with_widths(patches: EditPatches) -> list[NoduleAttributes]:
    """Return the known attributes of each place's nodule, with the diameter measured as its outline's longest chord.

    The chord is the longest one in an axial slice; users request diameters of this definition. LUNA16's diameters are
    means over readers and directions, and are a seventh smaller. A nodule without an outline keeps its stated diameter.
    """
    found = list(patches.attributes)
    for start in range(0, len(patches), MEASURED_AT_ONCE):
        part = range(start, min(start + MEASURED_AT_ONCE, len(patches)))
        masks = _outlines(patches, patches.rows(part))[:, 0].numpy() > 0
        widths = axial_diameters_mm(masks, patches.spec.spacing_mm)
        for row, mm in zip(part, widths, strict=True):
            if np.isfinite(mm):
                found[row] = replace(found[row], diameter_mm=float(mm * patches.places[row].scale))
    return found


def _outlines(patches: EditPatches, batch: dict[str, Tensor]) -> Tensor:
    """Return the outlines of a batch as a single reader would draw them, [b, 1, z, y, x]."""
    spacings = [patches.view_of(i).spacing_mm for i in batch["index"].tolist()]
    return one_readers(batch["mask"], spacings)


@dataclass(frozen=True, eq=False)
class FlowRows:
    """Gives the batch of each step.

    Attributes:
        patches: patches with and without nodules.
        attributes: encoded attributes of each place, [places, a].
        config: settings.
    """

    patches: EditPatches
    attributes: Tensor
    config: FlowConfig

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step: `ct`, `region`, `outline` [b, 1, z, y, x], `condition` [b, k] and `scale` [b]."""
        config = self.config
        batch = self.patches.batch(step, config.batch_size)
        random = generator(self.patches.seed, "told", step)
        n = len(batch["ct"])
        nothing, whole, outlined = (
            torch.from_numpy(random.random(n) < share) for share in (config.told_nothing, config.whole, config.outlined)
        )
        withheld = torch.from_numpy(random.random((n, len(config.shown))) < config.withheld)
        batch["region"][whole] = 1
        return self._with_condition(batch, nothing, outlined, withheld | nothing[:, None])

    @property
    def of_nodules(self) -> Tensor:
        """Encoded attributes of each nodule, [nodules, a]; of a nodule with several views the first one counts."""
        return self.attributes[self._first_views]

    def shown(self) -> dict[str, Tensor]:
        """Return the first nodules for the preview, not augmented, with their outlines and all known attributes."""
        batch = self.patches.rows(self._first_views[:PREVIEWED])
        n = len(batch["ct"])
        no = torch.zeros(n, dtype=torch.bool)
        return self._with_condition(batch, no, ~no, no[:, None])

    @property
    def _first_views(self) -> list[int]:
        """For each nodule the row of its first view; the views of a nodule are consecutive rows."""
        nodules = [place.nodule for place in self.patches.places]
        return [i for i, own in enumerate(nodules) if own is not None and (i == 0 or own is not nodules[i - 1])]

    def _with_condition(
        self, batch: dict[str, Tensor], nothing: Tensor, outlined: Tensor, withheld: Tensor
    ) -> dict[str, Tensor]:
        outlined = outlined & batch["mask_known"] & ~batch["healthy"] & ~nothing
        outline = _outlines(self.patches, batch) * batch["region"]
        presence = torch.where(batch["healthy"], HAS_NONE, HAS_NODULE).masked_fill(nothing, NOT_GIVEN)
        attributes = self.attributes[batch["index"]].masked_fill(withheld, NOT_GIVEN)
        scale = torch.tensor([self.patches.places[i].scale for i in batch["index"].tolist()])
        return {
            "ct": batch["ct"],
            "region": batch["region"],
            "outline": outline * outlined[:, None, None, None, None],
            "condition": flow_conditions(scale, presence, outlined, attributes),
            "scale": scale,
        }
