"""Every scan of a folder edited: a case each, over processes or a cluster; what a kill leaves is gone on with."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax.api.edit_requests import LungFinderName, finder_of, method_of, methods_of_plan, request_of, told_of
from synthorax.api.editing import write_one
from synthorax.api.folder_cases import ScanCase, planned_cases, read_case, scan_cases, without_folder
from synthorax.api.side_by_side import methods_by_name, write_each
from synthorax.errors import InputError, Stopped, reason
from synthorax.makers import as_told

if TYPE_CHECKING:
    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.cases import EditedFolder
    from synthorax.editing.plan import AutoLidc, Request
    from synthorax.hub import Model
    from synthorax.makers import Method
    from synthorax.nodule import NoduleAttributes


def holds_scans(path: str | Path) -> bool:
    """Whether a path is a folder of scans, each of which becomes a case, and not a scan itself.

    A folder with one DICOM series of CT is that scan. Images beside its slices, or with the name of a mask, do not make
    it a folder of scans.
    """
    if not Path(path).is_dir():
        return False
    from synthorax.datasets.discovery import MASK_WORDS
    from synthorax.io.dicom_series import group_series
    from synthorax.io.images import image_stem, is_image
    from synthorax.io.walk import survey

    surveyed = survey(Path(path))
    images = [file for file in surveyed.files if is_image(file)]
    found = group_series([file for file in surveyed.files if not is_image(file)], surveyed.left_out)
    series = [one for one in found if one.modality == "CT" and not one.is_localizer]
    if len(series) != 1:
        return len(series) > 1 or bool(images)
    own = {file.parent for file in series[0].files}
    return any(image.parent not in own and not MASK_WORDS.search(image_stem(image)) for image in images)


def inject_folder(
    folder: str | Path,
    out: str | Path,
    method: str | Path | Model | Method | Sequence[str | Path | Model | Method] = "render",
    *,
    auto: int | AutoLidc = 0,
    diameter_mm: float | Sequence[float] = (),
    plan: str | Path | None = None,
    attributes: NoduleAttributes | None = None,
    seed: int = 0,
    site: Site = "lung",
    clearance: Clearance | None = None,
    lungs: LungFinderName = "density",
    force: bool = False,
    patient_from: str = "auto",
    keep_identity: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> EditedFolder:
    """Put nodules into every scan of a folder and its subfolders, found as `prepare scans` finds them.

    Each scan becomes a folder of `out` as `inject` writes it. A scan's nodules depend on the seed and on the scan's own
    path below the folder, or series UID, so that any number of workers makes the same bytes. A scan that fails is named
    and the others go on; called again, the cases that are missing are made. Nodules that a table or DICOM mask of the
    folder has voxels of are kept clear of and stay in the new masks.

    Args:
        method: as of `inject`; or several, each of which fills the same sites of each scan (`inject_each`).
        auto: nodules put into each scan, in places that are found; `lidc`: as many, of such diameters, as a scan of
            LIDC-IDRI has, drawn for each scan.
        diameter_mm: of all, or of one after the other in each scan.
        plan: a table of nodules in the place of number, diameters and attributes, a row each, as `editing.plan_table`
            has it. Its column `image` names a scan by its path below the folder, or by the UID of its DICOM series.
            Scans that it does not name are left out.
        patient_from: how the patients of images are told apart, as of `prepare`; each has a synthetic patient.
        workers: processes; one a core if not given.
        cluster: address of a Dask scheduler to use instead, whose workers see the same files.
        overwrite: make every case of `out` anew if it was asked for something else before.
        attributes, seed, site, clearance, lungs, force, keep_identity, device, options: as of `inject`.

    Raises:
        InputError: no scan that could be edited, a request that `inject` refuses, a table that does not fit or names a
            scan that is not there, a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    import numpy as np

    from synthorax.datasets.source_lists import scan_sources
    from synthorax.editing.cases import EDITED_CASES_RECIPE, begin, collected
    from synthorax.editing.plan_table import read_plan
    from synthorax.io.atomic import working_in
    from synthorax.parallel import check_workers
    from synthorax.provenance import fingerprint

    methods = tuple(method) if isinstance(method, list | tuple) else (method,)
    if plan is not None and (len(methods) > 1 or auto or attributes is not None or np.size(diameter_mm)):
        raise InputError("plan", "beside several methods, a number, diameters or attributes", "one or the other")
    plans: dict[str, Request] | None = None
    if plan is None:
        requests = {"": request_of((), auto, diameter_mm, attributes, site, clearance, force)}
        about: dict[str, Any] = requests[""].about()
    else:
        plans = {
            image: request_of((), 0, (), None, site, clearance, force, planned)
            for image, planned in read_plan(Path(plan)).items()
        }
        about = {"plan": {image: one.about() for image, one in plans.items()}}
    finder_of(lungs)
    check_workers(workers)
    told = [told_of(each, "injects", options) for each in methods]
    about |= {"lungs": lungs, **told[0]}
    methods = tuple(_placed(each) for each in methods)
    options = {name: _placed(value) for name, value in options.items()}
    folder, out = Path(folder).resolve(), Path(out).resolve()
    if out == folder or out in folder.parents or folder in out.parents:
        raise InputError(out, "the folder of scans, or one within or around it", "a folder beside it")
    found = scan_sources(folder, patient_from=patient_from)
    cases, passed_over = scan_cases(found.sources, folder, keep_identity)
    notes = found.notes
    if plans is not None:
        cases, requests = planned_cases(cases, plans, Path(plan or ""))
        if left := len(found.sources) - len(passed_over) - len(cases):
            notes = (*notes, f"left out: {left} of the scans, which have no row in {Path(plan or '').name}")
    wanted = {
        "synthorax": version("synthorax"),
        "recipe": EDITED_CASES_RECIPE,
        "folder": folder.name,
        "place": fingerprint(str(folder).encode("utf-8", "surrogatepass"))[:12],
        "method": as_told(methods[0]) if len(methods) == 1 else [as_told(each) for each in methods],
        "seed": seed,
        "request": about,
        "keep_identity": keep_identity,
        "patient_from": patient_from,
    }
    job = _Inject(out, methods, options, device, requests, about, lungs, seed, keep_identity, uuid.uuid4().hex)
    with working_in(out):
        begin(out, wanted, {case.case_id: case.source.key for case in cases}, overwrite)
        failed = dict(passed_over) | _run(job, cases, workers, cluster)
        return collected(out, wanted, [case.case_id for case in cases], failed, notes)


