"""Do synthetic malignant nodules help a malignancy classifier? The study of Yang et al., with further arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synthorax.datasets.patches import PatchDataset
from synthorax.errors import InputError
from synthorax.makers import Method
from synthorax.metrics.bootstrap import difference
from synthorax.metrics.classification import confusion_of
from synthorax.metrics.comparisons import smallest_found
from synthorax.metrics.roc import auc_of, delong_comparison
from synthorax.nodule import MalignancyRule
from synthorax.seeding import derive
from synthorax.shapes.features import shape_features
from synthorax.studies.contexts import BENIGN_CLASS, MALIGNANT_CLASS, Contexts, replaces
from synthorax.studies.malignancy_recipes import (
    IN_MALIGNANT,
    PAPER_RATIO,
    RATIOS,
    RAW,
    WEIGHTED,
    ArmKind,
    MadeNodules,
    recipes_with_made,
    recipes_without_made,
)
from synthorax.studies.malignant_or_benign import by_size, diameters_of, malignancy_splits
from synthorax.studies.patch_makers import labelled, rendering
from synthorax.studies.results import Arm, Interval, with_corrected_p
from synthorax.studies.trials import (
    Measure,
    Scores,
    Splits,
    Study,
    compared_over_seeds,
    defined,
    over_seeds,
    patients_of,
)
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.training import check_size

DIAMETER, SHAPE_FEATURES = "diameter alone", "logistic regression on 12 shape features"
THRESHOLD = 0.5
"""Least probability at which a nodule is called malignant; the larger of two class outputs, as in the paper."""
MALIGNANCY_MEASURES: dict[str, Measure] = {
    "accuracy": lambda found: found.accuracy,
    "sensitivity": lambda found: found.sensitivity,
    "specificity": lambda found: found.specificity,
}
PAPER_COUNTS = {"train": (1016, 233), "val": (128, 28), "test": (133, 24)}
"""Numbers of benign and malignant patches in the paper (table 1)."""
PAPER_RESULTS: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = {
    "resnet-50": {
        RAW: (0.8216, 0.6666, 0.8496, 0.8286),
        WEIGHTED: (0.8662, 0.6666, 0.9022, 0.8161),
        "made": (0.8216, 0.7083, 0.8421, 0.8746),
    },
    "resnet-101": {
        RAW: (0.8853, 0.6666, 0.9248, 0.8320),
        WEIGHTED: (0.7961, 0.7499, 0.8045, 0.8154),
        "made": (0.9044, 0.5833, 0.9624, 0.8458),
    },
    "resnet-152": {
        RAW: (0.8917, 0.5833, 0.9473, 0.8756),
        WEIGHTED: (0.8598, 0.7083, 0.8872, 0.8098),
        "made": (0.9171, 0.5833, 0.9774, 0.8812),
    },
    "resnext-101": {
        RAW: (0.9044, 0.6249, 0.9548, 0.8558),
        WEIGHTED: (0.8471, 0.6666, 0.8796, 0.8342),
        "made": (0.8853, 0.6666, 0.9248, 0.8768),
    },
    "mean": {
        RAW: (0.8757, 0.6353, 0.9191, 0.8480),
        WEIGHTED: (0.8423, 0.6978, 0.8683, 0.8188),
        "made": (0.8821, 0.6353, 0.9266, 0.8696),
    },
}
"""Table 2: accuracy, sensitivity, specificity and AUC by network and arm."""
PAPER_COLUMNS = (*MALIGNANCY_MEASURES, "auc")


@dataclass(frozen=True)
class MalignancyTest:
    """A comparison of two arms.

    Attributes:
        a, b: names of the arms.
        difference: AUC of a less that of b, mean over trainings.
        low, high: 95 % interval over patients and trainings.
        p: p value of no difference; None with too few trainings.
        p_holm: p after Holm's correction for all comparisons.
        delong: difference between the AUCs of the scores' means over trainings.
        p_delong: p value of `delong` by DeLong's test, which assumes that nodules are independent.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    delong: float
    p_delong: float


