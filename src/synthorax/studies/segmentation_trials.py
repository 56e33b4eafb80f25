"""Trainings of the study of segmentation, measured at checkpoints chosen beforehand and resumed after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from numpy.typing import NDArray
from rich.markup import escape
from safetensors.torch import load_file

from synthorax.io.atomic import atomic_file
from synthorax.provenance import fingerprint
from synthorax.studies.marked_volumes import NODULE, MarkedVolumes, WindowsOfVolumes
from synthorax.studies.noted import read_figures
from synthorax.studies.segmentation_config import SegmenterConfig
from synthorax.studies.segmentation_figures import Segmented, count_voxels
from synthorax.studies.trials import Study
from synthorax.tasks.segmentation import Segmentation
from synthorax.training.devices import kind_of, make_fabric
from synthorax.training.files import WEIGHTS, read_log
from synthorax.training.loop import fit
from synthorax.training.precision import with_precision
from synthorax.training.run_folder import RunFolder
from synthorax.training.system import Stage, Training

SEGMENTER_RECIPE = 1
"""Version of the recipe, part of a training's hash; raise it when an arm would be trained or measured differently, so
that old results are not read."""
AT_ONCE = 4
"""Number of volumes that a network segments at once."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """The training volumes of an arm.

    Attributes:
        key: hash of all volumes.
        parts: returns the volumes; called only if there is something to train.
    """

    key: str
    parts: Callable[[], Sequence[MarkedVolumes]]


@dataclass(frozen=True, eq=False)
class SegmenterTrials:
    """Trains arms, and counts the voxels that their networks find in the test volumes.

    Attributes:
        study: the store, the folder of the trainings, and their seeds.
        config: the segmenter and its training.
        test: test volumes with a nodule.
        empty: test volumes without a nodule; None if there are none.
    """

    study: Study
    config: SegmenterConfig
    test: MarkedVolumes
    empty: MarkedVolumes | None

    def __call__(self, name: str, lessons: Lessons) -> dict[int, Segmented]:
        """Return the segmentations of an arm's trainings at each checkpoint; results of earlier calls are read."""
        found: dict[int, list[tuple[NDArray, NDArray]]] = {step: [] for step in self.config.checkpoints}
        for seed in self.study.seeds:
            self.study.console.print(f"[bold]{escape(name)}[/bold], training seed {seed}")
            for step in self.config.checkpoints:
                found[step].append(self._at(name, lessons, seed, step))
        each = {step: [np.stack(counts) for counts in zip(*all_of, strict=True)] for step, all_of in found.items()}
        return {step: Segmented(*counts) for step, counts in each.items()}

    def trained(self, name: str, lessons: Lessons, seed: int) -> Segmentation:
        """Load the network of an arm after its last step; `__call__` must have trained it before."""
        task = Segmentation(self.config, seed)
        task.load_weights(load_file(self._folder(name, lessons, seed) / WEIGHTS))
        return task

    def _folder(self, name: str, lessons: Lessons, seed: int) -> Path:
        content = (SEGMENTER_RECIPE, self.config, seed, self.study.store.fingerprint, lessons.key)
        key = fingerprint(repr(content).encode())[:16]
        return self.study.out / f"{name}-{seed}".replace(" ", "-").replace("/", "-").replace(",", "") / key

    def _at(self, name: str, lessons: Lessons, seed: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return counts in the test volumes [v, 4], and positive voxels in empty ones [e], after a number of steps."""
        folder = self._folder(name, lessons, seed)
        note = folder.with_name(f"{folder.name}-at-{step}.json")
        n_empty = len(self.empty) if self.empty is not None else 0
        shapes = {"volumes": (len(self.test), 4), "empty": (n_empty,)}
        if not note.exists():
            self._forget_beyond(folder, step)
            task = self._fitted(folder, lessons, seed, step)
            volumes = count_voxels(segmented(task, self.test), self.test.marks == NODULE)
            wrong = np.zeros(0) if self.empty is None else segmented(task, self.empty).sum((1, 2, 3))
            figures = {"metrics": {}, "volumes": volumes.tolist(), "empty": wrong.tolist()}
            with atomic_file(note) as temporary:
                temporary.write_text(json.dumps(figures) + "\n")
        found = read_figures(note, shapes)
        return np.array(found["volumes"], np.int64), np.array(found["empty"], np.int64)

    def _forget_beyond(self, folder: Path, step: int) -> None:
        """Remove a run that has trained beyond a checkpoint whose results are missing, and its later results."""
        if max((int(row.get("step", 0)) for row in read_log(folder)), default=0) > step:
            rmtree(folder)
            for later in self.config.checkpoints:
                if later > step:
                    folder.with_name(f"{folder.name}-at-{later}.json").unlink(missing_ok=True)

    def _fitted(self, folder: Path, lessons: Lessons, seed: int, step: int) -> Segmentation:
        """Train a network up to a number of steps, resuming from its run folder."""
        task = Segmentation(self.config, seed)
        task.config = with_precision(self.config, kind_of(self.study.device), folder)
        windows = WindowsOfVolumes(lessons.parts(), self.config, seed)
        about = {"fingerprint": fingerprint(f"{self.study.store.fingerprint} {lessons.key}".encode())}
        every = max(self.config.steps // 50, 1)
        training = Training(task, [Stage("network", step, windows)], about, every, task.config.precision)
        run = RunFolder.open(folder, {"task": task.name, "seed": seed, "config": task.config}, about)
        # A training goes on at each checkpoint, which is nothing to tell.
        fit(training, run, make_fabric(self.study.device, precision=task.config.precision), announce=False)
        return task


def segmented(task: Segmentation, volumes: MarkedVolumes) -> NDArray[np.bool_]:
    """Segment volumes, each as a whole; return the masks, bool [n, z, y, x]."""
    found = []
    for start in range(0, len(volumes), AT_ONCE):
        hu = np.asarray(volumes.hu[start : start + AT_ONCE], np.float32)
        found.append(task.masks(torch.from_numpy(task.config.patch.to_unit(hu))[:, None]))
    return np.concatenate(found)
