"""The label map of a case's tissues: the source's own, or made from its HU."""

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
    """The case with the `TissueClass` of every voxel, by its HU where its source does not know; its nodules are in it.

    Notes tell of nodules that are known by their centres alone, which the map lacks.
    """
    if case.tissue is not None:
        return case
    classes, notes = tissue_by_hu(case.ct)
    if case.regions:
        classes[paint_labels(case.regions, case.ct.shape) > 0] = TissueClass.NODULE
    if missing := sum(case.region(nodule) is None for nodule in case.nodules):
        notes = (*notes, f"{missing} nodules of which no voxels are known are not in the label map of its tissues")
    return replace(case, tissue=classes, notes=(*case.notes, *notes))


def tissue_by_hu(ct: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The `TissueClass` of every voxel [z, y, x] of a CT by its HU, and a note where no body was found.

    What is outside the body is told from lung in a whole scan alone; in a cube nothing is outside.
    """
    body = None
    notes: tuple[str, ...] = ()
    if spans_a_chest(ct.shape, ct.spacing_mm):
        body = find_body(ct)
        if not body.any():
            body, notes = None, ("no body was found: in the label map of its tissues nothing is outside",)
    return tissue_map(ct, body).voxels, notes


def class_shares(tissue: NDArray[np.uint8]) -> Mapping[str, float]:
    """The share of the voxels of a label map [z, y, x] that each tissue class has, by the class's name."""
    counts = np.bincount(tissue.ravel(), minlength=len(TissueClass))
    return {own.name.lower(): float(counts[own]) / tissue.size for own in TissueClass}