@dataclass(frozen=True)
class MalignancyOutcome:
    """The results of the study.

    Attributes:
        arms: each arm with its measures.
        tests: comparisons of arms.
        smallest: difference of AUCs that the comparisons would detect with a power of 80 %; None without a comparison,
            or with too few trainings to know their spread.
        counts: split to its numbers of benign and malignant patches and of patients.
        made: arm to its number of synthetic patches.
        drawn: number of patches that each training drew.
        notes: sentences about nodules that were left out or are missing.
        models: maker to the SHA-256 of its weights.
    """

    arms: list[Arm]
    tests: list[MalignancyTest]
    smallest: float | None
    counts: dict[str, dict[str, int]]
    made: dict[str, int]
    drawn: int
    notes: tuple[str, ...] = ()
    models: dict[str, str] = field(default_factory=dict)


def malignancy_study(
    study: Study,
    config: TaskConfig,
    makers: Sequence[Method] = (),
    *,
    arms: Sequence[ArmKind] | None = None,
    ratios: Sequence[float] = RATIOS,
    rule: MalignancyRule = "median",
    baseline: Method | None = None,
) -> MalignancyOutcome:
    """Train classifiers with and without synthetic malignant nodules, and measure them on the test patients.

    Every arm has the configuration's random crops and scaling, as in the paper.

    Args:
        study: the store, the folder of the trainings, and their seeds.
        config: the classifier and its training.
        makers: put nodules into patches. Every maker has an arm in benign contexts. A maker that replaces the nodule
            in a context also has arms in malignant contexts.
        arms: kinds of arms to train; the arm `raw` is always trained. If not given, all that the makers can have.
        ratios: synthetic malignant nodules for each real one in malignant contexts, an arm each.
        rule: how ratings become a class.
        baseline: the trivial method, which has arms too; by default, rendering with the outlines of LIDC-IDRI's
            training patients.

    Raises:
        InputError: the store has too few patients, no ratio is given or one is not a positive number, a maker is given
            twice, or no maker can have one of the given arms.
    """
    if not ratios:
        raise InputError("ratios", "none", "one or more numbers of synthetic malignant nodules for each real one")
    if wrong := [ratio for ratio in ratios if not 0 < ratio < inf]:
        raise InputError("ratios", f"{wrong[0]:g}", "a number above 0: synthetic malignant nodules for each real one")
    check_size(Classification(config))
    plain = config.model_copy(update={"flip": False, "turn": False})
    splits = malignancy_splits(study, plain, rule)
    contexts = Contexts.of(study.store, splits.train)
    named = labelled([baseline or rendering(study.store), *makers])
    n_real = int((splits.train.labels == MALIGNANT_CLASS).sum())
    chosen: Sequence[ArmKind] = get_args(ArmKind) if arms is None else arms
    recipes = recipes_without_made(plain, chosen)
    notes = [_left_out(contexts)] if contexts.left_out else []
    if {*IN_MALIGNANT, "benign"} & set(chosen):
        methods = cast(Mapping[str, Method], named)
        replacing, adding = _replacing(methods, contexts, chosen, required=arms is not None)
        makes = MadeNodules(study, splits, contexts, n_real, adding)
        recipes += recipes_with_made(plain, methods, replacing, makes, chosen, ratios)
        notes += makes.notes
        for note in makes.notes:
            study.console.print(note, markup=False)
    found = {each.name: study.scores(each.name, each.config, splits, feed=each.feed) for each in recipes}
    pairs = [(each.name, other) for each in recipes for other in each.against if other in found and other != each.name]
    figures = {name: _figures(scores, splits) for name, scores in found.items()}
    measured = [Arm(name, list(study.seeds), figures[name], _paper(config, name)) for name in found]
    tests = _compared(found, pairs, splits)
    return MalignancyOutcome(
        arms=measured + _trivial(splits),
        tests=tests,
        smallest=smallest_found([(test.high - test.low) / 2 for test in tests if test.p is not None]),
        counts={name: _counts(patches) for name, patches in vars(splits).items()},
        made={each.name: 0 if each.made is None else len(each.made) for each in recipes},
        drawn=config.steps * config.batch_size,
        notes=tuple(notes),
        models={name: maker.lineage.model_sha256 for name, maker in named.items() if maker.lineage.model_sha256},
    )


