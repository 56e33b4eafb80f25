"""Masks on the voxels of an image: label maps of all or part of its grid, and named segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.geometry import crop, orient, turned_like
from synthorax.io.fractions import as_labels
from synthorax.io.header_text import quoted
from synthorax.io.images import is_image, open_image
from synthorax.io.placing import times
from synthorax.io.segments import NamedSegments, list_segments, read_segments
from synthorax.io.structure_names import StructureName, is_nodule
from synthorax.region import paint_labels
from synthorax.volume import Volume

MOST_OFF = 0.25
"""A mask whose voxels lie further off an image's voxels than this part of a voxel, anywhere, is of another grid."""
TOLD_OFF = 0.05
"""From this part of a voxel on, a mask's offset is told."""


class Labels(NamedTuple):
    """The labels of a mask on the voxels of an image [z, y, x], and what was mended or left out to get them."""

    voxels: NDArray
    notes: tuple[str, ...] = ()


def read_labels_on(path: Path, ct: Volume) -> Labels:
    """The labels of a mask whose voxels are voxels of an image: of all of it or a part, its axes any way round.

    A DICOM segmentation or structure set becomes labels 1, 2, ... wherever it lies, and so do the segments of a
    segmentation of 3D Slicer that are nodules by their names, if any are.

    Raises:
        InputError: no mask, or one of other voxels.
    """
    if not is_image(path):
        from synthorax.io.dicom_masks import read_masks

        return Labels(read_masks(path, ct)[0].voxels)
    if segments := list_segments(path):
        nodules = [i for i, segment in enumerate(segments) if is_nodule(StructureName(i + 1, segment.name))]
        if nodules or len({segment.layer for segment in segments}) > 1:
            return _segment_labels(path, ct, nodules)
    mask = open_image(path)
    values, notes = as_labels(path, mask.volume.voxels)
    try:
        placed = place_labels(path, replace(mask.volume, voxels=values), ct)
    except InputError as error:
        if not mask.notes:
            raise
        raise InputError(path, f"{error.args[1]} ({mask.notes[0]})", error.args[2]) from error
    return Labels(placed.voxels, (*mask.notes, *notes, *placed.notes))


def _segment_labels(path: Path, ct: Volume, nodules: Sequence[int]) -> Labels:
    """Labels 1, 2, ... of these segments; where they overlap, the smaller lies on top."""
    found = read_segments(path)
    names = "; ".join(segment.name for segment in found.segments)
    if not nodules:
        raise InputError(
            path,
            f"{len(found.segments)} segments that overlap ({quoted(names, 200)}), none a nodule by its name",
            "segments called nodule, or a map of labels",
        )
    labels = paint_labels([found.regions[i] for i in nodules], found.grid.shape)
    placed = place_labels(path, replace(found.grid, voxels=labels), ct)
    left = [quoted(segment.name) for i, segment in enumerate(found.segments) if i not in nodules]
    notes = (f"{path.name}: not taken for nodules: {', '.join(left[:20])}",) if left else ()
    return Labels(placed.voxels, (*found.notes, *placed.notes, *notes))


def read_nodule_on(
    path: Path, ct: Volume, label: int | str | None = None, *, read: Callable[[Path, Volume], Labels] = read_labels_on
) -> Labels:
    """The voxels of one nodule of a mask on the voxels of an image, bool [z, y, x].

    Args:
        label: the nodule's value in the mask. In a segmentation of 3D Slicer, the value or the name of its segment; if
            not given, all segments that are nodules by their names (`io.structure_names`), or the only segment. In any
            other mask, all labels if not given.
        read: another `read_labels_on`, such as one that remembers a mask of many nodules.

    Raises:
        InputError: as `read_labels_on`; no voxel of that label; segments of which none is meant.
    """
    if is_image(path) and list_segments(path):
        return _segments_on(path, ct, label)
    if isinstance(label, str):
        raise InputError(path, f"mask_label {quoted(label)}, and a mask without named segments", "a whole number")
    values, notes = read(path, ct)
    marked = values > 0 if label is None else values == label
    if not marked.any():
        _refuse_empty(path, values, label)
    if label is None and len(found := np.unique(values[marked])) > 1:
        notes += (f"{path.name}: labels {_some(found)} are taken together for one nodule; mask_label parts them",)
    return Labels(marked, notes)


def _refuse_empty(path: Path, values: NDArray, label: int | None) -> None:
    found = np.unique(values[values > 0])
    if label is None or not len(found):
        raise InputError(path, "no voxel set in the image", "a nodule; leave the mask out where there is none")
    raise InputError(path, f"no voxel of label {label}, but of {_some(found)}", f"label {found[0]}, or another mask")


