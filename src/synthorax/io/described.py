"""The content of a MetaImage or NRRD header, before the voxels are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from synthorax.io.placing import Placed
from synthorax.io.voxels import Stored

MARK_KEYS = ("SyntheticData", "ITK_FileNotes", "descrip", "0008|2111", "0020|4000", "aux_file", "Comment")
"""Header fields that may hold the synthetic mark: our own, and those into which ITK copies notes of other formats.

`0008|2111` and `0020|4000` are DICOM's DerivationDescription and ImageComments.
"""
MARKED_FIELDS = MARK_KEYS[:2] + MARK_KEYS[3:5]
"""Header fields into which the mark is written; ITK converts them to a NIfTI header's `descrip` and to DICOM elements.
"""


class Segment(NamedTuple):
    """A segment of a segmentation: the voxels with the value `value` in the layer number `layer`."""

    name: str
    layer: int
    value: int


@dataclass(frozen=True, eq=False)
class Described:
    """A header that was read and checked.

    Attributes:
        stored: where and how the voxels are stored; its shape has four axes if the file has layers.
        placed: geometry of the voxels.
        layer_axis: index of the axis of layers; None for a single volume.
        said: texts of the fields `MARK_KEYS`, one of which may be the synthetic mark.
        segments: segments of a segmentation as 3D Slicer writes it; empty for other images.
    """

    stored: Stored
    placed: Placed
    layer_axis: int | None = None
    said: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
