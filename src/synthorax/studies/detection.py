"""Do made nodules help a detector? The thesis' study (papers/3, sections 4.2 to 5.2), with the arms that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_lungs
from synthorax.annotations.lidc_table import lidc_patients
from synthorax.datasets.mixed import MixedBatches
from synthorax.datasets.patches import PatchDataset, is_whole
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.method import Method
from synthorax.metrics.bootstrap import Statistic, UndefinedError, difference, ratio
from synthorax.metrics.classification import Confusion, confusion
from synthorax.metrics.comparisons import holm
from synthorax.metrics.froc import ScanMarks, cpm_of
from synthorax.metrics.roc import auc_of
from synthorax.nodule import NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.provenance import fingerprint
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcShapes
from synthorax.seeding import derive, generator
from synthorax.studies.baselines import brightness, detection_splits
from synthorax.studies.results import Arm, Interval, Test
from synthorax.studies.trials import (
    MEASURES,
    Feed,
    Measure,
    Scores,
    Splits,
    Study,
    bootstrapped,
    decided,
    decisions,
    over_seeds,
    patients_of,
    thresholds,
)
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import DetectorConfig
from synthorax.tasks.scanning import find_nodules
from synthorax.tasks.training import check_size
from synthorax.volume import Volume

NEGATIVE, POSITIVE = 0, 1
AMOUNTS = (0.25, 1.0, 4.0)
"""Made nodules for each real one."""
WIDER = 2
"""The larger detector has so many times the channels (section 6)."""
REFERENCE = "flips"
"""What every arm is compared with."""
THESIS_SHARE = 1633 / (1633 + 116_227)
"""Nodules among the patches of the thesis' test set (tables 2 to 5)."""
POINT_MM = 5.0
"""Of what is marked without a diameter."""
TESTED = ("auc", "sensitivity", "specificity")
DETECTION_MEASURES: dict[str, Measure] = MEASURES | {
    "precision at 1:71": lambda found: _at_share(found)[0],
    "f1 at 1:71": lambda found: _at_share(found)[1],
}
PAPER = {
    "flips": {"sensitivity": 0.969, "specificity": 0.976, "precision at 1:71": 0.363, "f1 at 1:71": 0.528},
    "flips + GAN, selected": {
        "sensitivity": 0.843,
        "specificity": 0.994,
        "precision at 1:71": 0.647,
        "f1 at 1:71": 0.732,
    },
    "GAN only": {"sensitivity": 0.563, "specificity": 0.927, "precision at 1:71": 0.097, "f1 at 1:71": 0.166},
    "critic's own head": {"sensitivity": 0.744, "specificity": 0.993, "precision at 1:71": 0.598, "f1 at 1:71": 0.663},
}
"""Tables 2 to 5."""


