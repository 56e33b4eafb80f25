"""`synthorax study malignancy`: the study of malignancy, as results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from synthorax.datasets.lineage import check_unseen
from synthorax.datasets.store import Store
from synthorax.figures import forest
from synthorax.makers import Method
from synthorax.nodule import MalignancyRule
from synthorax.report import write_page
from synthorax.studies.answers import about_p, whether_it_helps
from synthorax.studies.malignancy import PAPER_COUNTS, MalignancyOutcome, malignancy_study
from synthorax.studies.malignancy_recipes import FLIPS, RATIOS, RAW, ArmKind
from synthorax.studies.results import RESULTS, TRAININGS, check_study_folder, data_facts, machine, write_results
from synthorax.studies.trials import Study, check_trainings
from synthorax.tasks.config import TaskConfig


def study_malignancy(
    store: Store,
    config: TaskConfig,
    out: Path,
    *,
    makers: Sequence[Method] = (),
    arms: Sequence[ArmKind] | None = None,
    ratios: Sequence[float] = RATIOS,
    rule: MalignancyRule = "median",
    trainings: int = 5,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, MalignancyOutcome]:
    """Train and measure every arm. A call resumes where an earlier one stopped.

    Args:
        store: rated nodules.
        config: the classifier and its training.
        out: folder of the study.
        makers: injectors; each has arms beside those of rendering.
        arms: kinds of arms to train; the arm `raw` is always trained. If not given, all that the makers can have.
        ratios: synthetic malignant nodules for each real one, an arm each.
        rule: how ratings become a class.
        trainings: number of trainings of each arm; the intervals include their spread.
        seed: seed of the first training; the others have the following integers.
        device: device of the networks.

    Returns:
        The page, with `results.json` beside it, and the results.

    Raises:
        InputError: the store has too few patients, a maker does not fit the store or was trained on held-out patients,
            no maker can have one of the given arms, or the folder holds something else.
    """
    check_trainings(trainings)
    for maker in makers:
        check_unseen(maker.lineage, store)  # as injectors, makers work on any patches
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    outcome = malignancy_study(study, config, makers, arms=arms, ratios=ratios, rule=rule)
    answer = malignancy_answer(outcome)
    write_results(
        out / RESULTS,
        "malignancy",
        data_facts(store),
        outcome.arms,
        answer=answer,
        tests=[asdict(test) for test in outcome.tests],
        smallest_difference=outcome.smallest,
        counts=outcome.counts,
        made=outcome.made,
        drawn=outcome.drawn,
        notes=list(outcome.notes),
        rule=rule,
        splits=store.splits,
        config=config.model_dump(mode="json"),
        models=outcome.models,
    )
    page = out / "index.html"
    write_page(
        page,
        "study_malignancy.html",
        data_note=store.note,
        outcome=outcome,
        answer=answer,
        columns=list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics)),
        paper_counts=dict(zip(outcome.counts, PAPER_COUNTS.values(), strict=True)),
        picture_of_tests=malignancy_differences(outcome),
        network=getattr(config.network, "architecture", config.network.kind),
        rule=rule,
        trainings=trainings,
        about_p=about_p(trainings, "the number of pairs"),
        size=" x ".join(map(str, config.size)),
        spacing=" x ".join(f"{mm:g}" for mm in config.spacing_mm),
        machine=machine(),
    )
    return page, outcome


def malignancy_answer(outcome: MalignancyOutcome) -> str:
    """Return whether synthetic malignant nodules beside real ones helped, the answer to the page's title."""
    tests = [test for test in outcome.tests if test.b in (RAW, FLIPS) and outcome.made.get(test.a)]
    return whether_it_helps(tests, outcome.arms)


def malignancy_differences(outcome: MalignancyOutcome) -> Figure:
    """Draw the difference in AUC of each arm from the arm without synthetic nodules, with its interval."""
    tests = [test for test in outcome.tests if test.b in (RAW, FLIPS)]
    rows = {f"{test.a}, less {test.b}": (test.difference, test.low, test.high) for test in tests}
    return forest(rows, "difference of the AUC")
