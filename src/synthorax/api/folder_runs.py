"""Running an edit on every scan of a folder, in processes or on a cluster, so that a stopped run can be resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from synthorax.api.edit_requests import method_of
from synthorax.api.folder_cases import ScanCase, scan_cases
from synthorax.api.known_nodules import without_folder
from synthorax.api.side_by_side import methods_by_name
from synthorax.errors import InputError, reason
from synthorax.makers import as_recorded
from synthorax.screen import quantity

if TYPE_CHECKING:
    from synthorax.editing.cases import EditedFolder
    from synthorax.hub import Model
    from synthorax.makers import Method, Role


@dataclass(frozen=True)
class ScansToEdit:
    """The scans of a folder to edit.

    Attributes:
        folder: absolute path of the folder.
        out: absolute path of the output.
        cases: the scans.
        failed: reasons why other files are not scans, by case id.
        notes: notes of the search for scans.
    """

    folder: Path
    out: Path
    cases: tuple[ScanCase, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...]

    def only(self, cases: Sequence[ScanCase], plan: Path) -> ScansToEdit:
        """Return the same with only these scans, which have a row in a plan; a note tells how many are left out."""
        if not (left := len(self.cases) - len(cases)):
            return self
        note = f"left out: {left} of the scans, which have no row in {plan.name}"
        return replace(self, cases=tuple(cases), notes=(*self.notes, note))


def scans_to_edit(folder: str | Path, out: str | Path, patient_from: str, keep_identity: bool) -> ScansToEdit:
    """Find the scans of a folder and its subfolders, as `prepare scans` finds them.

    Their nodules may be in a table of a folder above that names them by their path.

    Raises:
        InputError: there is no such folder, or `out` is inside or around it.
    """
    from synthorax.datasets.source_lists import scan_sources, tables_above

    folder, out = Path(folder).resolve(), Path(out).resolve()
    if out == folder or out in folder.parents or folder in out.parents:
        raise InputError(out, "the folder of scans, or a folder inside or around it", "a folder elsewhere")
    found = scan_sources(folder, patient_from=patient_from, above=tables_above(folder))
    cases, failed = scan_cases(found.sources, folder, keep_identity)
    return ScansToEdit(folder, out, tuple(cases), failed, tuple(found.notes))


def where_workers_are(value: Any) -> Any:
    """Return an existing path as an absolute path, for workers in other folders; anything else as it is."""
    return Path(value).resolve() if isinstance(value, str | Path) and Path(value).exists() else value


@dataclass(frozen=True)
class FolderEdit(ABC):
    """A function that can be pickled: makes a case, and returns the parts of its error or an empty tuple.

    Attributes:
        verb: name of the edit, shown with the progress.
        role: role that each method must have.
        out: folder of the cases.
        methods: one method, or several that fill the same sites.
        options: options of the methods.
        device: device of their networks.
        seed: seed of the call, from which that of each scan is derived.
        keep_identity: keep the patient and study of DICOM series.
        token: identifies the call, so that each process loads the methods once for it.
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
        """Make a case; return the parts of its error, or an empty tuple if it was made."""
        try:
            if any(isinstance(each, str | Path) and not _has_no_weights(each) for each in self.named(case)):
                from synthorax.datasets.one_thread import in_one_thread

                in_one_thread(self.make, case)  # so that the result does not depend on the number of processes
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
            InputError: the scan cannot be edited.
        """

    def named(self, case: ScanCase) -> list[str | Path | Model | Method]:
        """Return all methods that a case needs."""
        return [*self.methods]

    def chosen(self) -> Mapping[str, Method]:
        """Return the methods by name, loaded once in each process of a call; a single method has an empty name."""
        if _made.get("token") != self.token:
            if len(self.methods) > 1:
                made = methods_by_name(self.methods, self.options, self.device)
            else:
                made = {"": method_of(self.methods[0], self.role, self.options, self.device)}
            _made.update(token=self.token, methods=made)
        return _made["methods"]

    def where(self, case: ScanCase) -> dict[str, Any]:
        """Return the arguments of `write_one` and `write_each` for a case."""
        own = {"patient_id": case.source.whose.patient_id, "keep_identity": self.keep_identity}
        return {**own, "overwrite": True, "alone": False}


_made: dict[str, Any] = {}
"""Methods of the call that this process works for."""


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
    """Make the cases that are missing, and write the table and manifest of all cases.

    Args:
        scans: the scans and the output.
        job: makes one case.
        request: arguments of the edit; existing cases with other arguments are an error, or replaced with `overwrite`.
        patient_from, workers, cluster, overwrite: as in `inject_folder`.

    Raises:
        InputError: no scan could be edited, or the output has something else.
        OutputError: the folder cannot be written.
    """
    from synthorax.editing.cases import EDITED_CASES_RECIPE, cases_begun, collected
    from synthorax.provenance import fingerprint

    methods = job.methods
    wanted = {
        "synthorax": version("synthorax"),
        "recipe": EDITED_CASES_RECIPE,
        "edit": job.verb,
        "folder": scans.folder.name,
        "place": fingerprint(str(scans.folder).encode("utf-8", "surrogatepass"))[:12],
        "method": as_recorded(methods[0]) if len(methods) == 1 else [as_recorded(each) for each in methods],
        "seed": job.seed,
        "request": dict(request),
        "keep_identity": job.keep_identity,
        "patient_from": patient_from,
    }
    with cases_begun(scans.out, wanted, {case.case_id: case.source.key for case in scans.cases}, overwrite):
        failed = dict(scans.failed) | _run(job, scans.cases, workers, cluster)
        return collected(scans.out, wanted, [case.case_id for case in scans.cases], failed, scans.notes)


def _run(job: FolderEdit, cases: Sequence[ScanCase], workers: int | None, cluster: str | None) -> dict[str, str]:
    """Make the cases that are missing, and return the reasons of those that could not be made, by case id.

    Raises:
        InputError: no case could be made.
    """
    from synthorax.datasets.progress import tell, with_progress
    from synthorax.editing.cases import is_done
    from synthorax.parallel import map_processes

    missing = [case for case in cases if not is_done(job.out / case.case_id)]
    if kept := len(cases) - len(missing):
        tell(f"{job.out}: {kept} of {quantity(len(cases), 'case')} kept from an earlier call")
    failed: dict[str, tuple[str, ...]] = {}
    outcomes = map_processes(job, missing, workers=workers, chunk=1, cluster=cluster, name=lambda case: case.case_id)
    with closing(outcomes):
        for case, outcome in zip(missing, with_progress(outcomes, job.verb, len(missing)), strict=True):
            if outcome:
                failed[case.case_id] = outcome
    if len(failed) == len(cases):
        if not failed:
            raise InputError("folder", "no scan", "scans in HU")
        subject, found, expected = next(iter(failed.values()))
        if len(failed) == 1:
            raise InputError(subject, found, expected)
        raise InputError(f"{len(failed)} scans", f"none that can be edited; the first: {subject}: {found}", expected)
    return {case_id: str(InputError(*error)) for case_id, error in failed.items()}
