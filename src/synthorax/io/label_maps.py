"""Reading label maps of whole anatomies: a code for each voxel, with the geometry of the file itself.

A mask of nodules may take over the geometry of its scan. A label map from which a scan is painted has no scan, so a
file without geometry is refused.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.fractions import as_labels
from synthorax.io.images import Image, describe, is_image, open_image
from synthorax.io.segments import read_segments
from synthorax.region import Region, paint_labels
from synthorax.volume import Volume

MOST_CODE = 2**16 - 1
"""Largest code of a label map."""
PLACED_LABELS = (
    "a label map that says where its voxels lie; save it with the geometry of its scan "
    "(SimpleITK: labels.CopyInformation(scan))"
)
"""What an error asks for in place of a file without geometry."""


def read_label_map(path: Path) -> Image:
    """Read the codes of a label map.

    Formats are NIfTI, MHA, MHD, NRRD, segmentations of 3D Slicer (codes are the segments' values), and DICOM SEG (codes
    are the segments' numbers). Where segments overlap, the smaller lies on top.

    Returns:
        Codes, uint8 or uint16 [z, y, x], with notes on repairs and assumptions.

    Raises:
        InputError: the file is not a label map, codes are not whole numbers from 0 to `MOST_CODE`, or the file gives no
            geometry.
    """
    if path.suffix.lower() in (".npy", ".npz"):
        raise InputError(path, "an array, which has no voxel size and no place", PLACED_LABELS)
    if not is_image(path):
        return _of_dicom(path)
    header = describe(path)
    if header is not None and header.segments:
        found = read_segments(path)
        twice = [value for value, n in Counter(segment.value for segment in found.segments).items() if n > 1]
        if twice:
            names = " and ".join(segment.name for segment in found.segments if segment.value == twice[0])
            raise InputError(path, f"the segments {names}, both of value {twice[0]}", "segments of different values")
        if header.placed.assumed:
            raise InputError(path, "a segmentation whose header gives no orientation", PLACED_LABELS)
        codes = _painted(found.regions, [segment.value for segment in found.segments], found.grid.shape)
        grid = found.grid
        return Image(Volume(codes, grid.spacing_mm, grid.origin_mm, grid.direction), found.notes)
    image = open_image(path)
    if image.assumed:
        raise InputError(path, "a label map whose header gives no orientation", PLACED_LABELS)
    if image.volume.voxels.size and (low := image.volume.voxels.min()) < 0:
        raise InputError(path, f"values from {low:g}", "a label map, whose codes are 0 or above; for a CT, --codes hu")
    values, notes = as_labels(path, image.volume.voxels)
    if notes:  # the values are probabilities of one structure
        raise InputError(path, "probabilities", "a label map: a whole number for each tissue")
    if values.max() > MOST_CODE:
        raise InputError(path, f"codes up to {values.max()}", f"codes from 0 to {MOST_CODE}")
    volume = image.volume
    codes = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    return Image(Volume(codes, volume.spacing_mm, volume.origin_mm, volume.direction), image.notes)


def _of_dicom(path: Path) -> Image:
    """Return the segments of a DICOM SEG on the grid of its own frames."""
    from synthorax.geometry import orient
    from synthorax.io.dicom import is_dicom, read_header
    from synthorax.io.dicom_bounds import what_else
    from synthorax.io.dicom_masks import list_structures, read_structures
    from synthorax.io.dicom_seg import seg_grid

    if not path.is_file() or not is_dicom(path):
        found = "a folder" if path.is_dir() else what_else(path) if path.is_file() else "no file"
        raise InputError(path, found, "a label map: NIfTI, MHA, MHD, NRRD or DICOM SEG")
    if str(read_header(path).get("Modality", "")) == "RTSTRUCT":
        raise InputError(path, "an RTSTRUCT, which has contours but no voxels", PLACED_LABELS)
    list_structures(path)  # raises an error for any modality but SEG
    grid = orient(seg_grid(path), "LPS")
    read = read_structures(path, grid, lambda structure: True)
    lost = [f"{one.named}: {one.reason}" for one in read if one.region is None]
    known = [one for one in read if one.region is not None]
    if not known:
        raise InputError(path, f"no usable segment ({'; '.join(lost[:3])})", "segments with voxels")
    notes = [f"{path.name}: {reason}; left out" for reason in lost]
    notes += [f"{path.name}: {one.named}: {note}" for one in known for note in one.notes]
    codes = _painted([one.region for one in known if one.region], [one.named.number for one in known], grid.shape)
    return Image(Volume(codes, grid.spacing_mm, grid.origin_mm, grid.direction), tuple(notes))


def _painted(regions: list[Region] | tuple[Region, ...], codes: list[int], shape: tuple[int, int, int]) -> NDArray:
    """Return the code of each voxel [z, y, x]; where regions overlap, the code of the smaller."""
    order = paint_labels(regions, shape)
    table = np.array([0, *codes], np.uint8 if max(codes) < 256 else np.uint16)
    return table[order]
