"""`synthorax study segmentation`: the study of segmentation, as results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib.figure import Figure

from synthorax.datasets.store import Store
from synthorax.figures import INK, REAL, SYNTHETIC, forest, lines
from synthorax.makers import Maker
from synthorax.report import write_page
from synthorax.studies.answers import about_p
from synthorax.studies.results import RESULTS, TRAININGS, check_study_folder, data_facts, machine, write_results
from synthorax.studies.segmentation import SegmentationOutcome, segmentation_study
from synthorax.studies.segmentation_arms import FEW, FOLD, FULL, SegmenterArmKind, beside_few
from synthorax.studies.segmentation_config import SegmenterConfig
from synthorax.studies.segmentation_figures import COMPARED
from synthorax.studies.trials import Study, check_trainings

COLOURS = (REAL, SYNTHETIC, "#6b9e78", INK)
"""Colours of the arms of N real patients, of n with synthetic volumes, of n alone, and of synthetic volumes alone."""


def study_segmentation(
    store: Store,
    config: SegmenterConfig,
    out: Path,
    *,
    makers: Sequence[Maker],
    arms: Sequence[SegmenterArmKind] = get_args(SegmenterArmKind),
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, SegmentationOutcome]:
    """Train and measure every arm. A call resumes where an earlier one stopped.

    Args:
        store: outlined nodules, and label maps.
        config: the segmenter, its training, and the volumes.
        out: folder of the study.
        makers: a painter first, whose volumes all kinds of arms use; then painters and injectors with an arm each.
        arms: kinds of arms to train.
        trainings: number of trainings of each arm; the intervals include their spread.
        seed: seed of the first training; the others have the following integers.
        device: device of the networks.

    Returns:
        The page, with `results.json` beside it, and the results.

    Raises:
        InputError: the store has too few patients or no label maps, a maker does not fit the store or was trained on
            patients of validation or test, or the folder holds something else.
    """
    check_trainings(trainings)
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    outcome = segmentation_study(study, config, makers, arms=arms)
    write_results(
        out / RESULTS,
        "segmentation",
        data_facts(store),
        outcome.arms,
        answer=replaced_sentence(outcome),
        **{name: value for name, value in asdict(outcome).items() if name != "arms"},
        splits=store.splits,
        config=config.model_dump(mode="json"),
    )
    page = out / "index.html"
    write_page(
        page,
        "study_segmentation.html",
        data_note=store.note,
        outcome=outcome,
        columns=list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics)),
        compared=COMPARED,
        sentence=replaced_sentence(outcome),
        picture_of_tests=segmentation_differences(outcome),
        picture_of_steps=over_iterations(outcome),
        picture_of_amounts=over_amounts(outcome),
        headline=config.headline,
        last=config.checkpoints[-1],
        trainings=trainings,
        about_p=about_p(trainings, "the number of pairs"),
        size=" x ".join(map(str, config.size)),
        volume=" x ".join(map(str, config.volume)),
        machine=machine(),
    )
    return page, outcome


def replaced_sentence(outcome: SegmentationOutcome) -> str:
    """Return the study's outcome in one sentence: how many real patients the synthetic volumes replaced, if known."""
    replaced, counts = outcome.replaced, outcome.counts
    main = beside_few("", FOLD, main=True)
    rise, effect = (
        next(t for t in outcome.tests if (t.a, t.b, t.measure) == (*arms, COMPARED[0]))
        for arms in ((FEW, FULL), (main, FEW))
    )
    if rise.high >= 0:  # the curve, from which patients are read off, does not rise for sure
        better = "a lower" if rise.low > 0 else "no significantly higher"
        return (
            f"This study does not tell how many real patients synthetic volumes replace: {counts['N patients']} real "
            f"patients give {better} mean Dice than {counts['n patients']} "
            f"({_difference(-rise.difference, -rise.high, -rise.low)}). {FOLD * counts['n volumes']} synthetic volumes "
            f"beside {counts['n patients']} real patients change it by "
            f"{_difference(effect.difference, effect.low, effect.high)}. Train longer, as with --set steps=N, or on "
            "more patients."
        )
    beyond = " (the curve of real patients ends there)" if replaced.high >= replaced.most else ""
    return (
        f"By the mean Dice of the test volumes, {FOLD * counts['n volumes']} synthetic volumes beside "
        f"{counts['n patients']} real patients replaced {replaced.patients:.0f} further real patients "
        f"(95 % interval {replaced.low:.0f} to {replaced.high:.0f} of {replaced.most}{beyond})."
    )


def _difference(value: float, low: float, high: float) -> str:
    """Return a difference with its interval."""
    signed = [f"{round(each, 3) + 0.0:+.3f}" for each in (value, low, high)]  # 0.0 makes -0 a 0
    return f"{signed[0]}, 95 % interval {signed[1]} to {signed[2]}"


def segmentation_differences(outcome: SegmentationOutcome) -> Figure:
    """Draw the difference in mean Dice between arms, with its interval."""
    tests = [test for test in outcome.tests if test.measure == COMPARED[0]]
    rows = {f"{test.a}, less {test.b}": (test.difference, test.low, test.high) for test in tests}
    return forest(rows, "difference of the mean Dice")


def over_iterations(outcome: SegmentationOutcome) -> Figure:
    """Draw Dice, sensitivity and F2 at every checkpoint, for the main arms."""
    steps = np.array(list(outcome.curves), float)
    names = (FULL, beside_few("", FOLD, main=True), FEW, "N synthetic")
    panels = {
        measure: {
            name: (steps, np.array([outcome.curves[int(step)][name][measure].mean for step in steps]))
            for name in names
            if name in outcome.curves[int(steps[0])]
        }
        for measure in COMPARED
    }
    return lines(panels, COLOURS[: len(panels[COMPARED[0]])], "steps", "")


def over_amounts(outcome: SegmentationOutcome) -> Figure:
    """Draw the mean Dice by number of real patients alone, and by number of synthetic volumes beside n patients."""
    dice = {arm.name: arm.metrics[COMPARED[0]].mean for arm in outcome.arms}
    few = outcome.learned[FEW]
    alone = sorted((real, dice[name]) for name, (real, _, made) in outcome.learned.items() if not made)
    beside = sorted(
        (made, dice[name])
        for name, (real, _, made) in outcome.learned.items()
        if real == few[0] and (not made or name.endswith("n synthetic"))
    )
    panels = {
        "real patients alone": {"real": tuple(np.array(alone, float).T)},
        "synthetic volumes beside n real patients": {"synthetic": tuple(np.array(beside, float).T)},
    }
    return lines(panels, (REAL,), "number", "mean Dice")
