"""Reading a DICOM CT series as a volume in HU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from synthorax.errors import InputError
from synthorax.geometry import AIR_BELOW_HU
from synthorax.io.dicom_bounds import is_dicom
from synthorax.io.dicom_elements import brief, element_text
from synthorax.io.dicom_file import About, read_about, read_header, read_whole
from synthorax.io.dicom_mark import read_mark
from synthorax.io.dicom_pixels import check_claims, hounsfield
from synthorax.io.dicom_planes import Plane, classic_header, planes_of, stored_pixels
from synthorax.io.dicom_series import FoundSeries, SeriesFiles, choose_series, find_series
from synthorax.io.limits import MOST_BYTES
from synthorax.io.walk import LeftOut, counted, listed
from synthorax.volume import Volume

__all__ = [
    "About",
    "CtSeries",
    "FoundSeries",
    "SeriesFiles",
    "choose_series",
    "find_series",
    "is_dicom",
    "read_about",
    "read_ct_series",
    "read_header",
    "read_mark",
    "read_series_files",
]

MOST_SERIES_BYTES = MOST_BYTES + 2**29
"""Most bytes of all files of a series; the largest scan that is read has 1 GiB of pixels."""
SAME_POSITION_MM = 1e-3
"""Slices that are nearer to each other than this count as slices at one position."""
UNEVEN_SLICES = 0.05
"""A distance between slices may differ by this share from the median distance; positions are often rounded to 0.01 mm.
"""
TILT_DEGREES = 0.1
"""A stack of slices that leans by more than this angle, as with a tilted gantry, is refused."""
ONE_PATIENT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
)
"""Elements that are the same in all slices of one series."""


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT series as a volume, with the UIDs and the header by which other DICOM objects refer to it.

    Attributes:
        volume: HU, int16 [z, y, x]; the z axis is the normal of the slices.
        patient_id, study_uid, series_uid: ids from the header; empty if missing.
        sop_uids: SOP instance UID of each slice in the order of the z axis; frames of one file share a UID.
        header: header of the first slice, without pixels.
        notes: files that were left out and doubts about values, without file names, which may name a patient.
        mark: the synthetic mark; empty for a patient's scan.
        left_out: files that were not used, each with the reason.
        folder: folder of the first file; None for a series that was not read.
    """

    volume: Volume
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uids: tuple[str, ...]
    header: Dataset
    notes: tuple[str, ...] = ()
    mark: str = ""
    left_out: tuple[LeftOut, ...] = ()
    folder: Path | None = None

    @property
    def patient(self) -> str:
        """The patient id; if it is empty, the UID of the study, or else of the series."""
        return self.patient_id or self.study_uid or self.series_uid


def read_ct_series(path: Path, series: str | None = None) -> CtSeries:
    """Read a CT series of a folder as a volume in HU, slices sorted by their position along their normal.

    Args:
        path: a folder; or a slice, whose series is read from its folder.
        series: UID of the series, or the end of the UID; needed if the folder holds several.

    Raises:
        InputError: there is no such series; it is not CT; the gantry is tilted; slices are missing, double, unevenly
            spaced or of several patients; there is no rescale to HU; or pixels cannot be decoded.
    """
    chosen = choose_series(path, series)
    return read_series_files(chosen.files, chosen.left_out)


