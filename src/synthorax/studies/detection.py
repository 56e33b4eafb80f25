"""Do made nodules help a detector? The thesis' study (papers/3, sections 4.2 to 5.2), with the arms that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_lungs
from synthorax.datasets.mixed import MixedBatches
from synthorax.datasets.patches import is_whole
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.method import Method
from synthorax.metrics.bootstrap import Statistic, UndefinedError, difference, mean_of, ratio
from synthorax.metrics.classification import Confusion, confusion
from synthorax.metrics.comparisons import holm
from synthorax.metrics.froc import ScanMarks, cpm_of
from synthorax.metrics.roc import auc_of
from synthorax.provenance import fingerprint
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcShapes
from synthorax.seeding import derive
from synthorax.studies.baselines import brightness, detection_splits
from synthorax.studies.cube_makers import (
    NEGATIVE,
    POSITIVE,
    AcWganCubes,
    RenderedCubes,
    kept_cubes,
    key_of,
    nodules_of,
    outline_patients,
)
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
    defined,
    over_seeds,
    patients_of,
    thresholds,
)
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.extractor import SUBSOLID
from synthorax.tasks.networks.config import DetectorConfig
from synthorax.tasks.scanning import SETTINGS, find_nodules
from synthorax.tasks.training import check_size
from synthorax.volume import Volume

AMOUNTS = (0.25, 1.0, 4.0)
"""Made nodules for each real one."""
WIDER = 2
"""The larger detector has so many times the channels (section 6)."""
PLAIN, REFERENCE, LARGER = "real alone", "flips", "larger detector, flips"
RENDERED, GAN, SELECTED = "flips + rendered", "flips + GAN", "flips + GAN, selected"
LARGER_SELECTED, GAN_ONLY, CRITIC = "larger detector, flips + GAN, selected", "GAN only", "critic's own head"
BRIGHTNESS = "HU of the middle alone"
THESIS_SHARE = 1633 / (1633 + 116_227)
"""Nodules among the patches of the thesis' test set (tables 2 to 5)."""
POINT_MM = 5.0
"""Of what is marked without a diameter."""
TESTED = ("auc", "sensitivity", "specificity")
"""The first is what the study is about; the others explain it."""
TEST_REPLICATES = 20_000
LEAST_TRAININGS = 3
"""With fewer a bootstrap over trainings has no p to speak of."""
STRATA_MM = {"below 6 mm": (0.0, 6.0), "6 to 8 mm": (6.0, 8.0), "from 8 mm": (8.0, inf)}
NOT_SOLID = "not solid"
STRATA = (*STRATA_MM, NOT_SOLID)
DETECTION_MEASURES: dict[str, Measure] = MEASURES | {
    "precision at 1:71": lambda found: _at_share(found)[0],
    "f1 at 1:71": lambda found: _at_share(found)[1],
}
PAPER = {
    REFERENCE: {"sensitivity": 0.969, "specificity": 0.976, "precision at 1:71": 0.363, "f1 at 1:71": 0.528},
    SELECTED: {"sensitivity": 0.843, "specificity": 0.994, "precision at 1:71": 0.647, "f1 at 1:71": 0.732},
    GAN_ONLY: {"sensitivity": 0.563, "specificity": 0.927, "precision at 1:71": 0.097, "f1 at 1:71": 0.166},
    CRITIC: {"sensitivity": 0.744, "specificity": 0.993, "precision at 1:71": 0.598, "f1 at 1:71": 0.663},
}
"""Tables 2 to 5."""


