#!/usr/bin/env python3
"""Stop every verb that writes at a random moment: `out` must hold either the old or the complete new result.

    python scripts/prove_kills.py --kills 100

Each verb replaces an `out` that an earlier call made from another input or seed. SIGKILL,
SIGTERM and SIGINT are sent in turn, each to the command's own process only, so its workers must notice by themselves.
Then the same command is run to its end.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prove_kinds import ball, chest, nifti, nothing, pack
from prove_processes import Ended, Forked, command_line, import_everything, run_forked

TRAIN = "train lung --data in/shapes/shapes.npy --out out --preset smoke --set iterations=60 --set reflected=false"
TRAIN_IN_PAINTER = "train class-aware --data in/rated-store --out out --preset smoke --set steps=9 --device cpu"
"""Of two stages."""
RATED = 6
"""Number of nodules that the in-painter is trained on; every other one is malignant."""
COMMANDS = (
    ("prepare phantom --scans 3 --spacing 12,12,12 --out out --workers 2 --overwrite --seed {}", 1),
    ("prepare patches in/patches{} --out out --workers 2 --overwrite", 1),
    ("sample ac-wgan -n 3 --out out --overwrite --seed {}", 1),
    ("inject in/ct.nii.gz --auto 1 --diameter 20 --out out --overwrite --seed {}", 1),
    ("export in/store --layout monai --out out --overwrite --name set{}", 1),
    ("pack in/store --out out --overwrite --workers 2 --hu-step {}", 1),
    ("unpack in/pack{}/p.zip --out out --overwrite", 1),
    ("features in/shapes/{}.npy --out out --overwrite", 1),
    (TRAIN, 0),
    (TRAIN_IN_PAINTER, 0),
)
"""Commands, with a placeholder for what differs between the earlier call and the stopped one; `train` resumes."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
BEYOND = 1.05
"""Moments are drawn up to this share of the command's usual time."""
PATIENCE_S = 20.0
"""Seconds within which workers must notice that their process was killed."""
OF_TIME = ("log.jsonl", "state.pt")
"""Files that contain times."""


@dataclass(frozen=True)
class Case:
    """A command, its result and its duration."""

    command: str
    earlier: str
    old: str
    new: str
    seconds: float


