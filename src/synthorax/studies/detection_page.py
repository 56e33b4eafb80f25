"""`synthorax study detection`: the study of detection, as results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from synthorax.datasets.store import Store
from synthorax.figures import forest
from synthorax.makers import Maker
from synthorax.report import write_page
from synthorax.studies.answers import about_p, whether_it_helps
from synthorax.studies.arms import AMOUNTS, REFERENCE, beside
from synthorax.studies.detection import SENSITIVITY_OF, TESTED, DetectionOutcome, detection_study
from synthorax.studies.patch_makers import check_maker_fits
from synthorax.studies.results import RESULTS, TRAININGS, check_study_folder, data_facts, machine, write_results
from synthorax.studies.trials import Study, check_trainings
from synthorax.tasks.config import TaskConfig


def study_detection(
    store: Store,
    config: TaskConfig,
    out: Path,
    *,
    makers: Sequence[Maker] = (),
    amounts: Sequence[float] = AMOUNTS,
    negatives: float = 1.0,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
    thesis: str = "",
) -> tuple[Path, DetectionOutcome]:
    """Train and measure every arm. A call resumes where an earlier one stopped.

    Args:
        store: nodules in cubes or whole scans.
        config: the detector and its training.
        out: folder of the study.
        makers: generators of patches, or injectors; each has arms beside those of rendering.
        amounts: synthetic nodules for each real one, an arm each.
        negatives: patches without a nodule for each nodule, in a store of whole scans.
        trainings: number of trainings of each arm; the intervals include their spread.
        seed: seed of the first training; the others have the following integers.
        device: device of the networks.
        thesis: name of the thesis' own system, beside whose arms the thesis' results are shown.

    Returns:
        The page, with `results.json` beside it, and the results.

    Raises:
        InputError: the store has too few patients, a maker has another grid or was trained on held-out patients, or
            the folder holds something else.
    """
    check_trainings(trainings)
    for maker in makers:
        check_maker_fits(maker, store, config)
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    outcome = detection_study(study, config, makers, amounts=amounts, negatives=negatives, thesis=thesis)
    write_results(
        out / RESULTS,
        "detection",
        data_facts(store),
        outcome.arms,
        answer=answer(outcome),
        tests=[asdict(test) for test in outcome.tests],
        confusions=outcome.confusions,
        drawn=outcome.drawn,
        counts=outcome.counts,
        note=outcome.note,
        splits=store.splits,
        config=config.model_dump(mode="json"),
        models=outcome.models,
    )
    page, measures = out / "index.html", dict.fromkeys(name for arm in outcome.arms for name in arm.metrics)
    write_page(
        page,
        "study_detection.html",
        data_note=store.note,
        outcome=outcome,
        answer=answer(outcome),
        columns=[name for name in measures if name not in SENSITIVITY_OF.values()],
        strata=list(SENSITIVITY_OF.values()),
        nodules_of={
            measure: outcome.counts[name] for name, measure in SENSITIVITY_OF.items() if name in outcome.counts
        },
        reference=REFERENCE,
        picture_of_tests=differences(outcome),
        patients={name: len(ids) for name, ids in store.splits.items()},
        trainings=trainings,
        about_p=about_p(trainings, "the number of pairs"),
        size=" x ".join(map(str, config.size)),
        machine=machine(),
    )
    return page, outcome


def answer(outcome: DetectionOutcome) -> str:
    """Return whether synthetic nodules beside real ones helped, the answer to the page's title."""
    mixed = beside("")
    tests = [t for t in outcome.tests if t.metric == TESTED[0] and t.b == REFERENCE and t.a.startswith(mixed)]
    return whether_it_helps(tests, outcome.arms)


def differences(outcome: DetectionOutcome) -> Figure:
    """Draw the difference in AUC of each trained arm from the reference, with its interval."""
    trained = {arm.name for arm in outcome.arms if arm.seeds}
    tests = [test for test in outcome.tests if test.metric == "auc" and test.b == REFERENCE and test.a in trained]
    rows = {test.a: (test.difference, test.low, test.high) for test in tests}
    return forest(rows, f"AUC less that of “{REFERENCE}”")