def _at_share(found: Confusion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and F1 as they would be if nodules were as rare as in the thesis' test set."""
    right = THESIS_SHARE * np.asarray(found.sensitivity)
    wrong = (1 - THESIS_SHARE) * (1 - np.asarray(found.specificity))
    return ratio(right, right + wrong), ratio(2 * right, right + wrong + THESIS_SHARE)


@dataclass(frozen=True, eq=False)
class Recipe:
    """What an arm trains, on what, and what it is compared with.

    Attributes:
        made: int16 HU [n, z, y, x] by class, of which those that the amount asks for are taken.
        amount: made nodules for each real one; infinite for made patches alone, as many as there are real ones.
        against: arms.
    """

    name: str
    config: TaskConfig
    made: Mapping[int, NDArray[np.int16]] = field(default_factory=dict)
    amount: float = 0.0
    against: tuple[str, ...] = (REFERENCE,)

    def feed(self, n_real: int) -> Feed | None:
        """The batches; the real ones alone if nothing is made."""
        if not self.made:
            return None
        alone = self.amount == inf
        most = max(round((1 if alone else self.amount) * n_real), 1)
        share = 1.0 if alone else self.amount / (1 + self.amount)
        cubes = {label: made[:most] for label, made in self.made.items()}
        key = repr((share, {label: key_of(made) for label, made in cubes.items()}))
        return Feed(key, lambda train: MixedBatches(train, cubes, share, self.config.batch_size))


def recipes(
    config: TaskConfig,
    rendered: NDArray[np.int16],
    gan: Mapping[str, NDArray[np.int16]],
    amounts: Sequence[float] = AMOUNTS,
) -> list[Recipe]:
    """The arms that are trained.

    Args:
        rendered: nodules, rendered into patches without one.
        gan: `plain` and `selected` nodules and `negative` patches of a GAN; without them its arms are left out.
    """
    network = config.network
    assert isinstance(network, DetectorConfig)
    flips = config.model_copy(update={"flip": True})
    wider = flips.model_copy(update={"network": network.model_copy(update={"width": WIDER * network.width})})

    def sweep(name: str, cubes: NDArray[np.int16], others: Sequence[str] = ()) -> list[Recipe]:
        return [
            Recipe(
                _swept(name, amount),
                flips,
                {POSITIVE: cubes},
                amount,
                (REFERENCE, *(_swept(other, amount) for other in others)),
            )
            for amount in amounts
        ]

    found = [
        Recipe(PLAIN, config.model_copy(update={"flip": False})),
        Recipe(REFERENCE, flips, against=()),
        Recipe(LARGER, wider),
        *sweep(RENDERED, rendered),
    ]
    if gan:
        found += sweep(GAN, gan["plain"], [RENDERED])
        found += sweep(SELECTED, gan["selected"], [RENDERED, GAN])
        found.append(Recipe(LARGER_SELECTED, wider, {POSITIVE: gan["selected"]}, 1.0, (LARGER,)))
    if "negative" in gan:
        found.append(Recipe(GAN_ONLY, flips, {POSITIVE: gan["plain"], NEGATIVE: gan["negative"]}, inf))
    return found


def _swept(name: str, amount: float) -> str:
    """An arm's name; that of one made nodule for each real one is the plain one."""
    return name if amount == 1 else f"{name} x {amount:g}"


@dataclass(frozen=True)
class Outcome:
    """What the study found.

    Attributes:
        arms: with their figures.
        tests: of the arms against each other.
        confusions: by arm: true positive, false positive, true negative, false negative; means over trainings.
        drawn: patches that each training drew.
        counts: of test patients, nodules, and patches without one, by these words.
    """

    arms: list[Arm]
    tests: list[Test]
    confusions: dict[str, list[float]]
    drawn: int
    counts: dict[str, int]


def detection_study(
    study: Study,
    config: TaskConfig,
    model: AcWganCubes | None = None,
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
        method: renders nodules; outlines of LIDC's training patients if not given.

    Raises:
        InputError: a store of too few patients, another network than the thesis' detector, patches that are moved or
            scaled in training, an amount that is none.
    """
    if not isinstance(config.network, DetectorConfig):
        raise InputError("network", config.network.kind, "detector")
    if wrong := [amount for amount in amounts if not 0 < amount < inf]:
        raise InputError("amounts", f"{wrong[0]:g}", "made nodules for each real one, more than 0")
    check_size(Classification(config))
    splits = detection_splits(study, config, negatives)
    search = scan_search(study.store)
    n_real = int((splits.train.labels == POSITIVE).sum())
    renderer = RenderedCubes(method or Renderer(LidcShapes(outline_patients(study.store))), splits.train)
    rendered, gan = made_cubes(study.out.parent / "made", splits, renderer, model, amounts, n_real)
    chosen = recipes(config, rendered, gan, amounts)
    found: dict[str, list[Scores]] = {}
    for recipe in chosen:
        feed = recipe.feed(n_real)
        found[recipe.name] = study.scores(recipe.name, recipe.config, splits, feed=feed, search=search)
    trained = set(found)
    found[BRIGHTNESS] = [Scores(brightness(splits.val), brightness(splits.test))]
    if model is not None and model.has_negatives:
        found[CRITIC] = [Scores(model.confidence(splits.val), model.confidence(splits.test))]
    pairs = [(recipe.name, other) for recipe in chosen for other in recipe.against]
    pairs += [(name, REFERENCE) for name in found if name not in trained]
    arms = []
    for name, scores in found.items():
        metrics = decisions(scores, splits, DETECTION_MEASURES) | strata(scores, splits)
        if search is not None and name in trained:
            metrics |= defined({"froc": partial(search.froc, scores)})
        arms.append(Arm(name, list(study.seeds) if name in trained else [], metrics, PAPER.get(name, {})))
    return Outcome(
        arms=arms,
        tests=compared(found, pairs, splits),
        confusions={name: confusion_means(scores, splits) for name, scores in found.items()},
        drawn=config.steps * config.batch_size,
        counts={
            "patients": len(np.unique(patients_of(splits.test))),
            "nodules": int((splits.test.labels == POSITIVE).sum()),
            "patches without one": int((splits.test.labels == NEGATIVE).sum()),
        },
    )


def made_cubes(
    folder: Path,
    splits: Splits,
    renderer: RenderedCubes,
    model: AcWganCubes | None,
    amounts: Sequence[float],
    n_real: int,
) -> tuple[NDArray[np.int16], dict[str, NDArray[np.int16]]]:
    """Rendered and generated cubes with the attributes of the training set's nodules, kept in a folder.

    A file stays as it is, whatever made it; trainings are known by the cubes themselves.
    """
    n = max(round(max(amounts, default=1.0) * n_real), n_real)
    like = fingerprint(splits.key.encode())[:12]
    nodules = nodules_of(splits.train, n, 1)

    def kept(kind: str, key: str, count: int, make: Callable[[int], NDArray[np.int16]]) -> NDArray[np.int16]:
        return kept_cubes(folder / f"{kind}-{key}-{count}.npy", lambda: make(derive(0, kind)))

    rendered = kept("rendered", like, n, partial(renderer.made, nodules))
    if model is None:
        return rendered, {}
    key = f"{like}-{model.sha256[:12]}"
    gan = {
        "plain": kept("plain", key, n, partial(model.made, nodules)),
        "selected": kept("selected", key, n, partial(model.selected, nodules)),
    }
    if model.has_negatives:
        gan["negative"] = kept("negative", key, n_real, partial(model.negatives, n_real))
    return rendered, gan


def strata(found: Sequence[Scores], splits: Splits) -> dict[str, Interval]:
    """Sensitivity by diameter, and of nodules that are not solid."""
    nodules = [place.nodule.attributes if place.nodule else None for place in splits.test.places]
    mm = np.array([each.diameter_mm or np.nan if each else np.nan for each in nodules], float)
    texture = np.array([each.texture or np.nan if each else np.nan for each in nodules], float)
    rows = {name: (mm >= low) & (mm < high) for name, (low, high) in STRATA_MM.items()}
    rows[NOT_SOLID] = texture < SUBSOLID
    called = [scores.test >= cut for scores, cut in zip(found, thresholds(found, splits), strict=True)]

    def sensitivity(some: NDArray[np.bool_]) -> Interval:
        return over_seeds([mean_of(each.astype(float), some) for each in called], patients_of(splits.test))

    return defined({name: partial(sensitivity, some) for name, some in rows.items()})


def compared(found: Mapping[str, Sequence[Scores]], pairs: Sequence[tuple[str, str]], splits: Splits) -> list[Test]:
    """Pairs of arms, training by training, on the same patients; p is corrected for the pairs, figure by figure."""
    patients = patients_of(splits.test)
    trainings = max(map(len, found.values()))
    tests = []
    for metric in TESTED:
        of_metric = []
        for a, b in pairs:
            each = [list(found[name]) * (trainings if len(found[name]) == 1 else 1) for name in (a, b)]
            both = zip(*(_statistics(scores, splits, metric) for scores in each), strict=True)
            with suppress(UndefinedError):
                apart = [difference(*pair) for pair in both]
                test = bootstrapped(apart, patients, replicates=TEST_REPLICATES).comparison()
                of_metric.append(Test(a, b, metric, **asdict(test), p_holm=None))
        if trainings < LEAST_TRAININGS:
            of_metric = [replace(test, p=None) for test in of_metric]
        elif of_metric:
            corrected = holm([test.p for test in of_metric if test.p is not None])
            of_metric = [replace(test, p_holm=float(p)) for test, p in zip(of_metric, corrected, strict=True)]
        tests += of_metric
    return tests


def _statistics(found: Sequence[Scores], splits: Splits, metric: str) -> list[Statistic]:
    if metric == "auc":
        return [auc_of(splits.test.labels, scores.test) for scores in found]
    return decided(found, splits, MEASURES[metric])


def confusion_means(found: Sequence[Scores], splits: Splits) -> list[float]:
    """Counts of right and wrong decisions on the test patients, means over trainings."""
    cuts = thresholds(found, splits)
    counts = [confusion(splits.test.labels, scores.test, cut) for scores, cut in zip(found, cuts, strict=True)]
    return np.mean([list(vars(each).values()) for each in counts], 0).tolist()


def scan_search(store: Store) -> ScanSearch | None:
    """The search of a store's whole test scans, if there are any with nodules."""
    whole = [case for case in store.in_split("test") if is_whole(case)]
    return ScanSearch(store, tuple(whole)) if any(case.nodules for case in whole) else None


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
        """Of the scans and of the settings of the search."""
        return fingerprint(repr((SETTINGS, [case.sha256 for case in self.cases])).encode())

    @cached_property
    def _lungs(self) -> list[Volume]:
        return [find_lungs(self.store.read(case.case_id).ct).mask for case in self.cases]

    def __call__(self, task: Classification) -> NDArray[np.float64]:
        """Marks in all scans, [c, 5]."""
        found = [np.zeros((0, 5))]
        for i, (case, lungs) in enumerate(zip(self.cases, self._lungs, strict=True)):
            marks = find_nodules(task, self.store.read(case.case_id).ct, lungs)
            found.append(np.column_stack([np.full(len(marks), i), marks]))
        return np.concatenate(found)

    def froc(self, found: Sequence[Scores]) -> Interval:
        """Mean sensitivity at LUNA16's seven rates of false positives, over scans' patients and trainings."""
        patients = np.array([case.patient_id for case in self.cases])
        if len(np.unique(patients)) < 2:
            raise UndefinedError("scans", "those of one patient", "of 2 or more")
        return over_seeds([cpm_of(self._marks(scores.marks)) for scores in found], patients)

    def _marks(self, marks: NDArray[np.float64]) -> list[ScanMarks]:
        found = []
        for i, case in enumerate(self.cases):
            nodules = [(*nodule.center_mm, nodule.attributes.diameter_mm or POINT_MM) for nodule in case.nodules]
            others = [point for point in self.store.points(case.case_id) if point.is_finding]
            points = [(*point.center_mm, POINT_MM) for point in others]
            places = [np.array(rows, np.float64).reshape(-1, 4) for rows in (nodules, points)]
            found.append(ScanMarks(marks[marks[:, 0] == i, 1:], *places))
        return found
