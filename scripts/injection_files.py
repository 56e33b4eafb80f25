"""Checks with other readers that an edited DICOM series has its source's geometry and its segmentations match it.

Series are read by SimpleITK (GDCM), and segmentations by highdicom.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from highdicom.seg import segread
from numpy.typing import NDArray

from synthorax.editing.edited import Edited

SERIES_FOLDER, REGION_FILE, MASK_FILE = "ct", "region.dcm", "mask.dcm"
"""The files that `inject` and `erase` write for a DICOM series."""


def dicom_rows(source: Path, written: Path, edited: Edited) -> dict[str, Any]:
    """Compare the series of an edit with its source.

    Args:
        source: folder of a DICOM series.
        written: folder that an edit of it wrote.
        edited: the same edit in memory.

    Returns:
        The number of slices; geometry, whether size, spacing, origin and direction are equal; outside, whether all
        voxels outside the region of `region.dcm` are equal; and for each segmentation its segments, and whether
        its voxels lie on the slices of the written series as in memory.
    """
    before, after = _series(source), _series(written / SERIES_FOLDER)
    changed = SimpleITK.GetArrayFromImage(before) != SimpleITK.GetArrayFromImage(after)
    region, _ = _segments(written / REGION_FILE, after)
    found: dict[str, Any] = {
        "slices": before.GetSize()[2],
        "geometry": all(
            np.array_equal(getattr(before, name)(), getattr(after, name)())
            for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection")
        ),
        "outside": not bool((changed & ~region).any()),
        "changed": int(changed.sum()),
        "region": int(region.sum()),
        "region as in memory": int(region.sum()) == int(edited.region.voxels.sum()),
    }
    if (written / MASK_FILE).exists():
        mask, segments = _segments(written / MASK_FILE, after)
        found |= {"segments": segments, "mask as in memory": int(mask.sum()) == int((edited.mask.voxels > 0).sum())}
    return found


def _series(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def _segments(file: Path, series: SimpleITK.Image) -> tuple[NDArray[np.bool_], int]:
    """Return the voxels of all segments on the slices of a series, bool [z, y, x], and the number of segments."""
    found = segread(file)
    on_slice = {round(series.TransformIndexToPhysicalPoint((0, 0, z))[2], 2): z for z in range(series.GetSize()[2])}
    voxels = np.zeros(series.GetSize()[::-1], bool)
    for frame, functional in zip(
        np.atleast_3d(found.pixel_array.T).T, found.PerFrameFunctionalGroupsSequence, strict=True
    ):
        position = functional.PlanePositionSequence[0].ImagePositionPatient
        voxels[on_slice[round(float(position[2]), 2)]] |= frame > 0
    return voxels, len(found.SegmentSequence)
