"""The outcome of a damaged input, and whether it is right.

right   exit 0 and the same voxels and nodules as for the valid input
told    exit 2 and one line that names the file or option; or exit 0 with another result and a message about it
unknowable  exit 0 with another result, because the damaged file is as valid as the original: another legal value,
        another voxel of a format without a checksum, rows that a table simply does not have
wrong   anything else, with its faults
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prove_kinds import Kind
from prove_mutations import Damage
from prove_processes import Ended

CPU_SECONDS = 5
MEMORY_GB = 2.0
LONG = 3.0
"""A command that takes more CPU seconds than this on a valid input may take `CPU_SECONDS` more."""
LONGEST = 2000
"""Number of characters of the output that a result keeps."""
NOISE = re.compile(r"Warning|WARNING|warn\(|\.py:\d+|\.cxx|\.cpp|^\s+at 0x|ERROR|Exception|Error:")
OUR_LINE = "synthorax: "
OUR_NOTES = ("left out: ", "synthorax: warning: ", "note: ", "synthorax: note: ")
PROGRESS = re.compile(r"[━╺╸]|\d% +-?[\d:-]+\s*$")


@dataclass(frozen=True)
class Sound:
    """A command's outcome for the valid input: exit code, result, messages about it, and CPU seconds."""

    code: int
    result: list
    cpu_s: float


@dataclass(frozen=True)
class Outcome:
    """A judged mutant.

    Attributes:
        faults: why it is wrong: `traceback`, `signal`, `exit`, `lines`, `vague`, `noise`, `escape`, `memory`, `cpu`,
            `hang`, `left` (files or processes), `changed` (an input), `silent`.
    """

    verdict: str
    faults: list[str]
    command: str
    damage: str
    code: int
    cpu_s: float
    memory_gb: float
    said: str


def judge(
    kind: Kind,
    arguments: Sequence[str],
    target: str,
    done: Damage,
    sound: Sound,
    ended: Ended,
    before: dict[str, str],
    folder: Path,
) -> Outcome:
    """Return the judgement of a mutant.

    Args:
        before: the input's files and their hashes before the command.
        folder: folder in which it ran; `in` is the input.
    """
    faults = _ways_to_end(ended, CPU_SECONDS + (sound.cpu_s if sound.cpu_s > LONG else 0))
    own = own_lines(ended.stderr)
    verdict = "told"
    if ended.code == 2 or (ended.code == 1 and arguments[0] != "verify"):
        also_said = set(sound.result[1])  # such as what a study is at
        lines = [line for line in own if not line.startswith(OUR_NOTES) and line not in also_said]
        if ended.code == 2 and not (len(lines) == 1 and lines[0].startswith(OUR_LINE)):
            faults.append("lines")
        elif ended.code == 2 and not _names(lines[0], target, arguments):
            faults.append("vague")
        if (folder / "out").exists():
            faults.append("left")
    elif ended.code in (0, 1) and sound.code in (0, 1) and not faults:
        verdict = _of_result(kind, arguments, done, sound, ended, own, folder)
        if verdict == "silent":
            faults.append("silent")
        if any(NOISE.search(line) for line in own):
            faults.append("noise")
    if "\x1b" in ended.stdout + ended.stderr:
        faults.append("escape")
    faults += _what_is_left(kind, ended, before, folder)
    return Outcome(
        verdict="wrong" if faults else verdict,
        faults=faults,
        command=" ".join(arguments),
        damage=done.what,
        code=ended.code,
        cpu_s=round(ended.cpu_s, 2),
        memory_gb=round(ended.memory_gb, 3),
        said=ended.stderr[-LONGEST:],
    )


def _ways_to_end(ended: Ended, most_s: float) -> list[str]:
    """Return faults of the process itself."""
    faults = []
    if "Traceback (most recent call last)" in ended.stderr:
        faults.append("traceback")
    elif ended.code == 1 and OUR_LINE in ended.stderr:
        faults.append("exit")  # The net in `main` caught what a door should have.
    if ended.is_late:
        faults.append("hang")
    elif ended.code < 0:
        faults.append("signal" if ended.cpu_s <= most_s else "cpu")
    elif ended.code not in (0, 1, 2):
        faults.append("exit")
    if ended.cpu_s > most_s and "cpu" not in faults:
        faults.append("cpu")
    if ended.memory_gb > MEMORY_GB or "MemoryError" in ended.stderr:
        faults.append("memory")
    return faults


def _of_result(
    kind: Kind, arguments: Sequence[str], done: Damage, sound: Sound, ended: Ended, own: list[str], folder: Path
) -> str:
    """Return `right`, `told`, `unknowable` or `silent` for a command that succeeded."""
    result, words = result_and_words(folder, " ".join(arguments), ended, kind)
    if kind.form == "arguments":
        return "right"
    if result == sound.result[0]:
        return "right"
    if set(words) - set(sound.result[1]) or arguments[0] == "verify":
        return "told"
    if arguments[0] == "info" and kind.form == "npy":  # It tells what the array is, whatever that is.
        return "unknowable"
    return "silent" if done.is_knowable else "unknowable"


def own_lines(stderr: str) -> list[str]:
    """Return the lines on stderr, without progress bars."""
    return [line for line in stderr.splitlines() if line.strip() and not PROGRESS.search(line)]


