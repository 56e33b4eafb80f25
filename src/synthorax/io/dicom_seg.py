"""Reading the segments of a DICOM segmentation (SEG): binary, fractional or a label map; segments may overlap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from synthorax.errors import InputError
from synthorax.io.fractions import HALF, fault_of_half
from synthorax.io.structure import MOST_STRUCTURE_VOXELS, Structure, check_box_voxels, place_on
from synthorax.io.structure_names import StructureFilter, StructureName
from synthorax.volume import Volume

MOST_SEG_BYTES = 2**30
MOST_FRAMES = 2**17
MOST_FRAME_SIDE = 4096
"""Pixels along a side of a frame."""
UNEVEN_FRAMES = 0.1
"""A frame may lie off an evenly spaced stack by this share of the spacing."""


class _Plane(NamedTuple):
    """The part of a segment in one frame: the frame's index, the box's first pixel (y, x), and its values [y, x]."""

    frame: int
    corner: tuple[int, int]
    values: NDArray


def segment_names(header: Dataset) -> list[StructureName]:
    """Return the segments that the header of a SEG lists, without the background of a label map."""
    found = []
    for item in header.SegmentSequence:
        if int(item.SegmentNumber) == 0:  # background of a label map
            continue
        codes = item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
        name = str(item.get("SegmentLabel", "") or item.get("SegmentDescription", "")).strip()[:64]
        found.append(StructureName(int(item.SegmentNumber), name, str(codes[0].get("CodeValue", ""))))
    return found


def seg_grid(path: Path) -> Volume:
    """Return the grid of a SEG's own frames, from the first plane to the last, with voxels of 0.

    Raises:
        InputError: frames have no position, several orientations, or uneven distances.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True)
    rows, columns = (int(header.get(name) or 0) for name in ("Rows", "Columns"))
    groups = header.get("PerFrameFunctionalGroupsSequence") or [Dataset()]
    if not (0 < rows <= MOST_FRAME_SIDE and 0 < columns <= MOST_FRAME_SIDE and len(groups) <= MOST_FRAMES):
        raise InputError(
            path, f"{len(groups)} frames of {rows} x {columns}", f"at most {MOST_FRAMES} of {MOST_FRAME_SIDE} x ..."
        )
    frames = _Frames.of(list(groups), (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0])
    step = _step(frames.depth, frames.measures, None)
    planes = round(float(frames.depth.max()) / step) + 1
    check_box_voxels(path, (planes, rows, columns))
    x, y, z = frames.first.tolist()
    voxels = np.broadcast_to(np.uint8(0), (planes, rows, columns))
    return Volume(voxels, (step, *frames.pixel_mm), (x, y, z), frames.axes)


