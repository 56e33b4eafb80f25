#!/usr/bin/env python3
"""Start every verb that writes twice at once with one --out: one succeeds, the other is refused, and nothing is lost.

    python scripts/prove_twice.py

Verbs that continue an earlier call (`prepare`, `train`, `study`) may both succeed if the second finds the
work of the first done. In any case `out` holds the result of a single call, and no other files are left.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from prove_kinds import BASELINES, Kind, baselines_study, lidc, luna16, nothing, pack
from prove_outcomes import OUR_LINE, OUR_NOTES, own_lines, result_and_words, snapshot
from prove_processes import Ended, Forked, command_line, import_everything, run_forked

TRAIN_SHAPES = (
    "train lung --data in/shapes/shapes.npy --out out --preset smoke --set iterations=4 --set reflected=false"
)


def everything(folder: Path) -> None:
    """An input for each of the commands below."""
    nothing(folder)
    lidc(folder / "lidc")
    luna16(folder / "luna16")
    pack(folder / "pack")
    baselines_study(folder / "cubes")
    shutil.rmtree(folder / "cubes" / "study")


COMMANDS = (
    "prepare scans in/scans --out out --workers 1",
    "prepare patches in/scans --out out --workers 1",
    "prepare lidc in/lidc --out out --workers 1",
    "prepare luna16 in/luna16 --out out --workers 1",
    "prepare phantom --scans 1 --spacing 12,12,12 --out out --workers 1",
    "prepare shapes --out out",
    TRAIN_SHAPES,
    "train ac-wgan --data in/cubes/store --out out --preset smoke --set steps=4",
    "train features --data in/cubes/store --out out --preset smoke",
    "sample ac-wgan -n 2 --out out",
    "inject in/ct.nii.gz --auto 1 --diameter 20 --out out",
    "export in/store --layout monai --out out",
    "export in/store --layout nnunet --out out",
    "pack in/store --out out",
    "unpack in/pack/p.zip --out out",
    "features in/shapes/shapes.npy --out out",
    BASELINES.replace("in/study", "out").replace("in/store", "in/cubes/store"),
)
RESUMED = ("prepare", "train", "study")
"""Verbs whose second call may find nothing left to do. `prepare shapes` is not one of them."""
REPLACED = ("sample", "inject", "export", "pack", "unpack")
"""Verbs that are also tried with --overwrite on the result of an earlier call."""
INPUT = Kind("everything", everything, (), COMMANDS, "bytes")


@dataclass(frozen=True)
class Pair:
    """The outcome of two calls at once."""

    command: str
    codes: tuple[int, int]
    faults: tuple[str, ...]
    said: str


def run_pairs(folder: Path, rounds: int = 3) -> list[Pair]:
    """Run every command twice at once, several times."""
    sound, scratch, found = folder / "sound", folder / "work", []
    if not sound.is_dir():
        _lay_out(scratch, None)
        ended = run_forked(lambda: INPUT.build(scratch / "in"), scratch)
        if ended.code != 0:
            raise RuntimeError(f"no sound input: {ended.stderr}")
        shutil.copytree(scratch / "in", sound)
    for command in COMMANDS:
        _lay_out(scratch, sound)
        alone = run_forked(_call(command), scratch)
        made = _result(scratch, command, alone)
        n = 1 if alone.cpu_s > 5 else rounds
        found += [_pair(scratch, sound, command, made) for _ in range(n)]
        if command.split()[0] in REPLACED:
            found += [_pair(scratch, sound, f"{command} --overwrite", made, first=command) for _ in range(n)]
    shutil.rmtree(scratch, ignore_errors=True)
    return found


def _pair(scratch: Path, sound: Path, command: str, made: list, first: str = "") -> Pair:
    """Run two calls at once, and return the faults in what they left."""
    _lay_out(scratch, sound)
    if first:
        run_forked(_call(first), scratch)
    before = snapshot(scratch / "in")
    both = [Forked(_call(command), scratch, most_s=120) for _ in range(2)]
    ended = [one.end() for one in both]
    codes = (ended[0].code, ended[1].code)
    faults = []
    may_both = bool(first) or (command.split()[0] in RESUMED and not command.startswith("prepare shapes"))
    if 0 not in codes:
        faults.append("neither won")
    elif codes == (0, 0) and not may_both:
        faults.append("both won")
    for one in ended:
        lines = [line for line in own_lines(one.stderr) if not line.startswith(OUR_NOTES)]
        if one.code not in (0, 2) or (one.code == 2 and not (len(lines) == 1 and lines[0].startswith(OUR_LINE))):
            faults.append("the loser was not told in one line")
    if 0 in codes and _result(scratch, command, ended[codes.index(0)]) != made:
        faults.append("the result is not that of one call")
    if list(scratch.rglob(".tmp-*")) or list((scratch / "tmp").iterdir()):
        faults.append("unfinished files are left")
    if snapshot(scratch / "in") != before:
        faults.append("an input was changed")
    return Pair(command, codes, tuple(faults), "\n".join(one.stderr[-600:] for one in ended))


def _call(command: str) -> Callable[[], None]:
    return partial(command_line, command.split())


def _result(scratch: Path, command: str, ended: Ended) -> list:
    """Return the content of `out`, whichever call wrote it."""
    if (scratch / "out").is_file() and not command.startswith("pack"):
        return [(scratch / "out").read_text()]
    return list(result_and_words(scratch, command, ended, INPUT)[0])


def _lay_out(scratch: Path, sound: Path | None) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    for name in ("tmp", "home"):
        (scratch / name).mkdir(parents=True)
    if sound is not None:
        shutil.copytree(sound, scratch / "in")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/synthorax-twice"))
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    import_everything()
    gc.freeze()
    for pair in run_pairs(chosen.folder, chosen.rounds):
        print(json.dumps(asdict(pair)))


if __name__ == "__main__":
    main()