def _names(line: str, target: str, arguments: Sequence[str]) -> bool:
    """Return whether a line names the file, folder or option."""
    path = Path(target.partition(":")[0])
    known = {path.name, path.stem, *(part for part in path.parts if len(part) > 3)}
    known |= {part for argument in arguments for part in (argument, Path(argument).name) if len(part) > 1}
    found = line.removeprefix(OUR_LINE)
    shown = [argument.encode(errors="backslashreplace").decode() for argument in arguments]
    if found.startswith("setting ") or any(found.startswith(f"{argument}:") for argument in shown):
        return True
    return "--" in found or '"' in found or any(name and name in found for name in known)


def _what_is_left(kind: Kind, ended: Ended, before: dict[str, str], folder: Path) -> list[str]:
    """Return faults in the files and processes that remain after the end."""
    faults = []
    temporary = list(folder.rglob(".tmp-*")) + list((folder / "tmp").iterdir())
    if temporary or ended.left_processes:
        faults.append("left")
    is_elsewhere = kind.form == "arguments" and ended.code == 0  # at another --out
    if {p.name for p in folder.iterdir()} - {"in", "out", "tmp", "home"} and not is_elsewhere:
        faults.append("left")
    after = snapshot(folder / "in")
    if after != before and not (kind.is_resumed and ended.code in (0, 1)):
        faults.append("changed")
    return faults


def snapshot(folder: Path) -> dict[str, str]:
    """Return the files of a folder and their hashes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            found[str(path)] = "a folder" if path.is_dir() else "a special file"
        elif path.suffix not in (".lock",) and "tfevents" not in path.name:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# Results: what a command made, without the names of patients and files, and the words about it


def result_and_words(folder: Path, command: str, ended: Ended, kind: Kind) -> list:
    """Return the result of a command in a form that can be compared, and its messages."""
    words = [line for line in own_lines(ended.stderr) if not NOISE.search(line)]
    words += [line for line in ended.stdout.splitlines() if re.search(r"note|left out|warning|not |found ", line)]
    where = re.search(r"in/(run|study|store)\b", command) if kind.is_resumed else None
    out = folder / "out" if where is None or " --out out" in command else folder / where[0]
    verb = command.split()[0]
    if verb == "verify":  # Its answer is its exit code.
        return [[str(ended.code)], words]
    if verb in ("info", "features"):
        return [[*_of_screen(ended.stdout), str(ended.code)], words]
    if out.is_file() and zipfile.is_zipfile(out):
        return [_of_pack(out), words]
    if out.is_file():
        return [[_hash(out.read_bytes())], words]
    if not out.is_dir():
        return [[], words]
    if (out / "prepare.json").is_file():
        result, more = _of_store(out)
        return [result, words + more]
    return [_of_files(out), words]


SEEN = re.compile(r"^\s*(shape|spacing|origin|direction|dtype|range|nodules|cases|masked|[\d.]+,|f1|.*synthetic)")
"""Return lines of the output on voxels, geometry, nodules or the mark."""


def _of_screen(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if SEEN.match(line)]


def _of_store(path: Path) -> tuple[list, list[str]]:
    """Return voxels, geometry and nodules of the cases in any order, the notes, and what was left out."""
    try:
        index = json.loads((path / "zarr.json").read_text())["attributes"]["synthorax"]
    except (OSError, ValueError, KeyError):
        return ["no index"], []
    cases, words = [], [str(skipped) for skipped in index["skipped"]]
    for row in index["cases"]:
        kept = {k: row[k] for k in ("shape", "spacing_mm", "origin_mm", "direction", "synthetic")}
        kept["annotated"] = row.get("annotated")
        for nodule in row["nodules"]:
            for name in ("nodule_id", "extra", "sha256"):
                nodule.pop(name, None)
        kept["nodules"] = row["nodules"]
        folder = path / row["case_id"]
        chunks = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "zarr.json"]
        kept["voxels"] = [[str(p.relative_to(folder)), _hash(p.read_bytes())] for p in chunks if p.name[0] != "."]
        cases.append(json.dumps(kept, sort_keys=True))
        words += row["notes"]
    return [_hash(case.encode()) for case in sorted(cases)], words


def _of_pack(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as pack:
        index = json.loads(pack.read("index.json"))
        rows = [{k: row[k] for k in ("shape", "spacing_mm", "origin_mm", "nodules")} for row in index["cases"]]
        entries = [_hash(pack.read(name)) for name in sorted(pack.namelist()) if name != "index.json"]
    return [*entries, _hash(json.dumps(rows).encode())]


def _of_files(folder: Path) -> list[str]:
    """Return hashes of files, except of those that depend on the source, the time or the machine."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in ("manifest.json", "index.html", "state.pt", "log.jsonl", "config.yaml"):
            continue
        if path.name[0] == "." or path.suffix in (".png", ".json") or "tfevents" in path.name:
            continue
        data: Any = path.read_bytes()
        if path.suffix == ".dcm":
            import pydicom

            header = pydicom.dcmread(path)
            data = repr([header.get(n) for n in ("ImagePositionPatient", "PixelSpacing")]).encode() + header.PixelData
        found.append(f"{path.relative_to(folder)} {_hash(data)}")
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
