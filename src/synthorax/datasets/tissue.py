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


def with_tissue(case: Case) -> Case:
    """The case with the `TissueClass` of every voxel, by its HU where its source does not know; its nodules are in it.

    What is outside the body is told from lung in a whole scan alone; in a cube nothing is outside. Notes tell of
    nodules that are known by their centres alone, which the map lacks.
    """
    if case.tissue is not None:
        return case
    notes = []
    body = None
    if spans_a_chest(case.ct.shape, case.ct.spacing_mm):
        body = find_body(case.ct)
        if not body.any():
            body = None
            notes.append("no body was found: in the label map of its tissues nothing is outside")
    if missing := sum(case.region(nodule) is None for nodule in case.nodules):
        notes.append(f"{missing} nodules of which no voxels are known are not in the label map of its tissues")
    nodules = paint_labels(case.regions, case.ct.shape) > 0 if case.regions else None
    classes = tissue_map(case.ct, body, nodules).voxels
    return replace(case, tissue=classes, notes=(*case.notes, *notes))


def class_shares(tissue: NDArray[np.uint8]) -> Mapping[str, float]:
    """The share of the voxels of a label map [z, y, x] that each tissue class has, by the class's name."""
    counts = np.bincount(tissue.ravel(), minlength=len(TissueClass))
    return {own.name.lower(): float(counts[own]) / tissue.size for own in TissueClass}
