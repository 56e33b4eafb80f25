"""Reading masks on the voxels of an image: label maps of all or part of its grid, and named segments."""

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
from synthorax.screen import first_of
from synthorax.volume import Volume

MOST_OFF = 0.25
"""Largest offset between a mask's voxels and the image's, in voxels; beyond it the mask has another grid."""
NOTED_OFFSET = 0.05
"""An offset above this, in voxels, gets a note."""
LIKE_SPACING = 1e-3
"""Largest relative difference between two spacings that count as equal, because headers round."""
COPY_GEOMETRY = (
    "; size and spacing are equal, but the header has another position or direction: if the mask was drawn on this "
    "image, give it the image's geometry (SimpleITK: mask.CopyInformation(image))"
)
"""Advice about a mask with an image's size and spacing."""
RESAMPLE = (
    "resample the mask onto the image, nearest voxel "
    "(SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor))"
)
"""Advice about a mask on another grid that overlaps the image."""

MOST_LABELS_NAMED = 8
"""Most labels or segments of a mask that a text names."""
EXPECTED_MASK = "a mask image: NIfTI, MHA, MHD, NRRD, DICOM SEG or RTSTRUCT"
"""What an error expects in place of a file that is no mask."""


class Labels(NamedTuple):
    """The labels of a mask on the voxels of an image.

    Attributes:
        voxels: labels [z, y, x].
        notes: sentences on repairs and on voxels left out.
    """

    voxels: NDArray
    notes: tuple[str, ...] = ()


def check_is_mask(path: Path, instead: str = "") -> None:
    """Refuse a file that is no mask by its content, such as a table.

    Args:
        path: path of the mask.
        instead: what the error says after the formats, such as where a table belongs.

    Raises:
        InputError: there is no such file, or it is neither an image nor DICOM.
    """
    if not is_image(path):
        from synthorax.io.dicom_bounds import (  # importing pydicom takes longer than reading an image
            is_dicom,
            what_else,
        )

        if not path.is_file():
            raise InputError(path, "a folder" if path.is_dir() else "nothing", EXPECTED_MASK)
        if not is_dicom(path):
            raise InputError(path, what_else(path), f"{EXPECTED_MASK}{instead and '; '}{instead}")


def read_labels_on(path: Path, ct: Volume) -> Labels:
    """Read the labels of a mask on the voxels of an image.

    The mask's grid is that of the image or a part of it, in any orientation. The structures of a DICOM SEG or RTSTRUCT
    on any grid become labels 1, 2, ..., and so do the segments of a segmentation of 3D Slicer whose names are those of
    nodules; if no segment has such a name, the labels are kept.

    Args:
        path: path of the mask.
        ct: gives the voxels.

    Raises:
        InputError: the file is not a mask, or its grid is not that of the image.
    """
    check_is_mask(path)
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
    """Labels 1, 2, ... for the segments with these indices; where they overlap, the smaller lies on top."""
    found = read_segments(path)
    names = "; ".join(segment.name for segment in found.segments)
    if not nodules:
        raise InputError(
            path,
            f"{len(found.segments)} segments that overlap ({quoted(names, 200)}), none with the name of a nodule",
            "segments with nodule in their names, or a label map",
        )
    labels = paint_labels([found.regions[i] for i in nodules], found.grid.shape)
    placed = place_labels(path, replace(found.grid, voxels=labels), ct)
    left = [quoted(segment.name) for i, segment in enumerate(found.segments) if i not in nodules]
    notes = (f"{path.name}: not taken for nodules: {', '.join(left[:20])}",) if left else ()
    return Labels(placed.voxels, (*found.notes, *placed.notes, *notes))


def read_nodule_on(
    path: Path, ct: Volume, label: int | str | None = None, *, read: Callable[[Path, Volume], Labels] = read_labels_on
) -> Labels:
    """Read one nodule of a mask on the voxels of an image, as labels that are bool [z, y, x].

    Args:
        path: path of the mask.
        ct: gives the voxels.
        label: value of the nodule in the mask; all labels if not given. In a segmentation of 3D Slicer, the value or
            the name of a segment; if not given, all segments with names of nodules (`io.structure_names`), or the only
            segment.
        read: replaces `read_labels_on`, for example by a function that caches a mask of many nodules.

    Raises:
        InputError: see `read_labels_on`; no voxel has the label; or it is not clear which segment is meant.
    """
    if is_image(path) and list_segments(path):
        return _segments_on(path, ct, label)
    if isinstance(label, str):
        raise InputError(path, f"mask_label {quoted(label)} for a mask without named segments", "a whole number")
    values, notes = read(path, ct)
    marked = values > 0 if label is None else values == label
    if not marked.any():
        _refuse_empty(path, values, label)
    found = np.unique(values[marked])
    if len(found) > 1:
        notes += (f"{path.name}: labels {_some(found)} are taken together; mask_label chooses one of them",)
    return Labels(marked, notes)