def read_series_files(files: Sequence[Path], left_out: Sequence[LeftOut] = ()) -> CtSeries:
    """Read the files of one CT series, as `read_ct_series` does.

    Args:
        files: files of the series, in any order.
        left_out: other files of the folder, with reasons; they are named in the notes and in errors on missing slices.
    """
    where = files[0].parent
    _check_bytes(where, files)
    read = [(file, read_whole(file)) for file in files]
    _check_one_patient(read)
    planes, passed_over = _planes(read)
    left_out = [*left_out, *passed_over]
    if len(planes) < 2:
        found = f"{len(planes)} CT slice{'s' * (len(planes) != 1)}{_beside(left_out)}"
        raise InputError(where, found, "two or more of one series")
    for plane in planes:
        _check_like_first(plane, planes[0])
    left, _, right = np.linalg.svd(planes[0].orientation.reshape(2, 3), full_matrices=False)
    x_axis, y_axis = left @ right  # the nearest orthonormal axes, because headers round
    normal = np.cross(x_axis, y_axis)
    planes = [planes[i] for i in np.argsort([plane.position_mm @ normal for plane in planes], kind="stable")]
    planes, copies = _without_copies(planes, normal)
    _check_not_woven(where, planes)
    positions = np.array([plane.position_mm for plane in planes])
    depth = positions @ normal
    slice_spacing = _check_even(where, planes, depth, _beside(left_out))
    _check_upright(where, positions, depth, normal, planes[0].spacing_mm)
    check_claims(planes)
    voxels, complaints = hounsfield(planes)
    notes = [*_notes(planes, voxels, [*left_out, *copies]), *complaints]
    header = classic_header(planes[0])
    row_spacing, column_spacing = planes[0].spacing_mm.tolist()
    x, y, z = positions[0].tolist()
    marks = [read_mark(header) for header in {id(plane.header): plane.header for plane in planes}.values()]
    if any(marks) and not all(marks):
        notes.append(
            f"{sum(map(bool, marks))} of {len(marks)} files say that they are synthetic; the scan counts as synthetic"
        )
    return CtSeries(
        volume=Volume(
            voxels=voxels,
            spacing_mm=(round(slice_spacing, 6), row_spacing, column_spacing),
            origin_mm=(x, y, z),
            direction=np.column_stack([x_axis, y_axis, normal]),
        ),
        patient_id=element_text(header, "PatientID"),
        study_uid=element_text(header, "StudyInstanceUID"),
        series_uid=element_text(header, "SeriesInstanceUID"),
        sop_uids=tuple(element_text(plane.header, "SOPInstanceUID") for plane in planes),
        header=header,
        notes=tuple(notes),
        mark=next(filter(None, marks), ""),
        left_out=(*left_out, *copies),
        folder=where,
    )


def _check_bytes(where: Path, files: Sequence[Path]) -> None:
    """Refuse a series of more than `MOST_SERIES_BYTES`, before its files are read."""
    total = sum(file.stat().st_size for file in files if file.is_file())
    if total > MOST_SERIES_BYTES:
        raise InputError(where, f"{total} bytes of one series", f"at most {MOST_SERIES_BYTES}")


def _check_one_patient(read: Sequence[tuple[Path, Dataset]]) -> None:
    """Refuse slices of several patients, studies, series or frames of reference; the error names two of them."""
    file, first = read[0]
    for keyword in ONE_PATIENT:
        wanted = element_text(first, keyword)
        for other_file, other in read[1:]:
            if (found := element_text(other, keyword)) != wanted:
                raise InputError(
                    file.parent,
                    f"slices of two scans: {keyword} {brief(wanted) or 'empty'} in {file.name},"
                    f" {brief(found) or 'empty'} in {other_file.name}",
                    "one scan; sort the files into a folder for each",
                )


def _planes(read: Sequence[tuple[Path, Dataset]]) -> tuple[list[Plane], list[LeftOut]]:
    """Return the slices of the files, and the files that hold localizer images alone."""
    planes, left_out = [], []
    for file, header in read:
        found = planes_of(file, header)
        planes += found
        if not found:
            left_out.append((file, "localizer images"))
    return planes, left_out


def _beside(left_out: Sequence[LeftOut]) -> str:
    """Return the end of a message: the files that were left out, which may be the missing slices."""
    return f"; left out beside it: {listed(left_out)}" if left_out else ""


def _notes(planes: Sequence[Plane], voxels: NDArray[np.int16], left_out: Sequence[LeftOut]) -> list[str]:
    """Notes on files that were left out and on doubts about slices, each once.

    Raises:
        InputError: the header leaves open whether values are HU, and none of them is low enough for air.
    """
    doubts = Counter(note for plane in planes for note in plane.notes)
    if any("taken for HU" in doubt for doubt in doubts) and voxels.min() > AIR_BELOW_HU:
        found = f"{next(iter(doubts))}, but they are {voxels.min()} to {voxels.max()}"
        raise InputError(planes[0].file.parent, found, f"HU of a CT, with air below {AIR_BELOW_HU}")
    notes = [f"left out: {counted(left_out)}"] * bool(left_out)
    return notes + [
        note + f" (in {count} of {len(planes)} slices)" * (count < len(planes)) for note, count in doubts.items()
    ]


