"""Do synthetic nodules help a detector? The study of Cui's thesis (sections 4.2 to 5.2), with further arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from synthorax.datasets.patches import PatchDataset
from synthorax.errors import InputError
from synthorax.makers import Judge, Maker, Method
from synthorax.metrics.bootstrap import Statistic, UndefinedError, difference, mean_of, ratio
from synthorax.metrics.classification import Confusion, confusion
from synthorax.metrics.roc import auc_of
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.studies.arms import AMOUNTS, REFERENCE, alone, beside, made_patches, notes_of, own_head, recipes
from synthorax.studies.baselines import brightness, detection_splits
from synthorax.studies.patch_makers import as_generator, judged, labelled, rendering
from synthorax.studies.results import MADE, Arm, Interval, Test, with_corrected_p
from synthorax.studies.scan_search import scan_search
from synthorax.studies.trials import (
    MEASURES,
    Measure,
    Scores,
    Splits,
    Study,
    compared_over_seeds,
    decided,
    decisions,
    defined,
    over_seeds,
    patients_of,
    thresholds,
)
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.features.classes import SUBSOLID
from synthorax.tasks.networks.config import DetectorConfig
from synthorax.tasks.training import check_size

BRIGHTNESS = "HU of the middle alone"
THESIS_SHARE = 1633 / (1633 + 116_227)
"""Share of nodules among the patches of the thesis' test set (tables 2 to 5)."""
TESTED = ("auc", "sensitivity", "specificity")
"""Measures that are compared between arms; the first is the study's outcome, the others explain it."""
DETECTION_STRATA_MM = {"below 6 mm": (0.0, 6.0), "6 to 8 mm": (6.0, 8.0), "from 8 mm": (8.0, inf)}
"""Name of each stratum of diameter to its bounds in mm, the upper one excluded."""
NOT_SOLID = "not solid"
STRATA = (*DETECTION_STRATA_MM, NOT_SOLID)
SENSITIVITY_OF = {name: f"sensitivity, {name}" for name in STRATA}
"""Name of each stratum to the name of the measure that is taken in it."""
DETECTION_MEASURES: dict[str, Measure] = MEASURES | {
    "precision at 1 nodule to 71 others": lambda found: _at_share(found)[0],
    "f1 at 1 nodule to 71 others": lambda found: _at_share(found)[1],
}
PAPER_REFERENCE = {
    "sensitivity": 0.969,
    "specificity": 0.976,
    "precision at 1 nodule to 71 others": 0.363,
    "f1 at 1 nodule to 71 others": 0.528,
}
"""The thesis' table 2: the detector trained on real patches with flips."""


def paper(maker: str) -> dict[str, dict[str, float]]:
    """Return the results of the thesis' tables 3 to 5 by arm, for the maker that is the thesis' own system."""
    selected = {
        "sensitivity": 0.843,
        "specificity": 0.994,
        "precision at 1 nodule to 71 others": 0.647,
        "f1 at 1 nodule to 71 others": 0.732,
    }
    only = {
        "sensitivity": 0.563,
        "specificity": 0.927,
        "precision at 1 nodule to 71 others": 0.097,
        "f1 at 1 nodule to 71 others": 0.166,
    }
    head = {
        "sensitivity": 0.744,
        "specificity": 0.993,
        "precision at 1 nodule to 71 others": 0.598,
        "f1 at 1 nodule to 71 others": 0.663,
    }
    return {beside(maker, passed=True): selected, alone(maker, passed=True): only, own_head(maker): head}