def _refuse_empty(path: Path, values: NDArray, label: int | None) -> None:
    found = np.unique(values[values > 0])
    if label is None or not len(found):
        raise InputError(path, "no marked voxel in the image", "a nodule; give no mask if there is none")
    raise InputError(path, f"labels {_some(found)}, but not {label}", f"label {found[0]}, or another mask")


def _some(labels: NDArray) -> str:
    return first_of([*map(str, labels.tolist())], MOST_LABELS_NAMED)


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
    names = first_of([quoted(found.segments[i].name) for i in chosen], MOST_LABELS_NAMED)
    if len(chosen) > 1:
        notes.append(f"{path.name}: segments {names} are taken together; mask_label chooses one of them")
    elif len(found.segments) > 1:
        notes.append(f"{path.name}: the segment {names} is taken for the nodule")
    return Labels(placed, tuple(dict.fromkeys(notes)))


def _chosen(path: Path, found: NamedSegments, label: int | str | None) -> list[int]:
    """The indices of the segments with a value or name; if several share the value, the one with a nodule's name."""
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
    wanted = "none with the name of a nodule" if label is None else f"{len(chosen)} of them with label {label}"
    raise InputError(
        path,
        f"{len(found.segments)} segments ({quoted(names, 200)}), {wanted}",
        "one segment; write its name or value into the column mask_label",
    )


def place_labels(subject: object, mask: Volume, ct: Volume) -> Labels:
    """Crop, pad and reorient a mask to the voxels of an image; nothing is resampled.

    The mask's corners may lie up to `MOST_OFF` of a voxel off the image's voxels, because headers round.

    Args:
        subject: file or argument that errors and notes name.
        mask: labels [z, y, x].
        ct: gives the voxels.

    Raises:
        InputError: the mask has another grid, or lies outside the image.
    """
    upright, grid = orient(mask, "LPS"), orient(ct, "LPS")
    corners = np.array(list(product((0, 1), repeat=3))) * (np.array(upright.shape) - 1)
    shifts = grid.to_voxel(upright.to_world(corners)) - corners
    start = np.rint(shifts.mean(0)).astype(int)
    off = float(np.abs(shifts - start).max())
    if not off <= MOST_OFF:
        raise InputError(subject, f"voxels of {_grid(mask)}", f"the image's voxels of {_grid(ct)}{_remedy(mask, ct)}")
    notes = []
    name = getattr(subject, "name", None) or str(subject)
    if off > NOTED_OFFSET:
        notes.append(f"{name}: up to {off:.2f} of a voxel off the image's voxels, as if rounded; taken as the same")
    if start.any() or upright.shape != grid.shape:
        placed = crop(upright, (-start).tolist(), grid.shape, fill=0)
        outside = np.count_nonzero(upright.voxels) - np.count_nonzero(placed.voxels)
        if outside and not placed.voxels.any():
            expected = f"a mask within the image's {_grid(ct)}" + COPY_GEOMETRY * _is_like(upright, grid)
            raise InputError(subject, f"{_grid(mask)}, outside the image", expected)
        if outside:
            notes.append(f"{name}: {outside} marked voxels lie outside the image and are left out")
        upright = placed
    placed = replace(grid, voxels=upright.voxels)
    return Labels(turned_like(placed, ct).voxels, tuple(notes))


def _remedy(mask: Volume, ct: Volume) -> str:
    """Return the end of an error about a mask on another grid than its image: what the user can do.

    Resampling is advised only where marked voxels lie in the image, since the mask would be empty otherwise.
    """
    upright, grid = orient(mask, "LPS"), orient(ct, "LPS")
    is_like = _is_like(upright, grid)
    marked = np.argwhere(upright.voxels)
    places = grid.to_voxel(upright.to_world(marked)) if len(marked) else np.zeros((0, 3))
    if len(marked) and not ((places > -0.5) & (places < np.array(grid.shape) - 0.5)).all(1).any():
        return COPY_GEOMETRY if is_like else "; no marked voxel lies in the image: is it the mask of another one?"
    return f"{COPY_GEOMETRY}; else {RESAMPLE}" if is_like else f", or a part of them; {RESAMPLE}"


def _is_like(mask: Volume, image: Volume) -> bool:
    """Return whether a mask has an image's size and spacing, so that only position and direction may differ."""
    return mask.shape == image.shape and np.allclose(mask.spacing_mm, image.spacing_mm, rtol=LIKE_SPACING)


def _grid(volume: Volume) -> str:
    """A volume's grid in words, along x, y and z as `synthorax info` shows it."""
    return (
        f"{' x '.join(map(str, volume.shape[::-1]))} (x, y, z) of {times(volume.spacing_mm[::-1])} mm "
        f"at {', '.join(f'{c:.6g}' for c in volume.origin_mm)} mm"
    )
