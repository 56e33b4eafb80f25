"""Results of a study: arms with intervals beside the paper's results, and the file `results.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from synthorax.io.atomic import atomic_file, check_folder_is_free
from synthorax.metrics.estimates import CONFIDENCE


@dataclass(frozen=True)
class Interval:
    """A mean over trainings with its 95 % interval; low and high are None for a value without an interval."""

    mean: float
    low: float | None
    high: float | None


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent runs with its 95 % interval by Student's t; no interval for one run."""
    found = np.asarray(values, float)
    mean = float(found.mean())
    if len(found) < 2:
        return Interval(mean, None, None)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Arm:
    """One arm of a study, with its results.

    Attributes:
        name: name of the arm.
        seeds: seeds of its trainings; empty for an arm without trainings.
        metrics: name of each measure to its mean over the trainings.
        paper: the paper's values of the same measures for the same arm, if it has them.
    """

    name: str
    seeds: list[int]
    metrics: dict[str, Interval]
    paper: dict[str, float]


@dataclass(frozen=True)
class Test:
    """A paired comparison of two arms.

    Attributes:
        a, b: names of the arms.
        metric: name of the compared measure.
        difference: value of a less that of b.
        low, high: 95 % interval of the difference.
        p: p value of no difference; None with too few trainings.
        p_holm: p after Holm's correction for all tests that the study corrects together.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None


TRAININGS, MADE = "trainings", "made"
"""Subfolders of a study's folder, from which a stopped study resumes: trainings, and patches made for the arms."""


def check_study_folder(out: Path) -> None:
    """Check that a folder is free or holds a study, finished or stopped.

    Raises:
        InputError: the folder holds something else.
    """
    if not any((out / part).is_dir() for part in (TRAININGS, MADE)):
        check_folder_is_free(out)


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores, and the versions of Python and packages."""
    return {
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("synthorax", "torch", "numpy")},
    }


def write_results(path: Path, study: str, data: Mapping[str, Any], arms: Sequence[Any], **more: Any) -> None:
    """Write `results.json`: the study, its data, its arms, further entries, the machine and the date.

    Args:
        path: the file.
        study: name of the study.
        data: facts about the data, with its fingerprint.
        arms: dataclasses, one for each arm.
        more: further entries.
    """
    content = {"study": study, "data": dict(data), "arms": [asdict(arm) for arm in arms], **more}
    content |= {"machine": machine(), "date": date.today().isoformat()}
    with atomic_file(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")
