"""Does pre-training on synthetic chests help a classifier of chests with and without nodules? The study of CT-SGAN.

Every training draws the same number of chests; with pre-training, half of its steps use synthetic chests. The threshold
is chosen on the validation patients, and the test patients are used once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.chest_grid import ChestRegion
from synthorax.datasets.splits import LEAST_PATIENTS
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import Statistic, difference
from synthorax.metrics.classification import Confusion, choose_threshold, confusion_of
from synthorax.metrics.comparisons import smallest_found
from synthorax.metrics.roc import auc_of
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.studies.chest_sets import INJECTED, KEPT, SIZES_STUDIED_MM, ChestSet, without_nodules
from synthorax.studies.chest_training import ChestArm, ChestSplits, chest_scores
from synthorax.studies.edit_traces import Bias, bias_of
from synthorax.studies.results import Arm, Interval, Test, with_corrected_p
from synthorax.studies.trials import Scores, Study, compared_over_seeds, defined, over_seeds
from synthorax.tasks.config import TaskConfig

REAL_ONLY, AUGMENTED, SHAM_ARM = "real only", "plain augmentation", "real only, sham edits"
"""Names of the arms without synthetic chests: the paper's design (`ChestMaking.design`), the same with flips, shifts
and scaling, and the same with sham edits."""
PRETRAINING = 0.5
"""Share of the steps on synthetic chests in an arm that then trains on real ones."""
OWN_STRATA_MM = {"own, under 6 mm": (0.0, 6.0), "own, 6 to 10 mm": (6.0, 10.0), "own, from 10 mm": (10.0, np.inf)}
"""Strata of unedited test chests by the diameter in mm of their largest nodule."""
PAPER_COUNTS_OF_CHESTS = {"train": 900, "val": 150, "test": 150}
"""Numbers of real volumes in the paper; half of them have nodules."""


def synthetic_only(maker: str) -> str:
    """Return the name of the arm of a maker's chests alone."""
    return f"{maker} only"


def synthetic_then_real(maker: str) -> str:
    """Return the name of the arm of a maker's chests and then real ones."""
    return f"{maker}, then real"


@dataclass(frozen=True)
class VolumesOutcome:
    """The results of the study's classifiers.

    Attributes:
        arms: each arm with its measures.
        tests: comparisons of arms.
        smallest: difference of accuracies that the tests would detect with a power of 80 %; None without p values.
        counts: split to its numbers of patients and of chests of each kind.
        drawn: number of chests that each training drew.
        bias: how well label and source can be predicted without looking at nodules.
    """

    arms: list[Arm]
    tests: list[Test]
    smallest: float | None
    counts: dict[str, dict[str, int]]
    drawn: int
    bias: Bias


def chest_arms(train: ChestSet, sham: ChestSet | None, made: Mapping[str, ChestSet]) -> list[ChestArm]:
    """Return the arms: real chests, and each maker's chests alone and followed by real ones.

    Args:
        train: real training chests in the paper's design.
        sham: the same with sham edits; None without an eraser.
        made: maker to its chests, the maker under study first.
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
    """Train and measure every arm.

    Args:
        study: the store, the folder of the trainings, and their seeds.
        config: the classifier and its training; its flips, shifts and scaling are used in augmented arms alone.
        arms: the arms, from `chest_arms`.
        splits: validation and test chests.
        region: kind of the chests.

    Raises:
        InputError: a set of chests has too few patients of a class, or the batch size is odd.
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
    """Check that all sets of chests are large enough for a study, and that the batch size is even.

    Raises:
        InputError: a set has too few patients of a class, or the batch size is odd.
    """
    if config.batch_size % 2:
        raise InputError("batch size", str(config.batch_size), "an even number, since a batch has two classes")
    named = [("val", splits.val), ("test", splits.test), *((arm.name, each) for arm in arms for _, each in arm.sets)]
    for name, chests in named:
        for label in (NEGATIVE, POSITIVE):
            patients = len(np.unique(chests.patients[chests.labels == label]))
            if patients < LEAST_PATIENTS:
                found = f"{patients} patients of {name} {'with' if label else 'without'} a nodule"
                raise InputError("chests", found, f"{LEAST_PATIENTS} or more")


def rows_of_size(test: ChestSet, mm: float) -> NDArray[np.bool_]:
    """Return which test chests have no nodule, or an injected nodule of `mm` diameter, bool [n]."""
    return without_nodules(test) | ((test.kinds == INJECTED) & (test.diameters == mm))


def _all_sizes(test: ChestSet) -> NDArray[np.bool_]:
    return without_nodules(test) | (test.kinds == INJECTED)


def _accuracy(found: Confusion) -> object:
    return found.balanced_accuracy


def _decided(scores: Scores, splits: ChestSplits, rows: NDArray[np.bool_]) -> Statistic:
    """Return the balanced accuracy on some test chests, as a statistic of these chests."""
    cut = choose_threshold(splits.val.labels, scores.val)
    return confusion_of(splits.test.labels[rows], scores.test[rows], cut, _accuracy)


def _figures(found: Sequence[Scores], splits: ChestSplits) -> dict[str, Interval]:
    """Return balanced accuracies for injected nodules, by their size and by the size of own nodules, and the AUC."""
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
    """Compare arms, training by training, on the same patients; p values are corrected for all tests together."""
    test = splits.test
    by_metric = {"accuracy": _all_sizes(test)} | {f"{mm:g} mm": rows_of_size(test, mm) for mm in SIZES_STUDIED_MM}
    tests: list[Test] = []
    for a, b in pairs:
        for metric, rows in by_metric.items():
            both = zip(found[a], found[b], strict=True)
            apart = [difference(*(_decided(scores, splits, rows) for scores in pair)) for pair in both]
            made = compared_over_seeds(apart, test.patients[rows])
            tests.append(Test(a, b, metric, **asdict(made), p_holm=None))
    return with_corrected_p(tests, len(next(iter(found.values()))))


def _smallest(tests: Sequence[Test]) -> float | None:
    of_several = (one for one in tests if one.metric == "accuracy" and one.p is not None)
    return smallest_found([(one.high - one.low) / 2 for one in of_several])


def _counts(chests: ChestSet) -> dict[str, int]:
    kinds, often = np.unique(chests.kinds, return_counts=True)
    found = dict(zip(kinds.tolist(), often.tolist(), strict=True))
    return {"patients": len(np.unique(chests.patients)), **found}
