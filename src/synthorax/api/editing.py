"""Scans edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthorax.api.edit_requests import (
    LungFinderName,
    finder_of,
    labels_given,
    method_of,
    methods_of_plan,
    one_or_several,
    outlined_in,
    planned_balls,
    planned_of_one_scan,
    points_of,
    read_scan_given,
    request_of,
    told_of,
)
from synthorax.errors import InputError
from synthorax.makers import as_told

if TYPE_CHECKING:
    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.edited import Edited
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
    lungs: LungFinderName = "density",
    series: str | None = None,
    force: bool = False,
    out: str | Path | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> Edited:
    """Put nodules into a chest CT. Outside the region that is returned every voxel stays as it is.

    Args:
        scan: a file, a DICOM folder, or what was read from one.
        method: `render`, the classical baseline; a model that makes patches with masks, by its name or run folder; or
            another maker that injects.
        at_mm: a place (x, y, z) in world millimetres, LPS, or several; each is moved to the nearest voxel.
        auto: put so many more in places that are found; `lidc`: as many, of such diameters, as a scan of LIDC-IDRI has.
        diameter_mm: longest chord in a slice: of all, or of one after the other, those of `at_mm` first.
        plan: a table of nodules in the place of all these, a row each, as `editing.plan_table` has it: places,
            diameters, ratings and methods.
        outlines: a mask on the scan's grid in the place of all these: each label becomes a nodule of exactly its
            voxels, by a method that is told outlines.
        attributes: of all; what is missing is as the shape's own nodule has it.
        seed: what is drawn depends on it and on the scan's voxels: one seed gives other nodules in another scan.
        site: where `auto` puts them: in the lung by itself, attached to the pleura, or to a vessel.
        clearance: of those places; 2 mm from the wall, 0 from vessels and 5 from other nodules if not given.
        labels: nodules that are in the scan; new ones stay clear of them and get the labels after theirs.
        lungs: how lungs are found; `lungmask` needs that package.
        series: UID of a DICOM series, or its end, where a folder holds several.
        force: go on where a place or the scan is doubtful; the result's notes tell of it.
        out: folder to write to: the scan in its own format, mask, region, nodules.csv and manifest.json.
        keep_identity: keep the patient and study of a DICOM series.
        overwrite: replace a folder that an earlier call made.
        device: of a model's networks.
        options: the method's own. `render` takes `shapes`, a mask (file or volume) or a LuNG (run folder or model),
            instead of LIDC-IDRI's readers' outlines; and `patients` of LIDC-IDRI, whose outlines may be used: leave
            out those of your test set.

    Raises:
        InputError: no CT of a chest in HU, a place that is not in the lungs, a diameter that fits nowhere, nodules that
            overlap, a method that does not inject, attributes that it does not heed, or options that it does not have.
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
    planned = () if plan is None else planned_of_one_scan(Path(plan))
    if outlines is None:
        request = request_of(points_of(at_mm), auto, diameter_mm, attributes, site, clearance, force, planned)
    finder = finder_of(lungs)
    chosen = method_of(method, "injects", options, device)
    source = read_scan_given(scan, series, force)
    placed: tuple[str, ...] = ()
    if outlines is not None:
        planned, placed = outlined_in(outlines, source.ct, attributes, planned)
        request = request_of(points_of(at_mm), auto, diameter_mm, None, site, clearance, force, planned)
    others = methods_of_plan(request.planned, chosen, device, request.attributes)
    known, told = (None, ()) if labels is None else labels_given(labels, source.ct)
    edited = inject_scan(source, request, chosen, seed, finder, known, others).noting([*source.notes, *told, *placed])
    if out is None:
        return edited
    about = request.about() | {"lungs": lungs, **told_of(method, "injects", options)}
    return write_one(Path(out), edited, seed, source, about, keep_identity=keep_identity, overwrite=overwrite)


def erase(
    scan: str | Path | Scan | Volume,
    method: str | Path | Model | Method,
    *,
    at_mm: Sequence[float] | Sequence[Sequence[float]] = (),
    diameter_mm: float | Sequence[float] = (),
    plan: str | Path | None = None,
    labels: str | Path | Volume | None = None,
    seed: int = 0,
    series: str | None = None,
    force: bool = False,
    out: str | Path | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    **options: Any,
) -> Edited:
    """Take nodules out of a chest CT. Outside the region that is returned every voxel stays as it is.

    Args:
        scan: a file, a DICOM folder, or what was read from one.
        method: a maker that erases, by its name or run folder.
        at_mm: the middle (x, y, z) of a nodule in world millimetres, LPS, or of several.
        diameter_mm: of all nodules at `at_mm`, or of one after the other.
        plan: a table of nodules with their centres and diameters, which are taken out too, as `editing.plan_table` has
            it.
        labels: a mask of nodules, all of which are taken out too.
        out: folder to write to: the scan in its own format, region and manifest.json.
        series, force, keep_identity, overwrite, device, options: as of `inject`.

    Raises:
        InputError: no CT in HU, no nodule, a place outside the scan or without a nodule, or a method that does not
            erase; tells which do.
        OutputError: the folder cannot be written.
    """
    from synthorax.anatomy.placement import Ball
    from synthorax.editing.plan import check_diameters
    from synthorax.editing.scan import erase_scan
    from synthorax.io.atomic import check_folder_is_free

    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    points = points_of(at_mm)
    diameters = one_or_several(diameter_mm)
    check_diameters(diameters)
    if len(diameters) not in ({1, len(points)} if points else {0}):
        raise InputError("diameters", str(len(diameters)), f"1, or {len(points)}, one a place")
    planned = () if plan is None else planned_balls(Path(plan), planned_of_one_scan(Path(plan)))
    chosen = method_of(method, "erases", options, device)
    source = read_scan_given(scan, series, force)
    known, told = (None, ()) if labels is None else labels_given(labels, source.ct)
    places = [Ball(*one) for one in zip(points, diameters * (len(points) if len(diameters) == 1 else 1), strict=True)]
    edited = erase_scan(source, [*places, *planned], chosen, seed, known, force=force).noting([*source.notes, *told])
    if out is None:
        return edited
    about = {"at_mm": [list(point) for point in points], "diameters_mm": list(diameters), "labels": as_told(labels)}
    about |= {"plan": as_told(plan), "force": force}
    about |= told_of(method, "erases", options)
    return write_one(Path(out), edited, seed, source, about, keep_identity=keep_identity, overwrite=overwrite)


def write_one(
    out: Path,
    edited: Edited,
    seed: int,
    source: Scan,
    about: Mapping[str, Any],
    *,
    patient_id: str = "",
    keep_identity: bool = False,
    overwrite: bool = False,
    alone: bool = True,
) -> Edited:
    """Write an edited scan; returns it with notes of what the written series keeps of its source's headers.

    Arguments as of `editing.output.write_edited`.
    """
    from synthorax.editing.output import write_edited
    from synthorax.io.dicom_kept import kept_elements
    from synthorax.provenance import Origin

    if source.dicom:
        edited = edited.noting(kept_elements(source.dicom, keep_identity=keep_identity)[1])
    write_edited(
        out,
        edited,
        Origin(edited.lineage.name, edited.lineage.model_sha256, seed),
        source=source,
        about=about,
        patient_id=patient_id,
        keep_identity=keep_identity,
        overwrite=overwrite,
        alone=alone,
    )
    return edited
