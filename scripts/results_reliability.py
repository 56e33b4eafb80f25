#!/usr/bin/env python3
"""Test the properties that users rely on, and write docs/reliability.md.

    python scripts/results_reliability.py --out docs

It runs thousands of broken inputs, kills, two calls at once, and tests of users' inputs; then it times DICOM to store against an
earlier commit. Results of an earlier call on the same sources, or in --measured, are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

from pages import table
from prove_kills import FAULTS
from prove_kills import run as run_kills
from prove_kinds import KINDS
from prove_mutants import prove, read_results, sources_hash
from prove_outcomes import CPU_SECONDS, LONG, MEMORY_GB
from prove_speed import Speed, measure
from prove_twice import Pair, run_pairs
from synthorax.io.atomic import atomic_file
from synthorax.studies.results import machine

ROOT = Path(__file__).resolve().parent.parent
BEFORE = "f87457f"
"""The commit for the comparison of speed: the last one before this work."""
CLAIMS_REPORT = re.compile(
    r"refus|told|named|names_|note|noticed|warn|left_out|is_said|says|in_doubt|not_said|unknown|stops|one_line|asked_for"
)
"""A test with one of these words in its name claims that the problem is reported; all others that the result is right."""


@dataclass(frozen=True)
class Topic:
    """A kind of problem, and the tests that try instances of it.

    Attributes:
        tests: `FILE`, or `FILE::PATTERN` for those whose name the regular expression finds; files below `tests/`.
    """

    title: str
    tests: tuple[str, ...]


TOPICS = (
    Topic("Structures that overlap, readings of one nodule, stray voxels", ("io/test_structures.py", "test_region.py")),
    Topic("Masks: fractions, part of the grid, segments by name", ("io/test_fractions.py", "io/test_masks.py")),
    Topic("Patients: which scans and masks belong to whom", ("datasets/test_right_patient.py", "test_provenance.py")),
    Topic("DICOM series: which slices form one, which files are skipped", ("io/test_dicom_series.py",)),
    Topic("DICOM headers: invalid values", ("io/test_dicom_headers.py",)),
    Topic("NIfTI, MetaImage and NRRD: geometry and scaling", ("io/test_image_headers.py",)),
    Topic("Tables and meshes", ("io/test_tables_and_meshes.py",)),
    Topic("Exports: unknown is not the same as none", ("datasets/test_export.py",)),
    Topic(
        "Stored files missing, swapped, flipped",
        ("datasets/test_store_integrity.py", "datasets/test_pack_bounds.py", "studies/test_noted.py"),
    ),
    Topic("Chests that end within the lungs", ("anatomy/test_cut_off_chests.py",)),
    Topic("Nodules that cannot be made as requested", ("editing/test_injected_nodules.py", "cli/test_sample.py")),
    Topic(
        "The user's files are never destroyed, results never half written",
        ("whole_tool/test_safety.py", "whole_tool/test_safety_kills.py"),
    ),
    Topic("Errors in one line", ("whole_tool/test_safety_line.py",)),
    Topic("Problems that users met, from the command to the store", ("whole_tool/test_user_cases.py",)),
)

LONG_KINDS = {kind.name for kind in KINDS if kind.every > 1}
KILLS = {
    "kills": "commands stopped",
    "landed": "before their end",
    "old": "`out` as it was before",
    "new": "`out` whole and new",
    "neither": "`out` neither of them",
    "next_failed": "the next call failed",
    "other_result": "the next call gave another result",
    "left_files": "temporary files left after the next call, or after a signal that can be handled",
    "left_processes": "workers left",
    "tracebacks": "tracebacks",
    "wrong_exit": "exit codes other than 0 or that of the signal",
}
LIMITS = (
    (
        "changed voxels in a file without a checksum: uncompressed DICOM, NIfTI, MHA, NRRD, `.npy`",
        "cannot be noticed, because the file stays valid. Keep images compressed (`.nii.gz`, `.mha`, `.nrrd`), whose checksum "
        "is verified; a store has the hash of every file and checks it at each read, and all of them with `info --check`",
    ),
    (
        "a table or a list of ids that was cut off at the end of a line; a legal value replaced by another one",
        "cannot be noticed. The last lines of `prepare` say how many scans and nodules there are: compare them",
    ),
    (
        "axes that deviate from right angles by more than about a degree (a tilted gantry, a shear)",
        "refused; resample the image first",
    ),
    (
        "a header that lacks the voxel size, the position or the orientation, or states it twice with different values",
        "read as ITK reads it, with a note; state it in the header to be sure",
    ),
    ("an image of more than 2^29 voxels or 1 GiB", "refused before it is allocated; crop it, or store it as int16"),
    (
        "slices of two scans in one folder with the same UIDs and numbers; a missing slice",
        "refused, with the names of the files; sort the slices into folders, or copy the missing file again",
    ),
    ("a compressed slice that its decoder cannot read to the end", "refused or left out, with its name; copy it again"),
    (
        "an enhanced CT with several frames at the same position, or frames with different orientations",
        "refused, with the frame; convert the phases or stacks to separate series",
    ),
    (
        "images without a patient ID (NIfTI, MHA, NRRD without a table)",
        "the folder or file name counts as the patient, and a line says so; give `patient_id` in a table, or use `--patient-from`",
    ),
    (
        "an outline that belongs to no scan, a structure whose name is not recognised, a scan without information on nodules",
        "the scan never counts as healthy: it is `none-known` or `some`; give more information by `--structures`, `--annotated` or a table",
    ),
    (
        "a mask on another grid than its image, with values that are neither labels nor probabilities, or so blurred that the threshold of one half keeps only its centre",
        "refused; resample or cut it first",
    ),
    (
        "an LIDC XML file of another series than the scan in its folder",
        "refused, with both UIDs; write the new UID into the XML file",
    ),
    (
        "nodules without voxels, or scans that are not completely annotated, for a tool that trains on label maps",
        "`export` refuses them or leaves them out, and names the options to choose (`--voxelless`, `--unknown`)",
    ),
    (
        "a nodule that is wider than the model's cubes, too small for its voxels, or fainter than the scan's noise",
        "refused, or made with a note",
    ),
    (
        "settings in YAML with aliases; `--structures` with repeated groups",
        "refused: a few bytes could take years or all memory",
    ),
    ("changed weights in a run folder", "not noticed: only a model's card has their hash"),
)


@dataclass(frozen=True)
class Tried:
    """The outcomes of a topic's tests."""

    right: int
    reported: int
    wrong: int


