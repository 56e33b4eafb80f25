"""`synthorax study malignancy`: results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from matplotlib.figure import Figure

from synthorax.datasets.store import Store
from synthorax.figures import forest
from synthorax.makers import Method
from synthorax.nodule import MalignancyRule
from synthorax.report import write_page
from synthorax.studies.malignancy import PAPER_COUNTS, MalignancyOutcome, malignancy_study
from synthorax.studies.malignancy_recipes import FLIPS, RATIOS, RAW, ArmKind
from synthorax.studies.patch_makers import check_maker_fits
from synthorax.studies.results import TRAININGS, check_study_folder, machine, write_results
from synthorax.studies.trials import Study, check_trainings
from synthorax.tasks.config import TaskConfig


def study_malignancy(
    store: Store,
    config: TaskConfig,
    out: Path,
    *,
    makers: Sequence[Method] = (),
    arms: Sequence[ArmKind] = get_args(ArmKind),
    ratios: Sequence[float] = RATIOS,
    rule: MalignancyRule = "median",
    trainings: int = 5,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, MalignancyOutcome]:
    """Train and measure every arm; goes on where an earlier call stopped.

    Args:
        makers: injectors; each has its arms beside those of rendering.
        arms: kinds of arms that are trained, beside the raw one.
        ratios: made malignant nodules for each real one.
        trainings: of each arm; their spread is in the intervals.
        seed: of the first; the others count on.

    Returns:
        The page, with `results.json` beside it, and what was found.

    Raises:
        InputError: a store that no study can be made of, a maker that does not fit it or knows its held-out
            patients, or a folder that holds something else.
    """
    check_trainings(trainings)
    for maker in makers:
        check_maker_fits(maker, store, config)
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    outcome = malignancy_study(study, config, makers, arms=arms, ratios=ratios, rule=rule)
    write_results(
        out / "results.json",
        "malignancy",
        {"fingerprint": store.fingerprint, "source": store.source},
        outcome.arms,
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
        outcome=outcome,
        columns=list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics)),
        paper_counts=dict(zip(outcome.counts, PAPER_COUNTS.values(), strict=True)),
        picture_of_tests=malignancy_differences(outcome),
        network=getattr(config.network, "architecture", config.network.kind),
        rule=rule,
        trainings=trainings,
        size=" x ".join(map(str, config.size)),
        spacing=" x ".join(f"{mm:g}" for mm in config.spacing_mm),
        machine=machine(),
    )
    return page, outcome


def malignancy_differences(outcome: MalignancyOutcome) -> Figure:
    """What each arm changes about the AUC of the arm without made nodules, with its interval."""
    tests = [test for test in outcome.tests if test.b in (RAW, FLIPS)]
    rows = {f"{test.a}, less {test.b}": (test.difference, test.low, test.high) for test in tests}
    return forest(rows, "difference of the AUC")
