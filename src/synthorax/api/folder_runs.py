"""Edits of every scan of a folder, whichever they are: a case each, over processes or a cluster, resumable."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from synthorax.api.edit_requests import method_of
from synthorax.api.folder_cases import ScanCase, scan_cases, without_folder
from synthorax.api.side_by_side import methods_by_name
from synthorax.errors import InputError, Stopped, reason
from synthorax.makers import as_told

if TYPE_CHECKING:
    from synthorax.editing.cases import EditedFolder
    from synthorax.hub import Model
    from synthorax.makers import Method, Role


@dataclass(frozen=True)
class ScansToEdit:
    """The scans of a folder that is to be edited.

    Attributes:
        folder, out: whole paths.
        failed: why others are no scans, by the names that their cases would have.
        notes: what the search for scans tells.
    """

    folder: Path
    out: Path
    cases: tuple[ScanCase, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...]

    def only(self, cases: Sequence[ScanCase], plan: Path) -> ScansToEdit:
        """Those of the scans that a table has rows of; a note tells how many others there are."""
        if not (left := len(self.cases) - len(cases)):
            return self
        note = f"left out: {left} of the scans, which have no row in {plan.name}"
        return replace(self, cases=tuple(cases), notes=(*self.notes, note))


def scans_to_edit(folder: str | Path, out: str | Path, patient_from: str, keep_identity: bool) -> ScansToEdit:
    """Find the scans of a folder and its subfolders, as `prepare scans` finds them.

    Raises:
        InputError: no such folder, or results that would lie within it or around it.
    """
    from synthorax.datasets.source_lists import scan_sources

    folder, out = Path(folder).resolve(), Path(out).resolve()
    if out == folder or out in folder.parents or folder in out.parents:
        raise InputError(out, "the folder of scans, or one within or around it", "a folder beside it")
    found = scan_sources(folder, patient_from=patient_from)
    cases, failed = scan_cases(found.sources, folder, keep_identity)
    return ScansToEdit(folder, out, tuple(cases), failed, tuple(found.notes))


def where_workers_are(value: Any) -> Any:
    """A path as workers find it, whatever folder they are in; anything else as it is."""
    return Path(value).resolve() if isinstance(value, str | Path) and Path(value).exists() else value


@dataclass(frozen=True)
class FolderEdit(ABC):
    """A picklable function: a case to why it was not made; an empty tuple where it was.

    Attributes:
        verb: shown while it works.
        role: of the methods.
        methods: one, or several that fill the same sites.
        token: names the call, for which each process makes the methods once.
    """

    verb: ClassVar[str]
    role: ClassVar[Role]
    out: Path
    methods: tuple[str | Path | Model | Method, ...]
    options: Mapping[str, Any]
    device: str
    seed: int
    keep_identity: bool
    token: str

    def __call__(self, case: ScanCase) -> tuple[str, ...]:
        """Make a case; an error that concerns its scan alone is returned."""
        try:
            if any(isinstance(each, str | Path) and not _has_no_weights(each) for each in self.named(case)):
                from synthorax.datasets.one_thread import in_one_thread

                in_one_thread(self.make, case)  # any number of processes makes the same
            else:
                self.make(case)
        except InputError as error:
            return tuple(map(without_folder, error.args))
        except OSError as error:
            return (Path(error.filename or case.case_id).name, reason(error), "a readable file")
        return ()

    @abstractmethod
    def make(self, case: ScanCase) -> None:
        """Write the folder of a case.

        Raises:
            InputError: a scan that cannot be edited.
        """

    def named(self, case: ScanCase) -> list[str | Path | Model | Method]:
        """All methods that a case needs."""
        return [*self.methods]

    def chosen(self) -> Mapping[str, Method]:
        """The methods by their names, made once in each process that works for a call; one alone has no name."""
        if _made.get("token") != self.token:
            if len(self.methods) > 1:
                made = methods_by_name(self.methods, self.options, self.device)
            else:
                made = {"": method_of(self.methods[0], self.role, self.options, self.device)}
            _made.update(token=self.token, methods=made)
        return _made["methods"]

    def where(self, case: ScanCase) -> dict[str, Any]:
        """How a case is written: arguments of `write_one` and `write_each`."""
        own = {"patient_id": case.source.whose.patient_id, "keep_identity": self.keep_identity}
        return {**own, "overwrite": True, "alone": False}


_made: dict[str, Any] = {}
"""The methods of the call that this process works for."""


def _has_no_weights(method: str | Path) -> bool:
    from synthorax import hub

    return not hub.system_of(method).is_trained


def edit_scans(
    scans: ScansToEdit,
    job: FolderEdit,
    request: Mapping[str, Any],
    *,
    patient_from: str,
    workers: int | None,
    cluster: str | None,
    overwrite: bool,
) -> EditedFolder:
    """Make the cases of scans that are missing, and put all together.

    Args:
        request: what is asked for, by which another request is known.
        patient_from, workers, cluster, overwrite: as of `inject_folder`.

    Raises:
        InputError: no scan that could be edited, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    from synthorax.editing.cases import EDITED_CASES_RECIPE, begin, collected
    from synthorax.io.atomic import working_in
    from synthorax.provenance import fingerprint

    methods = job.methods
    wanted = {
        "synthorax": version("synthorax"),
        "recipe": EDITED_CASES_RECIPE,
        "edit": job.verb,
        "folder": scans.folder.name,
        "place": fingerprint(str(scans.folder).encode("utf-8", "surrogatepass"))[:12],
        "method": as_told(methods[0]) if len(methods) == 1 else [as_told(each) for each in methods],
        "seed": job.seed,
        "request": dict(request),
        "keep_identity": job.keep_identity,
        "patient_from": patient_from,
    }
    with working_in(scans.out):
        begin(scans.out, wanted, {case.case_id: case.source.key for case in scans.cases}, overwrite)
        failed = dict(scans.failed) | _run(job, scans.cases, workers, cluster)
        return collected(scans.out, wanted, [case.case_id for case in scans.cases], failed, scans.notes)


