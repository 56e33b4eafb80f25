"""`synthorax study baselines`: detection, malignancy and segmentation on real patches, as results.json and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.report import write_page
from synthorax.studies.answers import what_real_alone_gives
from synthorax.studies.baselines import (
    check_outlined,
    check_rated_by_each_rule,
    detection_arms,
    malignancy_arms,
    segmentation_arms,
)
from synthorax.studies.results import RESULTS, TRAININGS, Arm, check_study_folder, data_facts, machine, write_results
from synthorax.studies.trials import Study, check_patients, check_trainings
from synthorax.tasks.config import TaskConfig

BASELINE_STUDIES = {"detection": detection_arms, "malignancy": malignancy_arms, "segmentation": segmentation_arms}
CHECKS = {"detection": check_patients, "malignancy": check_rated_by_each_rule, "segmentation": check_outlined}
"""Checks of the numbers of patients that each task needs, all of them done before the first training."""
TITLES = {
    "detection": "A nodule, or a patch of the same scans without a nodule",
    "malignancy": "Malignant or benign, as readers rate it",
    "segmentation": "A nodule's voxels",
}


def study_baselines(
    store: Store,
    configs: Mapping[str, TaskConfig],
    out: Path,
    *,
    trainings: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Path, dict[str, list[Arm]]]:
    """Train and measure each task that has a configuration. A call resumes where an earlier one stopped.

    Args:
        store: real patches.
        configs: task to its configuration; the tasks are the keys of `BASELINE_STUDIES`.
        out: folder of the study.
        trainings: number of trainings of each network; the intervals include their spread.
        seed: seed of the first training; the others have the following integers.
        device: device of the networks.

    Returns:
        The page, with `results.json` beside it, and the arms of each task.

    Raises:
        InputError: a task is unknown, the store has too few patients for a study, or the folder holds something else.
    """
    check_trainings(trainings)
    if unknown := set(configs) - set(BASELINE_STUDIES):
        raise InputError("task", repr(min(unknown)), " or ".join(BASELINE_STUDIES))
    check_study_folder(out)
    for name in configs:
        try:
            CHECKS[name](store)
        except InputError as error:
            if not (others := ",".join(other for other in configs if other != name)):
                raise
            what, found, expected = error.args
            raise InputError(what, found, f"{expected}; or the other tasks alone: --tasks {others}") from error
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    arms = {name: BASELINE_STUDIES[name](study, config) for name, config in configs.items()}
    named = [Arm(f"{task}: {arm.name}", arm.seeds, arm.metrics, arm.paper) for task in arms for arm in arms[task]]
    titled = {TITLES[name]: found for name, found in arms.items()}
    answer = what_real_alone_gives(titled)
    write_results(
        out / RESULTS,
        "baselines",
        data_facts(store),
        named,
        answer=answer,
        splits=store.splits,
        configs={name: config.model_dump(mode="json") for name, config in configs.items()},
    )
    page = out / "index.html"
    write_page(
        page,
        "study_baselines.html",
        data_note=store.note,
        answer=answer,
        arms={title: (list(_columns(found)), found) for title, found in titled.items()},
        patients={name: len(ids) for name, ids in store.splits.items()},
        by_size="malignancy" in configs,
        trainings=trainings,
        machine=machine(),
    )
    return page, arms


def _columns(arms: Sequence[Arm]) -> dict[str, None]:
    return dict.fromkeys(name for arm in arms for name in arm.metrics)
