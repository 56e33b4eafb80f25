"""Checking and reading the arguments of an edit: the request, the method, the scan and its masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from synthorax.errors import InputError
from synthorax.makers import as_recorded
from synthorax.nodule import NoduleAttributes

if TYPE_CHECKING:
    from synthorax.anatomy.lungs import Lungs
    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.erase import Unwanted
    from synthorax.editing.plan import AskedNodule, AutoLidc, Request
    from synthorax.hub import Model
    from synthorax.io.scans import Scan
    from synthorax.makers import Method, Options, Role
    from synthorax.volume import Volume

LungFinderName = Literal["density", "lungmask"]


def request_of(
    points_mm: tuple[tuple[float, float, float], ...],
    auto: int | AutoLidc,
    diameter_mm: float | Sequence[float],
    attributes: NoduleAttributes | None,
    site: Site,
    clearance: Clearance | None,
    force: bool,
    planned: tuple[AskedNodule, ...] = (),
) -> Request:
    """Return the request for nodules, with defaults for what is None; the arguments are those of `inject`.

    Raises:
        InputError: the request is not valid; see `editing.plan.Request`.
    """
    from synthorax.anatomy.placement import Clearance
    from synthorax.editing.plan import Request

    attributes, clearance = attributes or NoduleAttributes(), clearance or Clearance()
    diameters = one_or_several(diameter_mm)
    if attributes.diameter_mm is not None:
        if diameters:
            raise InputError("diameter_mm", "a value in `attributes` and another by name", "one of the two")
        diameters, attributes = (attributes.diameter_mm,), replace(attributes, diameter_mm=None)
    return Request(points_mm, auto, diameters, attributes, site, clearance, force, planned)


def planned_of_one_scan(plan: Path, scan: object) -> tuple[AskedNodule, ...]:
    """Return the nodules of a plan for one scan.

    Args:
        plan: the table.
        scan: the scan, whose file the rows have to name if they name an image.

    Raises:
        InputError: the table is not valid, or is about several scans or another one.
    """
    from synthorax.editing.plan_table import read_plan

    found = read_plan(plan)
    if len(found) > 1:
        raise InputError(plan, f"nodules of {len(found)} scans", "a table about one scan, or a folder of scans")
    ((image, planned),) = found.items()
    path = scan if isinstance(scan, str | Path) else getattr(scan, "path", None)
    if image and path is not None and not _is_named(Path(path), image, plan):
        expected = f"nodules of {Path(path).name}, or a table without the column image"
        raise InputError(plan, f"nodules of {image}", expected)
    return planned


def _is_named(scan: Path, image: str, plan: Path) -> bool:
    """Return whether a scan, or the folder that it is in, is the image that a plan names.

    The image is a path relative to the plan; if there is no such file, its last parts are compared with the scan's. A
    series UID is accepted.
    """
    from synthorax.io.images import image_stem

    if set(image) <= set("0123456789."):
        return True
    own, listed = scan.resolve(), plan.parent / image
    if listed.exists():
        return listed.resolve() in {own, own.parent, own / image}
    wanted = (*Path(image).parent.parts, image_stem(image))
    names = ((*own.parent.parts, image_stem(own)), own.parent.parts)
    return (own / image).exists() or any(each[-len(wanted) :] == wanted for each in names)


def planned_balls(planned: Sequence[AskedNodule]) -> tuple[Unwanted, ...]:
    """Return the nodules that a plan lists for removal; its ratings are ignored.

    Raises:
        InputError: a nodule has no place, or a diameter that no nodule can have.
    """
    from synthorax.anatomy.placement import Ball
    from synthorax.editing.erase import Unwanted
    from synthorax.editing.inject import naming_row
    from synthorax.editing.plan import check_diameters

    placed = []
    for number, one in enumerate(planned, start=1):
        with naming_row(one.row):
            check_diameters([one.diameter_mm])
            if one.point_mm is None:
                raise InputError("place", "none", "center_x_mm, center_y_mm and center_z_mm of each nodule to remove")
            placed.append(Unwanted(Ball(one.point_mm, one.diameter_mm), row=one.row, label=number))
    return tuple(placed)


def outlined_in(
    outlines: str | Path | Volume, ct: Volume, attributes: NoduleAttributes | None
) -> tuple[tuple[AskedNodule, ...], tuple[str, ...]]:
    """Return the nodules whose outlines a mask has, and notes on how the mask was fitted to the scan's grid.

    Args:
        outlines: mask, each label of which is a nodule.
        ct: scan.
        attributes: attributes of all these nodules.

    Raises:
        InputError: the mask is on another grid or has no label.
    """
    from synthorax.editing.plan import outlined_nodules

    found, notes = labels_given(outlines, ct)
    return outlined_nodules(found, attributes or NoduleAttributes()), notes


def methods_of_plan(
    asked: Sequence[AskedNodule], method: Method, device: str, attributes: NoduleAttributes | None = None
) -> dict[str, Method]:
    """Return the methods that a plan names, by name.

    Args:
        asked: nodules of the plan.
        method: method of the nodules for which the plan names none.
        device: device of the methods' networks.
        attributes: attributes of nodules outside the plan.

    Raises:
        InputError: there is no such method, or it does not take an attribute.
    """
    from synthorax import hub
    from synthorax.editing.inject import naming_row

    others: dict[str, Method] = {}
    for one in asked:
        with naming_row(one.row):
            if one.method and one.method not in others:
                others[one.method] = method_of(one.method, "injects", {}, device)
            hub.check_uses(others.get(one.method, method), [one.attributes], "injects")
    hub.check_uses(method, [attributes or NoduleAttributes()], "injects")
    return others


def check_only_outlines(planned: Sequence[AskedNodule], **others: object) -> None:
    """Check that outlines are given without a plan, places, a number and diameters, which the outlines have.

    Args:
        planned: nodules of a plan.
        others: further arguments by name; an empty one was not given.

    Raises:
        InputError: names the argument that is given too.
    """
    for name, value in {"plan": planned, **others}.items():
        if value:
            raise InputError(name, "given with outlines", f"no {name}: places and diameters are those of the outlines")


def check_takes_outlines(method: Method) -> None:
    """Check that a method takes the outlines of its nodules.

    Raises:
        InputError: it does not; names the methods that do.
    """
    from synthorax import hub
    from synthorax.registry import registry

    if not hub.takes_outlines(method):
        expected = f"a method that takes outlines: {', '.join(hub.those('injects', hub.takes_outlines))}"
        entry = registry().entries.get(method.name)
        if entry is not None and "shapes" in entry.options.model_fields:
            expected += f"; or with {method.name} the option shapes, which scales the mask to a diameter"
        raise InputError("outlines", f"given to {method.name}, which chooses its own", expected)


def check_heeded(
    methods: Sequence[str | Path | Model | Method],
    options: Mapping[str, Any],
    attributes: NoduleAttributes | None,
    plan: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Check, before any scan is read, that methods take the ratings of a request; without ratings, load no method.

    Args:
        methods: methods that inject.
        options: options of the methods.
        attributes: ratings of all nodules.
        plan: table of nodules with ratings of their own.
        device: device of the methods' networks.

    Raises:
        InputError: there is no such method, or it does not take an attribute; names the row of the plan.
    """
    from synthorax.editing.plan_table import read_plan

    planned = [] if plan is None else [one for rows in read_plan(Path(plan)).values() for one in rows]
    if not (attributes or NoduleAttributes()).given() and not any(one.attributes.given() for one in planned):
        return
    for method in methods:
        methods_of_plan(planned, method_of(method, "injects", options, device), device, attributes)