def _at_share(found: Confusion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and F1 as they would be if nodules were as rare as in the thesis' test set."""
    right = THESIS_SHARE * np.asarray(found.sensitivity)
    wrong = (1 - THESIS_SHARE) * (1 - np.asarray(found.specificity))
    return ratio(right, right + wrong), ratio(2 * right, right + wrong + THESIS_SHARE)


class CubeMaker(Protocol):
    """What the study asks of a generative model of cubes."""

    @property
    def sha256(self) -> str:
        """Of its weights."""
        ...

    @property
    def has_negatives(self) -> bool:
        """Whether it makes patches without a nodule too, and tells them apart."""
        ...

    def made(
        self, asked: Sequence[NoduleAttributes], seed: int, *, positive: bool = True, select: bool = False
    ) -> NDArray[np.int16]:
        """Cubes [n, z, y, x] in HU, one for each set of attributes."""
        ...

    def confidence(self, patches: PatchDataset) -> NDArray[np.float64]:
        """Probability of a nodule by the model's own classifier, [n]."""
        ...


@dataclass(frozen=True, eq=False)
class Cubes:
    """Made cubes, which are not made before they are needed.

    Attributes:
        key: of all that they are made from.
        make: int16 HU [n, z, y, x].
    """

    key: str
    make: Callable[[], NDArray[np.int16]]

    @cached_property
    def hu(self) -> NDArray[np.int16]:
        """The cubes."""
        return self.make()


@dataclass(frozen=True, eq=False)
class Recipe:
    """What an arm trains, and on what.

    Attributes:
        made: cubes by class.
        amount: made ones for each real one; infinite for made ones alone.
        paper: the thesis' figures.
    """

    name: str
    config: TaskConfig
    made: Mapping[int, Cubes] = field(default_factory=dict)
    amount: float = 0.0

    def feed(self, n_real: int) -> Feed | None:
        """The batches; the real ones alone if nothing is made."""
        if not self.made:
            return None
        most = None if self.amount == inf else max(round(self.amount * n_real), 1)
        share = 1.0 if self.amount == inf else self.amount / (1 + self.amount)
        key = repr((self.amount, n_real, {label: cubes.key for label, cubes in self.made.items()}))

        def batches(train: PatchDataset) -> MixedBatches:
            cubes = {label: cubes.hu[:most] for label, cubes in self.made.items()}
            return MixedBatches(train, cubes, share, self.config.batch_size)

        return Feed(key, batches)


def recipes(
    config: TaskConfig,
    rendered: Cubes,
    gan: Mapping[str, Cubes],
    amounts: Sequence[float] = AMOUNTS,
) -> list[Recipe]:
    """The arms that are trained.

    Args:
        rendered: nodules, rendered into the patches without one.
        gan: `plain` and `selected` nodules and `negative` patches of a GAN; without them its arms are left out.
    """
    network = config.network
    assert isinstance(network, DetectorConfig)
    wider = config.model_copy(update={"network": network.model_copy(update={"width": WIDER * network.width})})
    flips = config.model_copy(update={"flip": True})
    found = [
        Recipe("real alone", config.model_copy(update={"flip": False})),
        Recipe(REFERENCE, flips),
        Recipe("larger detector, flips", wider),
        *_sweep("flips + rendered", flips, rendered, amounts),
    ]
    if gan:
        found += _sweep("flips + GAN", flips, gan["plain"], amounts)
        found += _sweep("flips + GAN, selected", flips, gan["selected"], amounts)
        found.append(Recipe("larger detector, flips + GAN, selected", wider, {POSITIVE: gan["selected"]}, 1.0))
    if "negative" in gan:
        found.append(Recipe("GAN only", flips, {POSITIVE: gan["plain"], NEGATIVE: gan["negative"]}, inf))
    return found


def _sweep(name: str, config: TaskConfig, cubes: Cubes, amounts: Sequence[float]) -> list[Recipe]:
    """An arm for each amount; that of one made nodule for each real one has the plain name."""
    return [
        Recipe(name if amount == 1 else f"{name} x {amount:g}", config, {POSITIVE: cubes}, amount) for amount in amounts
    ]


@dataclass(frozen=True)
class Outcome:
    """What the study found.

    Attributes:
        arms: with their figures.
        tests: of every arm against `REFERENCE`.
        confusions: by arm: true positive, false positive, true negative, false negative; means over trainings.
        budget: by trained arm, patches that its training saw.
    """

    arms: list[Arm]
    tests: list[Test]
    confusions: dict[str, list[float]]
    budget: dict[str, int]


def detection_study(
    study: Study,
    config: TaskConfig,
    model: CubeMaker | None = None,
    *,
    amounts: Sequence[float] = AMOUNTS,
    negatives: float = 1.0,
    method: Method | None = None,
) -> Outcome:
    """Train a detector with and without made nodules and measure it on the test patients.

    Args:
        model: makes cubes of the configuration's size; its arms are left out if not given.
        amounts: made nodules for each real one.
        negatives: patches without a nodule for each with one, where scans are whole.
        method: renders nodules; LIDC's outlines of patients that are not held out if not given.

    Raises:
        InputError: a store of too few patients, another network than the thesis' detector, an amount that is none.
    """
    if not isinstance(config.network, DetectorConfig):
        raise InputError("network", config.network.kind, "detector")
    if wrong := [amount for amount in amounts if not 0 < amount < inf]:
        raise InputError("amounts", f"{wrong[0]:g}", "made nodules for each real one, more than 0")
    check_size(Classification(config))
    splits = detection_splits(study, config, negatives)
    whole = [case for case in study.store.in_split("test") if is_whole(case)]
    search = ScanSearch(study.store, tuple(whole)) if any(case.nodules for case in whole) else None
    n_real = int((splits.train.labels == POSITIVE).sum())
    most = max(round(max(amounts, default=1.0) * n_real), n_real)
    rendered = rendered_cubes(splits.train, method or Renderer(LidcShapes(outline_patients(study.store))), most)
    gan = {} if model is None else gan_cubes(model, splits.train, most, n_real)
    found: dict[str, list[Scores]] = {}
    budget = {}
    for recipe in recipes(config, rendered, gan, amounts):
        feed = recipe.feed(n_real)
        found[recipe.name] = study.scores(recipe.name, recipe.config, splits, feed=feed, search=search)
        budget[recipe.name] = recipe.config.steps * recipe.config.batch_size
    single = {"HU of the middle alone": Scores(brightness(splits.val), brightness(splits.test))}
    if model is not None and model.has_negatives:
        single["critic's own head"] = Scores(model.confidence(splits.val), model.confidence(splits.test))
    found |= {name: [scores] for name, scores in single.items()}
    arms = []
    for name, scores in found.items():
        metrics = decisions(scores, splits, DETECTION_MEASURES)
        if search is not None and name in budget:
            metrics["froc"] = search.froc(scores)
        arms.append(Arm(name, list(study.seeds) if name in budget else [], metrics, PAPER.get(name, {})))
    confusions = {name: confusion_means(scores, splits) for name, scores in found.items()}
    return Outcome(arms, compared(found, splits), confusions, budget)


def compared(found: Mapping[str, Sequence[Scores]], splits: Splits) -> list[Test]:
    """Every arm against `REFERENCE`, training by training, on the same patients."""
    patients, base = patients_of(splits.test), found[REFERENCE]
    tests = []
    for name, scores in found.items():
        each = list(scores) * (len(base) if len(scores) == 1 else 1)
        for metric in TESTED if name != REFERENCE else ():
            pairs = zip(_statistics(each, splits, metric), _statistics(base, splits, metric), strict=True)
            with suppress(UndefinedError):
                apart = bootstrapped([difference(*pair) for pair in pairs], patients).comparison()
                tests.append(Test(name, REFERENCE, metric, **asdict(apart), p_holm=1.0))
    corrected = holm([test.p for test in tests])
    return [replace(test, p_holm=float(p)) for test, p in zip(tests, corrected, strict=True)]


def _statistics(found: Sequence[Scores], splits: Splits, metric: str) -> list[Statistic]:
    if metric == "auc":
        return [auc_of(splits.test.labels, scores.test) for scores in found]
    return decided(found, splits, MEASURES[metric])


def confusion_means(found: Sequence[Scores], splits: Splits) -> list[float]:
    """Counts of right and wrong decisions on the test patches, means over trainings."""
    cuts = thresholds(found, splits)
    counts = [confusion(splits.test.labels, scores.test, cut) for scores, cut in zip(found, cuts, strict=True)]
    return np.mean([list(vars(each).values()) for each in counts], 0).tolist()


def nodules_of(train: PatchDataset, n: int, seed: int) -> list[NoduleAttributes]:
    """Attributes of the training set's nodules, drawn anew, n of them."""
    known = [place.nodule.attributes for place in train.places if place.nodule is not None]
    return [known[i] for i in generator(seed, "attributes").integers(len(known), size=n)]


def outline_patients(store: Store) -> list[str]:
    """LIDC's patients but those who are held out, or whose outlines are in held-out phantoms."""
    held_out = {patient for split in ("val", "test") for patient in store.splits[split]}
    for split in ("val", "test"):
        nodules = [nodule for case in store.in_split(split) for nodule in case.nodules]
        held_out |= {nodule.extra.get("shape_origin", "") for nodule in nodules}
    return [patient for patient in lidc_patients() if patient not in held_out]


@dataclass(frozen=True)
class _Rendered:
    """A picklable function: a number to a cube with a rendered nodule."""

    method: Method
    spacing_mm: tuple[float, float, float]

    def __call__(self, job: tuple[NDArray[np.float32], NoduleAttributes, int]) -> NDArray[np.int16]:
        hu, asked, seed = job
        patch = Volume(hu, self.spacing_mm)
        filled = self.method.fill(patch, np.ones(patch.shape, bool), asked, seed)
        return np.rint(filled.hu).astype(np.int16)


def rendered_cubes(train: PatchDataset, method: Method, n: int, seed: int = 0) -> Cubes:
    """Nodules with the attributes of the training set's, rendered into its patches without one."""
    key = repr(("rendered", method.name, method.model_sha256, n, seed))

    def make() -> NDArray[np.int16]:
        rows = np.flatnonzero(train.labels == NEGATIVE)
        drawn = generator(seed, "backgrounds").choice(rows, n)
        background = train.spec.to_hu(train.rows(rows.tolist())["ct"][:, 0]).numpy()
        at = {row: i for i, row in enumerate(rows.tolist())}
        jobs = [
            (background[at[row]], asked, derive(seed, "rendered", i))
            for i, (row, asked) in enumerate(zip(drawn.tolist(), nodules_of(train, n, seed), strict=True))
        ]
        return np.stack(list(map_processes(_Rendered(method, train.spec.spacing_mm), jobs)))

    return Cubes(key, make)


def gan_cubes(model: CubeMaker, train: PatchDataset, n: int, n_negative: int) -> dict[str, Cubes]:
    """A GAN's nodules with the attributes of the training set's, plain and selected, and its patches without one."""

    def cubes(kind: str, count: int, **how: bool) -> Cubes:
        key = repr((kind, model.sha256, count))
        return Cubes(key, partial(model.made, nodules_of(train, count, 1), derive(0, kind), **how))

    found = {"plain": cubes("plain", n), "selected": cubes("selected", n, select=True)}
    return found | ({"negative": cubes("negative", n_negative, positive=False)} if model.has_negatives else {})


@dataclass(frozen=True, eq=False)
class ScanSearch:
    """Whole scans that a detector is led over (`trials.Search`).

    Attributes:
        cases: the scans.
    """

    store: Store
    cases: tuple[CaseEntry, ...]

    @property
    def key(self) -> str:
        """Of the scans; the way they are searched is the code's."""
        return fingerprint(" ".join(case.sha256 for case in self.cases).encode())

    def __call__(self, task: Classification) -> NDArray[np.float64]:
        """Marks in all scans, [c, 5]."""
        found = [np.zeros((0, 5))]
        for i, case in enumerate(self.cases):
            ct = self.store.read(case.case_id).ct
            marks = find_nodules(task, ct, find_lungs(ct).mask)
            found.append(np.column_stack([np.full(len(marks), i), marks]))
        return np.concatenate(found)

    def froc(self, found: Sequence[Scores]) -> Interval:
        """Mean sensitivity at LUNA16's seven rates of false positives, over scans' patients and trainings."""
        patients = np.array([case.patient_id for case in self.cases])
        return over_seeds([cpm_of(self._marks(scores.marks)) for scores in found], patients)

    def _marks(self, marks: NDArray[np.float64]) -> list[ScanMarks]:
        found = []
        for i, case in enumerate(self.cases):
            nodules = [(*nodule.center_mm, nodule.attributes.diameter_mm or POINT_MM) for nodule in case.nodules]
            points = [(*point.center_mm, POINT_MM) for point in self.store.points(case.case_id)]
            places = [np.array(rows, np.float64).reshape(-1, 4) for rows in (nodules, points)]
            found.append(ScanMarks(marks[marks[:, 0] == i, 1:], *places))
        return found
