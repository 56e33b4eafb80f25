"""Does pre-training on made chests help to find out whether a chest has a nodule? The study of papers/5.

Every training draws as many chests as every other one; where it learns from made chests first, half of its steps go
there. The threshold is chosen on the validation patients, the test patients are used once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.chest_grid import ChestRegion
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import (
    Statistic,
    difference,
    patient_bootstrap,
    seed_and_patient_comparison,
)
from synthorax.metrics.classification import Confusion, choose_threshold, confusion_of
from synthorax.metrics.comparisons import holm
from synthorax.metrics.estimates import ALPHA, POWER, Equivalence, Estimate
from synthorax.metrics.roc import auc_of
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.provenance import fingerprint
from synthorax.seeding import derive, generator
from synthorax.studies.chest_sets import ERASED, HEALTHY, INJECTED, KEPT, SHAM, SIZES_STUDIED_MM, ChestSet
from synthorax.studies.results import Arm, Interval, Test
from synthorax.studies.trials import LEAST_PATIENTS, Scores, Study, defined, over_seeds, trial
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig

REAL_ONLY, AUGMENTED, SHAM_ARM = "real only", "plain augmentation", "real only, sham edits"
"""The arms that need no maker: chests of `ChestMaking.design`, with flips, shifts and scales, and with sham edits."""
PRETRAINING = 0.5
"""Share of the steps that go to made chests where real ones follow."""
SOURCE_MARGIN = 0.1
"""AUC by which a classifier that is asked for the source may differ from .5 and still count as not knowing it."""
OWN_STRATA_MM = {"own, under 6 mm": (0.0, 6.0), "own, 6 to 10 mm": (6.0, 10.0), "own, from 10 mm": (10.0, np.inf)}
"""Diameters of the widest of a test chest's own nodules."""
PAPER_COUNTS_OF_CHESTS = {"train": 900, "val": 150, "test": 150}
"""Real volumes of the paper; half have nodules."""


def synthetic_only(maker: str) -> str:
    """The arm of made chests alone."""
    return f"{maker} only"


def synthetic_then_real(maker: str) -> str:
    """The arm of made chests and then real ones."""
    return f"{maker}, then real"