def tried(topics: Sequence[Topic], report: Path) -> list[Tried]:
    """Count the outcomes of the topics' tests.

    Args:
        report: JUnit XML file of a pytest call; if it does not exist, the tests are run and it is written.
    """
    if not report.is_file():
        files = sorted({test.partition("::")[0] for topic in topics for test in topic.tests})
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"]
        command += [str(ROOT / "tests" / file) for file in files]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    found = [_outcome(case) for case in ElementTree.parse(report).getroot().iter("testcase")]
    counts = []
    for topic in topics:
        mine = [(name, outcome) for file, name, outcome in found if _is_of(topic, file, name)]
        passed = Counter(bool(CLAIMS_REPORT.search(name)) for name, outcome in mine if outcome == "passed")
        counts.append(Tried(passed[False], passed[True], sum(outcome == "failed" for _, outcome in mine)))
    return counts


def _outcome(case: ElementTree.Element) -> tuple[str, str, str]:
    """Give the file of each test below `tests/`, its name, and `passed`, `failed` or `skipped`."""
    parts = {child.tag for child in case}
    outcome = "failed" if parts & {"failure", "error"} else "skipped" if "skipped" in parts else "passed"
    file = case.get("classname", "").removeprefix("tests.").replace(".", "/") + ".py"
    return file, case.get("name", ""), outcome


def _is_of(topic: Topic, file: str, name: str) -> bool:
    for test in topic.tests:
        known, _, pattern = test.partition("::")
        if file == known and re.search(pattern, name):
            return True
    return False