def _at_share(found: Confusion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and F1 as if the share of nodules were that of the thesis' test set, `THESIS_SHARE`."""
    right = THESIS_SHARE * np.asarray(found.sensitivity)
    wrong = (1 - THESIS_SHARE) * (1 - np.asarray(found.specificity))
    return ratio(right, right + wrong), ratio(2 * right, right + wrong + THESIS_SHARE)


@dataclass(frozen=True)
class DetectionOutcome:
    """The results of the study.

    Attributes:
        arms: each arm with its measures.
        tests: comparisons of arms.
        confusions: arm to its true positives, false positives, true negatives and false negatives, means over
            trainings.
        drawn: number of patches that each training drew.
        counts: numbers of test patients, nodules, patches without a nodule, and nodules in each stratum.
        note: sentences about the samples that passed the makers' selections and about arms that were left out.
        models: maker to the SHA-256 of its weights.
    """

    arms: list[Arm]
    tests: list[Test]
    confusions: dict[str, list[float]]
    drawn: int
    counts: dict[str, int]
    note: str = ""
    models: dict[str, str] = field(default_factory=dict)


def detection_study(
    study: Study,
    config: TaskConfig,
    makers: Sequence[Maker] = (),
    *,
    amounts: Sequence[float] = AMOUNTS,
    negatives: float = 1.0,
    baseline: Method | None = None,
    thesis: str = "",
) -> DetectionOutcome:
    """Train detectors with and without synthetic nodules, and measure them on the test patients.

    Args:
        study: the store, the folder of the trainings, and their seeds.
        config: the detector and its training.
        makers: generators of patches on the configuration's grid, or injectors; each has arms of its own.
        amounts: synthetic nodules for each real one, an arm each.
        negatives: patches without a nodule for each nodule, in a store of whole scans.
        baseline: the trivial injector, which has arms too; by default, rendering with the outlines of LIDC-IDRI's
            training patients.
        thesis: name of the thesis' own system, beside whose arms the thesis' results are shown.

    Raises:
        InputError: the store has too few patients, the network is not a detector, the configuration shifts or scales
            patches, an amount is not a positive number, or a maker is given twice.
    """
    if not isinstance(config.network, DetectorConfig):
        raise InputError("network", config.network.kind, "detector")
    if wrong := [amount for amount in amounts if not 0 < amount < inf]:
        raise InputError("amounts", f"{wrong[0]:g}", "a number above 0: synthetic nodules for each real one")
    check_size(Classification(config))
    named = labelled([baseline or rendering(study.store), *makers])
    splits = detection_splits(study, config, negatives)
    search = scan_search(study.store)
    n_real = int((splits.train.labels == POSITIVE).sum())
    folder = None if baseline else study.out.parent / MADE
    generators = {name: as_generator(maker, splits.train) for name, maker in named.items()}
    like = study.key(splits)[:12]
    made = {name: made_patches(folder, like, splits.train, name, maker, amounts) for name, maker in generators.items()}
    chosen = recipes(config, made, amounts)
    found: dict[str, list[Scores]] = {}
    for recipe in chosen:
        feed = recipe.feed(n_real)
        found[recipe.name] = study.scores(recipe.name, recipe.config, splits, feed=feed, search=search)
    trained = set(found)
    found[BRIGHTNESS] = [Scores(brightness(splits.val), brightness(splits.test))]
    for name, maker in named.items():
        if "judges" in maker.roles:
            judge = cast(Judge, maker)
            found[own_head(name)] = [Scores(judged(judge, splits.val), judged(judge, splits.test))]
    pairs = [(recipe.name, other) for recipe in chosen for other in recipe.against]
    pairs += [(name, REFERENCE) for name in found if name not in trained]
    published = {REFERENCE: PAPER_REFERENCE}
    for name, maker in named.items():
        published |= paper(name) if maker.name == thesis else {}
    arms = []
    for name, scores in found.items():
        metrics = decisions(scores, splits, DETECTION_MEASURES) | strata(scores, splits)
        if search is not None and name in trained:
            metrics |= defined({"froc": partial(search.froc, scores)})
        arms.append(Arm(name, list(study.seeds) if name in trained else [], metrics, published.get(name, {})))
    return DetectionOutcome(
        arms=arms,
        tests=compared(found, pairs, splits),
        confusions={name: confusion_means(scores, splits) for name, scores in found.items()},
        drawn=config.steps * config.batch_size,
        counts={
            "patients": len(np.unique(patients_of(splits.test))),
            "nodules": int((splits.test.labels == POSITIVE).sum()),
            "patches without one": int((splits.test.labels == NEGATIVE).sum()),
            **{name: int(rows.sum()) for name, rows in stratum_rows(splits.test).items()},
        },
        note=notes_of(splits.train, made),
        models={name: maker.lineage.model_sha256 for name, maker in named.items() if maker.lineage.model_sha256},
    )


def stratum_rows(patches: PatchDataset) -> dict[str, NDArray[np.bool_]]:
    """Return the patches with nodules of each stratum: name to bool [n]."""
    nodules = [place.nodule.attributes if place.nodule else None for place in patches.places]
    mm = np.array([each.diameter_mm or np.nan if each else np.nan for each in nodules], float)
    texture = np.array([each.texture or np.nan if each else np.nan for each in nodules], float)
    rows = {name: (mm >= low) & (mm < high) for name, (low, high) in DETECTION_STRATA_MM.items()}
    return rows | {NOT_SOLID: texture < SUBSOLID}


def strata(found: Sequence[Scores], splits: Splits) -> dict[str, Interval]:
    """Return the sensitivity for each stratum of diameter, and for nodules that are not solid, by `SENSITIVITY_OF`.

    If every training finds all nodules of a stratum, or none, resampling shows no spread; the interval is then the
    exact binomial one (Clopper and Pearson).
    """
    called = [scores.test >= cut for scores, cut in zip(found, thresholds(found, splits), strict=True)]

    def sensitivity(some: NDArray[np.bool_]) -> Interval:
        share = over_seeds([mean_of(each.astype(float), some) for each in called], patients_of(splits.test))
        if share.mean not in (0, 1):
            return share
        n = int(some.sum())
        exact = binomtest(round(share.mean * n), n).proportion_ci()
        return Interval(share.mean, float(exact.low), float(exact.high))

    return defined(
        {SENSITIVITY_OF[name]: partial(sensitivity, rows) for name, rows in stratum_rows(splits.test).items()}
    )


def compared(found: Mapping[str, Sequence[Scores]], pairs: Sequence[tuple[str, str]], splits: Splits) -> list[Test]:
    """Compare pairs of arms, training by training, on the same patients.

    The test is Student's t over patients and trainings (`compared_over_seeds`), or over patients alone with one
    training. The p values of each measure are corrected for the number of pairs by Holm's method. With fewer than
    `results.LEAST_TRAININGS` trainings there are none.

    Args:
        found: arm to the scores of each training; an arm without trainings has one entry.
        pairs: pairs of arms.
        splits: the patches.
    """
    patients = patients_of(splits.test)
    trainings = max(map(len, found.values()))
    tests = []
    for metric in TESTED:
        of_metric = []
        for a, b in pairs:
            each = [list(found[name]) * (trainings if len(found[name]) == 1 else 1) for name in (a, b)]
            both = zip(*(_statistics(scores, splits, metric) for scores in each), strict=True)
            with suppress(UndefinedError):
                test = compared_over_seeds([difference(*pair) for pair in both], patients)
                of_metric.append(Test(a, b, metric, **asdict(test), p_holm=None))
        tests += with_corrected_p(of_metric, trainings)
    return tests


def _statistics(found: Sequence[Scores], splits: Splits, metric: str) -> list[Statistic]:
    if metric == "auc":
        return [auc_of(splits.test.labels, scores.test) for scores in found]
    return decided(found, splits, MEASURES[metric])


def confusion_means(found: Sequence[Scores], splits: Splits) -> list[float]:
    """Return the confusion counts on the test patients (TP, FP, TN, FN), means over trainings."""
    cuts = thresholds(found, splits)
    counts = [confusion(splits.test.labels, scores.test, cut) for scores, cut in zip(found, cuts, strict=True)]
    return np.mean([list(vars(each).values()) for each in counts], 0).tolist()
