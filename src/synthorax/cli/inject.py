"""`synthorax inject`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from synthorax import api
from synthorax.api.edit_requests import (
    LungFinderName,
    check_heeded,
    check_takes_outlines,
    method_of,
    recorded_options,
)
from synthorax.api.folders import holds_scans
from synthorax.cli.attributes import ONE_FOR_ALL, Attributes, kinds_taken
from synthorax.cli.editing import (
    OF_A_FOLDER,
    OfFolder,
    Several,
    named_methods,
    refuse_given,
    scan_to_edit,
    tell_folder,
    with_method,
)
from synthorax.cli.flags import value_of
from synthorax.cli.options import (
    DIAMETERS,
    NODULE_FLAGS,
    OUTPUT_FLAGS,
    PLACING_FLAGS,
    Device,
    Json,
    Out,
    Overwrite,
    Seed,
    parse_numbers,
)
from synthorax.cli.placing import Placing
from synthorax.editing.plan import LIDC_AUTO
from synthorax.errors import MISSING_ARGUMENT, InputError
from synthorax.hub import loading_once
from synthorax.makers import Method, Options
from synthorax.nodule import NoduleAttributes, kind_in_words
from synthorax.screen import quantity, say, warn

RENDER = "render"
"""The method if none is named."""


def verb(arguments: Sequence[str]) -> Callable[..., int]:
    """Return the verb with the flags of the method that the arguments name."""

    def makers() -> list[Method]:
        return [method_of(one, "injects", {}) for one in named_methods(value_of("--with", arguments, RENDER))]

    return with_method(inject, arguments, "injects", RENDER, lambda: kinds_taken(makers))


@loading_once()  # the checks before the scan is read, and the edit after it, need the same models
def inject(
    scan: Path,
    *,
    method: Annotated[str, Parameter(name="--with")] = RENDER,
    at: Several = None,
    voxel: Several = None,
    auto: Annotated[int | Literal["lidc"], Parameter(group=PLACING_FLAGS)] = 0,
    placing: Placing | None = None,
    diameter: Annotated[str | None, Parameter(group=NODULE_FLAGS)] = None,
    plan: Annotated[Path | None, Parameter(group=NODULE_FLAGS)] = None,
    outlines: Annotated[Path | None, Parameter(group=NODULE_FLAGS)] = None,
    attributes: Attributes | None = None,
    options: Options | None = None,
    nodules: Path | None = None,
    lungs: Annotated[LungFinderName, Parameter(group=PLACING_FLAGS)] = "density",
    series: str | None = None,
    seed: Seed = 0,
    out: Out,
    of_folder: OfFolder | None = None,
    device: Device = "cpu",
    force: bool = False,
    patient: Annotated[str, Parameter(group=OUTPUT_FLAGS)] = "",
    keep_identity: Annotated[bool, Parameter(group=OUTPUT_FLAGS)] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Put nodules into a chest CT.

    Writes the scan (NIfTI or DICOM, as it was), nodule mask, edit region, nodules.csv, picture and manifest.

    From a folder of scans, OUT gets one such folder for each scan, one table and one manifest. A scan that fails is
    named and left out; run the command again to make the missing ones.

    Parameters
    ----------
    scan
        Chest CT in HU: a DICOM folder or file, NIfTI, MHA, MHD or NRRD; or a folder of several scans.
    method
        How nodules are made: render (the baseline, which renders real outlines), or a model, by name or run folder.
        Several methods, with commas between them, fill the same sites, each in its own folder below OUT, with one
        table, one manifest and a picture.
    at
        Place X,Y,Z of a nodule in world mm, LPS; may be repeated.
    voxel
        Place I,J,K of a nodule in voxels, counted from 0 along the image's axes x, y, z; may be repeated.
    auto
        Number of nodules to place automatically in each scan; or lidc, for numbers and diameters drawn as in
        LIDC-IDRI's scans.
    diameter
        Diameter in mm, the longest chord in an axial slice: one for all nodules, or one for each, as in 6,8,12.
    plan
        CSV file with one row for each nodule, instead of flags for places, number, diameters and ratings: diameter_mm,
        and optionally image (the path below a folder of scans), center_x_mm, center_y_mm, center_z_mm, LIDC's ratings
        (numbers, or the words of the flags) and method.
    outlines
        Mask on the scan's grid, instead of --plan and the flags for places and diameters: each label becomes a nodule
        with exactly these voxels. Only for methods that take outlines, such as flow, class-aware and injector.
    nodules
        Mask of the nodules that are already in the scan. New nodules keep their distance from them, and their labels
        continue. By default those of a nodules.csv that names the scan, in its folder or up to two folders above, of
        the DICOM masks in its folder, or of LIDC-IDRI's XML file there.
    lungs
        How to find the lungs: by density, or with the lungmask package.
    series
        UID of a DICOM series, or the end of it, if the folder has several.
    seed
        Seed of places, shapes and texture.
    out
        Folder to write.
    device
        Device of a model: cpu, cuda, or auto for cuda if there is a GPU.
    force
        Turn errors about a doubtful place or scan into warnings.
    patient
        Id of the patient of a single scan; by default the PatientID of a DICOM series, or the name of an image. Give
        it if the images of two patients have one name, such as p1/ct.nii.gz and p2/ct.nii.gz.
    keep_identity
        Keep the patient and study of a DICOM series in its header. By default the patient id becomes a hash,
        which anyone with a list of patient ids can trace back.
    overwrite
        Replace a folder that an earlier call wrote.
    json
        Print the nodules as JSON.
    """
    given = NoduleAttributes(**(attributes or Attributes()).given(f"{ONE_FOR_ALL}; for different ones use --plan"))
    diameters = parse_numbers(diameter, "--diameter", DIAMETERS, count=None) if diameter else ()
    if plan is None and outlines is None and not diameters and auto != LIDC_AUTO:
        raise InputError(
            "--diameter", MISSING_ARGUMENT, f"{DIAMETERS}; only --auto lidc, --plan and --outlines need none"
        )
    own = options.given() if options else {}
    methods = named_methods(method)
    for one in methods:
        recorded_options(one, "injects", own)  # an error for a method that does not inject, before the scan is read
    if plan is not None:
        _check_alone("--plan", plan, at=at, voxel=voxel, auto=auto, diameter=diameter, **given.given())
        if len(methods) > 1:
            raise InputError("--with", "several methods with --plan", "one method, or a column `method` in the table")
    if outlines is not None:
        _check_alone("--outlines", outlines, at=at, voxel=voxel, auto=auto, diameter=diameter, plan=plan)
        if len(methods) > 1:
            raise InputError("--with", "several methods with --outlines", "one method")
        check_takes_outlines(method_of(method, "injects", own, device))  # before the scan is read
    shared: dict[str, Any] = {"auto": auto, "diameter_mm": diameters, "seed": seed}
    shared |= {"attributes": given} if plan is None else {}
    shared |= {**(placing or Placing()).given(), "lungs": lungs, "force": force}
    shared |= {"keep_identity": keep_identity, "overwrite": overwrite, "device": device, **own}
    of_folder = of_folder or OfFolder()
    if series is None and holds_scans(scan):
        of_one = {"--at": at, "--voxel": voxel, "--nodules": nodules, "--outlines": outlines}
        expected = "the path of one scan in the folder, or --series; for all scans --auto or --plan"
        refuse_given(of_one, "a folder of scans", expected)
        refuse_given({"--patient": patient}, "a folder of several scans", OF_A_FOLDER)
        by = methods if len(methods) > 1 else method
        return tell_folder(api.inject_folder(scan, out, by, plan=plan, **shared, **vars(of_folder)), json)
    of_folder.check_not_given()
    check_heeded(methods, own, given, plan, device)
    beside = (nodules, plan, outlines, *own.values())
    with scan_to_edit(
        scan, out, beside=beside, at=at, voxel=voxel, series=series, force=force, overwrite=overwrite
    ) as (read, points):
        if len(methods) > 1:
            edited = api.inject_each(read, methods, at_mm=points, labels=nodules, patient=patient, out=out, **shared)
        else:
            asked: dict[str, Any] = {"at_mm": points, "plan": plan, "outlines": outlines, "patient": patient}
            edited = {"": api.inject(read, method, labels=nodules, out=out, **asked, **shared)}
    for name, made in edited.items():
        for note in made.notes:
            warn(f"{name}: {note}" if name else note)
    if json:
        print(dumps([nodule.row() for made in edited.values() for nodule in made.nodules]))
        return 0
    for name, made in edited.items():
        for nodule in made.nodules:
            place = ",".join(f"{c:.1f}" for c in nodule.center_mm)
            by = f" by {name}" if name else ""
            kind = kind_in_words(nodule.attributes)
            wide = f"{nodule.attributes.diameter_mm:.1f} mm at {place} mm"
            unseen = ", not visible" if nodule.extra.get("visible") == "no" else ""
            say(f"nodule {nodule.nodule_id}{by}: {wide}{kind and ', '}{kind}{unseen}")
    each = (
        "for each method scan, mask, region and manifest; nodules.csv and a picture"
        if len(edited) > 1
        else "scan, mask, region, nodules.csv, picture and manifest"
    )
    known = max(sum(own.voxels > 0 for own in made.regions) - len(made.nodules) for made in edited.values())
    before = f"; mask and table also have {quantity(known, 'nodule')} that the scan already had" if known else ""
    say(f"{out}: {each}{before}")
    return 0


def _check_alone(flag: str, file: Path, **others: object) -> None:
    """Check that no other option describes the nodules that a file already describes."""
    for option, value in others.items():
        if value:
            named = f"--{option.replace('_', '-')}"
            raise InputError(named, f"given with {flag} {file.name}", f"only one of {flag} and {named}")
