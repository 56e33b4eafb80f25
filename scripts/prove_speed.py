#!/usr/bin/env python3
"""Measures user CPU seconds of preparing DICOM as a store, with this checkout and another one in turn.

    python scripts/prove_speed.py --old PATH        # PATH is a checkout of another commit

A scan of 140 slices of 512 x 512 voxels is prepared by whole processes, five times with each checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from prove_kinds import write_series

SHAPE = (140, 512, 512)
RUNS = 5
NEW = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Speed:
    """User CPU seconds of each run."""

    old: tuple[float, ...]
    new: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The new median as a multiple of the old one."""
        return median(self.new) / median(self.old)


def measure(old: Path, runs: int = RUNS) -> Speed:
    """Prepare one scan with both checkouts in turn."""
    seconds: dict[Path, list[float]] = {old: [], NEW: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        lungs = ((y - 256) / 120) ** 2 + ((abs(x - 256) - 110) / 80) ** 2 < 1 + 0 * z
        hu = np.where(lungs, -850, 40) + np.random.default_rng(0).normal(0, 20, SHAPE)
        write_series(folder / "ct", np.rint(hu).astype(np.int16), pixel=0.7, step=2.5)
        for turn in range(runs):
            for checkout in (old, NEW) if turn % 2 else (NEW, old):
                seconds[checkout].append(_prepare(checkout, folder / "ct", folder / f"{checkout.name}-{turn}"))
    return Speed(tuple(seconds[old]), tuple(seconds[NEW]))


def _prepare(checkout: Path, source: Path, store: Path) -> float:
    """Return the user CPU seconds of `synthorax prepare scans` with the sources of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "synthorax",
        "prepare",
        "scans",
        str(source),
        "--out",
        str(store),
        "--workers",
        "1",
    ]
    silent = subprocess.DEVNULL
    child = subprocess.Popen(command, env=environment, stdout=silent, stderr=silent, cwd=source.parent)
    _, status, used = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{checkout} could not prepare {source}")
    return used.ru_utime


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    found = measure(chosen.old.resolve(), chosen.runs)
    print(json.dumps(asdict(found) | {"ratio": found.ratio}))


if __name__ == "__main__":
    main()
