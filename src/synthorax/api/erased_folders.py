"""Removing nodules from every scan of a folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from synthorax.api.earlier_edits import earlier_edits
from synthorax.api.edit_requests import planned_balls, recorded_options
from synthorax.api.editing import write_one
from synthorax.api.folder_cases import ScanCase, planned_cases, read_case
from synthorax.api.folder_runs import FolderEdit, edit_scans, scans_to_edit, where_workers_are
from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.anatomy.placement import Ball
    from synthorax.editing.cases import EditedFolder
    from synthorax.editing.erase import Unwanted
    from synthorax.hub import Model
    from synthorax.makers import Method, Role


def erase_folder(
    folder: str | Path,
    out: str | Path,
    method: str | Path | Model | Method | None = None,
    *,
    plan: str | Path | None = None,
    seed: int = 0,
    force: bool = False,
    patient_from: str = "auto",
    keep_identity: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> EditedFolder:
    """Remove the known nodules from every scan of a folder and its subfolders.

    Each scan becomes a folder in `out` as `erase` writes it, with one manifest of all scans. A scan that fails or has
    no known nodule is named and left out; the same call makes the cases that are missing.

    Args:
        folder: folder of scans.
        out: folder to write.
        method: model that erases nodules, by name or run folder, or another maker that erases; the bundled eraser if
            not given.
        plan: CSV file with one row for each nodule (`editing.plan_table`): `image`, the path of a scan below the folder
            or the UID of its DICOM series, centre, and `diameter_mm`. Scans without a row are left out. By default the
            nodules are those in the folder's `nodules.csv`, DICOM masks or LIDC XML files.
        seed, force, patient_from, keep_identity, workers, cluster, overwrite, device: as in `inject_folder`.
        options: options of the method.

    Raises:
        InputError: no scan could be edited; the table is not valid or names a scan that does not exist; the method does
            not erase; or `out` has something else.
        OutputError: the folder cannot be written.
    """
    from synthorax import hub
    from synthorax.editing.plan_table import read_plan
    from synthorax.parallel import check_workers

    method = hub.default("erases") if method is None else method
    places: dict[str, tuple[Unwanted, ...]] | None = None
    rows: dict[str, str] = {}
    if plan is not None:
        read = read_plan(Path(plan))
        rows = {image: nodules[0].row for image, nodules in read.items()}
        places = {image: planned_balls(nodules) for image, nodules in read.items()}
    check_workers(workers)
    about: dict[str, Any] = {"force": force, **recorded_options(method, "erases", options)}
    options = {name: where_workers_are(value) for name, value in options.items()}
    scans = scans_to_edit(folder, out, patient_from, keep_identity)
    if places is not None:
        cases, places = planned_cases(scans.cases, places, Path(plan or ""), rows)
        scans = scans.only(cases, Path(plan or ""))
    balls = (
        None if places is None else {name: [_recorded_ball(one.place) for one in own] for name, own in places.items()}
    )
    job = _Erase(
        scans.out,
        (where_workers_are(method),),
        options,
        device,
        seed,
        keep_identity,
        uuid.uuid4().hex,
        places,
        about,
    )
    running: dict[str, Any] = {"patient_from": patient_from, "workers": workers, "cluster": cluster}
    return edit_scans(scans, job, about | {"plan": balls}, overwrite=overwrite, **running)


@dataclass(frozen=True)
class _Erase(FolderEdit):
    """Removes the nodules from the scan of one case.

    Attributes:
        places: nodules by the name of their scan; None for those in the folder's tables and masks.
        about: facts about the request for each case's manifest.
    """

    verb: ClassVar[str] = "erase"
    role: ClassVar[Role] = "erases"
    places: Mapping[str, tuple[Unwanted, ...]] | None
    about: Mapping[str, Any]

    def make(self, case: ScanCase) -> None:
        """Write the folder of a case."""
        from synthorax.editing.scan import erase_scan
        from synthorax.seeding import derive

        (method,) = self.chosen().values()
        scan, known, notes = read_case(case.source, bool(self.about["force"]))
        if self.places is None:
            labels, places, own = known.labels, known.unwanted_without(), {}
        else:
            labels, places = None, [*self.places[case.name]]
            own = {"plan": [_recorded_ball(one.place) for one in places]}
        if labels is None and not places:
            raise InputError("nodules", "none known", "a nodules.csv of the folder, a DICOM mask, or `plan`")
        seed = derive(self.seed, case.name)
        force = bool(self.about["force"])
        made = erase_scan(scan, places, method, seed, labels, present=known.labels, force=force)
        made = known.before(made.noting([*notes, *known.notes, *known.notes_of_erasure(made)]))
        edited = replace(made, about={**self.about, **own})
        edited = earlier_edits(scan).before(edited, seed)
        write_one(self.out / case.case_id, edited, seed, scan, **self.where(case))


def _recorded_ball(ball: Ball) -> dict[str, Any]:
    return {"at_mm": list(ball.center_mm), "diameter_mm": ball.diameter_mm}
