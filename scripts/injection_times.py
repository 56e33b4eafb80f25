#!/usr/bin/env python3
"""Measures one injection or erasure in a whole scan as a process, by learned methods compared with rendering.

    python scripts/injection_times.py RUN [RUN ...] [--eraser RUN ...] [--runs 5] [--out FIGURES.json]

RUN is a value of `synthorax inject --with` or `erase --with`. The nodule to erase is one that rendering added
before. The scan is LIDC-IDRI-0003 (512 x 512 x 140 voxels) in the folder that SYNTHORAX_REAL_DATA names. The methods
take turns, so that other work on the machine slows all of them equally.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from measuring import Cost, process_cost
from synthorax.annotations.nodule_table import CENTER, NODULE_TABLE
from synthorax.studies.results import machine

RUNS = 5
MOST_ABOVE_S, MOST_GB = 2.5, 2.0
"""Goals: seconds that a learned method may take more than rendering, and its memory in GB."""
BUSY = 1.5
"""If rendering takes this many times its CPU seconds, other work slows the machine, and CPU seconds count instead."""
RENDER = "render"
ASKED = ("--auto", "1", "--diameter", "8", "--seed", "7")


def beside_render(
    methods: Mapping[str, str],
    scan: Path,
    work: Path,
    runs: int = RUNS,
    erasers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, float]]:
    """Return medians of whole processes by method, rendering first, and how far each lies above rendering.

    Args:
        methods: values of `--with`, by the name in the result.
        work: folder to write to.
        runs: number of processes of each method.
        erasers: values of `erase --with`, by the name in the result.

    Returns:
        For each method `seconds` by the clock, `user` seconds of CPU, `gigabytes` at most, and of learned ones the
        medians of the differences of processes that ran one after the other, `above_s` and `above_user_s`.
    """
    injecting = {
        name: ["inject", str(scan), *ASKED, "--with", each] for name, each in ({RENDER: RENDER} | dict(methods)).items()
    }
    erasing = {}
    if erasers:
        ill = work / "ill"
        process_cost([*injecting[RENDER], "--out", str(ill), "--overwrite"])
        erasing = {
            name: ["erase", str(ill / scan.name), *_place(ill), "--with", each] for name, each in erasers.items()
        }
    every = injecting | erasing
    costs: dict[str, list[Cost]] = {name: [] for name in every}
    for _ in range(runs):
        for name, command in every.items():
            costs[name].append(process_cost([*command, "--out", str(work / name), "--overwrite"]))
    found = {}
    for name, own in costs.items():
        found[name] = {
            "seconds": round(median(cost.seconds for cost in own), 2),
            "user": round(median(cost.user_seconds for cost in own), 2),
            "gigabytes": round(max(cost.gigabytes for cost in own), 2),
        }
        if name != RENDER:
            pairs = list(zip(own, costs[RENDER], strict=True))
            found[name]["above_s"] = round(median(a.seconds - b.seconds for a, b in pairs), 2)
            found[name]["above_user_s"] = round(median(a.user_seconds - b.user_seconds for a, b in pairs), 2)
    return found


def _place(injected: Path) -> list[str]:
    """Return place and diameter of the nodule that `inject` added last, as flags of `erase`."""
    with (injected / NODULE_TABLE).open() as file:
        row = list(csv.DictReader(file))[-1]
    return ["--at", ",".join(row[name] for name in CENTER), "--diameter", row["diameter_mm"]]


def main() -> None:
    """Measure, and print a line for each method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--eraser", action="append", default=[], dest="erasers", metavar="RUN")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    scan = Path(os.environ["SYNTHORAX_REAL_DATA"]) / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz"
    methods = {Path(model).name: str(model) for model in chosen.models}
    erasers = {f"erase by {Path(model).name}": str(model) for model in chosen.erasers}
    with tempfile.TemporaryDirectory() as work:
        found: dict[str, Any] = beside_render(methods, scan, Path(work), chosen.runs, erasers)
    is_busy = found[RENDER]["seconds"] > BUSY * found[RENDER]["user"]
    for name, figures in found.items():
        above = ""
        if name != RENDER:
            counted = figures["above_user_s" if is_busy else "above_s"]
            kept = counted <= MOST_ABOVE_S and figures["gigabytes"] <= MOST_GB
            above = f"; above {RENDER} {figures['above_s']:.2f} s, {figures['above_user_s']:.2f} s of CPU: "
            above += f"{'within' if kept else 'BEYOND'} {MOST_ABOVE_S:g} s and {MOST_GB:g} GB"
            above += ", by CPU, as the machine is busy" * is_busy
        print(
            f"{name}: {figures['seconds']:.2f} s, {figures['user']:.2f} s of CPU, {figures['gigabytes']:.2f} GB{above}"
        )
    print(json.dumps(machine()))
    if chosen.out:
        chosen.out.write_text(json.dumps({"machine": machine(), "methods": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
