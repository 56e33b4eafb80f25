"""Preparing a store from sources in several processes; a stopped preparation resumes."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from synthorax.datasets.case import shared
from synthorax.datasets.inherited import with_inherited
from synthorax.datasets.joined import Joined, in_training_alone, synthetic_notes
from synthorax.datasets.sources import Source, Unreadable
from synthorax.datasets.splits import FRACTIONS, split_patients
from synthorax.datasets.store import (
    STORE_INDEX,
    STORE_REQUEST,
    CaseEntry,
    Store,
    check_not_newer,
    is_case,
    known_entry,
    write_case,
    write_index,
)
from synthorax.datasets.tissue import with_tissue
from synthorax.errors import InputError, reason, resumable
from synthorax.io.atomic import (
    MARK,
    atomic_file,
    atomic_folder,
    check_folder_is_free,
    files_of,
    other_than_ours,
    put_folder,
    working_in,
    write_mark,
)
from synthorax.io.locks import clear_leftovers
from synthorax.io.mappings import read_mapping
from synthorax.io.requests import differing_options
from synthorax.parallel import map_processes
from synthorax.provenance import without_folders

BESIDE = ".preparing-"
"""Prefix of the name of the folder in which a store is prepared before it replaces another one."""
STORE_RECIPE = 5
"""Version of the recipe, part of a store's request; raise it when the same sources would give another store."""


@dataclass(frozen=True)
class _ReadAndWrite:
    """A picklable function: a source to its entry in the store, or to the error with which it was left out."""

    store: Path
    earlier: Path | None
    tissue: bool

    def __call__(self, source: Source) -> CaseEntry | InputError:
        key = _key(source, self.tissue)
        if (known := known_entry(self.store, source.case_id, key)) is not None:
            return known
        if self.earlier and (known := known_entry(self.earlier, source.case_id, key)) is not None:
            _take_over(self.earlier / source.case_id, self.store / source.case_id)
            return known
        try:
            case = source.read()
            case = with_tissue(case) if self.tissue else replace(case, tissue=None)
        except InputError as error:
            return error
        except OSError as error:
            return InputError(error.filename or source.case_id, reason(error), "a readable file")
        except Exception as error:  # an unforeseen error in one scan must not stop a thousand others
            words = (str(error).splitlines() or [""])[0][:120]
            return InputError(source.case_id, f"{type(error).__name__}: {words}", "a readable scan")
        try:
            return write_case(self.store, case, key)
        except InputError as error:
            return error


def _key(source: Source, tissue: bool) -> str:
    """Return the key of a case's source and request; a case with the same key is not read again."""
    return f"{STORE_RECIPE} {source.key}" + " with tissue" * tissue


def _take_over(case: Path, target: Path) -> None:
    """Copy a case from one store into another, by hard links if the disk supports them."""

    def link(file: str, other: str) -> None:
        try:
            os.link(file, other)
        except OSError:
            shutil.copy2(file, other)

    with atomic_folder(target, overwrite=True, alone=False) as folder:
        shutil.copytree(case, folder, copy_function=link, ignore=lambda _, names: {MARK} & {*names}, dirs_exist_ok=True)