@dataclass(frozen=True, eq=False)
class ChestBatches:
    """As many chests of each class in every batch, a function of the step.

    Attributes:
        sets: what is drawn from, with the step from which on it is.
        region: whole chests are flipped from side to side alone, cubes along every axis.
    """

    sets: Sequence[tuple[int, ChestSet]]
    config: TaskConfig
    seed: int
    region: ChestRegion

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return ct [b, 1, z, y, x] from -1 to 1, and label [b]."""
        config, random = self.config, generator(self.seed, "batch", step)
        (now,) = [chests for first, chests in self.sets if first <= step][-1:]
        each = config.batch_size // 2
        rows = np.concatenate([random.choice(np.flatnonzero(now.labels == k), each) for k in (NEGATIVE, POSITIVE)])
        drawn = Augmentation(config.flip, config.shift_voxels, config.scale).draw(random, len(rows))
        if self.region == "lungs":
            drawn.flips[:, :2] = 1
        unit = config.patch.to_unit(drawn.apply(now.hu[rows], config.size))
        return {"ct": unit[:, None], "label": torch.from_numpy(now.labels[rows])}


@dataclass(frozen=True, eq=False)
class ChestArm:
    """What an arm learns from, and the arms that it is compared with.

    Attributes:
        sets: with the share of the steps after which each begins.
        augmented: flips, shifts and scales.
    """

    name: str
    sets: Sequence[tuple[float, ChestSet]]
    augmented: bool = False
    against: tuple[str, ...] = (REAL_ONLY,)


@dataclass(frozen=True, eq=False)
class ChestSplits:
    """What every arm is selected by and measured on."""

    val: ChestSet
    test: ChestSet


@dataclass(frozen=True)
class Bias:
    """What tells the label or the source, other than nodules.

    Attributes:
        source: AUC of a classifier that was trained to tell which chests had nodules of their own, less .5, against
            `SOURCE_MARGIN`; None where all chests are of one kind.
        edited: AUC of a classifier that was trained to tell edited chests from others; None where none are edited.
        told: AUC for the label of somebody who is told source and edited alone, in the design of the paper.
        told_sham: the same where healthy places are edited too; None without an eraser.
        sham_called: share of healthy chests with a sham edit that the real-only classifier says have a nodule, less
            that of healthy chests without one; None without an eraser.
    """

    source: Equivalence | None
    edited: Estimate | None
    told: float
    told_sham: float | None
    sham_called: Interval | None


@dataclass(frozen=True)
class VolumesOutcome:
    """What the trainings of the study found.

    Attributes:
        smallest: difference of two accuracies that would be found in 80 % of all cases; None with one training.
        counts: chests by split and kind.
        drawn: chests that every training drew.
    """

    arms: list[Arm]
    tests: list[Test]
    smallest: float | None
    counts: dict[str, dict[str, int]]
    drawn: int
    bias: Bias


def chest_arms(train: ChestSet, sham: ChestSet | None, made: Mapping[str, ChestSet]) -> list[ChestArm]:
    """The arms: real chests, and made ones of each maker alone and before the real ones.

    Args:
        train: the design of the paper.
        sham: the same with sham edits; None without an eraser.
        made: by maker, the one under study first.
    """
    arms = [ChestArm(REAL_ONLY, [(0.0, train)], against=()), ChestArm(AUGMENTED, [(0.0, train)], augmented=True)]
    if sham is not None:
        arms.append(ChestArm(SHAM_ARM, [(0.0, sham)]))
    earlier: list[str] = []
    for name, chests in made.items():
        arms.append(ChestArm(synthetic_only(name), [(0.0, chests)]))
        then = [(0.0, chests), (PRETRAINING, train)]
        against = (REAL_ONLY, AUGMENTED, *map(synthetic_then_real, earlier))
        arms.append(ChestArm(synthetic_then_real(name), then, against=against))
        earlier.append(name)
    return arms


def volumes_study(
    study: Study, config: TaskConfig, arms: Sequence[ChestArm], splits: ChestSplits, region: ChestRegion
) -> VolumesOutcome:
    """Train every arm and measure it.

    Args:
        arms: as `chest_arms` gives them.
        config: of the classifier; what it says of flips, shifts and scales is for augmented arms alone.

    Raises:
        InputError: a split with too few patients of a class, or an odd batch.
    """
    check_chests(config, arms, splits)
    train = arms[0].sets[0][1]
    found = {arm.name: _scores(study, config, arm, splits, region) for arm in arms}
    figures = {name: _figures(scores, splits) for name, scores in found.items()}
    pairs = [(arm.name, other) for arm in arms for other in arm.against if other in found]
    tests = _compared(found, pairs, splits)
    sham = next((arm.sets[0][1] for arm in arms if arm.name == SHAM_ARM), None)
    return VolumesOutcome(
        [Arm(arm.name, list(study.seeds), figures[arm.name], {}) for arm in arms],
        tests,
        _smallest(tests),
        {name: _counts(chests) for name, chests in (("train", train), ("val", splits.val), ("test", splits.test))},
        config.steps * config.batch_size,
        _bias(study, config, train, sham, splits, found[REAL_ONLY], region),
    )


def check_chests(config: TaskConfig, arms: Sequence[ChestArm], splits: ChestSplits) -> None:
    """Refuse sets of which no study can be made.

    Raises:
        InputError: too few patients of a class, or an odd batch.
    """
    if config.batch_size % 2:
        raise InputError("batch size", str(config.batch_size), "an even one, for two classes")
    named = [("val", splits.val), ("test", splits.test), *((arm.name, each) for arm in arms for _, each in arm.sets)]
    for name, chests in named:
        for label in (NEGATIVE, POSITIVE):
            patients = len(np.unique(chests.patients[chests.labels == label]))
            if patients < LEAST_PATIENTS:
                found = f"{patients} patients of {name} {'with' if label else 'without'} a nodule"
                raise InputError("chests", found, f"{LEAST_PATIENTS} or more")


def _scores(study: Study, config: TaskConfig, arm: ChestArm, splits: ChestSplits, region: ChestRegion) -> list[Scores]:
    """Of every training seed."""
    own = config if arm.augmented else unaugmented(config)
    sets = [(round(share * config.steps), chests) for share, chests in arm.sets]
    key = fingerprint(repr([(first, chests.key) for first, chests in sets] + [splits.val.key, splits.test.key]))
    found = []
    for seed in study.seeds:
        study.console.print(f"[bold]{arm.name}[/bold], training seed {seed}")
        batches = ChestBatches(sets, own, derive(seed, "chests"), region)
        out = study.out / f"{arm.name}-{seed}".replace(" ", "-").replace(",", "")
        found.append(trial(Classification(own, seed), splits, partial(_same, batches), out, key, device=study.device))
    return found


def _same(batches: ChestBatches) -> ChestBatches:
    return batches


def unaugmented(config: TaskConfig) -> TaskConfig:
    """A configuration that does not flip, move or scale."""
    return config.model_copy(update={"flip": False, "turn": False, "shift_voxels": 0.0, "scale": (1.0, 1.0)})


def rows_of_size(test: ChestSet, mm: float) -> NDArray[np.bool_]:
    """The test chests without nodules, and those with a nodule of a diameter put in, bool [n]."""
    return _negative(test) | ((test.kinds == INJECTED) & (test.diameters == mm))


def _negative(test: ChestSet) -> NDArray[np.bool_]:
    return np.isin(test.kinds, (HEALTHY, ERASED))


def _all_sizes(test: ChestSet) -> NDArray[np.bool_]:
    return _negative(test) | (test.kinds == INJECTED)


def _accuracy(found: Confusion) -> object:
    return found.balanced_accuracy


def _decided(scores: Scores, splits: ChestSplits, rows: NDArray[np.bool_]) -> Statistic:
    """The balanced accuracy on some test chests, as a statistic of those."""
    cut = choose_threshold(splits.val.labels, scores.val)
    return confusion_of(splits.test.labels[rows], scores.test[rows], cut, _accuracy)


def _figures(found: Sequence[Scores], splits: ChestSplits) -> dict[str, Interval]:
    """Balanced accuracy of injected nodules together and by size, of the chests' own nodules by size, and the AUC."""
    test = splits.test

    def over(rows: NDArray[np.bool_]) -> Interval:
        return over_seeds([_decided(scores, splits, rows) for scores in found], test.patients[rows])

    def area(rows: NDArray[np.bool_]) -> Interval:
        return over_seeds([auc_of(test.labels[rows], each.test[rows]) for each in found], test.patients[rows])

    wanted: dict[str, Callable[[], Interval]] = {"accuracy": partial(over, _all_sizes(test))}
    wanted |= {f"{mm:g} mm": partial(over, rows_of_size(test, mm)) for mm in SIZES_STUDIED_MM}
    for name, (low, high) in OWN_STRATA_MM.items():
        own = (test.kinds == KEPT) & (test.diameters >= low) & (test.diameters < high)
        if own.any():
            wanted[name] = partial(over, _negative(test) | own)
    return defined(wanted | {"auc": partial(area, _all_sizes(test))})


