"""The folder of a training run, which every other verb takes as a model.

config.yaml           system, preset, configuration, data, seed
data.json             the data's fingerprint, the patients of every split, those of earlier models and synthetic data
weights.safetensors   the weights at the last save
best.safetensors      those of the best validation, if the training is validated; then all commands use these
state.pt              networks, optimisers, memory and step, to resume from; loads with `weights_only`
log.jsonl             one line every few steps; `tensorboard/` has the same curves
previews/             pictures that the model gives for the same noise in the course of the training
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save

from synthorax.errors import InputError, OutputError, reason
from synthorax.io.atomic import atomic_file
from synthorax.io.locks import TEMPORARY, clear_leftovers
from synthorax.io.mappings import read_mapping
from synthorax.provenance import SEEN_BEFORE, UNTOLD
from synthorax.screen import say
from synthorax.training.files import (
    BEST,
    CONFIG,
    DATA,
    LOG,
    PREVIEWS,
    STATE,
    WEIGHTS,
    checked_count,
    parse_record,
    read_log,
    whole_lines,
)
from synthorax.training.same_run import ON_DATA, as_mappings, check_config, check_data, check_fingerprint, check_kind
from synthorax.training.trainable import Trainable

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from matplotlib.figure import Figure

    from synthorax.training.system import Training

MASK_NAME = re.compile(r"\.(npy\[\d+\]|(nii|nii\.gz|mha|mhd|nrrd)(:.*)?)$", re.IGNORECASE)
"""Name of a nodule mask in the place of a patient, as runs of earlier versions recorded it."""
LONGEST_CAUSE = 120
"""Largest number of characters of another library's error that an error message quotes."""


