"""What every study ends in: `results.json`, arms with intervals beside the paper's figures."""

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
    """A mean over training seeds and its 95 % interval; no interval for a single one."""

    mean: float
    low: float | None
    high: float | None


def interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent runs."""
    found = np.asarray(values, float)
    mean = float(found.mean())
    if len(found) < 2:
        return Interval(mean, None, None)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Arm:
    """One way of doing it.

    Attributes:
        seeds: of its trainings.
        metrics: by name, over the seeds.
        paper: the paper's figures for the same arm, where it has them.
    """

    name: str
    seeds: list[int]
    metrics: dict[str, Interval]
    paper: dict[str, float]


@dataclass(frozen=True)
class Test:
    """A paired comparison of two arms.

    Attributes:
        a, b: arms; the difference is a's figure less b's.
        low, high: 95 % interval of the difference.
        p: of no difference; None with too few trainings to tell.
        p_holm: corrected for all tests of the same figure (Holm).
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
"""Folders that a study that was stopped goes on from: what it trained, and patches that it made for its arms."""


def check_study_folder(out: Path) -> None:
    """Refuse a folder that holds something other than a study, finished or stopped.

    Raises:
        InputError: it does.
    """
    if not any((out / part).is_dir() for part in (TRAININGS, MADE)):
        check_folder_is_free(out)


def machine() -> dict[str, Any]:
    """What a timing was measured on, and with what."""
    return {
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("synthorax", "torch", "numpy")},
    }


def write_results(path: Path, study: str, data: Mapping[str, Any], arms: Sequence[Any], **more: Any) -> None:
    """Write `results.json`: study, data with its fingerprint, arms, what else is given, machine and date.

    Args:
        arms: of any study, as dataclasses.
    """
    content = {"study": study, "data": dict(data), "arms": [asdict(arm) for arm in arms], **more}
    content |= {"machine": machine(), "date": date.today().isoformat()}
    with atomic_file(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")
