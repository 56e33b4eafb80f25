"""Results of a study: arms with intervals beside the paper's results, and the file `results.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from scipy.stats import t

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file, check_folder_is_free, working_in
from synthorax.io.mappings import read_mapping
from synthorax.metrics.comparisons import holm_of_known
from synthorax.metrics.estimates import CONFIDENCE

if TYPE_CHECKING:
    from synthorax.datasets.store import Store

LEAST_TRAININGS = 3
"""Fewest trainings of each arm for p values; with fewer, the spread between trainings is not known well enough."""


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


class HasP(Protocol):
    """A dataclass of a comparison with a p value, and the same corrected, such as `Test`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def p(self) -> float | None:
        """P value of no difference."""
        ...


AnyTest = TypeVar("AnyTest", bound=HasP)


def with_corrected_p(tests: Sequence[AnyTest], trainings: int) -> list[AnyTest]:
    """Return comparisons of arms with `p_holm`; without p values if there are fewer than `LEAST_TRAININGS` trainings.

    Args:
        tests: comparisons whose p values are corrected together by Holm's method.
        trainings: trainings of each arm.
    """
    known = [test.p if trainings >= LEAST_TRAININGS else None for test in tests]
    each = zip(tests, known, holm_of_known(known), strict=True)
    return [replace(test, p=p, p_holm=corrected) for test, p, corrected in each]


RESULTS = "results.json"
"""File of a study's results in its folder."""
TRAININGS, MADE = "trainings", "made"
"""Subfolders of a study's folder, from which a stopped study resumes: trainings, and patches made for the arms."""


def check_study_folder(out: Path) -> None:
    """Check that a folder is free or holds a study, finished or stopped.

    Raises:
        InputError: the folder holds something else.
    """
    if not any((out / part).is_dir() for part in (TRAININGS, MADE)):
        check_folder_is_free(out)


@contextmanager
def study_folder(out: Path, study: str, request: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[None]:
    """Claim the folder of a study for the block, and add the request to `results.json` when the block is done.

    Args:
        out: the folder.
        study: name of the study.
        request: what determines the results, such as the data, settings and makers, as JSON can hold it.
        overwrite: replace the results of another request. Trainings that both need are kept in any case.

    Raises:
        InputError: the folder has the results of another request, or something else; or another process writes there.
    """
    request = json.loads(json.dumps({"study": study, **request}))
    with working_in(out):
        file = out / RESULTS
        if file.is_file() and not overwrite:
            check_same_request(out, read_mapping(file), request)
        yield
        content = read_mapping(file)
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(content | {"request": request}, indent=1) + "\n")


def check_same_request(out: Path, results: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Refuse a folder that holds the results of another request.

    Raises:
        InputError: names the folder, and in what the requests differ.
    """
    if other := _other_request(results, request):
        found = f"the results of another study ({other})"
        raise InputError(out, found, "the same request, another folder, or --overwrite")


def _other_request(results: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Return in what the request of earlier results differs; empty if it does not.

    Results of an earlier version have no request; their study and the fingerprint of their data are compared.
    """
    data = results.get("data")
    known = results.get("request") or {
        "study": results.get("study"),
        "data": data.get("fingerprint") if isinstance(data, dict) else None,
    }
    if known.get("study") != request["study"]:
        return f"{known.get('study')}, not {request['study']}"
    differing = [name for name in request if name in known and known[name] != request[name]]
    return f"of other {', '.join(differing)}" if differing else ""


def data_facts(store: Store, **more: Any) -> dict[str, Any]:
    """Return the facts about a store for `results.json`."""
    return {
        "fingerprint": store.fingerprint,
        "source": store.source,
        **({"note": store.note} if store.note else {}),
        **more,
    }


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
