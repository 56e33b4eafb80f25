"""Reading the structures of a radiotherapy structure set (RTSTRUCT), whose closed contours become voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from synthorax.errors import InputError
from synthorax.io.dicom import read_header
from synthorax.io.structure import Structure, check_box_voxels
from synthorax.io.structure_names import StructureFilter, StructureName
from synthorax.region import Region
from synthorax.volume import Volume

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
CONTOUR_DATA = Tag("ContourData")
MOST_OFF_PLANE = 0.5
"""Largest range of depth of a contour's points, in slice spacings; a contour with more lies across the slices."""
SAME_PLANE = 0.05
"""Contours whose depths differ by less than this, in slice spacings, lie in one plane."""
NEAR_PLANE = 0.6
"""A slice shows the nearest plane of contours if it is within this distance, in units of the planes' spacing or of the
slices', whichever is larger."""
MOST_APART = 3.0
"""Up to this spacing, in slice spacings, planes are taken as contours drawn on every second or third slice, and the
slices between them are painted too."""
INSIDE = 0.95
"""A contour is a hole if at least this share of it lies within voxels that are painted already in its plane."""
FARTHEST = 1e6
"""Largest distance in mm of a point from the origin; points beyond are damaged."""
MOST_CROSSINGS = 2**22
"""Most rows of pixels that the edges of a contour may cross in all."""


def structure_names(header: Dataset) -> list[StructureName]:
    """Return the structures of an RTSTRUCT in the order of its header, also those without contours."""
    kinds = {int(item.ReferencedROINumber): _kind(item) for item in header.get("RTROIObservationsSequence") or []}
    listed = {
        int(item.ROINumber): str(item.get("ROIName", "")).strip()[:64]
        for item in header.get("StructureSetROISequence") or []
    }
    for item in header.get("ROIContourSequence") or []:
        listed.setdefault(int(item.ReferencedROINumber), "")
    return [StructureName(number, name, kinds.get(number, "")) for number, name in listed.items()]


def read_contours(path: Path, scan: Volume, wanted: StructureFilter, frame_uid: str) -> Iterator[Structure]:
    """Read the wanted structures of an RTSTRUCT as regions of a scan.

    Args:
        path: path of the RTSTRUCT.
        scan: gives the grid, in the orientation LPS (`geometry.orient`).
        wanted: chooses structures by their names.
        frame_uid: the scan's frame of reference; empty if not known. A structure of another frame is not used.

    Raises:
        InputError: the file cannot be read at all.
    """
    header = read_header(path)
    frames = {
        int(item.ROINumber): str(item.get("ReferencedFrameOfReferenceUID", "") or "")
        for item in header.get("StructureSetROISequence") or []
    }
    drawn: dict[int, list[Dataset]] = {}
    for item in header.get("ROIContourSequence") or []:
        drawn.setdefault(int(item.ReferencedROINumber), []).extend(item.get("ContourSequence") or [])
    kept = 0
    for named in structure_names(header):
        if not wanted(named):
            continue
        theirs = frames.get(named.number, "")
        if frame_uid and theirs and theirs != frame_uid:
            reason = f"it is drawn on frame of reference {theirs}, but the scan has {frame_uid}"
            yield Structure(named, reason=reason, is_whole=False)
            continue
        try:
            made = _structure(named, drawn.get(named.number, []), scan)
        except InputError as error:
            made = Structure(named, reason=str(error), is_whole=False)
        if made.region is not None:
            kept += made.region.mask.size
            check_box_voxels(path, (kept,))
        yield made


def _kind(item: Dataset) -> str:
    codes = item.get("RTROIIdentificationCodeSequence") or [Dataset()]
    return str(codes[0].get("CodeValue", "") or item.get("RTROIInterpretedType", "") or "")


