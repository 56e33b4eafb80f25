"""`synthorax erase`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from synthorax import api
from synthorax.api.edit_requests import told_of
from synthorax.api.folders import holds_scans
from synthorax.cli.editing import Several, refuse_given, scan_to_edit, tell_folder, with_method
from synthorax.cli.options import parse_numbers
from synthorax.makers import Options
from synthorax.screen import say, warn


def verb(arguments: Sequence[str]) -> Callable[..., int]:
    """Return the verb with the flags of the method that the arguments name."""
    return with_method(erase, arguments, "erases")


def erase(
    scan: Path,
    *,
    method: Annotated[str, Parameter(name="--with")],
    at: Several = None,
    voxel: Several = None,
    diameter: str | None = None,
    nodules: Path | None = None,
    plan: Path | None = None,
    options: Options | None = None,
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
    """Nodules taken out of a chest CT: the scan, edit region and manifest, as NIfTI or DICOM as it came.

    Of a folder of scans each becomes such a folder below OUT, under one manifest; the nodules are those that a
    nodules.csv or a DICOM mask of the folder tells of, or those of --plan. A scan that fails is named and left out, and
    the others go on; the same command makes the cases that are missing.

    Parameters
    ----------
    scan
        A DICOM folder or file, NIfTI, MHA, MHD or NRRD, in HU; or a folder of several scans.
    method
        A model that erases, by its name or run folder.
    at
        The middle X,Y,Z of a nodule in world millimetres, LPS; may be given several times.
    voxel
        The middle I,J,K in voxels, along the image's own axes x, y, z and counted from 0; may be given several times.
    diameter
        Of the nodules at these places, mm: of all, or of one after the other: 8 or 6,8,12.
    nodules
        Mask of nodules on the scan's grid, all of which are taken out.
    plan
        Table of nodules to be taken out, a row each: center_x_mm, center_y_mm, center_z_mm, diameter_mm, and of a
        folder of scans image, the path below it.
    series
        UID of a DICOM series, or its end, where a folder holds several.
    seed
        The same seed gives the same scan.
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
        cpu, cuda, or auto, cuda where there is one.
    force
        Go on with a warning where the scan is doubtful, or a place has no nodule to be seen.
    keep_identity
        Keep the patient and study of a DICOM series.
    overwrite
        Replace a folder that an earlier call made.
    json
        Print the manifest's erased nodules as JSON.
    """
    own = options.given() if options else {}
    told_of(method, "erases", own)  # refuses a method that does not before anything is read
    diameters = parse_numbers(diameter, "--diameter", "mm, one or one a nodule", count=None) if diameter else ()
    shared: dict[str, Any] = {"plan": plan, "seed": seed, "force": force, "keep_identity": keep_identity}
    shared |= {"overwrite": overwrite, "device": device, **own}
    if series is None and holds_scans(scan):
        of_one = {"--at": at, "--voxel": voxel, "--diameter": diameter, "--nodules": nodules}
        refuse_given(of_one, "a folder of several scans", "a nodules.csv in it, or --plan; or one scan, or --series")
        running: dict[str, Any] = {"patient_from": patient_from, "workers": workers, "cluster": cluster}
        return tell_folder(api.erase_folder(scan, out, method, **shared, **running), json)
    other_than_auto = None if patient_from == "auto" else patient_from
    of_folder = {"--workers": workers is not None, "--cluster": cluster, "--patient-from": other_than_auto}
    refuse_given(of_folder, "one scan", "a folder of several scans")
    beside = (nodules, plan, *own.values())
    with scan_to_edit(
        scan, out, beside=beside, at=at, voxel=voxel, series=series, force=force, overwrite=overwrite
    ) as (read, points):
        made = api.erase(read, method, at_mm=points, diameter_mm=diameters, labels=nodules, out=out, **shared)
    for note in made.notes:
        warn(note)
    if json:
        print(dumps([nodule.row() for nodule in made.nodules]))
    else:
        say(f"{out}: {len(made.nodules)} taken out; scan, region and manifest")
    return 0