@dataclass(frozen=True)
class RunFolder:
    """A training run on disk. Make one with `RunFolder.open`.

    Attributes:
        path: the folder.
        best: `step` and `value` of the best validation so far; empty before the first one.
        beyond: for each guarded figure, for how many lines of the log in a row it has been out of its limits.
    """

    path: Path
    best: dict[str, float] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: Path, config: Mapping[str, Any], data: Mapping[str, Any], fabric: Fabric | None = None
    ) -> RunFolder:
        """Start a run in a new or empty folder, or resume the same run in its own folder.

        Args:
            path: the folder.
            config: system, configuration and what else must equal the run's `config.yaml`, except that `steps` may
                grow, which is printed. Fields of a configuration that an older run lacks count as their defaults.
            data: description of the data, which must equal the run's `data.json`.
            fabric: devices of the training; the first process makes the folder and the others wait for it. None for a
                single process.

        Raises:
            InputError: the folder holds something else, or a run with other settings or data.
            OutputError: the folder cannot be made.
        """
        check_run_folder(path)
        run = cls(path)
        longer = None
        if (path / CONFIG).exists():  # every process checks this itself, so that all of them stop on an error
            found, noted = read_mapping(path / CONFIG), read_mapping(path / DATA)
            # An older run may not record the patients of earlier models.
            asked = {key: value for key, value in data.items() if key in noted or key not in (SEEN_BEFORE, UNTOLD)}
            if data.get(UNTOLD) and UNTOLD not in noted:  # an older run noted the names of masks as patients
                noted, asked = ({k: v for k, v in each.items() if k != "train_patients"} for each in (noted, asked))
            check_kind(path, found, config)
            check_fingerprint(path, found, noted, asked, str(config.get(ON_DATA) or ""))
            longer = check_config(path, found, config)
            check_data(path, found, noted, asked)
        if fabric is None or fabric.is_global_zero:
            run._make(config, data)
            if longer is not None:
                before, now = longer
                say(f"{path}: {now} steps instead of {before}; schedules that depend on it are adjusted", error=True)
                run._write_config(config)
        if fabric is not None:
            fabric.barrier()
        return run

    def _make(self, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        if (self.path / CONFIG).exists():
            for folder in (self.path, self.path / PREVIEWS):
                clear_leftovers(folder)
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(self.path, reason(error)) from error
        with atomic_file(self.path / DATA) as file:
            file.write_text(json.dumps(data, indent=1) + "\n")
        self._write_config(config)

    def _write_config(self, config: Mapping[str, Any]) -> None:
        with atomic_file(self.path / CONFIG) as file:
            file.write_text(yaml.safe_dump(json.loads(json.dumps(as_mappings(config))), sort_keys=False))

    def save(self, training: Training, step: int) -> None:
        """Write the state after `step` steps, then the weights; neither file is ever incomplete on disk.

        Raises:
            OutputError: a file cannot be written.
        """
        model = training.model
        weights = model.weights()
        optimizers = {name: o.state_dict() for name, o in model.optimizers.items()}
        # PyTorch and safetensors report a full disk as errors of their own types, so the bytes are written here.
        state = {
            "step": step,
            "done": training.done(step),
            "left": training.steps - step,
            "asked_steps": getattr(model.config, "steps", None),
            "weights": weights,
            "memory": {name: tensor.detach().cpu() for name, tensor in model.memory.items()},
            "optimizers": optimizers,
            "best": self.best,
            "beyond": self.beyond,
        }
        written = BytesIO()
        torch.save(state, written)
        with atomic_file(self.path / STATE) as file:
            file.write_bytes(written.getbuffer())
        with atomic_file(self.path / WEIGHTS) as file:
            file.write_bytes(save(weights))

    def resume(self, training: Training) -> tuple[int, Training]:
        """Load the saved state into the model and drop lines of the log that are later than the state.

        Returns:
            The number of steps done, 0 for a new run, and the training, in which each finished stage has the number
            of steps that it was trained for.

        Raises:
            InputError: the state is damaged, belongs to other networks, or has done a number of steps in a stage that
                does not match the training.
        """
        model = training.model
        path = self.path / STATE
        if not path.exists():
            self._trim_log(0)
            return 0, training
        try:
            state = read_state(path)
            model.load_weights(state["weights"])
            for name, optimizer in model.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            model.memory = {str(k): tensor.to(model.device) for k, tensor in state.get("memory", {}).items()}
            step = checked_count(state["step"])
            stages = {
                str(name): checked_count(count)
                for name, count in state.get("done", training.done(step)).items()
                if count
            }
            best = {str(name): float(value) for name, value in state["best"].items()}
            if best and set(best) != {"step", "value"}:
                raise ValueError(f"a best validation of {sorted(best)}")
            self.best.update(best, **({"step": checked_count(best["step"])} if best else {}))
            self.beyond.update({str(name): checked_count(count) for name, count in state["beyond"].items()})
        except Exception as error:  # PyTorch raises errors of every kind over a damaged file
            words = " ".join(f"{type(error).__name__}: {error}".split())
            found = f"a state that cannot be loaded ({shorten(words, LONGEST_CAUSE)})"
            expected = "the state of this run; if the file is deleted, the run starts from the beginning"
            raise InputError(path, found, expected) from error
        training = training.going_on(stages)
        now = {name: count for name, count in training.done(step).items() if count}
        if stages != now:
            there, asked = (", ".join(f"{n} of {name}" for name, n in each.items()) for each in (stages, now))
            raise InputError(path, f"steps {there}", f"{asked}, as requested; only the last stage may get more steps")
        self._trim_log(step)
        return step, training

    def keep_best(self, model: Trainable, step: int, value: float, larger_is_better: bool) -> None:
        """Write the weights as `best.safetensors`, if the value is better than at every validation before.

        Args:
            model: the model.
            step: step of the validation.
            value: the figure that decides.
            larger_is_better: whether a larger value is better, or a smaller one.
        """
        sign = 1 if larger_is_better else -1
        if self.best and sign * value <= sign * self.best["value"]:
            return
        self.best.update(step=step, value=value)
        with atomic_file(self.path / BEST) as file:
            file.write_bytes(save(model.weights()))

    def picture(self, figure: Figure, step: int) -> NDArray[np.uint8]:
        """Write the preview picture of a step, and return it as an array [y, x, rgb]."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        (self.path / PREVIEWS).mkdir(exist_ok=True)
        with atomic_file(self.path / PREVIEWS / f"{step:08d}.png") as file:
            figure.savefig(file, format="png")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to the log.

        Raises:
            OutputError: the log cannot be written.
        """
        try:
            with open(self.path / LOG, "a") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise OutputError(self.path / LOG, reason(error)) from error

    def seconds(self) -> float:
        """Return the seconds of training so far, from the log. Call it after `resume`, which drops damaged lines."""
        return max((float(record.get("seconds", 0)) for record in read_log(self.path)), default=0.0)

    def _trim_log(self, step: int) -> None:
        """Drop lines of the log that are later than a step, damaged lines, and an incomplete last line."""
        if not (path := self.path / LOG).exists():
            return
        found = [(line, parse_record(line)) for line in whole_lines(path)]
        kept = [line + "\n" for line, record in found if record is not None and record["step"] <= step]
        with atomic_file(path) as file:
            file.write_text("".join(kept))


def read_state(path: Path) -> dict[str, Any]:
    """Return the content of a run's `state.pt`, read without running any code that it may contain.

    Raises:
        Exception: the file is damaged, or is compressed and might expand without bound; the type is PyTorch's choice.
    """
    if not path.is_file():  # for instance a pipe, on which reading would wait forever
        raise ValueError("no regular file")
    with ZipFile(path) as zipped:  # PyTorch stores every part uncompressed, so nothing grows when it is read
        for part in zipped.infolist():
            if part.compress_type != ZIP_STORED or part.file_size != part.compress_size:
                raise ValueError(f"{part.filename} is compressed")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__}")
    return state


def best_validation(run: Path) -> dict[str, float]:
    """Return `step` and `value` of the validation whose weights a run keeps; empty if it has none, or no state."""
    if not (run / BEST).is_file() or not (run / STATE).is_file():
        return {}
    try:
        return {str(name): value for name, value in read_state(run / STATE)["best"].items()}
    except Exception:  # PyTorch raises errors of every kind over a damaged file, which resuming the run tells
        return {}


def check_run_folder(path: Path) -> None:
    """Check that a folder is new, empty or a run.

    Raises:
        InputError: the folder holds something else.
    """
    if not path.exists() or (path / CONFIG).exists():
        return
    # A run that was killed while its folder was made has only `data.json`.
    if not path.is_dir() or any(f.name != DATA and not f.name.startswith(TEMPORARY) for f in path.iterdir()):
        raise InputError(path, "something that is not a run", "a new or empty folder, or a run to resume")


def seen_patients(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the patients whose data a model was trained on, directly or indirectly.

    Indirectly means: through synthetic cases in its training data, or through a model that its training started from.
    The set is empty if its `data.json` does not record all of them, or has names of mask files in their place, as
    earlier versions wrote for masks.

    Args:
        data: content of `data.json`.
    """
    if data.get(UNTOLD):
        return frozenset()
    trained = data.get("patients", {}).get("train", []) or data.get("train_patients", [])
    if any(MASK_NAME.search(str(name)) for name in data.get("train_patients", [])):
        return frozenset()
    return frozenset(map(str, (*trained, *data.get(SEEN_BEFORE, []))))
