"""What the header of a MetaImage or NRRD file says, before its voxels are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from synthorax.io.placing import Placed
from synthorax.io.voxels import Stored

MARK_KEYS = ("SyntheticData", "ITK_FileNotes", "descrip", "0008|2111", "0020|4000", "aux_file", "Comment")
"""Fields that may hold the synthetic mark: ours, and those in which ITK carries over what another format notes.

`0008|2111` and `0020|4000` are DICOM's DerivationDescription and ImageComments.
"""
MARKED_FIELDS = MARK_KEYS[:2] + MARK_KEYS[3:5]
"""Fields that the mark is written into: ITK makes of them a NIfTI header's `descrip` and DICOM's elements."""


class Segment(NamedTuple):
    """A segment of a segmentation: the voxels of `value` in `layer`."""

    name: str
    layer: int
    value: int


@dataclass(frozen=True, eq=False)
class Described:
    """A header that was read and checked.

    Attributes:
        stored: where the voxels are; its shape has an axis more than three where the file has layers.
        layer_axis: that axis; None for a single volume.
        said: notes of the header, one of which may be the synthetic mark.
        segments: of a segmentation as 3D Slicer writes it.
    """

    stored: Stored
    placed: Placed
    layer_axis: int | None = None
    said: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
