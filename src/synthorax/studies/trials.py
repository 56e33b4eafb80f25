"""Trainings of a study's arms. The scores of each are written when it is done, so that a stopped study resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.lineage import check_synthetic_cases
from synthorax.datasets.patches import PATCHES_RECIPE, PatchDataset, Place
from synthorax.datasets.places import nodule_places
from synthorax.datasets.splits import LEAST_PATIENTS
from synthorax.datasets.store import SPLITS, Store
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
from synthorax.patch import POSITIVE
from synthorax.provenance import fingerprint
from synthorax.studies.noted import read_scores
from synthorax.studies.results import Interval
from synthorax.tasks.classification import Classification, LabelledRows, Task, cts
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.segmentation import Segmentation
from synthorax.tasks.training import augmentation, train_task
from synthorax.training.system import Batches

MORE_PATIENTS = (
    "prepare more patients, or divide them otherwise, by --split or a column split of the table; models that were "
    "trained on this store must then be trained again"
)
"""What to do about a split with too few patients, for errors."""
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
    """The patches on which a task is trained, by which its best weights are chosen, and on which it is measured."""

    train: PatchDataset
    val: PatchDataset
    test: PatchDataset

    @property
    def key(self) -> str:
        """Hash of all patches and their classes."""
        content: list[object] = [PATCHES_RECIPE]
        for patches in vars(self).values():
            places = [(place.case_id, place.center_mm, place.label) for place in patches.places]
            content += [asdict(patches.spec), places]
        return fingerprint(json.dumps(content).encode())


@dataclass(frozen=True, eq=False)
class Scores:
    """Outputs of a trained task for validation and test patches.

    Attributes:
        val, test: scores [n] of a classifier, or masks [n, z, y, x] of a segmenter.
        marks: marks of a detector in whole test scans: rows of scan number, x, y, z in mm and score, [c, 5].
    """

    val: NDArray
    test: NDArray
    marks: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 5)))


class Tested(Protocol):
    """The data by which a task's best weights are chosen, and on which it is measured."""

    @property
    def val(self) -> LabelledRows:
        """Data of the validation patients."""
        ...

    @property
    def test(self) -> LabelledRows:
        """Data of the test patients."""
        ...


class Search(Protocol):
    """A search for nodules in whole scans."""

    @property
    def key(self) -> str:
        """Hash of the scans and of the settings of the search."""
        ...

    def __call__(self, task: Classification) -> NDArray[np.float64]:
        """Return a detector's marks [c, 5]; see `Scores`."""
        ...


@dataclass(frozen=True, eq=False)
class Feed:
    """The source of a training's batches, for arms that train on other than real patches in balanced batches.

    Attributes:
        key: hash of the data besides the real patches, and of the way in which batches are drawn.
        batches: function of the real patches, which have the training's seed, to the batches.
    """

    key: str
    batches: Callable[[PatchDataset], Batches]


def check_splits(store: Store, splits: Splits, kinds: Mapping[int, str]) -> None:
    """Check that every split has enough patients of every class for a study.

    Args:
        store: the store, for the error.
        splits: the patches.
        kinds: class to the words for what its patients have, such as `a malignant nodule`.

    Raises:
        InputError: a split has fewer than `LEAST_PATIENTS` patients of a class.
    """
    check_places(store, {name: patches.places for name, patches in vars(splits).items()}, kinds)


def check_places(store: Store, places: Mapping[Any, Sequence[Place]], kinds: Mapping[int, str]) -> None:
    """Check that every split has enough patients of every class for a study, before patches are cut.

    Args:
        store: the store, for the error.
        places: split to the places of its patches.
        kinds: class to the words for what its patients have, such as `a malignant nodule`.

    Raises:
        InputError: a split has fewer than `LEAST_PATIENTS` patients of a class; names the numbers of all splits.
    """
    for label, kind in kinds.items():
        found = {split: len({p.patient_id for p in own if p.label == label}) for split, own in places.items()}
        if min(found.values()) < LEAST_PATIENTS:
            counts = ", ".join(f"{n} in {split}" for split, n in found.items())
            needed = len(found) * LEAST_PATIENTS
            least = f"{LEAST_PATIENTS} or more in each split, which are {needed} at least"
            more = MORE_PATIENTS if sum(found.values()) >= needed else "prepare more of them"
            raise InputError(store.path, f"patients with {kind}: {counts}", f"{least}; {more}")


def check_patients(store: Store) -> None:
    """Check, before any patch is cut, that every split of a store has enough patients with nodules for a study.

    Raises:
        InputError: a split has fewer than `LEAST_PATIENTS`; names the numbers of all splits.
    """
    check_places(store, {split: nodule_places(store.in_split(split)) for split in SPLITS}, {POSITIVE: "a nodule"})


def check_trainings(trainings: int) -> None:
    """Check that the number of trainings is at least 1.

    Raises:
        InputError: it is smaller.
    """
    if trainings < 1:
        raise InputError("trainings", str(trainings), "1 or more")


def patients_of(patches: PatchDataset) -> NDArray[np.str_]:
    """Return the patient of each patch, [n]."""
    return np.array([place.patient_id for place in patches.places])