def prepare_store(
    sources: Sequence[Source],
    out: Path,
    request: Mapping[str, Any],
    *,
    notes: Sequence[str] = (),
    joined: Joined = Joined(),  # noqa: B008  (frozen)
    tissue: bool = False,
    fractions: Sequence[float] = FRACTIONS,
    train_patients: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
) -> Store:
    """Read every source and write a store. A stopped preparation resumes; a complete store is brought up to date.

    Args:
        sources: sources of the cases.
        out: folder of the store.
        request: facts about the sources; a folder that holds a store of another request is refused.
        notes: sentences about how the sources were found, kept in the store as `source["notes"]`.
        joined: synthetic cases that join those of the sources.
        tissue: whether to make a label map of each case's tissues, from the source if it has one, or from the HU.
        fractions: shares of train, val and test among the patients whose split is not given.
        train_patients: most patients of train; the others are left out. None for all.
        seed: seed of the splits.
        workers: number of processes; by default one for each core.
        cluster: address of a Dask scheduler to use instead of processes.
        overwrite: replace a store of another request.

    Raises:
        InputError: the folder holds something else or a store of another request, no source can be read, or no case
            can be in the store.
        OutputError: the store cannot be written.
    """
    if train_patients is not None:
        request = {**request, "train_patients": train_patients}
    if tissue:
        request = {**request, "tissue": True}
    wanted = {"synthorax": version("synthorax"), "recipe": STORE_RECIPE, **request}
    sources = [*sources, *joined.sources]
    notes = [*notes, *joined.notes]
    names = Counter(source.case_id for source in sources if not isinstance(source, Unreadable))
    assert max(names.values(), default=1) == 1, f"cases of one name: {names.most_common(1)}"
    splits_of = partial(split_patients, fractions=fractions, seed=seed, train_patients=train_patients)
    splits_of({})  # refuse invalid fractions before anything is read
    _check_may_prepare(out, wanted, overwrite)
    with working_in(out) as out:
        _check_may_prepare(out, wanted, overwrite)  # check again, since no other process can write there now
        at = _where(sources, out, wanted, tissue)
        at.mkdir(exist_ok=True)
        earlier = None if at == out else out
        about = {**request, "notes": list(notes)} if notes else request
        read = _ReadAndWrite(at, earlier, tissue)
        _fill(sources, at, wanted, about, joined, splits_of, read, workers=workers, cluster=cluster)
        if at != out:
            put_folder(at, out)
            shutil.rmtree(at, ignore_errors=True)
        return Store(out)


def _check_may_prepare(out: Path, wanted: Mapping[str, Any], overwrite: bool) -> None:
    """Check that a folder is free, or holds a store of this request, or one that may be replaced with `overwrite`.

    Raises:
        InputError: the folder holds something else, or a store that only a newer version can read.
    """
    if not overwrite:
        check_not_newer(out)
    begun = _begun(out)
    if begun is None:
        check_folder_is_free(out)
    elif begun != wanted and not overwrite:
        other = differing_options(begun, wanted)
        raise InputError(out, f"a store of another request ({other})", "the same request, or --overwrite")


def _where(sources: Sequence[Source], out: Path, wanted: Mapping[str, Any], tissue: bool) -> Path:
    """Return the folder into which cases are written: that of the store, or one beside it.

    If cases of a finished store must be replaced, the new store is written beside it, and the old one stays complete
    until the new one is. If a user has put other files into the old store, it cannot be replaced as a whole: its index
    is then removed first, so that nobody reads it half replaced.
    """
    beside = out.with_name(BESIDE + out.name)
    replaced = (out / STORE_INDEX).is_file() and any(
        (out / source.case_id).is_dir() and known_entry(out, source.case_id, _key(source, tissue)) is None
        for source in sources
        if not isinstance(source, Unreadable)
    )
    is_beside = replaced and (out / MARK).is_file() and other_than_ours(out) is None
    if (begun := _begun(beside)) is not None and not (is_beside and begun == wanted):
        shutil.rmtree(beside)
    if replaced and not is_beside:
        (out / STORE_INDEX).unlink()
    return beside if is_beside else out


