"""From sources to a store, over processes; what a kill leaves is gone on with."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from synthorax.datasets.sources import Source, Unreadable
from synthorax.datasets.splits import FRACTIONS, split_patients
from synthorax.datasets.store import (
    INDEX,
    REQUEST,
    CaseEntry,
    Store,
    case_folders,
    known_entry,
    write_case,
    write_index,
)
from synthorax.errors import InputError
from synthorax.io.atomic import MARK, TEMPORARY, atomic_file, check_folder_is_free
from synthorax.parallel import map_processes

LOCK = ".lock"
RECIPE = 4
"""Raised whenever the same sources would give another store."""


@dataclass(frozen=True)
class _ReadAndWrite:
    """A picklable function: a source to its entry in the store, or to the reason why there is none."""

    store: Path

    def __call__(self, source: Source) -> CaseEntry | InputError:
        key = f"{RECIPE} {source.key}"
        if (known := known_entry(self.store, source.case_id, key)) is not None:
            return known
        try:
            case = source.read()
        except InputError as error:
            return error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return InputError(error.filename or source.case_id, reason, "a readable file")
        except Exception as error:  # One scan that no one thought of must not stop a thousand others.
            reason = (str(error).splitlines() or [""])[0][:120]
            return InputError(source.case_id, f"{type(error).__name__}: {reason}", "a readable scan")
        try:
            return write_case(self.store, case, key)
        except InputError as error:
            return error


def prepare_store(
    sources: Sequence[Source],
    out: Path,
    request: Mapping[str, Any],
    *,
    notes: Sequence[str] = (),
    fractions: Sequence[float] = FRACTIONS,
    train_patients: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
) -> Store:
    """Read every source and write a store. A store that was stopped goes on; a complete one is brought up to date.

    Args:
        request: what the sources were made from; says whether a folder's store is of the same.
        notes: how the sources were found, kept in the store as `source["notes"]`.
        fractions: of patients in train, val and test whose split is not given.
        train_patients: the store has at most so many of train and leaves the others out; all if not given.
        workers: processes; one a core if not given.
        cluster: address of a Dask scheduler to use instead.

    Raises:
        InputError: a folder that is not ours or of another request; or no source could be read.
        OutputError: the store cannot be written.
    """
    if train_patients is not None:
        request = {**request, "train_patients": train_patients}
    wanted = {"synthorax": version("synthorax"), "recipe": RECIPE, **request}
    names = Counter(source.case_id for source in sources if not isinstance(source, Unreadable))
    assert max(names.values(), default=1) == 1, f"cases of one name: {names.most_common(1)}"
    splits_of = partial(split_patients, fractions=fractions, seed=seed, train_patients=train_patients)
    splits_of({})  # refuses what it cannot deal by before anything is read
    begun = _begun(out)
    if begun is None:
        check_folder_is_free(out)
    elif begun != wanted and not overwrite:
        raise InputError(out, f"a store of {_differences(begun, wanted)}", "the same request, or --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            about = {**request, "notes": list(notes)} if notes else request
            return _fill(sources, out, wanted, about, splits_of, workers, cluster)
    except Timeout as error:
        raise InputError(out, "a store that another process is preparing", "one at a time") from error


def _fill(
    sources: Sequence[Source],
    out: Path,
    wanted: Mapping[str, Any],
    request: Mapping[str, Any],
    splits_of: Callable[[Mapping[str, str | None]], dict[str, list[str]]],
    workers: int | None,
    cluster: str | None,
) -> Store:
    """`prepare_store` in a folder that is ours alone; what was there stays until a case can be read."""
    before = {name: (out / name).read_bytes() for name in (INDEX, REQUEST) if (out / name).is_file()}
    for left in out.glob(TEMPORARY + "*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (out / INDEX).unlink(missing_ok=True)  # from here to the end the store is unfinished
    with atomic_file(out / REQUEST) as file:
        file.write_text(json.dumps(wanted, indent=1) + "\n")
    entries: list[CaseEntry] = []
    skipped: list[tuple[str, InputError]] = []
    bar = Progress(
        TextColumn("prepare"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
    )
    try:
        with bar:
            task = bar.add_task("", total=len(sources))
            outcomes = map_processes(_ReadAndWrite(out), sources, workers=workers, chunk=1, cluster=cluster)
            for source, outcome in zip(sources, outcomes, strict=True):
                if isinstance(outcome, CaseEntry):
                    entries.append(outcome)
                else:
                    skipped.append((source.case_id, outcome))
                bar.update(task, advance=1, description=f"{len(skipped)} skipped" if skipped else "")
    finally:
        if not entries:
            _take_back(out, before)
    if len(skipped) == 1 and not entries:
        raise skipped[0][1]
    if not entries:
        raise InputError(request["source"], f"{len(skipped)} scans, none readable; the first: {skipped[0][1]}", "CT")
    given: dict[str, str | None] = {}
    for entry in entries:
        given[entry.patient_id] = given.get(entry.patient_id) or entry.given_split
    splits = splits_of(given)
    patients = {patient for ids in splits.values() for patient in ids}
    entries = [entry for entry in entries if entry.patient_id in patients]
    present = {entry.case_id for entry in entries}
    for known in case_folders(out):  # of an earlier time, whose source is gone
        if known.name not in present:
            shutil.rmtree(known)
    reasons = [{"case": case_id, "reason": _without_folders(error)} for case_id, error in skipped]
    write_index(out, entries, splits, source=request, skipped=reasons)
    (out / MARK).touch()
    return Store(out)


def _without_folders(error: InputError) -> str:
    """An error as a store may keep it: files by their names, nothing of the machine that they lie on."""
    subject, found, expected = (Path(part).name if isinstance(part, Path) else str(part) for part in error.args)
    text = f"{subject}: found {found}; expected {expected}"
    return re.sub(r"(?<![^\s'\"(\[=])(/[^/\s:;,'\"]+)+/", "", text)


def _take_back(out: Path, before: Mapping[str, bytes]) -> None:
    """Leave a folder as it was found: no case was written."""
    for name, content in before.items():
        (out / name).write_bytes(content)
    if not before:
        for name in (REQUEST, LOCK):
            (out / name).unlink(missing_ok=True)
        if not any(out.iterdir()):
            out.rmdir()


def _begun(out: Path) -> dict[str, Any] | None:
    """The request of the store that a folder holds or was to hold."""
    try:
        found = dict(json.loads((out / REQUEST).read_text()))
        return found if "synthorax" in found else None
    except (OSError, ValueError, TypeError):
        return None


def _differences(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What is not as it was asked for."""
    return ", ".join(f"{k} {begun.get(k)}" for k in sorted({*begun, *wanted}) if begun.get(k) != wanted.get(k))