def _check_like_first(plane: Plane, first: Plane) -> None:
    """Refuse a slice whose orientation or pixel spacing differs from the first slice's."""
    which = "" if plane.frame is None else f"{plane.name} with "
    if not np.allclose(plane.orientation, first.orientation, atol=1e-3):
        raise InputError(plane.file, f"{which}another orientation than other slices", "slices of one orientation")
    if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-4):
        raise InputError(plane.file, f"{which}another pixel spacing than other slices", "slices of one spacing")


def _without_copies(planes: Sequence[Plane], normal: NDArray[np.float64]) -> tuple[list[Plane], list[LeftOut]]:
    """The slices without copies of one instance, and the copies; different slices at one position are refused."""
    kept, copies = [planes[0]], []
    for plane in planes[1:]:
        one = kept[-1]
        if (plane.position_mm - one.position_mm) @ normal > SAME_POSITION_MM:
            kept.append(plane)
            continue
        same = plane.header is not one.header and element_text(one.header, "SOPInstanceUID") == element_text(
            plane.header, "SOPInstanceUID"
        )
        if not same or stored_pixels(one.header) != stored_pixels(plane.header):
            found = f"two slices at one position: {one.name} and {plane.name}"
            raise InputError(one.file.parent, found, "one slice at each position")
        copies.append((plane.file, "a copy of another slice"))
    return kept, copies


def _check_not_woven(where: Path, planes: Sequence[Plane]) -> None:
    """Refuse slices whose instance numbers occur twice: two scans whose headers are otherwise alike."""
    numbers = Counter(plane.number for plane in planes if plane.number)
    twice = [number for number, count in numbers.items() if count > 1]
    if len(numbers) > 1 and 2 * len(twice) >= len(numbers):
        one, other = [plane for plane in planes if plane.number == twice[0]][:2]
        raise InputError(
            where,
            f"{len(twice)} of {len(numbers)} instance numbers twice, such as {brief(twice[0])} in {one.name} and"
            f" {other.name}; they may be two scans",
            "one scan; sort the files into a folder for each",
        )


def _check_even(where: Path, planes: Sequence[Plane], depth: NDArray[np.float64], beside: str) -> float:
    """Return the distance between slices in mm; unevenly spaced slices are refused."""
    if len(depth) < 2:
        raise InputError(where, f"one slice{beside}", "two or more")
    steps = np.diff(depth)
    usual = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - usual)))
    if abs(steps[worst] - usual) > UNEVEN_SLICES * usual:
        between = (
            f"{planes[worst].name} (at {depth[worst]:g} mm) and {planes[worst + 1].name} ({depth[worst + 1]:g} mm)"
        )
        others = int((np.abs(steps - usual) > UNEVEN_SLICES * usual).sum()) - 1
        missing = steps[worst] / usual - 1
        if round(missing) >= 1 and abs(missing - round(missing)) < UNEVEN_SLICES * (round(missing) + 1):
            found = f"{round(missing)} slice{'s' * (round(missing) > 1)} missing between {between}"
        else:
            found = f"uneven slices: {steps[worst]:g} mm instead of {usual:g} mm between {between}"
        found += f", and {others} more such places" * bool(others) + beside
        raise InputError(where, found, "evenly spaced slices")
    return float(depth[-1] - depth[0]) / (len(depth) - 1)


def _check_upright(
    where: Path,
    positions: NDArray[np.float64],
    depth: NDArray[np.float64],
    normal: NDArray[np.float64],
    spacing: NDArray[np.float64],
) -> None:
    """Refuse slices that are shifted sideways against each other, as with a tilted gantry."""
    sideways = np.linalg.norm(positions - positions[0] - np.outer(depth - depth[0], normal), axis=1)
    angle = float(np.degrees(np.arctan2(sideways[-1], depth[-1] - depth[0])))
    if sideways.max() > spacing.min() / 2 or angle > TILT_DEGREES:
        raise InputError(
            where,
            f"slices shifted by up to {sideways.max():.3g} mm, a gantry tilt of {angle:.3g} degrees",
            "an upright stack of slices; resample it first",
        )
