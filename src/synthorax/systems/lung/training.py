"""Preparing the training of LuNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthorax.datasets.shape_files import SHAPE_TABLE
from synthorax.datasets.shape_sources import read_shapes
from synthorax.datasets.shapes import ShapeSet
from synthorax.datasets.store import Store
from synthorax.provenance import UNTOLD
from synthorax.screen import warn
from synthorax.systems.lung.config import LungConfig, TrainingOptions
from synthorax.systems.lung.system import Lung
from synthorax.training.system import Stage, Training


def training(config: LungConfig, data: str | Path | Store | ShapeSet, seed: int, options: TrainingOptions) -> Training:
    """Return the training of a fresh model on nodule shapes.

    Args:
        config: configuration of the model.
        data: `lidc`, a store, a file or folder of masks, or a `ShapeSet`.
        seed: seed of weights and batches.
        options: options of training.

    Raises:
        InputError: the shapes cannot be read, or do not fit the model's grid.
    """
    shapes = read_shapes(data, config.grid, config.spacing_mm)
    for note in shapes.notes:
        warn(note)
    if options.nodules is not None:
        shapes = shapes.draw(options.nodules, seed)
    model, batches = Lung.for_training(config, shapes.occupancy, seed)
    about: dict[str, Any] = {
        "fingerprint": shapes.fingerprint,
        "shapes": len(shapes),
        "train_patients": shapes.patient_ids,
    }
    if not shapes.tells_patients:
        about[UNTOLD] = True
        warn(
            "the patients of these masks are not known, so the model is refused where training patients must be known; "
            f"to name them, write {SHAPE_TABLE} beside the masks, columns mask and patient_id, and train again"
        )
    log_every = 1 if config.method == "fit" else 50  # a pass of the fit takes as long as many mini-batches
    return Training(model, [Stage("autoencoder", config.iterations, batches)], about, log_every)
