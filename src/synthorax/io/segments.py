"""Reading the named segments of a segmentation of 3D Slicer (.seg.nrrd); segments may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthorax.errors import InputError
from synthorax.io.described import Segment
from synthorax.io.images import describe
from synthorax.io.voxels import read_voxels
from synthorax.region import Region, regions_of
from synthorax.volume import Volume

MOST_VALUE = 2**16
"""The voxels of labels up to this value are found in one pass over a layer; larger labels take a pass each."""


@dataclass(frozen=True, eq=False)
class NamedSegments:
    """Named segments on one grid.

    Attributes:
        grid: geometry of the segments; its own voxels are 0.
        segments: name, layer and value of each, in the file's order.
        regions: voxels of each segment on the grid; an empty region if it has none.
        notes: doubts, assumptions and corrections of the header.
    """

    grid: Volume
    segments: tuple[Segment, ...]
    regions: tuple[Region, ...]
    notes: tuple[str, ...] = ()


def list_segments(path: Path) -> tuple[Segment, ...]:
    """Return the segments that an image's header names; () if the image is not a segmentation.

    Raises:
        InputError: the file is not an image.
    """
    header = describe(path)
    return header.segments if header is not None else ()


def read_segments(path: Path) -> NamedSegments:
    """Read the segments of a segmentation with their voxels.

    Raises:
        InputError: the file is not a segmentation, or damaged.
    """
    header = describe(path)
    if header is None or not header.segments:
        raise InputError(path, "an image without named segments", "a segmentation of 3D Slicer (.seg.nrrd)")
    voxels, notes = read_voxels(header.stored)
    if voxels.dtype.kind not in "ui":
        expected = "segments of whole numbers; export the segmentation as labels"
        raise InputError(path, f"segments of type {voxels.dtype}", expected)
    layers = voxels[None] if header.layer_axis is None else np.moveaxis(voxels, header.layer_axis, 0)
    regions: dict[Segment, Region] = {}
    for number, layer in enumerate(layers):
        members = [segment for segment in header.segments if segment.layer == number]
        if layer.min() >= 0 and layer.max() <= MOST_VALUE:
            found = regions_of(np.ascontiguousarray(layer), [segment.value for segment in members])
        else:
            found = [Region.of(layer == segment.value) for segment in members]
        regions |= dict(zip(members, found, strict=True))
    place = header.placed
    empty = np.broadcast_to(np.uint8(0), layers.shape[1:])
    return NamedSegments(
        grid=Volume(empty, place.spacing_mm, place.origin_mm, place.direction),
        segments=header.segments,
        regions=tuple(regions[segment] for segment in header.segments),
        notes=(*place.notes, *notes),
    )
