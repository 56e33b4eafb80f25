"""What several of the results pages measure in the same way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

MEASURED = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def whole_process(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds and greatest memory in GB of a `synthorax` command, from its start to its end."""
    command = [sys.executable, "-m", "synthorax", *arguments]
    # From a small process: a child's greatest memory counts that of the process it was forked from.
    told = subprocess.run([sys.executable, "-c", MEASURED, *command], check=True, capture_output=True, text=True).stdout
    seconds, kilobytes = told.split()[-2:]
    return float(seconds), float(kilobytes) / 2**20
