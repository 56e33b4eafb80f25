"""Writing CT painted from a label map, with the masks of its nodules and the label map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.nodule_table import NODULE_TABLE, nodule_cells
from synthorax.editing.label_nodules import LabelledNodules
from synthorax.errors import OutputError, reason
from synthorax.io.atomic import atomic_folder
from synthorax.io.images import write_image
from synthorax.io.tables import write_table
from synthorax.makers import Lineage
from synthorax.nodule import Nodule
from synthorax.provenance import MANIFEST, Origin, write_manifest

UNPACKED = ".painted.bin"
"""Temporary file of the painted voxels in the folder that is being written."""


@dataclass(frozen=True, eq=False)
class PaintedFrom:
    """The input of a painted CT, and facts about it.

    Attributes:
        labelled: the label map with its nodules, on the painter's grid.
        origin: system, model and seed, for the mark of generated voxels.
        lineage: the patients whose data was used for painter, label map and nodules.
        patient_id: id of the synthetic patient.
        annotated: whether the nodules of the label map are known: `all`, `some` or `none-known`.
        request: the request, for the manifest.
        source: file of the label map, for the manifest.
        notes: sentences about corrections and choices, and about results that differ from the request.
    """

    labelled: LabelledNodules
    origin: Origin
    lineage: Lineage
    patient_id: str
    annotated: str
    request: Mapping[str, Any]
    source: Mapping[str, str]
    notes: tuple[str, ...]


def write_painted(
    out: Path,
    made: PaintedFrom,
    slabs: Iterable[tuple[int, NDArray[np.int16]]],
    *,
    suffix: str = ".nii.gz",
    overwrite: bool = False,
    alone: bool = True,
) -> None:
    """Write a painted CT slab by slab as it is painted, all or nothing.

    The folder gets `ct`, the HU; `mask`, one label for each nodule, exact by construction; `labels`, the
    `anatomy.tissue.TissueClass` of each voxel; manifest.json; and, if there is a nodule, nodules.csv, from which
    `prepare` makes a store. The images are marked as synthetic in their headers.

    Args:
        out: folder to write.
        made: the label map and facts about the CT.
        slabs: index of the first slice, and HU [z, y, x], of each slab, from the first slice to the last.
        suffix: suffix of the images.
        overwrite: replace a folder that an earlier call wrote.
        alone: see `atomic_folder`.

    Raises:
        InputError: the folder holds something else.
        OutputError: a file cannot be written.
    """
    labels = made.labelled.labels
    files = {"scan": f"ct{suffix}", "mask": f"mask{suffix}", "labels": f"labels{suffix}"}
    with atomic_folder(out, overwrite=overwrite, alone=alone) as folder:
        unpacked = folder / UNPACKED
        try:
            with open(unpacked, "wb") as stream:
                for _, slab in slabs:
                    stream.write(np.ascontiguousarray(slab, np.int16).data)
            voxels = np.memmap(unpacked, np.int16, "r", shape=labels.shape)
        except OSError as error:
            raise OutputError(out, reason(error)) from error
        write_image(folder / files["scan"], replace(labels, voxels=voxels), mark=made.origin.mark)
        del voxels
        unpacked.unlink()
        write_image(folder / files["mask"], made.labelled.mask, mark=made.origin.mark)
        write_image(folder / files["labels"], labels, mark=made.origin.mark)
        rows = [_row(nodule, files, made.patient_id) for nodule in made.labelled.nodules]
        if rows:
            write_table(folder / NODULE_TABLE, rows)
        manifest = {
            "synthetic": made.origin.mark,
            "method": made.origin.system,
            "model_sha256": made.origin.model_sha256,
            "seed": made.origin.seed,
            "patient_id": made.patient_id,
            "source": dict(made.source),
            "request": dict(made.request),
            "files": files,
            "annotated": made.annotated,
            "nodules": [nodule.row() for nodule in made.labelled.nodules],
            "lineage": made.lineage.row(),
            "notes": list(made.notes),
        }
        write_manifest(folder / MANIFEST, manifest)


def _row(nodule: Nodule, files: Mapping[str, str], patient: str) -> dict[str, Any]:
    """Return the row of a nodule in the table for `prepare`."""
    extra = {"from": "", "wanted_diameter_mm": "", "shape_origin": "", "share_in_lung": ""} | dict(nodule.extra)
    return (
        {"image": files["scan"], "patient_id": patient, "nodule_id": nodule.nodule_id}
        | {"mask": files["mask"], "mask_label": nodule.label}
        | nodule_cells(nodule)
        | extra
    )
