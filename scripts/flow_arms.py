"""The flow's arms in the studies of detection and malignancy, with all training patients and with a tenth of them.

The studies are those of `results_detection.py` and `results_malignancy.py`, in whose folders the trainings of the arms
of real and rendered nodules are kept; what they write there stays as it is. The arms of their own makers are on their
pages. Steps, batches, trainings and made nodules of an arm are constants of these scripts, so that no result can change
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import results_detection as detection
import results_malignancy as malignancy
from known_sites import kept_figures
from synthorax import api, hub
from synthorax.datasets.lineage import check_unseen
from synthorax.datasets.store import Store
from synthorax.makers import Maker, Method
from synthorax.provenance import fingerprint, making_key
from synthorax.studies.detection import detection_study
from synthorax.studies.malignancy import malignancy_study
from synthorax.studies.malignancy_recipes import PAPER_RATIO, ArmKind
from synthorax.studies.patch_makers import check_maker_fits
from synthorax.studies.results import TRAININGS
from synthorax.studies.trials import Study
from synthorax.tasks.config import TaskConfig, task_config

DETECTION, MALIGNANCY = Path("build") / "results-detection", Path("build") / "results-malignancy"
"""Folders of the scripts that run these studies."""
MALIGNANCY_ARMS: tuple[ArmKind, ...] = ("raw", "flips", "malignant", "benign")
"""Arms of the study of malignancy; there are `PAPER_RATIO` synthetic nodules for each real malignant one."""
FEW_FLOW = {"steps": 1500}
"""Training of the flow on a tenth of the patients, as long as that of the in-painter."""
WITH = {"all": "all training patients", "few": f"{detection.FEW_PATIENTS} training patients"}


def measured_arms(real: Path, flow: str, few_flow: str | None, out: Path, code: str) -> dict[str, Any]:
    """Train and measure all arms, or read those of an earlier call; continues after a stop.

    Args:
        real: folder with `luna16-nodules`.
        flow: run folder or name of the flow of all training patients.
        few_flow: run folder of a flow that was trained on the tenth only; one is trained in `out` if not given.
        out: a file of figures for each study is kept in it.
        code: key of the code that measures.

    Returns:
        By study, `detection` or `malignancy`, and by patients, `all` or `few`, its outcome and its budget.
    """
    few_store = api.prepare("patches", real / "luna16-nodules", DETECTION / "few-store", train_patients=few_patients())
    if few_flow is None:
        few_flow = str(out / "few-flow")
        api.train("flow", few_store.path, few_flow, preset="compact", settings=FEW_FLOW, device="cpu")
    flows = {name: hub.find(run, ("injects", "makes patches")) for name, run in (("all", flow), ("few", few_flow))}
    found: dict[str, Any] = {}
    for name, maker in flows.items():
        key = fingerprint(repr((making_key(maker), code)).encode())[:16]
        studies = {
            "detection": partial(detection_arms, real, few_store, name, maker),
            "malignancy": partial(malignancy_arms, real, name, cast(Method, maker)),
        }
        for study, make in studies.items():
            found.setdefault(study, {})[name] = kept_figures(out / f"{study}-{name}.json", key, make)
    return found


def few_patients() -> int:
    """Return the number of patients in a tenth, which both studies share."""
    assert detection.FEW_PATIENTS == malignancy.FEW_PATIENTS
    return detection.FEW_PATIENTS


def detection_arms(real: Path, few_store: Store, name: str, flow: Maker) -> dict[str, Any]:
    """Run the study of detection with rendered nodules and the flow's."""
    if name == "all":
        store = api.prepare("patches", real / "luna16-nodules", DETECTION / "store")
        config, folder = task_config("detection", "compact", {}), DETECTION / "study"
    else:
        store, folder = few_store, DETECTION / "few-study"
        config = task_config("detection", "compact", {"steps": detection.FEW_STEPS})
    check_maker_fits(flow, store, config)
    study = Study(store, folder / TRAININGS, range(detection.TRAININGS), "cpu")
    outcome = detection_study(study, config, [flow], amounts=detection.AMOUNTS)
    budget = budget_of(config, detection.TRAININGS, detection.AMOUNTS)
    return {"outcome": asdict(outcome), "budget": budget, "maker": flow.name}


def malignancy_arms(real: Path, name: str, flow: Method) -> dict[str, Any]:
    """Run the study of malignancy with rendered nodules and the flow's."""
    of_all, of_few, _ = malignancy.parts(real, MALIGNANCY)
    part = of_all if name == "all" else of_few
    check_unseen(flow.lineage, part.store)  # as an injector, it works on patches of any size
    study = Study(part.store, part.folder / TRAININGS, range(part.trainings), "cpu")
    outcome = malignancy_study(study, part.config, [flow], arms=MALIGNANCY_ARMS, ratios=(PAPER_RATIO,))
    budget = budget_of(part.config, part.trainings, (PAPER_RATIO,))
    return {"outcome": asdict(outcome), "budget": budget, "maker": flow.name}


def budget_of(config: TaskConfig, trainings: int, amounts: Sequence[float]) -> dict[str, Any]:
    """Return the budget of every arm of a study."""
    return {
        "steps": config.steps,
        "patches": config.steps * config.batch_size,
        "trainings": trainings,
        "amounts": list(amounts),
    }