def one_or_several(diameter_mm: float | Sequence[float]) -> tuple[float, ...]:
    """Return one diameter or several as a tuple."""
    import numpy as np

    return tuple(np.atleast_1d(np.asarray(diameter_mm, float)).tolist())


def points_of(at_mm: Sequence[float] | Sequence[Sequence[float]]) -> tuple[tuple[float, float, float], ...]:
    """Return one place (x, y, z) or several as a tuple of places.

    Raises:
        InputError: a place is not three numbers.
    """
    import numpy as np

    try:
        found = np.asarray(at_mm, float)
        return tuple((x, y, z) for x, y, z in found.reshape(-1, 3).tolist()) if found.size else ()
    except (ValueError, TypeError) as error:
        raise InputError("place", str(at_mm), "x, y and z in millimetres") from error


def finder_of(lungs: LungFinderName | Lungs) -> Callable[[Volume], Lungs]:
    """Return the function that finds lungs, by its name; for lungs that were found before, one that returns them.

    Raises:
        InputError: the name is unknown.
    """
    from synthorax.anatomy.learned import find_lungs_learned
    from synthorax.anatomy.lungs import Lungs, find_lungs

    if isinstance(lungs, Lungs):
        return lambda ct: lungs
    finders = {"density": find_lungs, "lungmask": find_lungs_learned}
    if lungs not in finders:
        raise InputError("lungs", repr(lungs), " or ".join(finders))
    return finders[lungs]


def read_scan_given(scan: str | Path | Scan | Volume, series: str | None, force: bool) -> Scan:
    """Return a scan from a path, a scan or a volume, in the voxels of its file.

    Args:
        scan: path, scan or volume.
        series: UID of a DICOM series, or the end of it; None if the folder has one series.
        force: accept values that do not look like HU, with a note.

    Raises:
        InputError: the scan is not a CT in HU.
    """
    from synthorax.io.scans import Scan, check_hounsfield, read_scan
    from synthorax.volume import Volume

    if isinstance(scan, str | Path):
        read = read_scan(Path(scan), series, any_values=force, as_stored=True)
        return replace(read, notes=(*read.notes, *_images_beside_slices(Path(scan))))
    if not isinstance(scan, Volume):
        return scan
    try:
        check_hounsfield("scan", scan, blanks=True)
        return Scan(scan)
    except InputError as doubt:
        if not force:
            raise
        return Scan(scan, notes=(str(doubt),))