def mutant_lines(found: Sequence[dict]) -> Iterator[str]:
    """Give the outcomes of the mutants, in total and by kind of input."""
    faults = Counter(fault for row in found for fault in row["faults"])
    whole = sum(row["whole"] for row in found)
    yield (
        f"{len(found):,} mutants of {len({row['kind'] for row in found})} kinds of input, {whole} of them run as whole "
        "processes:"
    )
    yield ""
    verdicts = Counter(row["verdict"] for row in found)
    right = f"{verdicts['right']:,} right, {verdicts['told']:,} reported, {verdicts['unknowable']:,} not knowable"
    yield f"{right}, **{verdicts['wrong']:,} wrong**."
    yield ""
    rows: list[tuple[str, object]] = [
        ("tracebacks", faults["traceback"]),
        ("ended by a signal", faults["signal"]),
        (f"above {MEMORY_GB:.0f} GB of memory", faults["memory"]),
        (f"above {CPU_SECONDS} CPU seconds, or never", faults["cpu"] + faults["hang"]),
        ("incomplete files, temporary files or processes left", faults["left"]),
        ("inputs changed", faults["changed"]),
        ("other voxels or nodules without a message", faults["silent"]),
        ("caught only by the last handler in `main`, not where the input is read", faults["exit"]),
        (
            "no line by synthorax, several lines, or one that does not name the problem",
            faults["lines"] + faults["vague"],
        ),
        ("a library's messages, or control characters, on the screen", faults["noise"] + faults["escape"]),
        ("largest memory of a mutant, GB", max(row["memory_gb"] for row in found)),
        ("largest CPU time of a mutant, s", max(row["cpu_s"] for row in found if row["kind"] not in LONG_KINDS)),
    ]
    yield from table(("mutants", "number"), rows)
    yield ""
    yield (
        f"A command that takes more than {LONG:.0f} CPU seconds on the valid input may take {CPU_SECONDS} seconds more: this is "
        "`study shapes`, which computes its figures again."
    )
    yield ""
    by_kind = []
    for kind in KINDS:
        verdicts = Counter(row["verdict"] for row in found if row["kind"] == kind.name)
        verbs = sorted(
            {" ".join(c.split()[: 2 if c.split()[0] in ("prepare", "train", "study") else 1]) for c in kind.commands}
        )
        counts = [verdicts[name] for name in ("right", "told", "unknowable", "wrong")]
        by_kind.append((kind.name, ", ".join(verbs), sum(counts), *counts))
    yield from table(("kind of input", "verbs", "mutants", "right", "reported", "not knowable", "wrong"), by_kind)


def pair_lines(pairs: Sequence[Pair]) -> Iterator[str]:
    """Give the outcomes of two calls at once."""
    rows = []
    for command in dict.fromkeys(pair.command for pair in pairs):
        mine = [pair for pair in pairs if pair.command == command]
        codes = Counter(" and ".join(map(str, sorted(pair.codes))) for pair in mine)
        faults = "; ".join(sorted({fault for pair in mine for fault in pair.faults})) or "none"
        rows.append((f"`{command}`", len(mine), ", ".join(f"{n} x {code}" for code, n in codes.items()), faults))
    yield from table(("command, twice at once", "times", "exit codes", "faults"), rows)


def speed_lines(speed: Speed) -> Iterator[str]:
    """Give the user CPU time of both commits, run by run."""
    rows = [(i + 1, f"{old:.2f}", f"{new:.2f}") for i, (old, new) in enumerate(zip(speed.old, speed.new, strict=True))]
    yield from table(("run", f"{BEFORE}, user CPU s", "now, user CPU s"), rows)
    yield ""
    yield f"Medians {median(speed.old):.2f} and {median(speed.new):.2f} s: {speed.ratio:.2f} times."


