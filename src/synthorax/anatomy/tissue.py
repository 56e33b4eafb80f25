"""Tissues of a chest, and the coarser tissue classes of the label maps from which CT is painted.

The classes are those of Hagvall Hörnstedt (section 4.3.2), which are ranges of HU. In the paper, the air around the
patient and the lung are one class, so that nodules and lung tissue were painted outside the body; here they are two
classes.
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from synthorax.volume import Volume

ARTEFACT_HU = 1900
"""Voxels above this HU are metal and its streaks; they count as soft tissue, as in the paper (section 3.2)."""
FAT_FROM_HU, BONE_ABOVE_HU = -200, 500
"""Voxels from the first HU up to water are fat; voxels above the second are bone."""


class Tissue(IntEnum):
    """The tissue that fills most of a voxel of a phantom."""

    OUTSIDE = 0
    LUNG = 1
    AIRWAY = 2
    VESSEL = 3
    FAT = 4
    SOFT = 5
    BLOOD = 6
    BONE = 7
    GAS = 8
    TABLE = 9


class TissueClass(IntEnum):
    """Classes of a label map. Networks see them as code / 3 - 1, from -1 to 1, as in the paper."""

    OUTSIDE = 0
    OTHER = 1
    """Lung, airways, and tissue without a class of its own."""
    FAT = 2
    WATER = 3
    SOFT = 4
    BONE = 5
    NODULE = 6


CLASS_OF = {
    Tissue.OUTSIDE: TissueClass.OUTSIDE,
    Tissue.LUNG: TissueClass.OTHER,
    Tissue.AIRWAY: TissueClass.OTHER,
    Tissue.VESSEL: TissueClass.SOFT,
    Tissue.FAT: TissueClass.FAT,
    Tissue.SOFT: TissueClass.SOFT,
    Tissue.BLOOD: TissueClass.SOFT,
    Tissue.BONE: TissueClass.BONE,
    Tissue.GAS: TissueClass.OTHER,
    Tissue.TABLE: TissueClass.OUTSIDE,
}
"""The tissue class of each tissue of a phantom."""


def tissue_classes(tissues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the `TissueClass` of each voxel of a map of `Tissue`, uint8 [z, y, x]."""
    return np.array([CLASS_OF[tissue] for tissue in Tissue], np.uint8)[tissues]


def tissue_map(ct: Volume, body: NDArray[np.bool_] | None = None, nodules: NDArray[np.bool_] | None = None) -> Volume:
    """Return the `TissueClass` of each voxel of a CT by its HU.

    Args:
        ct: HU [z, y, x].
        body: the patient, bool [z, y, x], from `find_lungs`; if None no voxel is `OUTSIDE`, as in a patch of lung.
        nodules: bool [z, y, x]; these voxels are `NODULE` whatever their HU.

    Returns:
        uint8 [z, y, x] of `TissueClass`.
    """
    edges = [FAT_FROM_HU, 0, 1, BONE_ABOVE_HU + 1, ARTEFACT_HU + 1]
    c = TissueClass
    spans = np.array([c.OTHER, c.FAT, c.WATER, c.SOFT, c.BONE, c.SOFT], np.uint8)
    labels = spans[np.digitize(np.rint(ct.voxels), edges)]
    if body is not None:
        labels[~body] = TissueClass.OUTSIDE
    if nodules is not None:
        labels[nodules] = TissueClass.NODULE
    return replace(ct, voxels=labels)
