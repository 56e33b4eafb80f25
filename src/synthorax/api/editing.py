"""Scans edited."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synthorax.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthorax.anatomy.placement import Clearance, Site
    from synthorax.editing.inject import Edited
    from synthorax.hub import Model
    from synthorax.io.scans import Scan
    from synthorax.method import Method
    from synthorax.nodule import NoduleAttributes
    from synthorax.rendering.renderer import ShapeSource
    from synthorax.volume import Volume

LungFinder = Literal["density", "lungmask"]


def inject(
    scan: str | Path | Scan | Volume,
    method: str | Method = "render",
    *,
    at_mm: Sequence[float] | Sequence[Sequence[float]] = (),
    auto: int = 0,
    diameter_mm: float | Sequence[float],
    attributes: NoduleAttributes | None = None,
    seed: int = 0,
    site: Site = "lung",
    clearance: Clearance | None = None,
    shapes: str | Path | Model | Volume | ShapeSource | None = None,
    patients: Collection[str] | None = None,
    labels: str | Path | Volume | None = None,
    lungs: LungFinder = "density",
    series: str | None = None,
    force: bool = False,
    out: str | Path | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
) -> Edited:
    """Put nodules into a chest CT. Outside the region that is returned every voxel stays as it is.

    Args:
        scan: a file, a DICOM folder, or what was read from one.
        method: `render`, the classical baseline.
        at_mm: a place (x, y, z) in world millimetres, LPS, or several; each is moved to the nearest voxel.
        auto: put so many more in places that are found.
        diameter_mm: longest chord in a slice: of all, or of one after the other, those of `at_mm` first.
        attributes: of all; what is missing is as the shape's own nodule has it.
        site: where `auto` puts them: in the lung by itself, attached to the pleura, or to a vessel.
        clearance: of those places; 2 mm from the wall, 0 from vessels and 5 from other nodules if not given.
        shapes: a mask (file or volume), or a LuNG (run folder or model); LIDC-IDRI's readers' outlines if not given.
        patients: of LIDC-IDRI, whose outlines may be used; leave out those of your test set.
        labels: nodules that are in the scan; new ones stay clear of them and get the labels after theirs.
        lungs: how lungs are found; `lungmask` needs that package.
        series: UID of a DICOM series, or its end, where a folder holds several.
        force: go on where a place or the scan is doubtful; the result's notes tell of it.
        out: folder to write to: the scan in its own format, mask, region, nodules.csv and manifest.json.
        keep_identity: keep the patient and study of a DICOM series.
        overwrite: replace a folder that an earlier call made.

    Raises:
        InputError: no CT of a chest in HU, a place that is not in the lungs, a diameter that fits nowhere,
            nodules that overlap.
        OutputError: the folder cannot be written.
    """
    import numpy as np

    from synthorax.anatomy.learned import find_lungs_learned
    from synthorax.anatomy.lungs import find_lungs
    from synthorax.anatomy.placement import Clearance
    from synthorax.editing.inject import inject_nodules
    from synthorax.editing.methods import find_method
    from synthorax.editing.output import write_edited
    from synthorax.editing.plan import Request, plan_nodules
    from synthorax.io.atomic import check_folder_is_free
    from synthorax.io.scans import Scan, read_mask_on, read_scan
    from synthorax.nodule import NoduleAttributes
    from synthorax.provenance import Origin
    from synthorax.volume import Volume

    if out is not None:
        check_folder_is_free(Path(out), overwrite=overwrite)
    points = np.reshape(np.asarray(at_mm, float), (-1, 3)) if len(at_mm) else np.empty((0, 3))
    request = Request(
        points_mm=tuple(map(tuple, points.tolist())),
        auto=auto,
        diameters_mm=tuple(np.atleast_1d(np.asarray(diameter_mm, float)).tolist()),
        attributes=attributes or NoduleAttributes(),
        site=site,
        clearance=clearance or Clearance(),
        force=force,
    )
    chosen = find_method(method, _shape_source(shapes, patients))
    if isinstance(scan, str | Path):
        scan = read_scan(Path(scan), series, any_values=force)
    source = Scan(scan) if isinstance(scan, Volume) else scan
    if isinstance(labels, str | Path):
        labels = replace(source.ct, voxels=_as_labels(read_mask_on(Path(labels), source.ct), labels))
    finder = find_lungs_learned if lungs == "lungmask" else find_lungs
    try:
        plan = plan_nodules(source.ct, request, seed, labels=labels, finder=finder)
    except InputError as error:
        if source.path is not None and error.args[0] == "scan":
            raise InputError(source.path, *error.args[1:]) from error
        raise
    edited = inject_nodules(source.ct, plan.wanted, chosen, seed, lungs=plan.lungs, labels=labels)
    edited = edited.noting([*source.notes, *plan.notes])
    if out is not None:
        origin = Origin(chosen.name, chosen.model_sha256, seed)
        name = source.path.name if source.path else "scan.nii.gz"
        write_edited(
            Path(out), edited, origin, source=source, name=name, keep_identity=keep_identity, overwrite=overwrite
        )
    return edited


def _as_labels(voxels: NDArray, name: str | Path) -> NDArray[np.uint8]:
    """A mask's voxels as labels.

    Raises:
        InputError: more labels than uint8 has, or fractions.
    """
    import numpy as np

    if voxels.min() < 0 or voxels.max() > np.iinfo(np.uint8).max or (voxels != np.rint(voxels)).any():
        raise InputError(name, f"values from {voxels.min():g} to {voxels.max():g}", "labels from 0 to 255")
    return voxels.astype(np.uint8)


def _shape_source(
    shapes: str | Path | Model | Volume | ShapeSource | None, patients: Collection[str] | None
) -> ShapeSource:
    """Whatever gives a shape for a nodule."""
    from synthorax.hub import Model, load
    from synthorax.io.images import is_image, read_image
    from synthorax.rendering.renderer import LidcShapes
    from synthorax.rendering.shapes import OneShape
    from synthorax.volume import Volume

    if shapes is None:
        return LidcShapes(patients)
    if isinstance(shapes, str | Path):
        shapes = read_image(Path(shapes)) if is_image(Path(shapes)) else load(shapes)
    if isinstance(shapes, Volume):
        return OneShape(shapes)
    if isinstance(shapes, Model):
        from synthorax.systems.lung.shape_source import ModelShapes

        return ModelShapes(shapes)
    return shapes
