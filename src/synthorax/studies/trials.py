"""Trainings of a study's arms, each noted when it is done, so that a study that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import check_synthetic_cases
from synthorax.datasets.patches import PATCHES_RECIPE, PatchDataset, Place
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.metrics.bootstrap import (
    Bootstrap,
    Statistic,
    UndefinedError,
    patient_bootstrap,
    seed_and_patient_bootstrap,
    seed_and_patient_comparison,
)
from synthorax.metrics.classification import Confusion, choose_threshold, confusion_of
from synthorax.metrics.estimates import Comparison
from synthorax.metrics.roc import auc_of
from synthorax.provenance import fingerprint
from synthorax.studies.noted import read_scores
from synthorax.studies.results import Interval
from synthorax.tasks.classification import Classification, LabelledRows, Task, cts
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.segmentation import Segmentation
from synthorax.tasks.training import augmentation, train_task
from synthorax.training.system import Batches

LEAST_PATIENTS = 4
"""Of each class and split; fewer make no interval."""
Measure = Callable[[Confusion], object]
MEASURES: dict[str, Measure] = {
    "sensitivity": lambda found: found.sensitivity,
    "specificity": lambda found: found.specificity,
    "precision": lambda found: found.precision,
    "f1": lambda found: found.f1,
    "f2": lambda found: found.f2,
}


@dataclass(frozen=True, eq=False)
class Splits:
    """What a task learns from, is selected by, and is measured on."""

    train: PatchDataset
    val: PatchDataset
    test: PatchDataset

    @property
    def key(self) -> str:
        """Of every patch in them, and of their classes."""
        content: list[object] = [PATCHES_RECIPE]
        for patches in vars(self).values():
            places = [(place.case_id, place.center_mm, place.label) for place in patches.places]
            content += [asdict(patches.spec), places]
        return fingerprint(json.dumps(content).encode())


@dataclass(frozen=True, eq=False)
class Scores:
    """What a trained task says of patches that it did not see.

    Attributes:
        val, test: scores [n] of a classifier, or masks [n, z, y, x].
        marks: of a detector on whole test scans: number of the scan, x, y, z in mm, score, [c, 5].
    """

    val: NDArray
    test: NDArray
    marks: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 5)))


class Tested(Protocol):
    """What a task is selected by and measured on."""

    @property
    def val(self) -> LabelledRows:
        """Of the validation patients."""
        ...

    @property
    def test(self) -> LabelledRows:
        """Of the test patients."""
        ...


class Search(Protocol):
    """Looks for nodules in whole scans."""

    @property
    def key(self) -> str:
        """Of the scans and of how they are searched."""
        ...

    def __call__(self, task: Classification) -> NDArray[np.float64]:
        """Marks [c, 5], as `Scores` has them."""
        ...


@dataclass(frozen=True, eq=False)
class Feed:
    """What a task is trained with instead of the real patches alone.

    Attributes:
        key: of all that it draws from beside them.
        batches: of real patches, which have the training's seed.
    """

    key: str
    batches: Callable[[PatchDataset], Batches]


def check_splits(store: Store, splits: Splits, classes: Sequence[int]) -> None:
    """Refuse a store that no study can be made of.

    Raises:
        InputError: a split without one of the classes, or of too few patients.
    """
    for name, patches in vars(splits).items():
        for label in classes:
            patients = {p.patient_id for p in patches.places if p.label == label}
            if len(patients) < LEAST_PATIENTS:
                found = f"{len(patients)} {name} patients with class {label}"
                raise InputError(store.path, found, f"{LEAST_PATIENTS} or more in each split")


def check_trainings(trainings: int) -> None:
    """Refuse no training at all.

    Raises:
        InputError: fewer than 1.
    """
    if trainings < 1:
        raise InputError("trainings", str(trainings), "1 or more")


def patients_of(patches: PatchDataset) -> NDArray[np.str_]:
    """The patient of each patch, [n]."""
    return np.array([place.patient_id for place in patches.places])


@dataclass(frozen=True, eq=False)
class Study:
    """Trainings over some seeds on a store.

    Attributes:
        out: a folder a training is made in it.
        seeds: of the trainings.

    Raises:
        InputError: a store whose synthetic training cases may know patients of validation or test.
    """

    store: Store
    out: Path
    seeds: Sequence[int]
    device: str = "auto"
    cache: Path | None = None
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def __post_init__(self) -> None:
        check_synthetic_cases(self.store)

    def splits(self, config: TaskConfig, places: Callable[[str], list[Place]]) -> Splits:
        """Patches of the three splits."""

        def of(split: str) -> PatchDataset:
            drawn = augmentation(config) if split == "train" else Augmentation(flip=False)
            return PatchDataset(self.store, places(split), config.patch, augmentation=drawn, cache=self.cache)

        return Splits(of("train"), of("val"), of("test"))

    def key(self, splits: Splits, *more: str) -> str:
        """Of the store's content, of every patch, and of what else something is made from."""
        return fingerprint("\n".join((self.store.fingerprint, splits.key, *more)).encode())

    def reader(self, name: str, config: TaskConfig, splits: Splits, seed: int = 0) -> Classification:
        """A classifier trained on the real patches, to judge others; from an earlier call if there was one.

        Args:
            name: of the folder that keeps it.
            seed: of the training.
        """
        task = Classification(config, seed)
        key = self.key(splits, repr((config, seed)))
        batches = partial(splits.train.with_seed(seed).batch, size=config.batch_size)
        out, about = self.out / f"{name}-{key[:16]}", {"fingerprint": key}
        return train_task(task, batches, lambda: task.validate(splits.val), out, about, device=self.device)

    def scores(
        self, name: str, config: TaskConfig, splits: Splits, *, feed: Feed | None = None, search: Search | None = None
    ) -> list[Scores]:
        """Of every training seed.

        Args:
            feed: the real patches in balanced batches if not given.
            search: in whole scans too.
        """
        kind = Segmentation if config.network.kind in ("unet", "monai-unet") else Classification
        feed = feed or Feed("", lambda train: partial(train.batch, size=config.batch_size))
        key = self.key(splits, feed.key)
        found = []
        for seed in self.seeds:
            self.console.print(f"[bold]{escape(name)}[/bold], training seed {seed}")
            out = self.out / f"{name}-{seed}".replace(" ", "-")
            make_batches = partial(feed.batches, splits.train.with_seed(seed).flipped(config.flip, config.turn))
            task = kind(config, seed)
            found.append(trial(task, splits, make_batches, out, key, device=self.device, search=search))
        return found


