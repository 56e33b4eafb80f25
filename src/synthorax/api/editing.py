"""Putting nodules into a chest CT, and removing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax.api.earlier_edits import earlier_edits
from synthorax.api.edit_requests import (
    LungFinderName,
    as_patients,
    check_only_outlines,
    check_takes_outlines,
    finder_of,
    method_of,
    methods_of_plan,
    one_or_several,
    outlined_in,
    planned_balls,
    planned_of_one_scan,
    points_of,
    read_scan_given,
    recorded_options,
    request_of,
)
from synthorax.api.known_nodules import known_nodules
from synthorax.makers import as_recorded

if TYPE_CHECKING:
    from synthorax.anatomy.lungs import Lungs
    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.edited import Edited
    from synthorax.editing.output import EditedLayout
    from synthorax.editing.plan import AutoLidc
    from synthorax.hub import Model
    from synthorax.io.scans import Scan
    from synthorax.makers import Method
    from synthorax.nodule import NoduleAttributes
    from synthorax.volume import Volume


def inject(
    scan: str | Path | Scan | Volume,
    method: str | Path | Model | Method = "render",
    *,
    at_mm: Sequence[float] | Sequence[Sequence[float]] = (),
    auto: int | AutoLidc = 0,
    diameter_mm: float | Sequence[float] = (),
    plan: str | Path | None = None,
    outlines: str | Path | Volume | None = None,
    attributes: NoduleAttributes | None = None,
    seed: int = 0,
    site: Site = "lung",
    clearance: Clearance | None = None,
    labels: str | Path | Volume | None = None,
    lungs: LungFinderName | Lungs = "density",
    series: str | None = None,
    force: bool = False,
    out: str | Path | None = None,
    patient: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> Edited:
    """Put nodules into a chest CT. Voxels outside the returned edit region keep their values.

    Args:
        scan: file or DICOM folder, or a scan that was read from one.
        method: `render`, the classical baseline; a model, by name or run folder, that injects nodules or makes patches
            with masks; or another maker that injects.
        at_mm: places (x, y, z) of nodules in world mm, LPS, one or several; each is moved to the nearest voxel.
        auto: number of nodules to place automatically, besides `at_mm`; `lidc` for a number and diameters drawn as in
            LIDC-IDRI's scans.
        diameter_mm: diameter, the longest chord in an axial slice: one for all nodules, or one for each, those of
            `at_mm` first.
        plan: CSV file with one row for each nodule, instead of the arguments above (`editing.plan_table`): places,
            diameters, ratings and methods.
        outlines: mask on the scan's grid, instead of the arguments above: each label becomes a nodule with exactly
            these voxels. Only for methods that take outlines.
        attributes: ratings of all nodules; a rating that is not given is that of the real nodule whose shape is used.
        seed: seed of places, shapes and texture. The scan's voxels count too, so that one seed gives different nodules
            in different scans.
        site: where `auto` places nodules: in the lung, attached to the pleura, or attached to a vessel.
        clearance: distances that `auto` keeps; by default 2 mm from the wall, 0 from vessels and 5 from other nodules.
        labels: mask of the nodules that are already in the scan. New nodules keep their distance from them, and their
            labels continue. By default it is that of the scan's table, in its folder or up to two folders above, of
            DICOM masks or of LIDC's XML file, which also give the ratings of these nodules.
        lungs: how to find the lungs: by `density`, or with the package `lungmask`; or lungs that were found before in
            this scan.
        series: UID of a DICOM series, or the end of it, if the folder has several.
        force: turn errors about a doubtful place or scan into notes of the result.
        out: folder to write: the scan in its own format, nodule mask, edit region, nodules.csv and manifest.json.
        patient: id of the scan's patient, after whom the synthetic patient is named. By default it is the PatientID of
            a DICOM series, and for an image the patient of the manifest beside it or the name of the file.
        keep_identity: keep the patient and study of a DICOM series in its header.
        overwrite: replace a folder that an earlier call wrote.
        device: device of a model's networks.
        options: options of the method. `render` takes `shapes`, a mask (file or volume) or a LuNG model (run folder or
            model) whose shapes are used instead of LIDC-IDRI's outlines; and `patients`, the LIDC-IDRI patients whose
            outlines may be used: leave out those of your test set.

    Returns:
        The edited CT, the masks of nodules and edit region on its grid, the nodules, and notes.

    Raises:
        InputError: the scan is not a chest CT in HU; a place is not in the lungs; no place has room for a diameter;
            nodules overlap; the method does not inject, or not with these attributes or options.
        OutputError: the folder cannot be written.

    >>> import synthorax as sx
    >>> made = sx.inject("chest.nii.gz", at_mm=(-70.0, 2.0, 2.0), diameter_mm=12, seed=1)
    >>> len(made.nodules), int(made.mask.voxels.max())
    (1, 1)
    >>> changed = made.ct.voxels != sx.read_scan("chest.nii.gz").ct.voxels
    >>> bool(changed[~made.region.voxels].any())  # outside the region every voxel is as it was
    False
    """
    from synthorax.editing.scan import inject_scan
    from synthorax.io.atomic import check_folder_is_free

    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    planned = () if plan is None else planned_of_one_scan(Path(plan), scan)
    if outlines is not None:
        check_only_outlines(planned, at_mm=points_of(at_mm), auto=auto, diameter_mm=one_or_several(diameter_mm))
    else:
        request = request_of(points_of(at_mm), auto, diameter_mm, attributes, site, clearance, force, planned)
    finder = finder_of(lungs)
    chosen = method_of(method, "injects", options, device)
    if outlines is not None:
        check_takes_outlines(chosen)
    others = methods_of_plan(planned, chosen, device, attributes)
    source = as_patients(read_scan_given(scan, series, force), patient, keep_identity)
    placed: tuple[str, ...] = ()
    if outlines is not None:
        planned, placed = outlined_in(outlines, source.ct, attributes)
        request = request_of((), 0, (), None, site, clearance, force, planned)
    known = known_nodules(source, labels)
    made = inject_scan(source, request, chosen, seed, finder, known.labels, others)
    made = made.noting([*source.notes, *known.notes_of_injection(), *placed])
    about = request.about() | {"lungs": as_recorded(lungs), **recorded_options(method, "injects", options)}
    edited = earlier_edits(source).before(known.before(replace(made, about=about)), seed)
    if out is None:
        return edited
    return write_one(Path(out), edited, seed, source, keep_identity=keep_identity, overwrite=overwrite)


def erase(
    scan: str | Path | Scan | Volume,
    method: str | Path | Model | Method | None = None,
    *,
    at_mm: Sequence[float] | Sequence[Sequence[float]] = (),
    diameter_mm: float | Sequence[float] = (),
    plan: str | Path | None = None,
    labels: str | Path | Volume | None = None,
    only_labels: Sequence[int] = (),
    seed: int = 0,
    series: str | None = None,
    force: bool = False,
    out: str | Path | None = None,
    patient: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> Edited:
    """Remove nodules from a chest CT. Voxels outside the returned edit region keep their values.

    Args:
        scan: file or DICOM folder, or a scan that was read from one.
        method: model that erases nodules, by name or run folder, or another maker that erases; the bundled eraser if
            not given.
        at_mm: centres (x, y, z) of nodules in world mm, LPS, one or several.
        diameter_mm: diameter of the nodules at `at_mm`: one for all, or one for each.
        plan: CSV file of more nodules to remove, with their centres and diameters (`editing.plan_table`).
        labels: mask of more nodules to remove. Without places, plan and mask, those of the masks and tables in the
            scan's folder are removed.
        only_labels: labels of the nodules to remove from those of the mask, or numbers of the plan's rows, from 1; all
            if it is empty. A DICOM result may have other labels, since DICOM numbers segments without gaps.
        seed: seed of the lung that replaces the nodules.
        out: folder to write: the scan in its own format, edit region and manifest.json; mask and nodules.csv of the
            nodules that stay, if any are known.
        series, force, patient, keep_identity, overwrite, device, options: as in `inject`.

    Returns:
        The edited CT, the masks of the edit region and of the nodules that stay on its grid, the nodules that were
        removed, and notes.

    Raises:
        InputError: the scan is not a CT in HU; no nodule is given; a place is outside the scan or shows no nodule; a
            nodule is too wide for the method; there is no nodule of a label; or the method does not erase, in which
            case the error names those that do.
        OutputError: the folder cannot be written.
    """
    from synthorax import hub
    from synthorax.anatomy.placement import Ball
    from synthorax.editing.erase import Unwanted
    from synthorax.editing.plan import check_count_of_diameters, check_diameters
    from synthorax.editing.scan import erase_scan
    from synthorax.io.atomic import check_folder_is_free

    method = hub.default("erases") if method is None else method
    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    points = points_of(at_mm)
    diameters = one_or_several(diameter_mm)
    check_diameters(diameters)
    check_count_of_diameters(diameters, len(points), "place", "a diameter only with a place, at_mm")
    planned = () if plan is None else planned_balls(planned_of_one_scan(Path(plan), scan))
    chosen = method_of(method, "erases", options, device)
    source = as_patients(read_scan_given(scan, series, force), patient, keep_identity)
    balls = zip(points, diameters * (len(points) if len(diameters) == 1 else 1), strict=True)
    places = [*(Unwanted(Ball(*one)) for one in balls), *planned]
    known = known_nodules(source, labels)
    present = known if labels is None else known_nodules(source, None)
    erased = None if places and labels is None else known.labels
    if not places and labels is None:
        places = known.unwanted_without()
    all_labels = present.labels_with(known.labels)
    made = erase_scan(source, places, chosen, seed, erased, present=all_labels, force=force, only=only_labels)
    left = present.notes_of_erasure(made, [one.place for one in planned])
    made = present.before(made.noting([*source.notes, *known.notes, *left]))
    about: dict[str, Any] = {"at_mm": [list(point) for point in points], "diameters_mm": list(diameters)}
    about |= {"labels": as_recorded(labels), "plan": as_recorded(plan), "force": force}
    about |= {"only_labels": list(only_labels)} if only_labels else {}
    about |= recorded_options(method, "erases", options)
    edited = earlier_edits(source).before(replace(made, about=about), seed)
    if out is None:
        return edited
    return write_one(Path(out), edited, seed, source, keep_identity=keep_identity, overwrite=overwrite)


def write_one(
    out: Path,
    edited: Edited,
    seed: int,
    source: Scan,
    *,
    patient_id: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    alone: bool = True,
    layout: EditedLayout = "as read",
) -> Edited:
    """Write an edited scan with a picture, and return it with notes on its DICOM files.

    The arguments are those of `editing.output.write_edited`.
    """
    from synthorax.api.side_by_side import draw_sites
    from synthorax.editing.output import notes_on_segments, write_edited
    from synthorax.io.dicom_kept import kept_elements
    from synthorax.provenance import Origin

    if source.dicom and layout != "images":
        edited = edited.noting(kept_elements(source.dicom, keep_identity=keep_identity)[1])
    if layout == "dicom" or (layout == "as read" and source.dicom):
        edited = edited.noting(notes_on_segments(edited.regions))
    write_edited(
        out,
        edited,
        Origin(edited.lineage.name, edited.lineage.model_sha256, seed),
        source=source,
        about=edited.about,
        patient_id=patient_id,
        keep_identity=keep_identity,
        overwrite=overwrite,
        alone=alone,
        layout=layout,
        picture=(lambda file: draw_sites(file, source.ct, {"": edited})) if edited.nodules else None,
    )
    return edited