def _structure(named: StructureName, drawn: Sequence[Dataset], scan: Volume) -> Structure:
    """A structure from its contours; unusable contours are left out, counted in its notes."""
    if not drawn:
        return Structure(named, reason="it has no contour", is_whole=False)
    left_out: Counter[str] = Counter()
    contours = []
    for contour in drawn:
        try:
            contours.append(_in_slices(contour, scan))
        except InputError as error:
            left_out[str(error.args[1])] += 1
    reasons = [f"{count} of {len(drawn)} contours left out: {why}" for why, count in sorted(left_out.items())]
    if not contours:
        return Structure(named, reason="; ".join(reasons), is_whole=False)
    region, notes, is_whole = _painted(contours, scan)
    if not region.mask.any():
        reason = "; ".join(["no voxel of the scan lies in its contours", *reasons])
        return Structure(named, reason=reason, is_whole=False)
    return Structure(named, region, notes=(*reasons, *notes), is_whole=is_whole and not left_out)


def _in_slices(contour: Dataset, scan: Volume) -> NDArray[np.float64]:
    """Return the points of a contour as voxel indices of the scan, [n, (z, y, x)].

    Raises:
        InputError: the contour cannot be used; the second argument of the error says why.
    """
    kind = str(contour.get("ContourGeometricType", "")).strip().upper()
    if kind not in CLOSED:
        raise InputError("contour", f"of type {kind or 'unknown'}, not closed", "CLOSED_PLANAR")
    try:
        element = contour.get_item(CONTOUR_DATA)
        raw = element.value if element is not None else None
        numbers = raw.split(b"\\") if isinstance(raw, bytes) else [float(v) for v in raw or []]
        points = np.array([float(v) for v in numbers if v or v == 0]).reshape(-1, 3)
    except (ValueError, TypeError) as error:
        raise InputError("contour", "damaged points", "numbers by threes") from error
    if not (np.abs(points) <= FARTHEST).all():  # NaN too
        raise InputError("contour", "points that are not finite or far outside any scan", "millimetres")
    if len(points) < 3:
        raise InputError("contour", "fewer than three points", "a closed contour")
    indices = scan.to_voxel(points)
    if np.ptp(indices[:, 0]) > MOST_OFF_PLANE:
        raise InputError("contour", "they lie across the slices of the scan", "contours in its slices")
    return indices


def _painted(contours: list[NDArray[np.float64]], scan: Volume) -> tuple[Region, list[str], bool]:
    """The voxels within contours of voxel indices [n, (z, y, x)], notes, and whether all contours lie in the scan."""
    depths = np.array([float(c[:, 0].mean()) for c in contours])
    order = np.argsort(depths, kind="stable")
    starts = np.flatnonzero(np.diff(depths[order], prepend=-np.inf) > SAME_PLANE)
    planes = [[contours[i] for i in part] for part in np.split(order, starts[1:])]
    levels = np.array([depths[part].mean() for part in np.split(order, starts[1:])])
    apart = float(np.median(np.diff(levels))) if len(levels) > 1 else 1.0
    notes: list[str] = []
    if apart > MOST_APART:
        notes.append(f"its planes lie {apart * scan.spacing_mm[0]:.3g} mm apart; nothing is painted between them")
        apart = 1.0
    reach = NEAR_PLANE * max(apart, 1.0)
    points = np.concatenate(contours)[:, 1:]
    low = np.clip(np.floor(points.min(0)), 0, scan.shape[1:]).astype(int)
    high = np.clip(np.ceil(points.max(0)) + 1, low, scan.shape[1:]).astype(int)
    first = int(np.clip(np.ceil(levels[0] - reach), 0, scan.shape[0]))
    stop = int(np.clip(np.floor(levels[-1] + reach) + 1, first, scan.shape[0]))
    check_box_voxels("its contours", (stop - first, *(high - low)))
    mask = np.zeros((stop - first, *(high - low)), bool)
    done: dict[int, NDArray[np.bool_]] = {}
    overlapping = 0
    for index in range(first, stop):
        nearest = int(np.argmin(np.abs(levels - index)))
        if abs(levels[nearest] - index) > reach or not mask.size:
            continue
        if nearest not in done:
            plane, odd = _plane([c[:, 1:] - low for c in planes[nearest]], mask.shape[1:])
            overlapping += odd
            done = {nearest: plane}
        mask[index - first] = done[nearest]
    if overlapping:
        notes.append(f"{overlapping} contours partly overlap another contour of the same slice; both are filled")
    edge = scan.shape[1:]
    beyond = sum(not -reach <= level <= scan.shape[0] - 1 + reach for level in levels)
    is_inside = not beyond and bool(((points > -1) & (points < edge)).all())
    notes += ["a part of it lies outside the scan"] * (not is_inside)
    return Region.of(mask).moved((first, *low)), notes, is_inside