def _compared(
    found: Mapping[str, Sequence[Scores]], pairs: Sequence[tuple[str, str]], splits: ChestSplits
) -> list[Test]:
    """Arms against each other, training by training, on the same patients; p is corrected for all tests together."""
    test = splits.test
    by_metric = {"accuracy": _all_sizes(test)} | {f"{mm:g} mm": rows_of_size(test, mm) for mm in SIZES_STUDIED_MM}
    tests: list[Test] = []
    for a, b in pairs:
        for metric, rows in by_metric.items():
            both = zip(found[a], found[b], strict=True)
            apart = [difference(*(_decided(scores, splits, rows) for scores in pair)) for pair in both]
            if len(apart) > 1:
                made = seed_and_patient_comparison(apart, test.patients[rows])
            else:
                made = patient_bootstrap(apart[0], test.patients[rows]).comparison()
            tests.append(Test(a, b, metric, **asdict(made), p_holm=None))
    if tests and len(next(iter(found.values()))) > 1:
        corrected = holm([one.p for one in tests if one.p is not None])
        return [replace(one, p_holm=float(p)) for one, p in zip(tests, corrected, strict=True)]
    return [replace(one, p=None) for one in tests]


def _smallest(tests: Sequence[Test]) -> float | None:
    halves = [(one.high - one.low) / 2 for one in tests if one.metric == "accuracy"]
    if not halves or tests[0].p is None:
        return None
    return float(np.median(halves)) * float(1 + norm.ppf(POWER) / norm.ppf(1 - ALPHA / 2))