def _run(job: FolderEdit, cases: Sequence[ScanCase], workers: int | None, cluster: str | None) -> dict[str, str]:
    """Make the cases that are missing; returns why others could not be made, by their names.

    Raises:
        InputError: none could be made.
    """
    from synthorax.datasets.progress import with_progress
    from synthorax.editing.cases import CASES_REQUEST, is_done
    from synthorax.io.locks import clear_leftovers
    from synthorax.parallel import map_processes

    missing = [case for case in cases if not is_done(job.out / case.case_id)]
    failed: dict[str, tuple[str, ...]] = {}
    finished = len(cases) - len(missing)
    outcomes = map_processes(job, missing, workers=workers, chunk=1, cluster=cluster, name=lambda case: case.case_id)
    try:
        with closing(outcomes) if isinstance(outcomes, Generator) else nullcontext():
            for case, outcome in zip(missing, with_progress(outcomes, job.verb, len(missing)), strict=True):
                finished += 1
                if outcome:
                    failed[case.case_id] = outcome
    except KeyboardInterrupt as stopped:
        text = f"after {finished} of {len(cases)} scans; the same command goes on"
        raise Stopped(getattr(stopped, "number", signal.SIGINT), text) from None
    finally:
        clear_leftovers(job.out)  # of workers that were stopped
        if not any(is_done(job.out / case.case_id) for case in cases):
            (job.out / CASES_REQUEST).unlink(missing_ok=True)
    if len(failed) == len(cases):
        if not failed:
            raise InputError("folder", "no scan", "scans in HU")
        subject, found, expected = next(iter(failed.values()))
        if len(failed) == 1:
            raise InputError(subject, found, expected)
        raise InputError(f"{len(failed)} scans", f"none that can be edited; the first: {subject}: {found}", expected)
    return {case_id: str(InputError(*error)) for case_id, error in failed.items()}
