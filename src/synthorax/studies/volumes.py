"""Does pre-training on made chests help to find out whether a chest has a nodule? The study of papers/5.

Every training draws as many chests as every other one; where it learns from made chests first, half of its steps go
there. The threshold is chosen on the validation patients, the test patients are used once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.chest_grid import ChestRegion
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import Statistic, difference
from synthorax.metrics.classification import Confusion, choose_threshold, confusion_of
from synthorax.metrics.comparisons import holm_of_known, smallest_found
from synthorax.metrics.roc import auc_of
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.studies.chest_sets import INJECTED, KEPT, SIZES_STUDIED_MM, ChestSet, without_nodules
from synthorax.studies.chest_training import ChestArm, ChestSplits, chest_scores
from synthorax.studies.edit_traces import Bias, bias_of
from synthorax.studies.results import Arm, Interval, Test
from synthorax.studies.trials import LEAST_PATIENTS, Scores, Study, compared_over_seeds, defined, over_seeds
from synthorax.tasks.config import TaskConfig

REAL_ONLY, AUGMENTED, SHAM_ARM = "real only", "plain augmentation", "real only, sham edits"
"""The arms that need no maker: chests of `ChestMaking.design`, with flips, shifts and scales, and with sham edits."""
PRETRAINING = 0.5
"""Share of the steps that go to made chests where real ones follow."""
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
    arms = [
        ChestArm(REAL_ONLY, [(0.0, train)]),
        ChestArm(AUGMENTED, [(0.0, train)], augmented=True, against=(REAL_ONLY,)),
    ]
    if sham is not None:
        arms.append(ChestArm(SHAM_ARM, [(0.0, sham)], against=(REAL_ONLY,)))
    earlier: list[str] = []
    for name, chests in made.items():
        arms.append(ChestArm(synthetic_only(name), [(0.0, chests)], against=(REAL_ONLY,)))
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
    found = {arm.name: chest_scores(study, config, arm, splits, region) for arm in arms}
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
        bias_of(study, config, train, sham, splits, found[REAL_ONLY], region),
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


def rows_of_size(test: ChestSet, mm: float) -> NDArray[np.bool_]:
    """The test chests without nodules, and those with a nodule of a diameter put in, bool [n]."""
    return without_nodules(test) | ((test.kinds == INJECTED) & (test.diameters == mm))


def _all_sizes(test: ChestSet) -> NDArray[np.bool_]:
    return without_nodules(test) | (test.kinds == INJECTED)


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
            wanted[name] = partial(over, without_nodules(test) | own)
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
            made = compared_over_seeds(apart, test.patients[rows])
            tests.append(Test(a, b, metric, **asdict(made), p_holm=None))
    if len(next(iter(found.values()))) < 2:
        return [replace(one, p=None) for one in tests]
    corrected = holm_of_known([one.p for one in tests])
    return [replace(one, p_holm=p) for one, p in zip(tests, corrected, strict=True)]


def _smallest(tests: Sequence[Test]) -> float | None:
    of_several = (one for one in tests if one.metric == "accuracy" and one.p is not None)
    return smallest_found([(one.high - one.low) / 2 for one in of_several])


def _counts(chests: ChestSet) -> dict[str, int]:
    kinds, often = np.unique(chests.kinds, return_counts=True)
    found = dict(zip(kinds.tolist(), often.tolist(), strict=True))
    return {"patients": len(np.unique(chests.patients)), **found}