def trial(
    task: Task,
    splits: Tested,
    make_batches: Callable[[], Batches],
    out: Path,
    data_key: str,
    *,
    device: str = "auto",
    search: Search | None = None,
) -> Scores:
    """One training and what it says of the patches it did not see, from an earlier call if there was one.

    Args:
        make_batches: called only if there is something to train.
        out: folder of the training, whose name tells the arm and seed; other data or another configuration gets a
            run folder of its own in it.
        data_key: of the store, the splits and whatever else the batches are drawn from.
        search: in whole scans too.
    """
    key = fingerprint(repr((task.name, task.config, task.seed, data_key)).encode())[:16]
    searched = fingerprint(search.key.encode())[:8] if search else ""
    note = out / f"scores-{'-'.join(filter(None, (key, searched)))}.npz"
    if note.exists():
        return Scores(*read_scores(note, len(splits.val), len(splits.test)))
    about = {"fingerprint": data_key}
    trained = train_task(task, make_batches(), lambda: _validate(task, splits.val), out / key, about, device=device)
    scores = Scores(_says(trained, splits.val), _says(trained, splits.test))
    if search is not None:
        assert isinstance(trained, Classification)
        scores = Scores(scores.val, scores.test, search(trained))
    write_scores(note, scores)
    return scores


def write_scores(note: Path, scores: Scores) -> None:
    """Write what a training says, for `noted.read_scores`.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_file(note) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **vars(scores))


def _validate(task: Task, patches: LabelledRows) -> dict[str, float]:
    if isinstance(task, Segmentation):
        assert isinstance(patches, PatchDataset)
        return task.validate(patches)
    assert isinstance(task, Classification)
    return task.validate(patches)


def _says(task: Task, patches: LabelledRows) -> NDArray:
    if isinstance(task, Segmentation):
        return np.concatenate([task.masks(ct) for ct in cts(patches)])
    assert isinstance(task, Classification)
    return np.concatenate([task.probabilities(ct)[:, 1] for ct in cts(patches)])


def thresholds(found: Sequence[Scores], splits: Splits) -> list[float]:
    """Of best balanced accuracy on the validation patients, one a training."""
    return [choose_threshold(splits.val.labels, scores.val) for scores in found]


def decided(found: Sequence[Scores], splits: Splits, measure: Measure) -> list[Statistic]:
    """A measure of the decisions on test patches at those thresholds, one a training."""
    pairs = zip(found, thresholds(found, splits), strict=True)
    return [confusion_of(splits.test.labels, scores.test, cut, measure) for scores, cut in pairs]


def decisions(
    found: Sequence[Scores], splits: Splits, measures: Mapping[str, Measure] = MEASURES
) -> dict[str, Interval]:
    """Test figures at the threshold of best balanced accuracy on the validation patients, and the AUC."""
    labels, patients = splits.test.labels, patients_of(splits.test)

    def over(measure: Measure) -> Interval:
        return over_seeds(decided(found, splits, measure), patients)

    metrics = defined({name: partial(over, measure) for name, measure in measures.items()})
    return metrics | {"auc": over_seeds([auc_of(labels, scores.test) for scores in found], patients)}


def defined(figures: Mapping[str, Callable[[], Interval]]) -> dict[str, Interval]:
    """Those figures that have a value: few patients may leave a stratum empty, or none that is called positive."""
    found = {}
    for name, figure in figures.items():
        with suppress(UndefinedError):
            found[name] = figure()
    return found


def over_seeds(statistics: Sequence[Statistic], patients: NDArray, seed: int = 0) -> Interval:
    """A figure's mean over trainings, and its 95 % interval over them and over patients."""
    found = bootstrap_over_seeds(statistics, patients, seed).interval()
    return Interval(found.value, found.low, found.high)


def bootstrap_over_seeds(statistics: Sequence[Statistic], patients: NDArray, seed: int = 0) -> Bootstrap:
    """Resample the mean of a figure over trainings: over trainings and patients, or patients alone of one training."""
    if len(statistics) > 1:
        return seed_and_patient_bootstrap(statistics, patients, seed=seed)
    return patient_bootstrap(statistics[0], patients, seed=seed)


def compared_over_seeds(differences: Sequence[Statistic], patients: NDArray) -> Comparison:
    """Test the mean over trainings of two arms' difference: over trainings and patients, or patients alone of one."""
    if len(differences) > 1:
        return seed_and_patient_comparison(differences, patients)
    return patient_bootstrap(differences[0], patients).comparison()