def run(kills: int, seed: int, folder: Path) -> dict[str, int]:
    """Stop the commands in turn at random moments.

    Args:
        folder: to work in; it is removed at the end.

    Returns:
        Counts: `kills`; `landed`, those before the command had ended; `old` and `new`, by what `out` held then;
        and what must be 0: `neither`, `next_failed`, `other_result`, `left_files`, `left_processes`, `tracebacks`,
        `wrong_exit`.
    """
    import_everything()
    gc.freeze()
    counts: Counter[str] = Counter(dict.fromkeys(("kills", "landed", "old", "new", *FAULTS), 0))
    rng = random.Random(seed)
    _lay_out(folder)
    built = run_forked(lambda: _inputs(folder / "in"), folder)
    if built.code != 0:
        raise RuntimeError(f"no sound input: {built.stderr}")
    cases = [_measure(folder, command, bool(differs)) for command, differs in COMMANDS]
    for number in range(kills):
        case = cases[number % len(cases)]
        kind = SIGNALS[number // len(cases) % len(SIGNALS)]
        counts.update(_kill(folder, case, kind, rng.uniform(0, BEYOND * case.seconds)))
    shutil.rmtree(folder, ignore_errors=True)
    return dict(counts)


FAULTS = (
    "neither",
    "next_failed",
    "other_result",
    "left_files",
    "left_processes",
    "tracebacks",
    "wrong_exit",
)


def _inputs(folder: Path) -> None:
    """An input for each of the commands."""
    import numpy as np

    nothing(folder)
    for number, fill in ((1, -50), (2, 50)):
        (folder / f"patches{number}").mkdir()
        rows = ["image,center_x_mm,center_y_mm,center_z_mm,diameter_mm"]
        for i in range(3):
            voxels = chest()
            voxels[:2] = fill
            nifti(f"{i}.nii.gz", voxels, spacing=4.0)(folder / f"patches{number}")
            rows.append(f"{i}.nii.gz,10,10,10,8")
        (folder / f"patches{number}" / "nodules.csv").write_text("\n".join(rows) + "\n")
    pack(folder / "pack1")
    from synthorax import api

    rated = ["image,mask,malignancy"]
    for i in range(RATED):
        inside = ball(center=(6, 16, 16))
        noise = np.random.default_rng(i).normal(0, 20, inside.shape)
        nifti(f"{i}.nii.gz", np.rint(np.where(inside, 50, -850) + noise).astype(np.int16))(folder / "rated")
        nifti(f"{i}_mask.nii.gz", inside)(folder / "rated")
        rated.append(f"{i}.nii.gz,{i}_mask.nii.gz,{1 + 4 * (i % 2)}")
    (folder / "rated" / "nodules.csv").write_text("\n".join(rated) + "\n")
    api.prepare("patches", folder / "rated", folder / "rated-store", split=(1, 0, 0), workers=1)
    api.pack(folder / "store", folder / "two.zip", hu_step=2)
    (folder / "pack2").mkdir()
    (folder / "two.zip").rename(folder / "pack2" / "p.zip")
    shapes = np.load(folder / "shapes" / "shapes.npy")
    np.save(folder / "shapes" / "1.npy", shapes)
    np.save(folder / "shapes" / "2.npy", shapes[::-1])


def _measure(folder: Path, command: str, differs: bool) -> Case:
    """Return a command's old and new result, and its duration."""
    earlier, later = command.format(1), command.format(2)
    if not differs:
        _clear(folder)
        _call(folder, later)
        started = time.monotonic()
        _clear(folder)
        _call(folder, later)
        return Case(later, "", "", _digest(folder / "out"), time.monotonic() - started)
    _clear(folder)
    _call(folder, earlier)
    old = _digest(folder / "out")
    _copy(folder / "out", kept := folder / f"old-{hashlib.sha256(command.encode()).hexdigest()[:8]}")
    started = time.monotonic()
    _call(folder, later)
    return Case(later, str(kept), old, _digest(folder / "out"), time.monotonic() - started)


def _kill(folder: Path, case: Case, number: int, moment: float) -> Counter[str]:
    """Stop a command at a moment, and return the faults that were found."""
    found: Counter[str] = Counter(kills=1)
    _clear(folder)
    if case.earlier:
        _copy(Path(case.earlier), folder / "out")
    process = Forked(partial(command_line, case.command.split()), folder)
    time.sleep(moment)
    os.kill(process.pid, number)
    status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    found["left_processes"] += not _group_ends(process.pid)
    ended = process.end()
    found["landed"] += ended.code != 0
    assert status is not None
    found["tracebacks"] += "Traceback" in ended.stderr
    found["wrong_exit"] += ended.code not in (0, -number if number == signal.SIGKILL else 128 + number, -number)
    if number != signal.SIGKILL:
        found["left_files"] += bool(_hidden(folder))
    digest = _digest(folder / "out") if case.earlier else ""
    if case.earlier:
        found["old"] += digest == case.old
        found["new"] += digest == case.new
        found["neither"] += digest not in (case.old, case.new)
    again = run_forked(partial(command_line, case.command.split()), folder)
    found["next_failed"] += again.code != 0
    found["other_result"] += _digest(folder / "out") != case.new
    found["left_files"] += bool(_hidden(folder, beside=True))
    for fault in FAULTS:
        if found[fault]:
            print(f"{fault}: {case.command}, signal {number} after {moment:.2f} s: {ended.code} {ended.stderr[-3000:]}")
            print(f"  then {again.code} {again.stderr[-300:]} {_hidden(folder, beside=True)}")
    return found


def _call(folder: Path, command: str) -> Ended:
    ended = run_forked(partial(command_line, command.split()), folder)
    if ended.code != 0:
        raise RuntimeError(f"{command}: {ended.stderr}")
    return ended


def _group_ends(leader: int) -> bool:
    """Return whether all processes of a group except its dead leader end in time."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        living = [pid for pid in os.listdir("/proc") if pid.isdecimal() and _is_of(int(pid), leader)]
        if not living:
            return True
        time.sleep(0.02)
    return False


def _is_of(pid: int, leader: int) -> bool:
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return False
    return int(group) == leader and state not in "ZX"


def _hidden(folder: Path, *, beside: bool = False) -> list[str]:
    """Return unfinished files; `prepare` keeps those that it has read next to the store until it continues."""
    found = [path.name for path in folder.rglob(".tmp-*")]
    return found + [path.name for path in folder.glob(".preparing-*") if beside]


def _digest(path: Path) -> str:
    """Return a hash of the content of a file or folder, without times."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file() and file.name not in OF_TIME and "tfevents" not in file.name:
            digest.update(f"{file.relative_to(path)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copy2(path, target)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == "out" or path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _lay_out(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("tmp", "home"):
        (folder / name).mkdir(parents=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "synthorax-kills")
    chosen = parser.parse_args()
    print(json.dumps(run(chosen.kills, chosen.seed, chosen.folder)))


if __name__ == "__main__":
    main()