def _some(labels: NDArray) -> str:
    return ", ".join(map(str, labels[:8].tolist())) + ", ..." * (len(labels) > 8)


def _segments_on(path: Path, ct: Volume, label: int | str | None) -> Labels:
    """`read_nodule_on` for a segmentation with names."""
    found = read_segments(path)
    chosen = _chosen(path, found, label)
    placed = np.zeros(ct.shape, bool)
    notes = list(found.notes)
    for i in chosen:
        region = found.regions[i]
        if not region.voxels:
            raise InputError(path, f"no voxel in the segment {quoted(found.segments[i].name)}", "a nodule")
        x, y, z = found.grid.to_world(region.corner).tolist()
        one = place_labels(path, replace(found.grid, voxels=region.mask, origin_mm=(x, y, z)), ct)
        placed |= one.voxels
        notes += one.notes
    names = ", ".join(quoted(found.segments[i].name) for i in chosen[:8]) + ", ..." * (len(chosen) > 8)
    if len(chosen) > 1:
        notes.append(f"{path.name}: segments {names} are taken together for one nodule; mask_label parts them")
    elif len(found.segments) > 1:
        notes.append(f"{path.name}: the segment {names} is taken for the nodule")
    return Labels(placed, tuple(dict.fromkeys(notes)))


def _chosen(path: Path, found: NamedSegments, label: int | str | None) -> list[int]:
    """Which segments a table means: those of a value or name, of several of a value the one that is a nodule."""
    every = list(enumerate(found.segments))
    if isinstance(label, str):
        chosen = [i for i, segment in every if segment.name.strip().lower() == label.lower()]
    else:
        chosen = [i for i, segment in every if label in (None, segment.value)]
    nodules = [i for i in chosen if is_nodule(StructureName(i + 1, found.segments[i].name))]
    if len(chosen) == 1 or (label is None and nodules):
        return nodules or chosen
    if len(nodules) == 1:
        return nodules
    names = "; ".join(f"{segment.name}: {segment.value}" for segment in found.segments)
    wanted = "none a nodule by its name" if label is None else f"{len(chosen)} of them of label {label}"
    raise InputError(
        path,
        f"{len(found.segments)} segments ({quoted(names, 200)}), {wanted}",
        "one segment, its name or value in the column mask_label",
    )


def place_labels(subject: object, mask: Volume, ct: Volume) -> Labels:
    """The labels of a mask on the voxels of an image, which are the mask's own voxels: cropped, padded or turned.

    The mask's corners may lie `MOST_OFF` of a voxel off the image's voxels, as the headers round their numbers.

    Raises:
        InputError: other voxels, or a mask that lies outside the image.
    """
    upright, grid = orient(mask, "LPS"), orient(ct, "LPS")
    corners = np.array(list(product((0, 1), repeat=3))) * (np.array(upright.shape) - 1)
    shifts = grid.to_voxel(upright.to_world(corners)) - corners
    start = np.rint(shifts.mean(0)).astype(int)
    off = float(np.abs(shifts - start).max())
    if not off <= MOST_OFF:
        found = f"voxels of {_grid(mask)}"
        expected = (
            f"the image's voxels of {_grid(ct)}, or a part of them; resample the mask onto the image, "
            "nearest voxel (SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor))"
        )
        raise InputError(subject, found, expected)
    notes = []
    name = getattr(subject, "name", None) or str(subject)
    if off > TOLD_OFF:
        notes.append(f"{name}: up to {off:.2f} of a voxel off the image's voxels, as if rounded; taken as the same")
    if start.any() or upright.shape != grid.shape:
        placed = crop(upright, (-start).tolist(), grid.shape, fill=0)
        outside = np.count_nonzero(upright.voxels) - np.count_nonzero(placed.voxels)
        if outside and not placed.voxels.any():
            raise InputError(subject, f"{_grid(mask)}, outside the image", f"a mask within the image's {_grid(ct)}")
        if outside:
            notes.append(f"{name}: {outside} marked voxels lie outside the image and are left out")
        upright = placed
    placed = replace(grid, voxels=upright.voxels)
    return Labels(turned_like(placed, ct).voxels, tuple(notes))


def _grid(volume: Volume) -> str:
    """A volume's voxels in words, along x, y and z as `info` shows them for its axes."""
    return (
        f"{' x '.join(map(str, volume.shape[::-1]))} (x, y, z) of {times(volume.spacing_mm[::-1])} mm "
        f"at {', '.join(f'{c:.6g}' for c in volume.origin_mm)} mm"
    )
