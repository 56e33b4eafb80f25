#!/usr/bin/env python3
"""Give thousands of damaged inputs to every verb that takes them, and judge each outcome.

    python scripts/prove_mutants.py --count 5000                      # goes on where an earlier call stopped
    python scripts/prove_mutants.py --kind store-chunk --number 17    # one of them again, with all it said

A mutant is identified by seed, kind and number. It runs in a separate process, forked from one that has
imported everything, within 5 CPU seconds and 2 GB; one in 25 is started like a user's command. `prove_outcomes` decides
what is right.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from zipfile import ZipFile

from prove_kinds import KINDS, Kind
from prove_mutations import Damage, damage, damaged_arguments
from prove_outcomes import CPU_SECONDS, Outcome, Sound, judge, result_and_words, snapshot
from prove_processes import Ended, command_line, import_everything, run_forked

WHOLE_EVERY = 25
"""One mutant in so many runs as a process of its own, including the interpreter's start."""


@dataclass(frozen=True)
class Mutant:
    """A mutant's name."""

    seed: int
    kind: str
    number: int

    @property
    def rng(self) -> Random:
        """The random numbers that the mutant is made with."""
        return Random(f"{self.seed} {self.kind} {self.number}")

    @property
    def is_whole(self) -> bool:
        """Whether it runs as a process of its own, including the interpreter's start."""
        return Random(f"whole {self.seed} {self.kind} {self.number}").randrange(WHOLE_EVERY) == 0