def _images_beside_slices(folder: Path) -> tuple[str, ...]:
    """Return a note on images in a folder of DICOM slices that are no masks by their names or by a table, if any."""
    from synthorax.annotations.nodule_table import NODULE_TABLE
    from synthorax.datasets.discovery import MASK_WORDS
    from synthorax.io.images import image_stem, is_image

    if not folder.is_dir():
        return ()
    table = folder / NODULE_TABLE
    listed = re.split(r"[\s,;\"/]+", table.read_text(errors="replace")) if table.is_file() else []
    images = [file for file in sorted(folder.iterdir()) if is_image(file)]
    names = [one.name for one in images if not MASK_WORDS.search(image_stem(one)) and one.name not in listed]
    if not names:
        return ()
    which, it = (f"{len(names)} images, such as {names[0]},", "them") if len(names) > 1 else (names[0], "it")
    return (f"{which} beside the DICOM slices left out; to edit {it} too, move {it} to another folder",)


def as_patients(scan: Scan, patient: str, keep_identity: bool) -> Scan:
    """Return a scan as a scan of the patient that the caller names; as it is if no patient is named.

    Raises:
        InputError: a patient is named for a DICOM series that keeps its identity.
    """
    if not patient.strip():
        return scan
    if scan.dicom is None:
        return replace(scan, patient_id=patient)
    if keep_identity:
        expected = "one of the two, since the series keeps its own patient"
        raise InputError("patient", "given with keep_identity", expected)
    return replace(scan, patient_id=patient, dicom=replace(scan.dicom, patient_id=patient))


def labels_given(labels: str | Path | Volume, ct: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Return a mask as uint8 labels on the grid of a scan, and notes on how it was fitted to the grid.

    Raises:
        InputError: the mask is on another grid, or has fractions or labels above 255; or it is the region of an edit.
    """
    import numpy as np

    from synthorax.io.fractions import as_labels
    from synthorax.io.masks import Labels, check_is_mask, place_labels, read_labels_on
    from synthorax.volume import Volume

    name: object = "labels"
    if isinstance(labels, Volume):
        values, notes = as_labels(name, labels.voxels)
        placed = place_labels(name, replace(labels, voxels=values), ct)
        found = Labels(placed.voxels, (*notes, *placed.notes))
    else:
        name = Path(labels)
        _refuse_region(name)
        check_is_mask(name, "a table of nodules goes to `plan`")
        found = read_labels_on(name, ct)
    most = np.iinfo(np.uint8).max
    if found.voxels.max() > most:
        raise InputError(name, f"labels up to {found.voxels.max()}", f"labels from 0 to {most}")
    return replace(ct, voxels=found.voxels.astype(np.uint8)), found.notes


def _refuse_region(file: Path) -> None:
    """Refuse the image that shows where an edit changed a scan, which is no mask of nodules."""
    from synthorax.io.mappings import read_mapping
    from synthorax.provenance import MANIFEST

    manifest = file.parent / MANIFEST
    files = read_mapping(manifest).get("files") if manifest.is_file() else None
    if isinstance(files, dict) and files.get("region") == file.name:
        raise InputError(file, "the region that an edit changed", f"a mask of nodules, such as {files.get('mask')}")


def method_of(
    method: str | Path | Model | Method, role: Role, options: Mapping[str, Any], device: str = "cpu"
) -> Method:
    """Return the method for an edit.

    Args:
        method: name, run folder, model, or a method that is returned as it is.
        role: "injects" or "erases".
        options: options of the method.
        device: device of the method's networks.

    Raises:
        InputError: there is no such method, it does not have the role, or it does not have an option.
    """
    from synthorax import hub

    return cast("Method", hub.find(method, role, _options(method, role, options), device))


def recorded_options(method: str | Path | Model | Method, role: Role, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's options as a manifest records them, without loading its weights.

    Raises:
        InputError: there is no such method, it does not have the role, or it does not have an option.
    """
    given = _options(method, role, options)
    return {} if given is None else {name: as_recorded(value) for name, value in given}


def _options(method: str | Path | Model | Method, role: Role, options: Mapping[str, Any]) -> Options | None:
    """Return the options of a method by name or model, or those that a maker was made with; None if it has none."""
    from synthorax import hub
    from synthorax.registry import registry

    if isinstance(method, hub.Model):
        return registry()[method.system.name].make_options(options)
    if not isinstance(method, str | Path):
        if options:
            raise InputError(next(iter(options)), "given with a maker", "a maker that was made with these options")
        return hub.own_options(method)
    if str(method) not in hub.able((role,)) and not Path(method).exists():
        raise InputError("method", repr(str(method)), f"one that {role}: {hub.who((role,))}{hub.uses(method)}")
    return hub.system_of(method).make_options(options)