def _fill(
    sources: Sequence[Source],
    out: Path,
    wanted: Mapping[str, Any],
    request: Mapping[str, Any],
    joined: Joined,
    splits_of: Callable[[Mapping[str, str | None]], dict[str, list[str]]],
    read: _ReadAndWrite,
    *,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Prepare the store in a folder that no other process uses; earlier files stay until a case can be read."""
    is_finished = (out / STORE_INDEX).is_file()
    before = (out / STORE_REQUEST).read_bytes() if (out / STORE_REQUEST).is_file() else None
    if not is_finished:
        _write_request(out, wanted)
    entries: list[CaseEntry] = []
    used: list[Source] = []
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
        outcomes = map_processes(read, sources, workers=workers, chunk=1, cluster=cluster, name=lambda s: s.case_id)
        with resumable(lambda: len(entries), len(sources)), bar, closing(outcomes):
            task = bar.add_task("", total=len(sources))
            for source, outcome in zip(sources, outcomes, strict=True):
                if isinstance(outcome, CaseEntry):
                    lineage = outcome.lineage
                    entries.append(replace(outcome, lineage=shared(lineage)) if lineage else outcome)
                    used.append(source)
                else:
                    skipped.append((source.case_id, outcome))
                bar.update(task, advance=1, description=f"{len(skipped)} skipped" if skipped else "")
    finally:
        clear_leftovers(out)  # temporary files of workers that were stopped
        if not entries and not is_finished:
            _take_back(out, before)
    if len(skipped) == 1 and not entries:
        raise skipped[0][1]
    if not entries:
        subject, found, expected = skipped[0][1].args
        found = f"{len(skipped)} scans, none readable; of the first, {subject}: {found}"
        raise InputError(request["source"], found, expected)
    entries = with_inherited(list(zip(used, entries, strict=True)))
    reasons = [{"case": case_id, "reason": _without_folders(error)} for case_id, error in skipped]
    given: dict[str, str | None] = {}
    for entry in entries:
        if not (joined.only_train and entry.synthetic):
            given[entry.patient_id] = given.get(entry.patient_id) or entry.given_split
    splits = splits_of(given)
    if joined.only_train:
        splits, entries, left = in_training_alone(entries, splits, joined.aliases)
        reasons += [{"case": case_id, "reason": leak.reason} for case_id, leak in left.items()]
        request = {**request, "notes": [*request.get("notes", []), *synthetic_notes(left, entries)]}
    patients = {patient for ids in splits.values() for patient in ids}
    entries = [entry for entry in entries if entry.patient_id in patients]
    if not entries:
        if not is_finished:
            _remove_cases(out, set())
            _take_back(out, before)
        found = f"{len(used)} scans, none of which can be in the store"
        found += f"; for example {reasons[0]['case']}: {reasons[0]['reason']}" * bool(reasons)
        raise InputError(request["source"], found, "one scan or more; see --split, --train-patients and --only-train")
    present = {entry.case_id for entry in entries}
    if is_finished:
        _write_request(out, wanted)
    write_index(out, entries, splits, source=request, skipped=reasons)
    _remove_cases(out, present)  # cases of an earlier preparation whose sources no longer exist
    of_cases = [f"{case_id}/{name}" for case_id in present for name in (MARK, *files_of(out / case_id))]
    write_mark(out, [STORE_INDEX, STORE_REQUEST, *of_cases])


def _remove_cases(out: Path, present: Collection[str]) -> None:
    """Remove the cases of a store that are not among those present, except folders with files of others."""
    for folder in list(out.iterdir()):
        if folder.name not in present and is_case(folder) and other_than_ours(folder) is None:
            shutil.rmtree(folder)


def _without_folders(error: InputError) -> str:
    """Return the text of an error with file names in the place of paths, so that a store tells nothing of a machine."""
    subject, found, expected = (Path(part).name if isinstance(part, Path) else str(part) for part in error.args)
    return without_folders(f"{subject}: found {found}; expected {expected}")


def _write_request(out: Path, wanted: Mapping[str, Any]) -> None:
    with atomic_file(out / STORE_REQUEST) as file:
        file.write_text(json.dumps(wanted, indent=1) + "\n")


def _take_back(out: Path, request: bytes | None) -> None:
    """Restore the request of a folder, after a preparation in which no case was written."""
    if request is None:
        (out / STORE_REQUEST).unlink(missing_ok=True)
    else:
        with atomic_file(out / STORE_REQUEST) as file:
            file.write_bytes(request)


def _begun(out: Path) -> dict[str, Any] | None:
    """Return the request of a folder's store, finished or not; None if there is none."""
    try:
        found = read_mapping(out / STORE_REQUEST)
    except InputError:
        return None
    return found if "synthorax" in found else None
