"""`synthorax inject`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from synthorax import api
from synthorax.anatomy.placement import Clearance, Site
from synthorax.api.edit_requests import LungFinderName, told_of
from synthorax.api.folders import holds_scans
from synthorax.cli.attributes import Attributes
from synthorax.cli.editing import Several, named_methods, refuse_given, scan_to_edit, tell_folder, with_method
from synthorax.cli.options import parse_numbers
from synthorax.editing.plan import LIDC_AUTO
from synthorax.errors import InputError
from synthorax.makers import Options
from synthorax.nodule import NoduleAttributes
from synthorax.screen import say, warn

RENDER = "render"
"""The method unless another one is named."""


@Parameter(name="*")
@dataclass(kw_only=True, frozen=True)
class Placing:
    """Where nodules go that are placed by themselves.

    Parameters
    ----------
    auto
        Number of nodules to put in places that are found, in each scan; or lidc: as many, of such diameters, as a scan
        of LIDC-IDRI has, drawn for each scan.
    site
        In the lung by itself, attached to the pleura, or attached to a vessel.
    wall_mm
        Clearance from chest wall, mediastinum and diaphragm; negative: it does not matter.
    vessel_mm
        Clearance from vessels of about 2 mm or more; negative: it does not matter.
    nodule_mm
        Clearance from other nodules; negative: it does not matter.
    """

    auto: int | Literal["lidc"] = 0
    site: Site = "lung"
    wall_mm: float = 2.0
    vessel_mm: float = 0.0
    nodule_mm: float = 5.0

    def clearance(self) -> Clearance:
        """As the rooms below have it."""
        return Clearance(*(None if mm < 0 else mm for mm in (self.wall_mm, self.vessel_mm, self.nodule_mm)))


def verb(arguments: Sequence[str]) -> Callable[..., int]:
    """Return the verb with the flags of the method that the arguments name."""
    return with_method(inject, arguments, "injects", RENDER)


def inject(
    scan: Path,
    *,
    method: Annotated[str, Parameter(name="--with")] = RENDER,
    at: Several = None,
    voxel: Several = None,
    placing: Placing | None = None,
    diameter: str | None = None,
    plan: Path | None = None,
    outlines: Path | None = None,
    attributes: Attributes | None = None,
    options: Options | None = None,
    nodules: Path | None = None,
    lungs: LungFinderName = "density",
    series: str | None = None,
    seed: int = 0,
    out: Path,
    patient_from: str = "auto",
    workers: int | None = None,
    cluster: str | None = None,
    device: str = "cpu",
    force: bool = False,
    keep_identity: bool = False,
    overwrite: bool = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Nodules put into a chest CT: the scan, mask, edit region and manifest, as NIfTI or DICOM as it came.

    Of a folder of scans each becomes such a folder below OUT, under one table and one manifest. A scan that fails is
    named and left out, and the others go on; the same command makes the cases that are missing.

    Parameters
    ----------
    scan
        A DICOM folder or file, NIfTI, MHA, MHD or NRRD, in HU; or a folder of several scans.
    method
        How nodules are made: render is the classical baseline, real outlines rendered into the scan; a model that makes
        patches with masks, by its name or run folder, has its nodules blended in. Several, with commas between them,
        fill the same sites, each in a folder of its own below OUT, with one table, one manifest and a picture.
    at
        A place X,Y,Z in world millimetres, LPS; may be given several times.
    voxel
        A place I,J,K in voxels, along the image's own axes x, y, z and counted from 0; may be given several times.
    diameter
        Longest chord in a slice, mm: of all, or of one after the other: 8 or 6,8,12.
    plan
        Table of nodules, a row each, in the place of places, number, diameters and attributes: diameter_mm, and if
        wanted image (of a folder of scans, the path below it), center_x_mm, center_y_mm, center_z_mm, LIDC's ratings
        and method.
    outlines
        Mask on the scan's grid in the place of all these: each label becomes a nodule of exactly its voxels, by a
        method that is told outlines.
    nodules
        Mask of nodules that are in the scan; new ones stay clear of them and get the labels after theirs.
    lungs
        How lungs are found: by density, or by the lungmask package.
    series
        UID of a DICOM series, or its end, where a folder holds several.
    seed
        The same seed gives the same nodules.
    out
        Folder to write.
    patient_from
        Of a folder of scans: how patients of images are told apart: auto, folder, name, or a regular expression, as of
        `prepare scans`.
    workers
        Of a folder of scans: processes; one a core if not given.
    cluster
        Of a folder of scans: address of a Dask scheduler to use instead.
    device
        Of a model: cpu, cuda, or auto, cuda where there is one.
    force
        Go on with a warning where a place or the scan is doubtful.
    keep_identity
        Keep the patient and study of a DICOM series.
    overwrite
        Replace a folder that an earlier call made.
    json
        Print the manifest's nodules as JSON.
    """
    placing, given = placing or Placing(), NoduleAttributes(**(attributes or Attributes()).given())
    diameters = parse_numbers(diameter, "--diameter", "mm, one or one a nodule", count=None) if diameter else ()
    if plan is None and not diameters and placing.auto != LIDC_AUTO:
        raise InputError("--diameter", "none", "mm, one or one a nodule; --auto lidc and --plan bring their own")
    own = options.given() if options else {}
    methods = named_methods(method)
    for one in methods:
        told_of(one, "injects", own)  # refuses a method that does not before anything is read
    if plan is not None:
        _check_alone("--plan", plan, at=at, voxel=voxel, auto=placing.auto, diameter=diameter, attributes=given.given())
        if len(methods) > 1:
            raise InputError("--with", "several methods beside --plan", "one, or a column method in the table")
    if outlines is not None:
        _check_alone("--outlines", outlines, at=at, voxel=voxel, auto=placing.auto, diameter=diameter, plan=plan)
        if len(methods) > 1:
            raise InputError("--with", "several methods beside --outlines", "one")
    shared: dict[str, Any] = {"auto": placing.auto, "diameter_mm": diameters, "seed": seed}
    shared |= {"attributes": given} if plan is None else {}
    shared |= {"site": placing.site, "clearance": placing.clearance(), "lungs": lungs, "force": force}
    shared |= {"keep_identity": keep_identity, "overwrite": overwrite, "device": device, **own}
    of_folder: dict[str, Any] = {"patient_from": patient_from, "workers": workers, "cluster": cluster}
    if series is None and holds_scans(scan):
        of_one = {"--at": at, "--voxel": voxel, "--nodules": nodules, "--outlines": outlines}
        refuse_given(of_one, "a folder of several scans", "--auto, or one scan, or --series")
        by = methods if len(methods) > 1 else method
        return tell_folder(api.inject_folder(scan, out, by, plan=plan, **shared, **of_folder), json)
    other_than_auto = None if patient_from == "auto" else patient_from
    running = {"--workers": workers is not None, "--cluster": cluster, "--patient-from": other_than_auto}
    refuse_given(running, "one scan", "a folder of several scans")
    beside = (nodules, outlines, *own.values())
    with scan_to_edit(
        scan, out, beside=beside, at=at, voxel=voxel, series=series, force=force, overwrite=overwrite
    ) as (read, points):
        if len(methods) > 1:
            edited = api.inject_each(read, methods, at_mm=points, labels=nodules, out=out, **shared)
        else:
            asked: dict[str, Any] = {"at_mm": points, "plan": plan, "outlines": outlines}
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
            say(f"nodule {nodule.nodule_id}{by}: {nodule.attributes.diameter_mm:.1f} mm at {place} mm")
    each = (
        "for each method scan, mask, region and manifest; a picture"
        if len(edited) > 1
        else "scan, mask, region and manifest"
    )
    say(f"{out}: {each}")
    return 0


def _check_alone(flag: str, file: Path, **others: object) -> None:
    """Refuse whatever else says which nodules there are to be, beside a file that does."""
    for option, value in others.items():
        if value:
            raise InputError(f"--{option}", f"given beside {flag} {file.name}", f"{flag}, or these options")
