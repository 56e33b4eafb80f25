"""Measurements that several results pages share."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MEASURED = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - started, used.ru_utime, used.ru_maxrss)
"""


class Cost(NamedTuple):
    """Time and memory of a whole process: wall seconds, user CPU seconds, and peak memory."""

    seconds: float
    user_seconds: float
    gigabytes: float


def whole_process(arguments: Sequence[str]) -> tuple[float, float]:
    """Return wall seconds and peak memory in GB of a `synthorax` command, from its start to its end."""
    cost = process_cost(arguments)
    return cost.seconds, cost.gigabytes


def process_cost(arguments: Sequence[str], source: Path | None = None) -> Cost:
    """Return time and memory of a `synthorax` command, from its start to its end; on a busy machine compare user CPU.

    Args:
        source: folder of the package, if it is not the one that Python imports here.
    """
    command = [sys.executable, "-m", "synthorax", *arguments]
    # From a small process: a child's greatest memory counts that of the process it was forked from.
    environment = os.environ | ({"PYTHONPATH": str(source)} if source else {})
    measured = [sys.executable, "-c", MEASURED, *command]
    printed = subprocess.run(measured, check=True, capture_output=True, text=True, env=environment).stdout
    seconds, user, kilobytes = map(float, printed.split()[-3:])
    return Cost(seconds, user, kilobytes / 2**20)


def peak_gb() -> float:
    """Return the largest memory of this process so far, in GB, without that of the process it was forked from.

    `ru_maxrss` of a new process begins with the memory that its parent had.
    """
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20


def user_seconds() -> float:
    """Return the user CPU seconds so far of this process and of those that it has waited for."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
