"""The outlined nodules of a store's training patients, as shapes on one grid."""

from __future__ import annotations

from collections import Counter

import numpy as np

from synthorax.datasets.shape_files import larger_than
from synthorax.datasets.shapes import ShapeRecord, ShapeSet
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.shapes.resampling import resample


def shapes_of_store(store: Store, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> ShapeSet:
    """Return the nodules of a store's training patients that have a mask, as shapes on a grid.

    Left out, and counted in a note, are nodules without a mask, nodules larger than the grid, and those of synthetic
    cases, so that a model of shapes learns from real nodules of training patients alone.

    Args:
        store: the store.
        grid: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x) of the grid.

    Raises:
        InputError: no nodule is left, or a file of the store was changed after it was written.
    """
    shapes, records = [], []
    left: Counter[str] = Counter()
    for case in store.in_split("train"):
        for nodule in case.nodules:
            if case.synthetic:
                left["of synthetic cases"] += 1
                continue
            region = store.region(case.case_id, nodule.label) if nodule.label else None
            if region is None or not region.voxels:
                left["without a mask"] += 1
                continue
            shape = resample(region.mask, case.spacing_mm, grid, spacing_mm)
            if shape is None:
                left[larger_than(grid, spacing_mm)] += 1
                continue
            shapes.append(shape)
            name = f"{case.case_id}-{nodule.nodule_id}"
            records.append(ShapeRecord(name, case.patient_id, case.series_uid, attributes=nodule.attributes))
    told = ", ".join(f"{count} {why}" for why, count in sorted(left.items()))
    if not shapes:
        found = f"no nodule of a training patient to take ({told})" if left else "no nodule of a training patient"
        raise InputError(store.path, found, "real nodules with masks among the training patients")
    notes = (f"{store.path.name}: nodules left out: {told}",) if left else ()
    return ShapeSet(np.array(shapes, np.float32), spacing_mm, tuple(records), notes)
