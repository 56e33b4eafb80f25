"""Putting nodules into every scan of a folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from synthorax.api.earlier_edits import earlier_edits
from synthorax.api.edit_requests import (
    LungFinderName,
    check_heeded,
    finder_of,
    methods_of_plan,
    recorded_options,
    request_of,
)
from synthorax.api.editing import write_one
from synthorax.api.folder_cases import ScanCase, planned_cases, read_case
from synthorax.api.folder_runs import FolderEdit, edit_scans, scans_to_edit, where_workers_are
from synthorax.api.side_by_side import write_each
from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.cases import EditedFolder
    from synthorax.editing.plan import AutoLidc, Request
    from synthorax.hub import Model
    from synthorax.makers import Method, Role
    from synthorax.nodule import NoduleAttributes


def holds_scans(path: str | Path) -> bool:
    """Return whether a path is a folder of scans; a folder with one DICOM series is a scan.

    Images in the folder of the DICOM slices, and images with a name of a mask, do not count as further scans.
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

    Each scan becomes a folder in `out` as `inject` writes it. Its nodules depend on the seed and on its path below the
    folder, or series UID, so that any number of workers writes the same files. A scan that fails is named and left out;
    the same call makes the cases that are missing. New nodules keep their distance from nodules that have a mask in the
    folder (by a table or a DICOM mask), and the new masks contain both.

    Args:
        folder: folder of scans.
        out: folder to write.
        method: as in `inject`; or several methods, which fill the same sites of each scan (`inject_each`).
        auto: number of nodules to place automatically in each scan; `lidc` for numbers and diameters drawn for each
            scan as in LIDC-IDRI's.
        diameter_mm: one diameter for all nodules, or one for each nodule of a scan.
        plan: CSV file with one row for each nodule, instead of number, diameters and attributes
            (`editing.plan_table`). Its column `image` has the path of a scan below the folder, or the UID of its DICOM
            series. Scans without a row are left out.
        patient_from: how to find the patient of an image, as in `prepare`; each becomes a synthetic patient.
        workers: number of processes; by default one for each core.
        cluster: address of a Dask scheduler to use instead, whose workers see the same files.
        overwrite: replace cases in `out` that were made with other options.
        attributes, seed, site, clearance, lungs, force, keep_identity, device, options: as in `inject`.

    Raises:
        InputError: no scan could be edited; the arguments are not valid, as in `inject`; the table is not valid or
            names a scan that does not exist; or `out` has something else.
        OutputError: the folder cannot be written.
    """
    import numpy as np

    from synthorax.editing.plan_table import read_plan
    from synthorax.parallel import check_workers

    methods = tuple(method) if isinstance(method, list | tuple) else (method,)
    if plan is not None and (len(methods) > 1 or auto or attributes is not None or np.size(diameter_mm)):
        found = "given with several methods, auto, diameter_mm or attributes"
        raise InputError("plan", found, "the plan alone, or these arguments without it")
    plans: dict[str, Request] | None = None
    rows: dict[str, str] = {}
    if plan is None:
        requests = {"": request_of((), auto, diameter_mm, attributes, site, clearance, force)}
        about: dict[str, Any] = requests[""].about()
    else:
        read = read_plan(Path(plan))
        rows = {image: planned[0].row for image, planned in read.items()}
        plans = {image: request_of((), 0, (), None, site, clearance, force, planned) for image, planned in read.items()}
        about = {"plan": {image: one.about() for image, one in plans.items()}}
    finder_of(lungs)
    check_workers(workers)
    recorded = [recorded_options(each, "injects", options) for each in methods]
    check_heeded(methods, options, attributes, plan, device)
    about |= {"lungs": lungs, **recorded[0]}
    methods = tuple(where_workers_are(each) for each in methods)
    options = {name: where_workers_are(value) for name, value in options.items()}
    scans = scans_to_edit(folder, out, patient_from, keep_identity)
    if plans is not None:
        cases, requests = planned_cases(scans.cases, plans, Path(plan or ""), rows)
        scans = scans.only(cases, Path(plan or ""))
    token = uuid.uuid4().hex
    job = _Inject(scans.out, methods, options, device, seed, keep_identity, token, requests, about, lungs)
    running: dict[str, Any] = {"patient_from": patient_from, "workers": workers, "cluster": cluster}
    return edit_scans(scans, job, about, overwrite=overwrite, **running)


@dataclass(frozen=True)
class _Inject(FolderEdit):
    """Puts nodules into the scan of one case.

    Attributes:
        requests: request for each scan by its name; one request for all scans has an empty name.
        about: facts about the request for each case's manifest.
        lungs: how to find the lungs.
    """

    verb: ClassVar[str] = "inject"
    role: ClassVar[Role] = "injects"
    requests: Mapping[str, Request]
    about: Mapping[str, Any]
    lungs: LungFinderName

    def named(self, case: ScanCase) -> list[str | Path | Model | Method]:
        """Return all methods that a case needs, including those of its rows in a plan."""
        return [*self.methods, *(one.method for one in self._request(case).planned if one.method)]

    def make(self, case: ScanCase) -> None:
        """Write the folder of a case."""
        from synthorax.editing.scan import inject_by_each
        from synthorax.makers import check_heeds
        from synthorax.seeding import derive

        methods, request = self.chosen(), self._request(case)
        first = next(iter(methods.values()))
        others = methods_of_plan(request.planned, first, self.device)
        for method in methods.values():
            check_heeds(method, [request.attributes])
        scan, known, notes = read_case(case.source, request.force)
        notes = (*notes, *known.notes_of_injection())
        seed = derive(self.seed, case.name)
        finder = finder_of(self.lungs)
        made = inject_by_each(scan, request, [*methods.values()], seed, finder, known.labels, others)
        about = self.about if "" in self.requests else {**self.about, "plan": {case.name: request.about()}}
        earlier = earlier_edits(scan)
        edited = {
            name: earlier.before(known.before(replace(one.noting(notes), about=about)), seed)
            for name, one in zip(methods, made, strict=True)
        }
        out, where = self.out / case.case_id, self.where(case)
        if len(edited) > 1:
            write_each(out, edited, seed, scan, **where)
        else:
            write_one(out, next(iter(edited.values())), seed, scan, **where)

    def _request(self, case: ScanCase) -> Request:
        return self.requests.get(case.name) or self.requests[""]