def _replacing(
    methods: Mapping[str, Method], contexts: Contexts, arms: Sequence[ArmKind], *, required: bool
) -> tuple[list[str], list[str]]:
    """Return the makers that have arms in malignant contexts, and a note on each other maker; none if no arm asks.

    Raises:
        InputError: an arm in malignant contexts is `required`, and no maker has one.
    """
    asked = [kind for kind in arms if kind in IN_MALIGNANT]
    if not asked:
        return [], []
    replacing = [name for name, method in methods.items() if replaces(method, contexts, derive(0, "probe"))]
    adding = [name for name in methods if name not in replacing]
    if required and not replacing:
        raise InputError(
            "arms",
            f"{', '.join(asked)} with {', '.join(adding)} alone, which adds nodules",
            "a model that replaces nodules by others, as --model has them; or the arm benign, without these",
        )
    why = "adds nodules to the real ones there instead of replacing them"
    return replacing, [f"{name} has no arms in malignant contexts, at any ratio, because it {why}." for name in adding]


def _left_out(contexts: Contexts) -> str:
    every = len(contexts.train)
    left_out = f"{contexts.left_out} of {every} training nodules are not in the middle of their patch"
    return f"{left_out}, so no synthetic nodule is made there."


def _counts(patches: PatchDataset) -> dict[str, int]:
    return {
        "benign": int((patches.labels == BENIGN_CLASS).sum()),
        "malignant": int((patches.labels == MALIGNANT_CLASS).sum()),
        "patients": len(np.unique(patients_of(patches))),
    }


def _figures(found: Sequence[Scores], splits: Splits, *, decides: bool = True) -> dict[str, Interval]:
    """Return AUCs of all nodules and among those of similar size, and the measures of decisions at `THRESHOLD`."""
    labels, patients = splits.test.labels, patients_of(splits.test)

    def over(measure: Measure) -> Interval:
        return over_seeds([confusion_of(labels, scores.test, THRESHOLD, measure) for scores in found], patients)

    decisions = {name: partial(over, measure) for name, measure in MALIGNANCY_MEASURES.items()} if decides else {}
    return defined(decisions) | by_size(splits.test, [scores.test for scores in found], diameters_of(splits.test))


def _paper(config: TaskConfig, name: str) -> dict[str, float]:
    """Return the paper's results for an arm with the same network, or their mean over its networks for another one."""
    network = getattr(config.network, "architecture", "")
    rows = PAPER_RESULTS.get(network, PAPER_RESULTS["mean"])
    is_its_own = name.startswith("raw + ") and name.endswith(f"malignant contexts x {PAPER_RATIO:g}")
    row = rows.get("made" if is_its_own else name)
    return dict(zip(PAPER_COLUMNS, row, strict=True)) if row else {}


def _trivial(splits: Splits) -> list[Arm]:
    """Return the trivial arms: the diameter alone, and a logistic regression on the outlines' shape features."""
    by_diameter = [Scores(diameters_of(splits.val), diameters_of(splits.test))]
    arms = [Arm(DIAMETER, [], _figures(by_diameter, splits, decides=False), {})]
    train, test = (_shapes(patches) for patches in (splits.train, splits.test))
    if train is not None and test is not None:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, splits.train.labels)
        scores = [Scores(np.zeros(0), model.predict_proba(test)[:, MALIGNANT_CLASS])]
        arms.append(Arm(SHAPE_FEATURES, [], _figures(scores, splits), {}))
    return arms


def _shapes(patches: PatchDataset) -> NDArray[np.float64] | None:
    """Return the 12 shape features of the nodules, [n, 12]; None if some nodule has no outline."""
    masks = patches.masks_with_margin(np.arange(len(patches)))
    if not masks.any((1, 2, 3)).all():
        return None
    found = shape_features(masks, patches.spec.spacing_mm, "corrected")
    return np.where(np.isfinite(found), found, 0.0)


def _compared(
    found: Mapping[str, Sequence[Scores]], pairs: Sequence[tuple[str, str]], splits: Splits
) -> list[MalignancyTest]:
    """Compare the AUCs of pairs of arms, training by training, on the same patients."""
    labels, patients = splits.test.labels, patients_of(splits.test)
    tests = []
    for a, b in pairs:
        both = zip(found[a], found[b], strict=True)
        apart = [difference(auc_of(labels, one.test), auc_of(labels, other.test)) for one, other in both]
        test = compared_over_seeds(apart, patients)
        means = [np.mean([scores.test for scores in found[name]], 0) for name in (a, b)]
        delong = delong_comparison(labels, *means)
        delonged = (delong.difference, delong.p)
        tests.append(MalignancyTest(a, b, test.difference, test.low, test.high, test.p, None, *delonged))
    return with_corrected_p(tests, len(found[RAW]))
