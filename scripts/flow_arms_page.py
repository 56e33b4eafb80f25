"""The part of the flow's page on its arms in the studies of detection and malignancy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import results_detection as detection
import results_malignancy as malignancy
from flow_arms import FEW_FLOW, WITH, few_patients
from pages import picture, spread
from synthorax.studies.answers import SURE
from synthorax.studies.arms import REFERENCE
from synthorax.studies.detection import DetectionOutcome
from synthorax.studies.detection_page import differences
from synthorax.studies.malignancy import MalignancyOutcome, MalignancyTest
from synthorax.studies.malignancy_recipes import RAW
from synthorax.studies.results import Arm, Interval, Test

BASES = {"detection": REFERENCE, "malignancy": RAW}
"""For each study, the arm without synthetic nodules that others are compared with."""
NETWORKS = {"detection": "a detector", "malignancy": "a classifier of malignancy"}


def arms_lines(found: Mapping[str, Any], out: Path) -> Iterator[str]:
    """Give all arms and their budgets."""
    yield f"The studies are those of [detection](detection.md) and [malignancy](malignancy.md), where the arms of ac-wgan and class-aware are, trained in the same way. With {few_patients()} patients the flow was trained on these only; a flow trained here has {FEW_FLOW['steps']:,} steps. The budget of every arm was set before any was trained."
    for study, by_patients in found.items():
        for name, one in by_patients.items():
            budget = one["budget"]
            amounts = " and ".join(f"{amount:g}" for amount in budget["amounts"])
            yield ""
            yield f"### {study.capitalize()}, {WITH[name]}"
            yield ""
            yield f"Each arm: {budget['trainings']} trainings of {budget['steps']:,} steps, {budget['patches']:,} patches; {amounts} made nodules for each real one."
            yield ""
            if study == "detection":
                yield from detection_lines(detection_outcome(one["outcome"]), out, name)
            else:
                text = f"differences of the AUC with {WITH[name]}"
                yield from malignancy.study_lines(malignancy_outcome(one["outcome"]), out, f"flow-{name}", text)


def detection_lines(outcome: DetectionOutcome, out: Path, name: str) -> Iterator[str]:
    """Give the arms of a study of detection."""
    yield from (note for note in (outcome.note, "") if note)
    yield ""
    yield from detection.arm_lines(outcome.arms, detection.FEW_SHOWN)
    yield ""
    text = f"differences of the AUC from that of flips alone, with {WITH[name]}"
    yield from picture(differences(outcome), out / f"flow-detection-{name}.png", text)
    yield from detection.test_lines(outcome)


def helped_lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Return a row for each arm with the flow's nodules: its name, and the difference of its AUC from that without them."""
    for study, by_patients in found.items():
        for name, test in _own_tests(study, by_patients):
            change = spread(test["difference"], test["low"], test["high"], "+.3f")
            yield [f"{study}, {WITH[name]}: {test['a']}, less {test['b']}", change]


def helped_sentence(found: Mapping[str, Any]) -> str:
    """Return whether the flow's nodules, beside real ones, changed any network's AUC, as a sentence."""
    said, significant = [], []
    for study, by_patients in found.items():
        tests = [t for _, t in _own_tests(study, by_patients) if t["a"].startswith(f"{BASES[study]} + ")]
        apart = [test["difference"] for test in tests]
        said.append(f"{NETWORKS[study]} by {min(apart):+.3f} to {max(apart):+.3f}")
        significant += [test["a"] for test in tests if _is_sure(test)]
    sure = (
        f"significantly so for {', '.join(significant)}" if significant else "none of it significant after correction"
    )
    beside = [
        f"“{test['a']}” with {WITH[name]} by {test['difference']:+.3f}"
        for by_patients in found.values()
        for name, one in by_patients.items()
        for test in one["outcome"]["tests"]
        if one["maker"] in test["a"] and "render" in test["b"] and test.get("metric", "auc") == "auc" and _is_sure(test)
    ]
    differs = f"; from the arm of rendered nodules differs {' and '.join(beside)}, significantly" if beside else ""
    return f"Added to real nodules, they change the AUC of {' and of '.join(said)}, {sure}{differs}."


def _is_sure(test: Mapping[str, Any]) -> bool:
    return test["p_holm"] is not None and test["p_holm"] < SURE


def _own_tests(study: str, by_patients: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the patients and the comparison of each arm with the flow's nodules and the AUC of that without any."""
    for name, one in by_patients.items():
        for test in one["outcome"]["tests"]:
            if one["maker"] in test["a"] and test["b"] == BASES[study] and test.get("metric", "auc") == "auc":
                yield name, test


def detection_outcome(found: Mapping[str, Any]) -> DetectionOutcome:
    """Return an outcome as `asdict` gave it."""
    return DetectionOutcome(
        **dict(found) | {"arms": _arms(found), "tests": [Test(**test) for test in found["tests"]]},
    )


def malignancy_outcome(found: Mapping[str, Any]) -> MalignancyOutcome:
    """Return an outcome as `asdict` gave it."""
    tests = [MalignancyTest(**test) for test in found["tests"]]
    return MalignancyOutcome(**dict(found) | {"arms": _arms(found), "tests": tests, "notes": tuple(found["notes"])})


def _arms(found: Mapping[str, Any]) -> list[Arm]:
    return [
        Arm(**dict(arm) | {"metrics": {name: Interval(**value) for name, value in arm["metrics"].items()}})
        for arm in found["arms"]
    ]
