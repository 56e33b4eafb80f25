"""What the header of a MetaImage or NRRD file says, before its voxels are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from synthorax.io.placing import Placed
from synthorax.io.voxels import Stored

MARK_KEYS = ("SyntheticData", "ITK_FileNotes", "descrip")
"""Fields that may hold the synthetic mark: ours, and those in which ITK carries over what a NIfTI header notes."""


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