def _plane(contours: list[NDArray[np.float64]], shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], int]:
    """Return the pixels within the contours [n, (y, x)] of one plane.

    A contour inside another is a hole, a contour inside a hole is filled again, and a contour that is drawn twice
    counts once.

    Returns:
        A mask, bool [y, x], and the number of contours that partly overlap others.
    """
    plane = np.zeros(shape, bool)
    filled, overlapping = set(), 0
    for mask, corner in sorted((_filled(c, shape) for c in contours), key=lambda made: -int(made[0].sum())):
        if (key := (corner, mask.shape, mask.tobytes())) in filled or not mask.size:
            continue
        filled.add(key)
        box = plane[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]]
        covered = np.count_nonzero(box & mask)
        if covered and covered >= INSIDE * np.count_nonzero(mask):
            box[mask] = False
        else:
            box[mask] = True
            overlapping += bool(covered)
    return plane, overlapping


def _filled(points: NDArray[np.float64], shape: Sequence[int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return the pixels inside a polygon or on its edge, by the even-odd rule, in the box that holds them.

    A keyhole contour, which leads into a hole and back along the same line, leaves the hole empty.

    Args:
        points: corners [n, (y, x)] in pixels.
        shape: pixels (y, x) of the whole image.

    Returns:
        A mask [y, x] of the box, and the index (row, column) of the box's first pixel.
    """
    points = np.round(points, 6)
    top, side = np.clip(np.ceil(points.min(0)), 0, shape).astype(int).tolist()
    bottom, far = (np.clip(np.floor(points.max(0)), -1, np.subtract(shape, 1)).astype(int) + 1).tolist()
    if bottom <= top or far <= side:
        return np.zeros((0, 0), bool), (0, 0)
    ends = np.stack([points, np.roll(points, -1, 0)], 1)
    ends = np.take_along_axis(ends, np.argsort(ends[:, :, :1], axis=1, kind="stable"), 1)
    (y0, x0), (y1, x1) = ends[:, 0].T, ends[:, 1].T
    change = np.zeros((bottom - top, far - side + 1), np.int32)
    for lowest, highest in ((np.ceil(y0), np.ceil(y1) - 1), (np.floor(y0) + 1, np.floor(y1))):
        # First pass: edges include their upper ends. Second pass: their lower ends. Together they include the outline.
        lowest, highest = (np.clip(v, top, bottom).astype(int) for v in (lowest, highest + 1))
        counts = np.maximum(highest - lowest, 0)
        if counts.sum() > MOST_CROSSINGS:
            found = f"a contour that crosses {counts.sum()} rows of pixels"
            raise InputError("its contours", found, f"at most {MOST_CROSSINGS} rows")
        edge = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + lowest[edge]
        column = x0[edge] + (row - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        column = np.round(np.clip(column, side - 1, far), 6)
        order = np.lexsort((column, row))
        row, column = row[order] - top, column[order] - side
        first, stop = np.ceil(column[0::2]), np.floor(column[1::2]) + 1
        first, stop = (np.clip(v, 0, far - side).astype(int) for v in (first, stop))
        np.add.at(change, (row[0::2], first), 1)
        np.add.at(change, (row[0::2], np.maximum(first, stop)), -1)
    return np.cumsum(change, 1)[:, :-1] > 0, (top, side)
