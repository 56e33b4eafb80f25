"""Nodule masks out of DICOM segmentations and structure sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from synthorax.errors import InputError
from synthorax.geometry import resample_like
from synthorax.io.dicom import read_header
from synthorax.volume import Volume

MOST_OFF_PLANE = 0.5
"""A contour's points may differ so much in depth, in slice distances."""
NEAR_PLANE = 0.6
"""A slice shows the nearest plane of contours within so many distances of planes, at least of slices."""
MOST_LABELS = 255


def read_masks(path: Path, scan: Volume) -> tuple[Volume, list[str]]:
    """The segments of a DICOM SEG, or the structures of an RTSTRUCT, on the voxels of a scan.

    Args:
        scan: gives the grid; what the file says outside it is left out.

    Returns:
        A label map, uint8 [z, y, x], and the names of the labels 1, 2, ...; where two overlap the later one holds.

    Raises:
        InputError: another modality, a damaged file, nothing in the scan.
    """
    header = read_header(path)
    modality = str(header.get("Modality", ""))
    if modality == "SEG":
        labels, names = _segments(path, scan)
    elif modality == "RTSTRUCT":
        labels, names = _structures(path, header, scan)
    else:
        raise InputError(path, f"modality {modality or 'unknown'}", "SEG or RTSTRUCT")
    if not labels.any():
        raise InputError(path, "no voxel of the scan", "nodules within it")
    return replace(scan, voxels=labels), names


def _segments(path: Path, scan: Volume) -> tuple[NDArray[np.uint8], list[str]]:
    import highdicom as hd

    try:
        segmentation = hd.seg.segread(path)
        found = segmentation.get_volume(combine_segments=True, skip_overlap_checks=True)
        names = [str(segmentation.get_segment_description(i).segment_label) for i in segmentation.segment_numbers]
        table = np.zeros(MOST_LABELS + 1, np.uint8)
        table[list(segmentation.segment_numbers)] = np.arange(1, len(names) + 1)
    except Exception as error:  # highdicom raises whatever a damaged file makes it stumble over.
        raise InputError(
            path, f"no readable segmentation ({str(error)[:100]})", "DICOM SEG on parallel planes"
        ) from error
    spacing = np.linalg.norm(found.affine[:3, :3], axis=0)
    axes = found.affine[:3, :3] / spacing
    z, y, x = spacing.tolist()
    labels = Volume(
        voxels=np.asarray(found.array, np.uint8),
        spacing_mm=(z, y, x),
        origin_mm=tuple(found.affine[:3, 3].tolist()),
        direction=axes[:, ::-1],
    )
    on_scan = resample_like(labels, scan, nearest=True, fill=0).voxels
    return table[on_scan], names


def _structures(path: Path, header: Dataset, scan: Volume) -> tuple[NDArray[np.uint8], list[str]]:
    """Closed planar contours, each painted into its slice; one inside another of the same structure is a hole."""
    labels = np.zeros(scan.shape, np.uint8)
    try:
        named = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in header.StructureSetROISequence}
        names = []
        for item in header.ROIContourSequence:
            contours = [
                np.array([float(v) for v in contour.ContourData]).reshape(-1, 3)
                for contour in item.get("ContourSequence", [])
                if str(contour.get("ContourGeometricType", "")) in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
            ]
            if contours:
                names.append(named.get(int(item.ReferencedROINumber), f"structure {item.ReferencedROINumber}"))
                if len(names) > MOST_LABELS:
                    raise InputError(path, f"more than {MOST_LABELS} structures", "nodules")
                labels[_painted(path, contours, scan)] = len(names)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes its reading stumble over
        raise InputError(path, f"a damaged structure set ({str(error)[:100]})", "a readable RTSTRUCT") from error
    if not names:
        raise InputError(path, "no structure of closed contours", "contours of nodules")
    return labels, names


def _painted(path: Path, contours: list[NDArray[np.float64]], scan: Volume) -> NDArray[np.bool_]:
    """The voxels of the contours [n, (x, y, z) mm]: in each plane the inside of an odd number of them."""
    mask = np.zeros(scan.shape, bool)
    planes: dict[float, NDArray[np.bool_]] = {}
    for contour in contours:
        indices = scan.to_voxel(contour)
        depth = indices[:, 0]
        if np.ptp(depth) > MOST_OFF_PLANE:
            raise InputError(path, "contours across the slices of the scan", "contours in its slices")
        plane = planes.setdefault(round(float(depth.mean()), 2), np.zeros(scan.shape[1:], bool))
        plane ^= polygon2mask(plane.shape, indices[:, 1:])
    depths = np.array(sorted(planes))
    reach = NEAR_PLANE * max(float(np.median(np.diff(depths))), 1.0) if len(depths) > 1 else NEAR_PLANE
    for index in range(len(mask)):
        nearest = depths[np.argmin(np.abs(depths - index))]
        if abs(nearest - index) <= reach:
            mask[index] = planes[float(nearest)]
    return mask