@dataclass(frozen=True, eq=False)
class Study:
    """A store, and trainings on it with several seeds.

    Attributes:
        store: the data.
        out: folder of the trainings; each gets a subfolder.
        seeds: seed of each training of an arm.
        device: device of the networks.
        cache: folder for decoded patches; None for the default place.
        console: gets a line for each training.

    Raises:
        InputError: a synthetic training case comes from a maker that may have been trained on patients of validation
            or test.
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
        """Return the patches of the three splits; training patches are augmented as the configuration says.

        Args:
            config: grid and augmentation.
            places: function of the name of a split to the places of its patches.
        """

        def of(split: str) -> PatchDataset:
            drawn = augmentation(config) if split == "train" else Augmentation(flip=False)
            return PatchDataset(self.store, places(split), config.patch, augmentation=drawn, cache=self.cache)

        return Splits(of("train"), of("val"), of("test"))

    def key(self, splits: Splits, *more: str) -> str:
        """Return the hash of the store's content, of all patches, and of further strings."""
        return fingerprint("\n".join((self.store.fingerprint, splits.key, *more)).encode())

    def reader(self, name: str, config: TaskConfig, splits: Splits, seed: int = 0) -> Classification:
        """Train a classifier on the real patches, to score others with it, or load it from an earlier call.

        Args:
            name: first part of the run folder's name.
            config: the classifier and its training.
            splits: the patches.
            seed: seed of the training.
        """
        task = Classification(config, seed)
        key = self.key(splits, repr((config, seed)))
        batches = partial(splits.train.with_seed(seed).batch, size=config.batch_size)
        out, about = self.out / f"{name}-{key[:16]}", {"fingerprint": key}
        return train_task(task, batches, lambda: task.validate(splits.val), out, about, device=self.device)

    def scores(
        self, name: str, config: TaskConfig, splits: Splits, *, feed: Feed | None = None, search: Search | None = None
    ) -> list[Scores]:
        """Train an arm with every seed and return the scores of each training, or load those of an earlier call.

        Args:
            name: name of the arm.
            config: the network and its training.
            splits: the patches.
            feed: source of the batches; by default, the real patches in balanced batches.
            search: search of whole scans, for the marks of a detector; None for no search.
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
    """Train a task once and return its scores of validation and test patches, or load those of an earlier call.

    Args:
        task: the task, with its configuration and seed.
        splits: data by which the best weights are chosen, and on which the task is measured.
        make_batches: returns the batches; called only if there is something to train.
        out: folder named after the arm and the seed; each data set and configuration has its own run folder in it.
        data_key: hash of the store, the splits and everything else from which batches are drawn.
        device: device of the network.
        search: search of whole scans, for the marks of a detector; None for no search.
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
    """Write the scores of a training to a file that `noted.read_scores` reads.

    Raises:
        OutputError: the file cannot be written.
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
    """Return the threshold of each training with the best balanced accuracy on the validation patients."""
    return [choose_threshold(splits.val.labels, scores.val) for scores in found]


def decided(found: Sequence[Scores], splits: Splits, measure: Measure) -> list[Statistic]:
    """Return a measure of each training's decisions on the test patches at these `thresholds`, as a statistic."""
    pairs = zip(found, thresholds(found, splits), strict=True)
    return [confusion_of(splits.test.labels, scores.test, cut, measure) for scores, cut in pairs]


def decisions(
    found: Sequence[Scores], splits: Splits, measures: Mapping[str, Measure] = MEASURES
) -> dict[str, Interval]:
    """Return the measures of decisions on the test patches at these `thresholds`, and the AUC, with intervals."""
    labels, patients = splits.test.labels, patients_of(splits.test)

    def over(measure: Measure) -> Interval:
        return over_seeds(decided(found, splits, measure), patients)

    metrics = defined({name: partial(over, measure) for name, measure in measures.items()})
    return metrics | {"auc": over_seeds([auc_of(labels, scores.test) for scores in found], patients)}


def defined(figures: Mapping[str, Callable[[], Interval]]) -> dict[str, Interval]:
    """Return the measures that have a value.

    With few patients a stratum may be empty, or no patch may be called positive; such a measure is left out.
    """
    found = {}
    for name, figure in figures.items():
        with suppress(UndefinedError):
            found[name] = figure()
    return found


def over_seeds(statistics: Sequence[Statistic], patients: NDArray, seed: int = 0) -> Interval:
    """Return a measure's mean over trainings, with its 95 % interval over patients and trainings.

    Args:
        statistics: the measure of each training, as a statistic of the rows.
        patients: patient of each row, [n].
        seed: seed of the bootstrap.
    """
    found = bootstrap_over_seeds(statistics, patients, seed).interval()
    return Interval(found.value, found.low, found.high)


def bootstrap_over_seeds(statistics: Sequence[Statistic], patients: NDArray, seed: int = 0) -> Bootstrap:
    """Bootstrap a measure's mean over trainings: over trainings and patients, or with one training over patients."""
    if len(statistics) > 1:
        return seed_and_patient_bootstrap(statistics, patients, seed=seed)
    return patient_bootstrap(statistics[0], patients, seed=seed)


def compared_over_seeds(differences: Sequence[Statistic], patients: NDArray) -> Comparison:
    """Test the difference of two arms, a mean over trainings: over trainings and patients, or patients with one."""
    if len(differences) > 1:
        return seed_and_patient_comparison(differences, patients)
    return patient_bootstrap(differences[0], patients).comparison()
