"""Label maps of a case's tissues: the source's own, or made from the HU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_body
from synthorax.anatomy.tissue import TissueClass, tissue_map
from synthorax.datasets.case import Case, spans_a_chest
from synthorax.region import paint_labels
from synthorax.volume import Volume


def with_tissue(case: Case) -> Case:
    """Return the case with a label map of tissues, nodules included; it is made from the HU if the source has none.

    A note says how many nodules are missing in the map because they have no mask.
    """
    if case.tissue is not None:
        return case
    classes, notes = tissue_by_hu(case.ct)
    if case.regions:
        classes[paint_labels(case.regions, case.ct.shape) > 0] = TissueClass.NODULE
    if missing := sum(case.region(nodule) is None for nodule in case.nodules):
        notes = (*notes, f"{missing} nodules without a mask are not in the label map of tissues")
    return replace(case, tissue=classes, notes=(*case.notes, *notes))


def tissue_by_hu(ct: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the `TissueClass` of every voxel of a CT by its HU, [z, y, x], and a note if no body is found.

    Air outside the body is distinguished from lung only in a whole scan; in a cube, no voxel is outside the body.
    """
    body = None
    notes: tuple[str, ...] = ()
    if spans_a_chest(ct.shape, ct.spacing_mm):
        body = find_body(ct)
        if not body.any():
            body, notes = None, ("no body was found, so no voxel of the label map of tissues is outside the body",)
    return tissue_map(ct, body).voxels, notes


def class_shares(tissue: NDArray[np.uint8]) -> Mapping[str, float]:
    """Return the share of each tissue class among the voxels of a label map [z, y, x]: name of the class to share."""
    counts = np.bincount(tissue.ravel(), minlength=len(TissueClass))
    return {own.name.lower(): float(counts[own]) / tissue.size for own in TissueClass}