def sources_hash() -> str:
    """Return a hash of synthorax's and this proof's sources; results of other versions are not used."""
    import synthorax

    files = [*Path(synthorax.__file__).parent.rglob("*.py"), *Path(__file__).parent.glob("prove_kinds.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]


class Bench:
    """A folder where mutants are made and run, one at a time.

    Args:
        folder: folder for valid inputs, which are built once, and for the present mutant; best in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.sound, self.scratch = folder / f"sound-{sources_hash()}", folder / "work"
        self._known: dict[tuple[str, str], Sound] = {}
        self.start_s = 0.0

    def build(self, kind: Kind) -> Path:
        """Return the valid input of a kind."""
        made = self.sound / kind.name / "in"
        if not made.is_dir():
            self._empty()  # Built where it will be used: some inputs know their own place.
            ended = run_forked(lambda: kind.build(self.scratch / "in"), self.scratch)
            if ended.code != 0:
                raise RuntimeError(f"no sound {kind.name}: {ended.stderr}")
            shutil.copytree(self.scratch / "in", made)
        return made

    def command(self, kind: Kind, number: int) -> str:
        """Return the command for a mutant; the kind's commands are used in turn."""
        return kind.commands[number % len(kind.commands)]

    def sound_result(self, kind: Kind, command: str) -> Sound:
        """Return the command's result for the valid input."""
        key = (kind.name, command)
        if key not in self._known:
            note = self.sound / kind.name / f"{kind.commands.index(command)}.json"
            if note.is_file():
                self._known[key] = Sound(**json.loads(note.read_text()))
            else:
                self._lay_out(kind)
                ended = self._run(command.split(), allowed_s=120)
                self._known[key] = Sound(ended.code, result_and_words(self.scratch, command, ended, kind), ended.cpu_s)
                note.write_text(json.dumps(asdict(self._known[key])))
        return self._known[key]

    def run(self, mutant: Mutant) -> Outcome:
        """Make a mutant, run it and judge it."""
        kind = next(kind for kind in KINDS if kind.name == mutant.kind)
        command, rng = self.command(kind, mutant.number), mutant.rng
        sound = self.sound_result(kind, command)
        self._lay_out(kind)
        arguments = command.split()
        if kind.form == "arguments":
            arguments, done = damaged_arguments(rng, arguments)
            target = ""
        else:
            target = rng.choice(self._targets(kind))
            done = self._damage(rng, kind, target)
        before = snapshot(self.scratch / "in")
        ended = self._run(arguments, whole=mutant.is_whole, allowed_s=sound.cpu_s)
        return judge(kind, arguments, target, done, sound, ended, before, self.scratch)

    def clear(self) -> None:
        """Remove what the last mutant left."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _damage(self, rng: Random, kind: Kind, target: str) -> Damage:
        return damage(
            rng, self.scratch / "in", target, kind.form, is_sealed=kind.is_sealed, is_optional=kind.is_optional
        )

    def _targets(self, kind: Kind) -> list[str]:
        """Return the files of the input that may be damaged, or `FILE:ENTRY` for entries of zip files."""
        found, root = [], self.scratch / "in"
        for pattern in kind.targets:
            name, _, entry = pattern.partition(":")
            for path in sorted({p for p in root.glob(name) if p.is_file()}):
                if entry:
                    with ZipFile(path) as zipped:
                        found += [f"{path.relative_to(root)}:{e}" for e in fnmatch.filter(zipped.namelist(), entry)]
                else:
                    found.append(str(path.relative_to(root)))
        return found

    def _lay_out(self, kind: Kind) -> None:
        sound = self.build(kind)
        self._empty()
        shutil.copytree(sound, self.scratch / "in")

    def _empty(self) -> None:
        self.clear()
        for name in ("tmp", "home"):
            (self.scratch / name).mkdir(parents=True)

    def _run(self, arguments: Sequence[str], *, whole: bool = False, allowed_s: float = 0.0) -> Ended:
        """Run a command within limits.

        Args:
            whole: whether to include the interpreter's start, whose CPU seconds are subtracted.
            allowed_s: CPU seconds beyond the limit before it is stopped.
        """
        work: Callable[[], object] = lambda: command_line(arguments)  # noqa: E731
        start_s = 0.0
        if whole and not any("\0" in argument for argument in arguments):  # which no process can be given
            code = [sys.executable, "-m", "synthorax", *arguments]
            work, start_s = (lambda: os.execv(sys.executable, code)), self._start_s()
        return run_forked(work, self.scratch, most_s=CPU_SECONDS + allowed_s + start_s, start_s=start_s)

    def _start_s(self) -> float:
        """Return the CPU seconds of the interpreter's start and imports, which a forked mutant does not need."""
        if not self.start_s:
            modules = "import synthorax.cli, torch, zarr, SimpleITK, highdicom, nibabel, skimage.measure, scipy.stats"
            code = [sys.executable, "-c", f"{modules}; import synthorax.api, synthorax.systems.lung.system"]
            self.start_s = run_forked(lambda: os.execv(sys.executable, code), self.sound).cpu_s
        return self.start_s


def mutants(seed: int, count: int, names: Sequence[str]) -> Iterator[Mutant]:
    """Return the first `count` mutants of a seed, of all kinds in turn."""
    kinds = [kind for kind in KINDS if not names or kind.name in names]
    every = ((kind, number) for number in itertools.count() for kind in kinds if number % kind.every == kind.every - 1)
    for kind, number in itertools.islice(every, count):
        yield Mutant(seed, kind.name, number // kind.every)


def read_results(path: Path) -> dict[tuple[int, str, int], dict]:
    """Return the results in a file, by mutant."""
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return {(row["seed"], row["kind"], row["number"]): row for row in rows}


def prove(
    count: int,
    seed: int,
    folder: Path,
    results: Path,
    names: Sequence[str] = (),
    part: tuple[int, int] = (0, 1),
) -> list[dict]:
    """Run the mutants that have no result yet, and return the results of all.

    Args:
        names: names of kinds; all if empty.
        part: number and count of parts, if several calls share the mutants; each needs its own folder.
    """
    import_everything()
    gc.freeze()
    known = read_results(results)
    bench, sources, found = Bench(folder), sources_hash(), []
    results.parent.mkdir(parents=True, exist_ok=True)
    with open(results, "a") as stream:
        for i, mutant in enumerate(itertools.islice(mutants(seed, count, names), part[0], None, part[1])):
            key = (mutant.seed, mutant.kind, mutant.number)
            if key not in known:
                known[key] = asdict(mutant) | {"whole": mutant.is_whole, "sources": sources} | asdict(bench.run(mutant))
                stream.write(json.dumps(known[key]) + "\n")
                stream.flush()
            found.append(known[key])
            if i % 100 == 99:
                verdicts = Counter(row["verdict"] for row in found)
                print(f"{i + 1}/{count}: " + ", ".join(f"{n} {what}" for what, n in verdicts.most_common()), flush=True)
    bench.clear()
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/synthorax-mutants"))
    parser.add_argument("--results", type=Path, default=Path("build/mutants.jsonl"))
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("--part", default="0/1", help="as in 0/3: the first of three parts, which can run at once")
    parser.add_argument("--number", type=int, help="run this one of --kind alone, keep it, and print all it said")
    chosen = parser.parse_args()
    if chosen.number is None:
        number, _, parts = chosen.part.partition("/")
        part = (int(number), int(parts))
        found = prove(chosen.count, chosen.seed, chosen.folder, chosen.results, chosen.kind, part)
        for row in found:
            if row["verdict"] == "wrong":
                print(
                    f"{row['kind']} {row['number']}: {', '.join(row['faults'])}: {row['command']} after {row['damage']}"
                )
        return
    import_everything()
    gc.freeze()
    outcome = Bench(chosen.folder).run(Mutant(chosen.seed, chosen.kind[0], chosen.number))
    print(json.dumps(asdict(outcome), indent=1))
    print(f"left in {chosen.folder / 'work'}")


if __name__ == "__main__":
    main()
