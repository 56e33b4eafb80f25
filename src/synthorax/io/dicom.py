"""CT series as volumes in HU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from synthorax.errors import InputError
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
"""Files of more bytes together are refused as one series: the largest scan has 1 GiB of pixels."""
SAME_POSITION_MM = 1e-3
"""Slices nearer than this lie at one place."""
UNEVEN_SLICES = 0.05
"""Slices may lie this share of their distance off an even row: positions are often rounded to 0.01 mm."""
TILT_DEGREES = 0.1
"""Slices that shift by more than this angle, as those of a tilted gantry do, are refused."""
NO_AIR_HU = -200
"""Values of a type that is only taken for HU must go below this: a CT of a chest has air in it."""
ONE_PATIENT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
)
"""What all slices of a series have alike."""


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT series as a volume, with what is needed to refer to it.

    Attributes:
        volume: int16 HU; the z axis is the normal of the slices.
        sop_uids: of each slice, in the order of the z axis; frames of one file have the same.
        header: of the first slice, without pixels.
        notes: what was left out of the series or doubted, without names of files, which may be a patient's.
        mark: the synthetic mark; empty for a patient's scan.
        left_out: files that were passed over, each with the reason.
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

    @property
    def patient(self) -> str:
        """The patient id, or what else tells this patient from others: the UID of the study or of the series."""
        return self.patient_id or self.study_uid or self.series_uid


def read_ct_series(path: Path, series: str | None = None) -> CtSeries:
    """Read a CT series of a folder as a volume in HU, slices sorted by their position along the normal.

    Args:
        path: a folder; or a slice, whose series is read from its folder.
        series: UID of a series, or its end, where the folder holds several.

    Raises:
        InputError: no such series, not CT, a tilted gantry, slices that are missing, double or uneven, slices of
            several patients, no rescale to HU, or pixels that cannot be decoded.
    """
    chosen = choose_series(path, series)
    return read_series_files(chosen.files, chosen.left_out)


def read_series_files(files: Sequence[Path], left_out: Sequence[LeftOut] = ()) -> CtSeries:
    """Read a CT series of its files; as `read_ct_series`.

    Args:
        left_out: files that lie beside them and were passed over, told in the notes and in errors on missing slices.
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
    x_axis, y_axis = left @ right  # the nearest orthonormal ones: headers round
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
            f"{sum(map(bool, marks))} of {len(marks)} files say that they are synthetic; the scan counts as such"
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
    )


def _check_bytes(where: Path, files: Sequence[Path]) -> None:
    """Refuse more bytes than a series has, before any of them is read."""
    total = sum(file.stat().st_size for file in files if file.is_file())
    if total > MOST_SERIES_BYTES:
        raise InputError(where, f"{total} bytes of one series", f"at most {MOST_SERIES_BYTES}")


def _check_one_patient(read: Sequence[tuple[Path, Dataset]]) -> None:
    """Refuse slices of several patients, studies, series or frames of reference, naming two."""
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
    """The slices of files, and the files that hold none."""
    planes, left_out = [], []
    for file, header in read:
        found = planes_of(file, header)
        planes += found
        if not found:
            left_out.append((file, "localizer images"))
    return planes, left_out


def _beside(left_out: Sequence[LeftOut]) -> str:
    """Of files that were left out and may be the slices that are missing, for the end of a message."""
    return f"; left out beside it: {listed(left_out)}" if left_out else ""


def _notes(planes: Sequence[Plane], voxels: NDArray[np.int16], left_out: Sequence[LeftOut]) -> list[str]:
    """What was left out and what was doubted, each once.

    Raises:
        InputError: values that are only taken for HU, and cannot be.
    """
    doubts = Counter(note for plane in planes for note in plane.notes)
    if any("taken for HU" in doubt for doubt in doubts) and voxels.min() > NO_AIR_HU:
        found = f"{next(iter(doubts))}, but they are {voxels.min()} to {voxels.max()}"
        raise InputError(planes[0].file.parent, found, f"HU of a CT, air below {NO_AIR_HU}")
    notes = [f"left out: {counted(left_out)}"] * bool(left_out)
    return notes + [
        note + f" (in {count} of {len(planes)} slices)" * (count < len(planes)) for note, count in doubts.items()
    ]


def _check_like_first(plane: Plane, first: Plane) -> None:
    """Refuse a slice that is turned or scaled unlike the first."""
    which = "" if plane.frame is None else f"{plane.name} with "
    if not np.allclose(plane.orientation, first.orientation, atol=1e-3):
        raise InputError(plane.file, f"{which}another orientation than other slices", "slices of one orientation")
    if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-4):
        raise InputError(plane.file, f"{which}another pixel spacing than other slices", "slices of one spacing")


def _without_copies(planes: Sequence[Plane], normal: NDArray[np.float64]) -> tuple[list[Plane], list[LeftOut]]:
    """The slices without copies of the same instance; different ones at one place are refused."""
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
    """Refuse slices that are numbered twice: two scans that nothing else tells apart."""
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
    """The distance of slices in mm, which must be the same throughout."""
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
    """Refuse slices that are shifted against each other, as a tilted gantry does."""
    sideways = np.linalg.norm(positions - positions[0] - np.outer(depth - depth[0], normal), axis=1)
    angle = float(np.degrees(np.arctan2(sideways[-1], depth[-1] - depth[0])))
    if sideways.max() > spacing.min() / 2 or angle > TILT_DEGREES:
        raise InputError(
            where,
            f"slices shifted by up to {sideways.max():.3g} mm, a gantry tilt of {angle:.3g} degrees",
            "an upright stack of slices; resample it first",
        )
