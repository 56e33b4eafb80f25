"""The tissue label map of a CT, from which label-map-to-CT systems paint one.

The classes are those of "label map to CT" (section 4.3.2) by spans of HU. There the air around the patient was of
one class with the lung, so that nodules and lung tissue turned up outside the body; here it is a class of its own.
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from synthorax.volume import Volume

ARTEFACT_HU = 1900
"""Denser is metal and streaks; it counts as soft tissue, as in the paper (section 3.2)."""


class Tissue(IntEnum):
    """Classes of the label map; as the paper scales them, code / 3 - 1, they span -1 to 1."""

    OUTSIDE = 0
    OTHER = 1
    """Lung, airways, and whatever has no class."""
    FAT = 2
    WATER = 3
    SOFT = 4
    BONE = 5
    NODULE = 6


FAT_HU, BONE_HU = -200, 500
"""Fat from here up to water, bone above."""


def tissue_map(ct: Volume, body: NDArray[np.bool_] | None = None, nodules: NDArray[np.bool_] | None = None) -> Volume:
    """The class of every voxel of a CT.

    Args:
        ct: HU [z, y, x].
        body: bool [z, y, x], as of `find_lungs`; without it nothing is outside, as in a patch of lung.
        nodules: bool [z, y, x]; they override.

    Returns:
        uint8 [z, y, x] of `Tissue`.
    """
    edges = [FAT_HU, 0, 1, BONE_HU + 1, ARTEFACT_HU + 1]
    spans = np.array([Tissue.OTHER, Tissue.FAT, Tissue.WATER, Tissue.SOFT, Tissue.BONE, Tissue.SOFT], np.uint8)
    labels = spans[np.digitize(np.rint(ct.voxels), edges)]
    if body is not None:
        labels[~body] = Tissue.OUTSIDE
    if nodules is not None:
        labels[nodules] = Tissue.NODULE
    return replace(ct, voxels=labels)
