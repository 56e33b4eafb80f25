"""Measures one injection into a whole scan as a process, by two versions of the package, and the time of its parts."""

from __future__ import annotations

import os
import pstats
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, cast

from measuring import Cost, process_cost
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.scans import read_scan

RUNS = 5
STAGES = {
    "read": ("io/scans.py", "read_scan"),
    "lungs": ("anatomy/lungs.py", "find_lungs"),
    "lungs and places": ("editing/plan.py", "plan_nodules"),
    "render": ("editing/inject.py", "inject_nodules"),
    "write": ("editing/output.py", "write_edited"),
}
"""The function, by file and name, that does each part of an injection."""
IMPORTING = "_find_and_load"


def times(real: Path, work: Path, sources: Mapping[str, Path]) -> dict[str, Any]:
    """Return medians of `RUNS` whole processes by format and version, which take turns, and the parts' shares.

    Args:
        real: folder with `lidc-scans`.
        sources: folders of packages, by the name of the version.
    """
    scan = real / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz"
    series = work / "dicom"
    if not series.exists():
        write_ct_series(series, read_scan(scan).ct, mark=None)
    found: dict[str, Any] = {}
    for name, source in ((".nii.gz", scan), ("DICOM", series)):
        command = ["inject", str(source), "--auto", "1", "--diameter", "8", "--seed", "7", "--overwrite"]
        costs: dict[str, list[Cost]] = {version: [] for version in sources}
        for _ in range(RUNS):
            for version, src in sources.items():
                costs[version].append(process_cost([*command, "--out", str(work / version)], src))
        found[name] = {
            version: {
                "seconds": round(median(cost.seconds for cost in runs), 2),
                "user": round(median(cost.user_seconds for cost in runs), 2),
                "fastest": round(min(cost.seconds for cost in runs), 2),
                "gigabytes": round(max(cost.gigabytes for cost in runs), 2),
                "parts": parts([*command, "--out", str(work / version)], sources[version], work / "profile"),
            }
            for version, runs in costs.items()
        }
    return found


def parts(arguments: list[str], src: Path, file: Path) -> dict[str, float]:
    """Return the shares of a command's time under the profiler; parts whose function the version lacks are left out."""
    command = [sys.executable, "-m", "cProfile", "-o", str(file), "-m", "synthorax", *arguments]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(src)})
    stats = pstats.Stats(str(file))
    entries = cast(Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]], stats.stats)  # type: ignore[attr-defined]
    total = float(stats.total_tt)  # type: ignore[attr-defined]
    spent = {
        part: max(
            (row[3] for key, row in entries.items() if key[0].endswith(where) and key[2] == name), default=float("nan")
        )
        for part, (where, name) in STAGES.items()
    }
    spent["places"] = spent.pop("lungs and places") - spent["lungs"]
    shares = {part: round(seconds / total, 3) for part, seconds in spent.items() if seconds == seconds}
    loading = max((row[3] for key, row in entries.items() if key[2] == IMPORTING), default=0.0)
    return shares | {"the rest": round(1 - sum(shares.values()), 3), "imports, in all these": round(loading / total, 3)}
