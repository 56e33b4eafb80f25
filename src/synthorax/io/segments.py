"""The segments of a segmentation that 3D Slicer wrote (.seg.nrrd), by their names; they may overlap."""

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
"""Labels up to this are found in one pass over their layer."""


@dataclass(frozen=True, eq=False)
class NamedSegments:
    """Named segments on one grid.

    Attributes:
        grid: the place of the voxels; its own are all 0.
        segments: name, layer and value of each, in the file's order.
        regions: the voxels of each, in voxels of the grid; empty where a segment has none.
    """

    grid: Volume
    segments: tuple[Segment, ...]
    regions: tuple[Region, ...]
    notes: tuple[str, ...] = ()


def list_segments(path: Path) -> tuple[Segment, ...]:
    """The segments that the header of an image names; () where it is no segmentation.

    Raises:
        InputError: no image.
    """
    header = describe(path)
    return header.segments if header is not None else ()


def read_segments(path: Path) -> NamedSegments:
    """The segments of an image, each with the voxels of its value in its layer.

    Raises:
        InputError: no segmentation, or a broken file.
    """
    header = describe(path)
    if header is None or not header.segments:
        raise InputError(path, "an image without named segments", "a segmentation of 3D Slicer (.seg.nrrd)")
    voxels, notes = read_voxels(header.stored)
    if voxels.dtype.kind not in "ui":
        raise InputError(path, f"segments of type {voxels.dtype}", "whole numbers; export the segmentation as labels")
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
