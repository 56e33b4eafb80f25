"""`synthorax study baselines`: the three tasks on real patches, as results.json and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.report import write_page
from synthorax.studies.baselines import detection_arms, malignancy_arms, segmentation_arms
from synthorax.studies.results import TRAININGS, Arm, check_study_folder, machine, write_results
from synthorax.studies.trials import Study, check_trainings
from synthorax.tasks.config import TaskConfig

BASELINE_STUDIES = {"detection": detection_arms, "malignancy": malignancy_arms, "segmentation": segmentation_arms}
TITLES = {
    "detection": "A nodule, or a patch of the same scans without one",
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
    """Train and measure the tasks that have a configuration; goes on where an earlier call stopped.

    Args:
        trainings: of each network; their spread is in the intervals.
        seed: of the first; the others count on.

    Returns:
        The page, with `results.json` beside it, and the arms by task.

    Raises:
        InputError: a store that no study can be made of, or a folder that holds something else.
    """
    check_trainings(trainings)
    if unknown := set(configs) - set(BASELINE_STUDIES):
        raise InputError("task", repr(min(unknown)), " or ".join(BASELINE_STUDIES))
    check_study_folder(out)
    study = Study(store, out / TRAININGS, range(seed, seed + trainings), device)
    arms = {name: BASELINE_STUDIES[name](study, config) for name, config in configs.items()}
    named = [Arm(f"{task}: {arm.name}", arm.seeds, arm.metrics, arm.paper) for task in arms for arm in arms[task]]
    write_results(
        out / "results.json",
        "baselines",
        {"fingerprint": store.fingerprint, "source": store.source},
        named,
        splits=store.splits,
        configs={name: config.model_dump(mode="json") for name, config in configs.items()},
    )
    page = out / "index.html"
    write_page(
        page,
        "study_baselines.html",
        arms={TITLES[name]: (list(_columns(found)), found) for name, found in arms.items()},
        patients={name: len(ids) for name, ids in store.splits.items()},
        trainings=trainings,
        machine=machine(),
    )
    return page, arms


def _columns(arms: Sequence[Arm]) -> dict[str, None]:
    return dict.fromkeys(name for arm in arms for name in arm.metrics)
