"""The folder that a training run lives in and that every other verb takes.

config.yaml           system, preset, configuration, data, seed
data.json             the data's fingerprint, the patients of every split, those that its ancestors were trained on
weights.safetensors   the model as of the last save; `best.safetensors` as of the best validation, where there is one
state.pt              networks, optimisers and step, to go on from; loads with `weights_only`
log.jsonl             one line every few steps; `tensorboard/` has the same curves
previews/             what the model makes of the same noise as it learns
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors.torch import save

from synthorax.errors import InputError, OutputError
from synthorax.io.atomic import TEMPORARY, atomic_file
from synthorax.training.files import BEST, CONFIG, DATA, LOG, PREVIEWS, STATE, WEIGHTS
from synthorax.training.trainable import Trainable

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from matplotlib.figure import Figure

SEEN_BEFORE = "seen_before"
"""Of `data.json`: patients that the model a run started from was trained on, or one before it."""
LONGEST = 120
"""Characters of a setting that an error shows."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. Make one with `RunFolder.open`.

    Attributes:
        best: step and value of the best validation so far.
        beyond: how many lines of the log in a row each guarded figure has been beyond its limit.
    """

    path: Path
    best: dict[str, float] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: Path, config: Mapping[str, Any], data: Mapping[str, Any], fabric: Fabric | None = None
    ) -> RunFolder:
        """Start a run in a new or empty folder, or go on with the same run in its own.

        Args:
            config: what must stay the same. Of a model in it a run may lack fields: they had their defaults.
            fabric: of several processes the first one makes the folder and the others wait for it.

        Raises:
            InputError: the folder holds something else, or a run with other settings or data.
            OutputError: the folder cannot be made.
        """
        check_run_folder(path)
        run = cls(path)
        if (path / CONFIG).exists():  # every process looks for itself, so that all of them stop if one has to
            run._check_same(CONFIG, _filled(run._read(CONFIG), config), config)
            run._check_same(DATA, run._read(DATA), data)
        if fabric is None or fabric.is_global_zero:
            run._make(config, data)
        if fabric is not None:
            fabric.barrier()
        return run

    def _make(self, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        if (self.path / CONFIG).exists():
            for leftover in self.path.glob(TEMPORARY + "*"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(self.path, (error.strerror or str(error)).lower()) from error
        with atomic_file(self.path / DATA) as file:
            file.write_text(json.dumps(data, indent=1) + "\n")
        with atomic_file(self.path / CONFIG) as file:
            file.write_text(yaml.safe_dump(_plain(config), sort_keys=False))

    def save(self, model: Trainable, step: int) -> None:
        """Write the state after `step` steps, then the weights; each file is whole at any moment."""
        weights = model.weights()
        optimizers = {name: o.state_dict() for name, o in model.optimizers.items()}
        # Both libraries report a full disk as an error of their own kind, so the bytes are written here.
        state = BytesIO()
        torch.save(
            {"step": step, "weights": weights, "optimizers": optimizers, "best": self.best, "beyond": self.beyond},
            state,
        )
        with atomic_file(self.path / STATE) as file:
            file.write_bytes(state.getbuffer())
        with atomic_file(self.path / WEIGHTS) as file:
            file.write_bytes(save(weights))

    def resume(self, model: Trainable) -> int:
        """Bring the system to the saved state; returns the steps done, 0 for a fresh run.

        Raises:
            InputError: the state is damaged or of other networks.
        """
        path = self.path / STATE
        if not path.exists():
            self._trim_log(0)
            return 0
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            model.load_weights(state["weights"])
            for name, optimizer in model.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.best.update(state["best"])
            self.beyond.update(state["beyond"])
        except Exception as error:
            raise InputError(path, f"a state that does not load ({error})".replace("\n", " "), "this run's") from error
        self._trim_log(state["step"])
        return int(state["step"])

    def keep_best(self, model: Trainable, step: int, value: float, larger_is_better: bool) -> None:
        """Write the weights as the best ones, if no validation before was as good."""
        sign = 1 if larger_is_better else -1
        if self.best and sign * value <= sign * self.best["value"]:
            return
        self.best.update(step=step, value=value)
        with atomic_file(self.path / BEST) as file:
            file.write_bytes(save(model.weights()))

    def picture(self, figure: Figure, step: int) -> NDArray[np.uint8]:
        """Write a picture of a step; returns it, [y, x, rgb]."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        (self.path / PREVIEWS).mkdir(exist_ok=True)
        with atomic_file(self.path / PREVIEWS / f"{step:08d}.png") as file:
            figure.savefig(file, format="png")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to the log."""
        with open(self.path / LOG, "a") as file:
            file.write(json.dumps(record) + "\n")

    def seconds(self) -> float:
        """Of training so far, as its log has them."""
        path = self.path / LOG
        lines = path.read_text().splitlines() if path.exists() else []
        return max((float(json.loads(line).get("seconds", 0)) for line in lines), default=0.0)

    def _read(self, name: str) -> dict[str, Any]:
        """The mapping that `config.yaml` or `data.json` holds; JSON is YAML too."""
        try:
            content = yaml.safe_load((self.path / name).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(self.path / name, "nothing that can be read", "what a run writes there") from error
        if not isinstance(content, dict):
            raise InputError(self.path / name, type(content).__name__, "what a run writes there")
        return content

    def _trim_log(self, step: int) -> None:
        """Drop the lines of steps that were done after the last save, and a half-written last line."""
        if not (path := self.path / LOG).exists():
            return
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and 0 <= _step_of(line) <= step]
        with atomic_file(path) as file:
            file.write_text("".join(kept))

    def _check_same(self, name: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        found, expected = _flat(_plain(found)), _flat(_plain(expected))
        for key in sorted(found.keys() | expected.keys()):
            if found.get(key) != expected.get(key):
                there, asked = (shorten(str(values.get(key)), LONGEST) for values in (found, expected))
                wanted = f"{asked}, as asked; give another --out for another run"
                raise InputError(self.path / name, f"a run with {key} {there}", wanted)


def _step_of(line: str) -> int:
    """The step of a line of the log; -1 if it cannot be read."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1


def check_run_folder(path: Path) -> None:
    """Refuse a folder that holds something other than a run.

    Raises:
        InputError: it does.
    """
    if not path.exists() or (path / CONFIG).exists():
        return
    # A run that was killed while its folder was made has its data's notes and no more.
    if not path.is_dir() or any(f.name != DATA and not f.name.startswith(TEMPORARY) for f in path.iterdir()):
        raise InputError(path, "something that is not a run", "a new or empty folder, or a run to go on with")


def seen_patients(data: Mapping[str, Any]) -> frozenset[str]:
    """The patients that a model was trained on, and those of models it started from, as its `data.json` tells."""
    trained = data.get("patients", {}).get("train", []) or data.get("train_patients", [])
    return frozenset(map(str, (*trained, *data.get(SEEN_BEFORE, []))))


def _filled(found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a run noted, with the defaults of fields that its models did not have then."""
    made = dict(found)
    for key, value in asked.items():
        if isinstance(value, BaseModel):
            with suppress(ValidationError, InputError):
                made[key] = type(value).model_validate(found.get(key))
    return made


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """With models as mappings."""
    return {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in tree.items()}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(tree)).items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