def measured_speed(runs: int) -> Speed:
    """Time DICOM to store with this checkout and with the earlier commit, which is checked out for this."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", BEFORE, "src"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        return measure(Path(folder), runs)


def lines(
    found: Sequence[dict], pairs: Sequence[Pair], kills: dict, counts: Sequence[Tried], speed: Speed
) -> Iterator[str]:
    """Give the lines of the page."""
    yield "# Reliability"
    yield ""
    yield (
        "How synthorax handles real input files: it returns what the files say, or one line that says what is wrong "
        "and what to do. `make prove` measures and writes this page."
    )
    yield ""
    yield "## Inputs that users met"
    yield ""
    yield (
        "Each instance is a test with a known correct answer. *Right*: the voxels and nodules that the files hold. "
        "*Reported*: an error of one line, or a note on the screen and in the store."
    )
    yield ""
    rows = [
        (t.title, c.right + c.reported + c.wrong, c.right, c.reported, c.wrong)
        for t, c in zip(TOPICS, counts, strict=True)
    ]
    total = [sum(row[i] for row in rows) for i in range(1, 5)]  # type: ignore[misc]
    yield from table(("kind", "instances tried", "right", "reported", "wrong"), [*rows, ("all", *total)])
    yield ""
    yield "## Broken inputs"
    yield ""
    yield (
        "A mutant is a valid input with one damaged file: flipped bits, missing or repeated bytes, nonsense in a "
        "field, a size that is too large, another file in its place, a FIFO, or an empty file. It is given to each "
        "verb that takes such a file. The outcome is right if the result is that of the valid input; reported if the "
        "verb exits with 2 and exactly one line that names the file or option, or states next to its result what it "
        "did; *not knowable* if the damaged file is as valid as the original: another legal value in a header, or "
        "other voxels in a format without a checksum. Any other outcome is wrong."
    )
    yield ""
    yield from mutant_lines(found)
    yield ""
    yield "## Kills"
    yield ""
    yield (
        "Verbs that replace the result of an earlier call are stopped at random moments by SIGKILL, SIGTERM and "
        "SIGINT in turn, each sent to the command's own process only; then the same command runs to its end. `out` "
        "must hold either what it held before or the complete new result, and the second call must give the same "
        "result as a single call."
    )
    yield ""
    yield from table(("", "number"), [(KILLS.get(name, name.replace("_", " ")), n) for name, n in kills.items()])
    yield ""
    yield "## Two calls at once"
    yield ""
    yield (
        "Every verb that writes is started twice at the same moment with the same `--out`. One call succeeds and the "
        "other is refused (exit 2); a verb that continues an interrupted call may instead find everything done (0 and "
        "0). The content of `--out` equals that of a single call byte for byte."
    )
    yield ""
    yield from pair_lines(pairs)
    yield ""
    yield "## What cannot be handled"
    yield ""
    yield from table(("input", "what synthorax does, and what you can do"), LIMITS)
    yield ""
    yield "## Speed"
    yield ""
    yield "Preparing a DICOM scan of 140 slices of 512 x 512 voxels as a store, as a whole process, both commits in turn:"
    yield ""
    yield from speed_lines(speed)
    yield ""
    yield "## How it was measured"
    yield ""


def once(file: Path, measure_it: Callable[[], Any]) -> Any:
    """Return the content of a JSON file; if it does not exist, measure and write it."""
    if not file.is_file():
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(measure_it()))
    return json.loads(file.read_text())


def how_measured(found: Sequence[dict], seed: int) -> Iterator[str]:
    """Give machine, seeds and date."""
    here = machine()
    yield (
        "Mutants run in processes that are forked from one with all modules imported; the limits are CPU seconds and "
        "resident memory, which do not depend on the load of the machine. To run one mutant again with all its "
        "output: `python scripts/prove_mutants.py --seed S --kind KIND --number N`."
    )
    yield ""
    seeds = ", ".join(str(found_seed) for found_seed in sorted({row["seed"] for row in found}))
    if later := len(found) - max(Counter(row["sources"] for row in found).values()):
        yield f"{later} of the mutants were wrong at first; they were run again after the faults were fixed."
        yield ""
    yield (
        f"Mutants of seed {seeds}, kills of seed {seed}. {here['processor']}, {here['cores']} cores, Python "
        f"{here['python']}, synthorax {here['synthorax']}, PyTorch {here['torch']}, NumPy {here['numpy']}; "
        f"{date.today().isoformat()}."
    )


def main() -> int:
    """Run the command line; 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/synthorax-reliability"), help="best in memory")
    parser.add_argument("--measured", type=Path, help="what an earlier call measured, which is not measured again")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    measured = chosen.measured or ROOT / "build" / f"reliability-{sources_hash()}"
    measured.mkdir(parents=True, exist_ok=True)
    counts = tried(TOPICS, measured / "tests.xml")
    speed = Speed(**once(measured / "speed.json", lambda: asdict(measured_speed(chosen.runs))))
    if not (found := [row for path in measured.glob("mutants-*.jsonl") for row in read_results(path).values()]):
        found = prove(chosen.count, chosen.seed, chosen.work / "mutants", measured / "mutants.jsonl")
    two = once(measured / "twice.json", lambda: [asdict(pair) for pair in run_pairs(chosen.work / "twice")])
    pairs = [Pair(**pair) for pair in two]
    kills = once(measured / "kills.json", lambda: run_kills(chosen.kills, chosen.seed, chosen.work / "kills"))
    page = [*lines(found, pairs, kills, counts, speed), *how_measured(found, chosen.seed)]
    with atomic_file(chosen.out / "reliability.md") as file:
        file.write_text("\n".join(page) + "\n")
    wrong = sum(row["verdict"] == "wrong" for row in found) + sum(bool(pair.faults) for pair in pairs)
    wrong += sum(kills[fault] for fault in FAULTS) + sum(count.wrong for count in counts)
    print(f"{chosen.out / 'reliability.md'}: {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
