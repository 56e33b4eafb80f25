"""Training a task, with the weights of the best validation kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file

from synthorax.datasets.augmentation import Augmentation
from synthorax.errors import InputError
from synthorax.tasks.classification import Task
from synthorax.tasks.config import TaskConfig
from synthorax.training.devices import kind_of, make_fabric
from synthorax.training.files import BEST
from synthorax.training.loop import fit
from synthorax.training.precision import with_precision
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Batches, Stage, Training, Validation

Kind = TypeVar("Kind", bound=Task)


def task_training(
    task: Task, batches: Batches, validate: Callable[[], dict[str, float]], about: Mapping[str, Any]
) -> Training:
    """Return the training of a task for the loop; arguments as of `train_task`."""
    config = task.config
    validation = Validation(validate, config.validate_every, config.select, config.larger_is_better)
    stages = [Stage("network", config.steps, batches)]
    return Training(task, stages, about, max(config.steps // 50, 1), config.precision, validation)


def train_task(
    task: Kind,
    batches: Batches,
    validate: Callable[[], dict[str, float]],
    out: Path,
    about: Mapping[str, Any],
    *,
    device: str = "auto",
) -> Kind:
    """Train in a run folder, or resume the run there, and return the task with its best weights.

    Args:
        task: to train.
        batches: maps a step to its batch.
        validate: returns the validation measures, among them `config.select`.
        out: run folder.
        about: the data, recorded in the run folder.
        device: on which to train.

    Raises:
        InputError: the folder holds another run.
        TrainingError: a loss or a weight is no longer finite.
    """
    config = task.config = with_precision(task.config, kind_of(device), out)
    training = task_training(task, batches, validate, about)
    fabric = make_fabric(device, precision=config.precision)
    settled = {"task": task.name, "seed": task.seed, "config": config}
    run = RunFolder.open(out, settled, about)
    fit(training, run, fabric)
    task.load_weights(load_file(out / BEST))
    return task


def augmentation(config: TaskConfig) -> Augmentation:
    """Return the augmentation of training patches that a configuration asks for."""
    return Augmentation(config.flip, config.shift_voxels, config.scale, config.turn)


def check_size(task: Task) -> None:
    """Refuse patches that the network of a task cannot take, before any data is read.

    Raises:
        InputError: the patches are too small, or a size cannot be halved often enough.
    """
    least = task.network.minimum_size
    assert isinstance(least, tuple)
    size = task.config.size
    if any(n < m for n, m in zip(size, least, strict=True)):
        raise InputError("size", f"patches of {size} voxels", f"at least {least} voxels, which the network needs")
    try:
        deepcopy(task.network).eval().to("meta")(torch.empty(1, 1, *size, device="meta"))
    except InputError as error:
        raise InputError("size", f"patches of {size} voxels", error.args[2]) from error
