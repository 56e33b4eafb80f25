#!/usr/bin/env python3
"""Measure the time of one nodule by the flow, by the number of integration steps and the precision.

    python scripts/flow_times.py RUN [--out FIGURES.json]

Each nodule is put into a patch of lung by itself, with its outline drawn and its patch resampled, as `synthorax inject`
does it once the scan is read and the model is loaded. Where the processor has AMX, all is measured again without it. On
a busy machine CPU seconds count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast

import numpy as np
import torch

from synthorax import hub
from synthorax.io.atomic import atomic_file
from synthorax.makers import Edit, Method, fill
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.studies.results import machine
from synthorax.systems.flow.config import FlowOptions
from synthorax.training.precision import BF16_FLAGS, multiplies_bf16, processor_flags
from synthorax.volume import Volume

STEPS = (4, 8, 16, 30)
TIMED = 5
"""Number of timed nodules of each kind, after one that is not timed."""
TIMED_MM = 8.0
LUNG_HU, NOISE_HU = -850.0, 30.0
WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
"""Environment variables that switch off AMX in torch's convolutions."""


def seconds_of(run: str, steps: int, precision: Literal["32", "bf16"]) -> dict[str, float]:
    """Return the median wall and CPU seconds of one nodule."""
    method = cast(Method, hub.find(run, "injects", FlowOptions(steps=steps, precision=precision)))
    edit = Edit("inject", NoduleAttributes(diameter_mm=TIMED_MM))
    reach, radius = method.reach_mm(edit)
    size = (2 * int(np.ceil(reach)) + 1,) * 3
    lung = np.random.default_rng(0).normal(LUNG_HU, NOISE_HU, size).astype(np.float32)
    region = PatchSpec(size).distances_mm() <= radius
    found = []
    for seed in range(TIMED + 1):
        started, used = time.perf_counter(), time.process_time()
        fill(method, Volume(lung, (1.0, 1.0, 1.0)), region, edit, seed)
        found.append((time.perf_counter() - started, time.process_time() - used))
    seconds, cpu = zip(*found[1:], strict=True)
    return {"seconds": round(median(seconds), 3), "cpu_seconds": round(median(cpu), 3)}


def here(run: str) -> list[dict[str, Any]]:
    """Return the time of a nodule in this process, by precision and number of steps."""
    kinds: list[Literal["32", "bf16"]] = ["32", *(["bf16"] if multiplies_bf16("cpu") else [])]  # type: ignore[list-item]
    threads = torch.get_num_threads()
    return [
        {"precision": kind, "steps": steps, "threads": threads, **seconds_of(run, steps, kind)}
        for kind in kinds
        for steps in STEPS
    ]


def seconds_by_steps(run: str) -> dict[str, Any]:
    """Return the time of a nodule, in separate processes with AMX, if available, and without."""
    flags = processor_flags()
    has_amx = any(flag.startswith("amx") for flag in flags)
    rows = []
    for amx in (True, False) if has_amx else (False,):
        environment = os.environ | ({} if amx or not has_amx else WITHOUT_AMX)
        command = [sys.executable, __file__, run, "--here"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        rows += [row | {"amx": amx} for row in json.loads(printed.splitlines()[-1])]
    known = sorted(flag for flag in flags if flag in BF16_FLAGS or flag.startswith("amx"))
    return {"rows": rows, "mm": TIMED_MM, "n": TIMED, "flags": known, "machine": machine()}


def main() -> None:
    """Measure everything, or only this process's part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--here", action="store_true", help="in this process alone, one line of JSON")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(here(given.run)))
        return
    found = json.dumps(seconds_by_steps(given.run), indent=1)
    print(found)
    if given.out:
        with atomic_file(given.out) as file:
            file.write_text(found + "\n")


if __name__ == "__main__":
    main()
