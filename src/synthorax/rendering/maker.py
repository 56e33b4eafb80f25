"""Building a renderer from the options of a verb."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.errors import InputError
from synthorax.io.contents import what_is
from synthorax.io.fractions import as_labels
from synthorax.io.images import is_image, open_image
from synthorax.io.limits import read_bounded
from synthorax.rendering.config import LIDC, Options
from synthorax.rendering.renderer import Renderer
from synthorax.rendering.shapes import LidcOutlines, OneShape, SampledShapes, ShapeSource
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
    return Renderer(source)


def shape_source(shapes: object, patients: Collection[str] | None = None) -> ShapeSource:
    """Return the source of shapes that the value of an option stands for.

    Args:
        shapes: a mask (file or volume); a maker of shapes; a source, which is returned as it is; or `lidc` or None for
            LIDC-IDRI's outlines.
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
        return OneShape(replace(image.volume, voxels=labels > 0), (*image.notes, *notes))
    if isinstance(shapes, Volume):
        labels, notes = as_labels("shapes", shapes.voxels)
        return OneShape(replace(shapes, voxels=labels > 0), notes)
    if "makes shapes" in getattr(shapes, "roles", ()):
        return SampledShapes(shapes)  # type: ignore[arg-type]
    if callable(shapes):
        return shapes  # type: ignore[return-value]
    raise InputError("shapes", type(shapes).__name__, "a mask, or a model that makes shapes")


def _patients(asked: Path | frozenset[str] | None) -> frozenset[str] | None:
    if asked is None:
        return None
    patients = frozenset(_words(asked)) if isinstance(asked, Path) else asked
    if unknown := sorted(patients - set(lidc_patients())):
        found = f"{len(unknown)} ids that LIDC-IDRI does not have, such as {unknown[0]!r}"
        raise InputError("patients", found, "ids such as LIDC-IDRI-0001")
    return patients


def _words(file: Path) -> list[str]:
    expected = "ids of patients, one on each line"
    try:
        return read_bounded(file, MOST_ID_BYTES, expected).decode().replace(",", " ").split()
    except UnicodeDecodeError as error:
        raise InputError(file, "text that is not UTF-8", expected) from error
