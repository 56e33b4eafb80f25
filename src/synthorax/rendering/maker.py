"""Building a renderer from the options of a verb."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.annotations.masked import note_on_nodules, separate_nodules
from synthorax.errors import InputError
from synthorax.io.contents import what_is
from synthorax.io.fractions import as_labels
from synthorax.io.images import is_image, open_image
from synthorax.io.limits import read_bounded
from synthorax.region import Region
from synthorax.rendering.config import LIDC, Options
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcOutlines, OneShape, SampledShapes, ShapesOfMask, ShapeSource
from synthorax.volume import Volume

MOST_ID_BYTES = 2**20
"""Most bytes of a file of patient ids; all ids of LIDC-IDRI take 15 kB."""


def maker(options: Options) -> Renderer:
    """Return the renderer with these options.

    Raises:
        InputError: the shapes are neither a mask nor a maker of shapes, a patient is not in LIDC-IDRI, or patients are
            given although the shapes are not LIDC-IDRI's outlines.
    """
    source = shape_source(options.shapes, _patients(options.patients))
    if options.patients is not None and not isinstance(source, LidcOutlines):
        expected = "no patients, which apply to LIDC-IDRI's outlines alone"
        raise InputError("patients", "shapes from another source than LIDC-IDRI", expected)
    made = Renderer(source)
    made.options = options
    return made


def shape_source(shapes: object, patients: Collection[str] | None = None) -> ShapeSource:
    """Return the source of shapes that the value of an option stands for.

    Args:
        shapes: a mask (file or volume), of which each nodule is a shape; a maker of shapes; a source, which is returned
            as it is; or `lidc` or None for LIDC-IDRI's outlines.
        patients: ids of LIDC-IDRI patients whose outlines may be used; all if not given.

    Raises:
        InputError: `shapes` is none of these.
    """
    if shapes is None or (isinstance(shapes, str) and shapes == LIDC):
        return LidcOutlines(patients)
    if isinstance(shapes, str | Path):
        if not is_image(Path(shapes)):
            raise InputError(
                shapes,
                what_is(Path(shapes)) or "a file that is not an image",
                "a mask image, or a model that makes shapes",
            )
        image = open_image(Path(shapes))
        labels, notes = as_labels(Path(shapes), image.volume.voxels)
        return _own_shapes(Path(shapes).name, replace(image.volume, voxels=labels), (*image.notes, *notes))
    if isinstance(shapes, Volume):
        labels, notes = as_labels("shapes", shapes.voxels)
        return _own_shapes("shapes", replace(shapes, voxels=labels), notes)
    if "makes shapes" in getattr(shapes, "roles", ()):
        return SampledShapes(shapes)  # type: ignore[arg-type]
    if callable(shapes):
        return shapes  # type: ignore[return-value]
    raise InputError("shapes", type(shapes).__name__, "a mask, or a model that makes shapes")


def _own_shapes(name: str, labels: Volume, notes: tuple[str, ...]) -> ShapeSource:
    """Return the nodules of a label map as shapes: its labels, or the separate nodules of a single label.

    Args:
        name: name of the map, for notes and errors.
        labels: labels [z, y, x], 0 outside.
        notes: notes on the map's file.

    Raises:
        InputError: a mask has more pieces than a mask of nodules may have.
    """
    values = np.unique(labels.voxels[labels.voxels > 0])
    if len(values) > 1:
        nodules = [Region.of(labels.voxels == value) for value in values]
        notes = (*notes, f"{name}: its {len(values)} labels are taken as {len(values)} nodules")
    else:
        region = Region.of(labels.voxels)
        nodules = separate_nodules(name, region, labels.spacing_mm) if len(values) else [region]
        notes = (*notes, *note_on_nodules(name, nodules))
    if len(nodules) == 1:
        return OneShape(replace(labels, voxels=labels.voxels > 0), notes)
    several = f"{notes[-1]}; each new nodule has the shape of one of them, chosen by the seed"
    return ShapesOfMask([Volume(each.mask, labels.spacing_mm) for each in nodules], (*notes[:-1], several))


def _patients(asked: Path | frozenset[str] | None) -> frozenset[str] | None:
    if asked is None:
        return None
    patients = frozenset(_words(asked)) if isinstance(asked, Path) else asked
    if unknown := sorted(patients - set(lidc_patients())):
        found = f"{len(unknown)} ids that LIDC-IDRI does not have, such as {unknown[0]!r}"
        raise InputError("patients", found, "ids such as LIDC-IDRI-0001")
    return patients


def _words(file: Path) -> list[str]:
    """Return the ids that a file lists, or those that the text itself lists if it is not a file."""
    expected = "ids of patients such as LIDC-IDRI-0001 with commas between them, or a file with an id on each line"
    listed = str(file).replace(",", " ").split()
    if not file.exists() and any(each in lidc_patients() for each in listed):
        return listed
    try:
        return read_bounded(file, MOST_ID_BYTES, expected).decode().replace(",", " ").split()
    except UnicodeDecodeError as error:
        raise InputError(file, "text that is not UTF-8", expected) from error