def _placed(value: Any) -> Any:
    """A path as workers find it, whatever folder they are in; anything else as it is."""
    return Path(value).resolve() if isinstance(value, str | Path) and Path(value).exists() else value


@dataclass(frozen=True)
class _Inject:
    """A picklable function: a case to why it was not made, empty where it was.

    Attributes:
        methods: one, or several that fill the same sites.
        requests: what each scan is asked for, by its name; that of all under an empty name.
        about: what each case's manifest tells of the request.
        token: names the call, for which each process makes the methods once.
    """

    out: Path
    methods: tuple[str | Path | Model | Method, ...]
    options: Mapping[str, Any]
    device: str
    requests: Mapping[str, Request]
    about: Mapping[str, Any]
    lungs: LungFinderName
    seed: int
    keep_identity: bool
    token: str

    def __call__(self, case: ScanCase) -> tuple[str, ...]:
        try:
            if any(isinstance(each, str | Path) and not _has_no_weights(each) for each in self._named(case)):
                from synthorax.datasets.one_thread import in_one_thread

                in_one_thread(self._make, case)  # any number of processes makes the same
            else:
                self._make(case)
        except InputError as error:
            return tuple(map(without_folder, error.args))
        except OSError as error:
            return (Path(error.filename or case.case_id).name, reason(error), "a readable file")
        return ()

    def _named(self, case: ScanCase) -> list[str | Path | Model | Method]:
        """All methods that a case needs."""
        return [*self.methods, *(one.method for one in self._request(case).planned if one.method)]

    def _request(self, case: ScanCase) -> Request:
        return self.requests.get(case.name) or self.requests[""]

    def _make(self, case: ScanCase) -> None:
        from synthorax.editing.scan import inject_by_each
        from synthorax.makers import check_heeds
        from synthorax.seeding import derive

        methods, request = self._chosen(), self._request(case)
        first = next(iter(methods.values()))
        others = methods_of_plan(request.planned, first, self.device)
        for method in methods.values():
            check_heeds(method, [request.attributes])
        scan, labels, notes = read_case(case.source, request.force)
        seed = derive(self.seed, case.name)
        made = inject_by_each(scan, request, [*methods.values()], seed, finder_of(self.lungs), labels, others)
        edited = {name: one.noting(notes) for name, one in zip(methods, made, strict=True)}
        where: dict[str, Any] = {"patient_id": case.source.whose.patient_id, "keep_identity": self.keep_identity}
        where |= {"overwrite": True, "alone": False}
        about = self.about if "" in self.requests else {**self.about, "plan": {case.name: request.about()}}
        if len(edited) > 1:
            write_each(self.out / case.case_id, edited, seed, scan, dict.fromkeys(edited, about), **where)
        else:
            write_one(self.out / case.case_id, next(iter(edited.values())), seed, scan, about, **where)

    def _chosen(self) -> Mapping[str, Method]:
        """The methods by their names, made once in each process that works for a call."""
        if _made.get("token") != self.token:
            if len(self.methods) > 1:
                made = methods_by_name(self.methods, self.options, self.device)
            else:
                made = {"": method_of(self.methods[0], "injects", self.options, self.device)}
            _made.update(token=self.token, methods=made)
        return _made["methods"]


_made: dict[str, Any] = {}
"""The methods of the call that this process works for."""


def _has_no_weights(method: str | Path) -> bool:
    from synthorax import hub

    return not hub.system_of(method).is_trained


def _run(job: _Inject, cases: Sequence[ScanCase], workers: int | None, cluster: str | None) -> dict[str, str]:
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
            for case, outcome in zip(missing, with_progress(outcomes, "inject", len(missing)), strict=True):
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
