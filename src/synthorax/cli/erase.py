"""`synthorax erase`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from synthorax import api
from synthorax.api.edit_requests import recorded_options
from synthorax.api.folders import holds_scans
from synthorax.cli.editing import OF_A_FOLDER, OfFolder, Several, refuse_given, scan_to_edit, tell_folder, with_method
from synthorax.cli.options import (
    DIAMETERS,
    NODULE_FLAGS,
    OUTPUT_FLAGS,
    Device,
    Json,
    Out,
    Overwrite,
    Seed,
    parse_numbers,
)
from synthorax.errors import MISSING_ARGUMENT, InputError
from synthorax.hub import default
from synthorax.makers import Options
from synthorax.screen import quantity, say, warn

LABELS = "labels of the mask or numbers of the table's rows, from 1, as in 2,3"
"""What `--labels` takes, for errors."""


def verb(arguments: Sequence[str]) -> Callable[..., int]:
    """Return the verb with the flags of the method that the arguments name."""
    return with_method(erase, arguments, "erases", default("erases"))


def erase(
    scan: Path,
    *,
    method: Annotated[str | None, Parameter(name="--with", show_default=False)] = None,
    at: Several = None,
    voxel: Several = None,
    diameter: Annotated[str | None, Parameter(group=NODULE_FLAGS)] = None,
    nodules: Annotated[Path | None, Parameter(group=NODULE_FLAGS)] = None,
    plan: Annotated[Path | None, Parameter(group=NODULE_FLAGS)] = None,
    labels: Annotated[str | None, Parameter(group=NODULE_FLAGS)] = None,
    options: Options | None = None,
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
    """Remove nodules from a chest CT. Writes the scan (NIfTI or DICOM, as it was), edit region, picture, manifest.

    Also writes a mask and a nodules.csv of the nodules that stay, if any are known.

    From a folder of scans, OUT gets one such folder for each scan, and one manifest. Nodules are those in --plan, or
    else in the folder's nodules.csv, DICOM masks or LIDC XML files. A scan that fails is named and left out; run the
    command again to make the missing ones.

    Parameters
    ----------
    scan
        Chest CT in HU: a DICOM folder or file, NIfTI, MHA, MHD or NRRD; or a folder of several scans.
    method
        Model that erases nodules, by name or run folder; the bundled eraser if not given.
    at
        Centre X,Y,Z of a nodule in world mm, LPS; may be repeated.
    voxel
        Centre I,J,K of a nodule in voxels, counted from 0 along the image's axes x, y, z; may be repeated.
    diameter
        Diameter in mm of the nodules at these places: one for all, or one for each, as in 6,8,12.
    nodules
        Mask on the scan's grid of the nodules to remove. If no mask, place or plan is given, nodules come from a
        nodules.csv that names the scan, in its folder or up to two folders above, from the DICOM masks in its folder,
        or from LIDC-IDRI's XML file there.
    plan
        CSV file with one row for each nodule to remove: center_x_mm, center_y_mm, center_z_mm, diameter_mm, and in a
        folder of scans also image, the path below the folder.
    labels
        Which nodules to remove, as in 2,3: their labels, which `synthorax info SCAN` lists, or the numbers of their
        rows in --plan, from 1. By default all are removed. In a DICOM result the nodules that stay may have other
        labels, since DICOM numbers segments without gaps.
    series
        UID of a DICOM series, or the end of it, if the folder has several.
    seed
        Seed of the lung that replaces the nodules.
    out
        Folder to write.
    device
        cpu, cuda, or auto for cuda if there is a GPU.
    force
        Turn errors about a doubtful scan, or a place without a visible nodule, into warnings.
    patient
        Id of the patient of a single scan; by default the PatientID of a DICOM series, or the name of an image. Give
        it if the images of two patients have one name, such as p1/ct.nii.gz and p2/ct.nii.gz.
    keep_identity
        Keep the patient and study of a DICOM series in its header. By default the patient id becomes a hash,
        which anyone with a list of patient ids can trace back.
    overwrite
        Replace a folder that an earlier call wrote.
    json
        Print the erased nodules as JSON.
    """
    method = default("erases") if method is None else method
    own = options.given() if options else {}
    recorded_options(method, "erases", own)  # an error for a method that does not erase, before the scan is read
    only = parse_numbers(labels, "--labels", LABELS, count=None) if labels else []
    if not all(number > 0 and number == int(number) for number in only):
        raise InputError("--labels", repr(labels), LABELS)
    diameters = parse_numbers(diameter, "--diameter", DIAMETERS, count=None) if diameter else ()
    shared: dict[str, Any] = {"plan": plan, "seed": seed, "force": force, "keep_identity": keep_identity}
    shared |= {"overwrite": overwrite, "device": device, **own}
    of_folder = of_folder or OfFolder()
    if series is None and holds_scans(scan):
        of_one = {"--at": at, "--voxel": voxel, "--diameter": diameter, "--nodules": nodules, "--labels": labels}
        expected = (
            "the path of one scan in the folder, or --series; for all scans a nodules.csv in the folder, or --plan"
        )
        refuse_given(of_one, "a folder of scans", expected)
        refuse_given({"--patient": patient}, "a folder of several scans", OF_A_FOLDER)
        return tell_folder(api.erase_folder(scan, out, method, **shared, **vars(of_folder)), json, done="removed")
    of_folder.check_not_given()
    if (at or voxel) and not diameters:
        raise InputError("--diameter", MISSING_ARGUMENT, f"{DIAMETERS}, of the nodules at these places")
    if diameters and not (at or voxel):
        raise InputError("--diameter", f"{diameter} without a place", "--diameter together with --at or --voxel")
    beside = (nodules, plan, *own.values())
    with scan_to_edit(
        scan, out, beside=beside, at=at, voxel=voxel, series=series, force=force, overwrite=overwrite
    ) as (read, points):
        shared |= {"labels": nodules, "only_labels": [int(number) for number in only], "patient": patient}
        made = api.erase(read, method, at_mm=points, diameter_mm=diameters, out=out, **shared)
    for note in made.notes:
        warn(note)
    if json:
        print(dumps([nodule.row() for nodule in made.nodules]))
    else:
        from synthorax.editing.erase import is_gone

        gone = sum(map(is_gone, made.nodules))
        visible = f", {len(made.nodules) - gone} not, see the warnings" if gone < len(made.nodules) else ""
        left = [f"{label:02d}" for label, own in enumerate(made.regions, start=1) if own.voxels]
        one = len(left) == 1
        kept = f", mask and table of nodule{'s' * (not one)} {', '.join(left)}, which stay{'s' * one}" if left else ""
        say(f"{out}: {quantity(gone, 'nodule')} removed{visible}; scan, region, picture and manifest{kept}")
    return 0