def _counts(chests: ChestSet) -> dict[str, int]:
    kinds, often = np.unique(chests.kinds, return_counts=True)
    found = dict(zip(kinds.tolist(), often.tolist(), strict=True))
    return {"patients": len(np.unique(chests.patients)), **found}


def _bias(
    study: Study,
    config: TaskConfig,
    train: ChestSet,
    sham: ChestSet | None,
    splits: ChestSplits,
    real_only: Sequence[Scores],
    region: ChestRegion,
) -> Bias:
    """Whether source or traces of edits give the label away."""
    test, val = splits.test, splits.val
    one_each = np.isin(test.kinds, (KEPT, HEALTHY, ERASED)) | (
        (test.kinds == INJECTED) & (test.diameters == SIZES_STUDIED_MM[len(SIZES_STUDIED_MM) // 2])
    )
    few = replace(study, seeds=list(study.seeds)[:1])

    def asked(name: str, of: Callable[[ChestSet], NDArray]) -> Statistic | None:
        """The AUC of a classifier that is trained to tell something else than the label."""
        sets = [each.labelled(of(each)) for each in (train, val, test)]
        if any(len(np.unique(each.labels)) < 2 for each in sets):
            return None
        arm = ChestArm(name, [(0.0, sets[0])])
        (scores,) = _scores(few, config, arm, ChestSplits(sets[1], sets[2]), region)
        return auc_of(sets[2].labels[one_each], scores.test[one_each])

    source, edited = asked("told the source", lambda each: each.source), asked("told the edits", lambda e: e.edited)
    patients = test.patients[one_each]
    called = None
    if (shams := test.kinds == SHAM).any():
        rows = shams | _negative(test)
        called = over_seeds(
            [_called_more(scores, splits, rows, shams[rows]) for scores in real_only], test.patients[rows]
        )
    known = None
    if source is not None:
        less_half = Statistic(source.rows, lambda weights: source.values(weights) - 0.5)
        known = patient_bootstrap(less_half, patients).equivalence(SOURCE_MARGIN)
    traces = None if edited is None else patient_bootstrap(edited, patients).interval()
    return Bias(known, traces, told_alone(train), None if sham is None else told_alone(sham), called)


def _called_more(scores: Scores, splits: ChestSplits, rows: NDArray[np.bool_], shams: NDArray[np.bool_]) -> Statistic:
    """The share of sham edits that are called a nodule, less that of chests without edits of healthy places."""
    called = (scores.test[rows] >= choose_threshold(splits.val.labels, scores.val)).astype(float)

    def share(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = [(weights * of) @ called / (weights * of).sum(1) for of in (shams, ~shams)]
        return each[0] - each[1]

    return Statistic(int(rows.sum()), share)


def told_alone(chests: ChestSet) -> float:
    """The AUC for the label by the share of positive chests among those of the same source and edited or not.

    1 where both together give the label away, as in the paper's design; .5 where they say nothing.
    """
    groups = chests.source * 2 + chests.edited
    share = {group: chests.labels[groups == group].mean() for group in np.unique(groups)}
    scores = np.array([share[group] for group in groups])
    return float(auc_of(chests.labels, scores).values(np.ones((1, len(chests))))[0])