def read_dicom_segments(path: Path, scan: Volume, wanted: StructureFilter) -> Iterator[Structure]:
    """Read the wanted segments of a SEG as regions of a scan.

    Args:
        path: path of the SEG.
        scan: gives the grid, in the orientation LPS (`geometry.orient`).
        wanted: chooses segments by their names.

    Raises:
        InputError: the file cannot be read at all.
    """
    if path.stat().st_size > MOST_SEG_BYTES:
        raise InputError(path, f"{path.stat().st_size} bytes", f"a segmentation of at most {MOST_SEG_BYTES} bytes")
    header = pydicom.dcmread(BytesIO(path.read_bytes()))
    chosen = {named.number: named for named in segment_names(header) if wanted(named)}
    if not chosen:
        return
    rows, columns, frames = (int(header.get(n) or 1) for n in ("Rows", "Columns", "NumberOfFrames"))
    groups = header.get("PerFrameFunctionalGroupsSequence") or [Dataset()] * frames
    if not (0 < rows <= MOST_FRAME_SIDE and 0 < columns <= MOST_FRAME_SIDE and 0 < frames <= MOST_FRAMES):
        raise InputError(
            path, f"{frames} frames of {rows} x {columns}", f"at most {MOST_FRAMES} of {MOST_FRAME_SIDE} x ..."
        )
    if len(groups) != frames:
        raise InputError(path, f"{frames} frames, but positions for {len(groups)}", "a position for each frame")
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    kind = str(header.get("SegmentationType", "BINARY")).upper()
    if kind == "LABELMAP":
        if header.get("BitsAllocated") == 1:
            raise InputError(path, "a label map with one bit per voxel", "SegmentationType BINARY, or 8 or 16 bits")
        members = {i: set(chosen) for i in range(frames)}
    else:
        numbers = (int(_group(g, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) for g in groups)
        members = {i: {number} for i, number in enumerate(numbers) if number in chosen}
    most = float(header.get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else 1.0
    planes: dict[int, list[_Plane]] = defaultdict(list)
    kept = 0
    for frame, pixels in _frames(path, header, list(members), rows, columns):
        for number in members[frame]:
            marked = pixels == number if kind == "LABELMAP" else pixels > 0
            if (plane := _boxed(frame, marked, pixels / np.float32(most) if most != 1 else marked)) is not None:
                planes[number].append(plane)
                kept += plane.values.size
                check_box_voxels(path, (kept,))
    for number, named in chosen.items():
        yield _structure(named, planes[number], groups, shared, scan, header if kind == "FRACTIONAL" else None)


def _structure(
    named: StructureName,
    planes: list[_Plane],
    groups: Iterable[Dataset],
    shared: Dataset,
    scan: Volume,
    fractional: Dataset | None,
) -> Structure:
    """A segment from its planes, or the reason why it cannot be used."""
    notes: list[str] = []
    if not planes:
        return Structure(named, reason="it has no voxel", is_whole=False)
    try:
        values = _volume(planes, list(groups), shared, scan)
    except InputError as error:
        return Structure(named, reason=str(error), is_whole=False)
    if fractional is not None:
        kind = str(fractional.get("SegmentationFractionalType", "") or "fraction").lower()
        notes.append(f"it is fractional ({kind}); voxels of {HALF:g} or more are taken")
        if fault := fault_of_half(values.voxels):
            return Structure(named, reason=f"its {kind} goes {fault}", is_whole=False)
    region, more, is_whole = place_on(values, scan)
    if not region.mask.any():
        return Structure(named, reason="no voxel of it lies in the scan", is_whole=False)
    return Structure(named, region, notes=(*notes, *more), is_whole=is_whole)


def _volume(planes: list[_Plane], groups: list[Dataset], shared: Dataset, scan: Volume) -> Volume:
    """Return the planes of a segment as a volume: the smallest box that holds them, placed in the world."""
    frames = _Frames.of([groups[plane.frame] for plane in planes], shared)
    row_mm, column_mm = frames.pixel_mm
    step = _step(frames.depth, frames.measures, scan)
    levels = np.rint(frames.depth / step)
    top, side = (min(p.corner[a] for p in planes) for a in (0, 1))
    bottom, far = (max(p.corner[a] + p.values.shape[a] for p in planes) for a in (0, 1))
    check_box_voxels("its frames", (levels.max() + 1, bottom - top, far - side))
    voxels = np.zeros((int(levels.max()) + 1, bottom - top, far - side), planes[0].values.dtype)
    for level, plane in zip(levels.astype(int).tolist(), planes, strict=True):
        row, column = plane.corner[0] - top, plane.corner[1] - side
        box = voxels[level, row : row + plane.values.shape[0], column : column + plane.values.shape[1]]
        np.maximum(box, plane.values, out=box)
    x, y, z = (frames.first + frames.axes[:, 0] * side * column_mm + frames.axes[:, 1] * top * row_mm).tolist()
    return Volume(voxels, (step, row_mm, column_mm), (x, y, z), frames.axes)


class _Frames(NamedTuple):
    """The positions of frames, which are parallel planes one above the other.

    Attributes:
        first: (x, y, z) in mm of the first pixel of the lowest plane.
        axes: 3x3; its columns are the world directions of the x, y and z array axes.
        pixel_mm: pixel size along (y, x).
        depth: height in mm of each frame above the lowest plane, [n].
        measures: item of the first frame's PixelMeasuresSequence.
    """

    first: NDArray[np.float64]
    axes: NDArray[np.float64]
    pixel_mm: tuple[float, float]
    depth: NDArray[np.float64]
    measures: Dataset

    @classmethod
    def of(cls, own: list[Dataset], shared: Dataset) -> _Frames:
        """Return the positions of frames by their functional groups; raises InputError if they are no stack."""
        orientation = _one(
            [_numbers(_group(g, shared, "PlaneOrientationSequence"), "ImageOrientationPatient", 6) for g in own]
        )
        measures = [_group(g, shared, "PixelMeasuresSequence") for g in own]
        row_mm, column_mm = _one([_numbers(m, "PixelSpacing", 2) for m in measures]).tolist()
        positions = np.array(
            [_numbers(_group(g, shared, "PlanePositionSequence"), "ImagePositionPatient", 3) for g in own]
        )
        left, _, right = np.linalg.svd(orientation.reshape(2, 3), full_matrices=False)
        x_axis, y_axis = left @ right
        normal = np.cross(x_axis, y_axis)
        depth = positions @ normal
        start = int(np.argmin(depth))
        sideways = np.abs((positions - positions[start]) @ np.column_stack([x_axis, y_axis])).max()
        if sideways > min(row_mm, column_mm) / 2:
            raise InputError("its frames", f"frames shifted sideways by {sideways:.3g} mm", "one stack of planes")
        axes = np.column_stack([x_axis, y_axis, normal])
        return cls(positions[start], axes, (row_mm, column_mm), depth - depth[start], measures[0])


def _step(depth: NDArray[np.float64], measures: Dataset, scan: Volume | None) -> float:
    """Return the spacing of planes in mm, of which the depth of every plane is a multiple; empty planes have no frame.

    Args:
        depth: depth of each plane in mm, [n].
        measures: item of a PixelMeasuresSequence, which may state the spacing.
        scan: scan whose slice spacing is also tried.
    """
    stated = [float(measures.get(name) or 0) for name in ("SpacingBetweenSlices", "SliceThickness")]
    gaps = np.diff(np.unique(np.round(depth, 3)))
    nearest, slices = gaps.min(initial=np.inf), 0.0 if scan is None else scan.spacing_mm[0]
    like_scan = slices if np.isclose(nearest, slices, rtol=0.02) else 0.0
    steps = [abs(s) for s in (like_scan, stated[0], nearest, slices, stated[1])]
    for step in steps:
        if np.isfinite(step) and step > 0.01:
            levels = depth / step
            if np.abs(levels - np.rint(levels)).max() <= UNEVEN_FRAMES and (len(gaps) == 0 or gaps.min() > step / 2):
                return float(step)
    if not len(gaps):
        raise InputError("its frames", "one plane without a thickness", "SliceThickness")
    raise InputError("its frames", f"planes {gaps.min():.3g} to {gaps.max():.3g} mm apart", "evenly spaced planes")


def _frames(
    path: Path, header: Dataset, wanted: list[int], rows: int, columns: int
) -> Iterator[tuple[int, NDArray[np.uint8] | NDArray[np.uint16]]]:
    """Yield the index and the pixels [y, x] of each wanted frame."""
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise InputError(path, f"{header.SamplesPerPixel} samples per pixel", "1 sample per pixel")
    if header.file_meta.TransferSyntaxUID.is_compressed and not header.file_meta.TransferSyntaxUID.is_deflated:
        yield from zip(wanted, iter_pixels(header, indices=wanted, raw=True), strict=True)
        return
    data, pixels, bits = header.PixelData, rows * columns, int(header.BitsAllocated)
    if bits not in (1, 8, 16):
        raise InputError(path, f"{bits} bits per pixel", "1, 8 or 16 bits per pixel")
    order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
    for frame in wanted:
        first = frame * pixels * bits
        stop = first + pixels * bits
        part = data[first // 8 : -(-stop // 8)]
        if len(part) < -(-stop // 8) - first // 8:
            found = f"{len(data)} bytes of pixels; the file was cut off"
            raise InputError(path, found, f"at least {-(-stop // 8)} bytes")
        if bits == 1:
            values = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little")[first % 8 :][:pixels]
        else:
            values = np.frombuffer(part, np.uint8 if bits == 8 else np.dtype(f"{order}u2"))
        yield frame, values.reshape(rows, columns)


def _boxed(frame: int, marked: NDArray[np.bool_], values: NDArray) -> _Plane | None:
    """Return the smallest box of a frame that holds its marked pixels; None if no pixel is marked."""
    in_rows, in_columns = (np.flatnonzero(marked.any(axis)) for axis in (1, 0))
    if not len(in_rows):
        return None
    top, side = int(in_rows[0]), int(in_columns[0])
    part = values[top : int(in_rows[-1]) + 1, side : int(in_columns[-1]) + 1]
    return _Plane(frame, (top, side), part.copy())


def _group(own: Dataset, shared: Dataset, name: str) -> Dataset:
    """Return the item of a functional group of the frame itself, or else of all frames."""
    items = own.get(name) or shared.get(name)
    if not items:
        raise InputError("its frames", f"no {name}", "frames with their position in the patient")
    return items[0]


def _numbers(item: Dataset, name: str, count: int) -> NDArray[np.float64]:
    values = np.array([float(v) for v in item.get(name) or []])
    is_size = name == "PixelSpacing"
    if len(values) != count or not (np.abs(values) < MOST_STRUCTURE_VOXELS).all() or (is_size and values.min() <= 0):
        raise InputError("its frames", f"{name} {values.tolist()}", f"{count} numbers")
    return values


def _one(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the value that all frames share; raises InputError if they differ."""
    if np.abs(np.array(values) - values[0]).max() > 1e-3:
        raise InputError("its frames", "frames of several orientations or pixel sizes", "parallel frames of one size")
    return values[0]
