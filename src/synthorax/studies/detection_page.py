"""`synthorax study detection`: results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from synthorax.datasets.store import Store
from synthorax.figures import forest
from synthorax.hub import Model
from synthorax.report import write_page
from synthorax.studies.arms import AMOUNTS, REFERENCE
from synthorax.studies.cube_makers import cube_maker
from synthorax.studies.detection import STRATA, Outcome, detection_study
from synthorax.studies.results import check_study_folder, machine, write_results
from synthorax.studies.trials import Study, check_trainings
from synthorax.tasks.config import TaskConfig


def study_detection(
    store: Store,
    config: TaskConfig,
    out: Path,
    *,
    model: Model | None = None,
    amounts: Sequence[float] = AMOUNTS,
    negatives: float = 1.0,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, Outcome]:
    """Train and measure every arm; goes on where an earlier call stopped.

    Args:
        model: makes the GAN's arms; they are left out if not given.
        amounts: made nodules for each real one.
        negatives: patches without a nodule for each with one, where scans are whole.
        trainings: of each arm; their spread is in the intervals.
        seed: of the first; the others count on.

    Returns:
        The page, with `results.json` beside it, and what was found.

    Raises:
        InputError: a store that no study can be made of, a model that does not fit it or learned from its held-out
            patients, or a folder that holds something else.
    """
    check_trainings(trainings)
    maker = None if model is None else cube_maker(model, store, config, device)
    check_study_folder(out)
    study = Study(store, out / "trainings", range(seed, seed + trainings), device)
    outcome = detection_study(study, config, maker, amounts=amounts, negatives=negatives)
    write_results(
        out / "results.json",
        "detection",
        {"fingerprint": store.fingerprint, "source": store.source},
        outcome.arms,
        tests=[asdict(test) for test in outcome.tests],
        confusions=outcome.confusions,
        drawn=outcome.drawn,
        counts=outcome.counts,
        note=outcome.note,
        splits=store.splits,
        config=config.model_dump(mode="json"),
        model_sha256=model.sha256 if model else "",
    )
    page = out / "index.html"
    write_page(
        page,
        "study_detection.html",
        outcome=outcome,
        columns=[name for name in dict.fromkeys(n for arm in outcome.arms for n in arm.metrics) if name not in STRATA],
        strata=STRATA,
        reference=REFERENCE,
        picture_of_tests=differences(outcome),
        patients={name: len(ids) for name, ids in store.splits.items()},
        trainings=trainings,
        model=model.sha256[:16] if model else "",
        size=" x ".join(map(str, config.size)),
        machine=machine(),
    )
    return page, outcome


def differences(outcome: Outcome) -> Figure:
    """What each trained arm changes about the AUC, with its interval."""
    trained = {arm.name for arm in outcome.arms if arm.seeds}
    tests = [test for test in outcome.tests if test.metric == "auc" and test.b == REFERENCE and test.a in trained]
    rows = {test.a: (test.difference, test.low, test.high) for test in tests}
    return forest(rows, f"AUC less that of “{REFERENCE}”")
