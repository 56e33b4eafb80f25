"""CT series as DICOM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MediaStorageDirectoryStorage

from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.walk import files_below
from synthorax.volume import Volume

PREAMBLE_BYTES = 128
MOST_PIXELS = 4096 * 4096
"""Of a slice."""
SAME_POSITION_MM = 1e-3
UNEVEN = 0.05
"""Slices may lie so far from even, in slice distances: positions are often rounded to 0.01 mm."""
TILT_DEGREES = 0.1
ABOUT_TAGS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "PatientID",
    "SeriesDescription",
    "Modality",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
]
REFERENCES = {
    "SEG": ("ReferencedSeriesSequence",),
    "RTSTRUCT": ("ReferencedFrameOfReferenceSequence", "RTReferencedStudySequence", "RTReferencedSeriesSequence"),
}
"""Where masks name the series that they were drawn on."""
SYNTHESIZING_EQUIPMENT = "109100"
"""Of the standard's purposes of contributing equipment (CID 7005)."""


@dataclass(frozen=True)
class About:
    """What a DICOM file is.

    Attributes:
        modality: such as CT, MR, SEG; empty for a directory of other files.
        refers_to: UID of the series that a SEG or RTSTRUCT was drawn on.
    """

    series_uid: str
    patient_id: str
    modality: str
    description: str
    refers_to: str


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series in a folder.

    Attributes:
        modality: such as CT, MR, SEG.
    """

    uid: str
    patient_id: str
    modality: str
    description: str
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.uid} ({self.modality}, {len(self.files)} files{', ' * bool(self.description)}{self.description})"


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT series as a volume, with what is needed to refer to it.

    Attributes:
        volume: int16 HU; the z axis is the normal of the slices.
        sop_uids: of each slice, in the order of the z axis.
        header: of the first slice, without pixels.
        notes: what was left out of the series.
    """

    volume: Volume
    patient_id: str
    study_uid: str
    series_uid: str
    sop_uids: tuple[str, ...]
    header: Dataset
    notes: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The synthetic mark; empty for a patient's scan."""
        return read_mark(self.header)


def find_series(path: Path) -> list[SeriesFiles]:
    """The series of a folder and its subfolders, or of one file; what is no DICOM is passed over.

    Raises:
        InputError: nothing there, or a DICOM file that cannot be read.
    """
    files = [path] if path.is_file() else files_below(path)
    groups: dict[str, list[tuple[Path, About]]] = defaultdict(list)
    for file in files:
        if is_dicom(file) and (about := read_about(file)).modality:
            groups[about.series_uid].append((file, about))
    if not groups:
        raise InputError(path, "no DICOM file", "a DICOM series")
    return [
        SeriesFiles(uid, m[0][1].patient_id, m[0][1].modality, m[0][1].description, tuple(file for file, _ in m))
        for uid, m in sorted(groups.items())
    ]


def choose_series(path: Path, series: str | None = None) -> SeriesFiles:
    """The one CT series of a folder, or the one whose UID is or ends in `series`.

    Raises:
        InputError: no CT series, or several to choose from.
    """
    found = find_series(path)
    wanted = [s for s in found if s.uid.endswith(series)] if series else [s for s in found if s.modality == "CT"]
    if len(wanted) == 1:
        return wanted[0]
    listed = "; ".join(map(str, wanted or found))
    if not wanted:
        raise InputError(path, listed, f"a series whose UID ends in {series}" if series else "a CT series")
    raise InputError(path, f"{len(wanted)} series: {listed}", "one series; choose by its UID or the end of it")


def read_ct_series(path: Path, series: str | None = None) -> CtSeries:
    """A CT series of a folder as a volume in HU, slices sorted by their position along the normal.

    Args:
        series: UID of a series, or its end, where the folder holds several.

    Raises:
        InputError: no such series, not CT, a tilted gantry, slices that are missing, double or uneven, no rescale
            to HU, or pixels that cannot be decoded.
    """
    return read_series_files(choose_series(path, series).files)


def read_series_files(files: Sequence[Path]) -> CtSeries:
    """A CT series of its files; as `read_ct_series`."""
    slices, notes = _usable([(file, _read(file)) for file in files])
    where = files[0].parent
    first = slices[0][1]
    orientation = _numbers(slices[0][0], first, "ImageOrientationPatient", 6)
    spacing = _numbers(slices[0][0], first, "PixelSpacing", 2)
    for file, header in slices:
        _check_like_first(file, header, first, orientation, spacing)
    left, _, right = np.linalg.svd(orientation.reshape(2, 3), full_matrices=False)
    x_axis, y_axis = left @ right  # the nearest orthonormal ones: headers round
    normal = np.cross(x_axis, y_axis)
    positions = np.array([_numbers(file, header, "ImagePositionPatient", 3) for file, header in slices])
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    slices, positions, depth = [slices[i] for i in order], positions[order], depth[order]
    slices, positions, depth, double = _without_copies(slices, positions, depth)
    slice_spacing = _check_even(where, [file for file, _ in slices], depth)
    _check_upright(where, positions, depth, normal, spacing)
    voxels = np.stack([_hounsfield(file, header) for file, header in slices])
    header = slices[0][1]
    del header.PixelData
    row_spacing, column_spacing = spacing.tolist()
    x, y, z = positions[0].tolist()
    return CtSeries(
        volume=Volume(
            voxels=voxels,
            spacing_mm=(round(slice_spacing, 6), row_spacing, column_spacing),
            origin_mm=(x, y, z),
            direction=np.column_stack([x_axis, y_axis, normal]),
        ),
        patient_id=str(header.get("PatientID", "")),
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        sop_uids=tuple(str(h.get("SOPInstanceUID", "")) for _, h in slices),
        header=header,
        notes=(*notes, *double),
    )


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM preamble."""
    with open(path, "rb") as file:
        return file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM"


def read_about(path: Path) -> About:
    """What a DICOM file is, without reading all of it.

    Raises:
        InputError: it cannot be read.
    """
    header = _read(path, pixels=False, only=ABOUT_TAGS)
    try:
        modality = str(header.get("Modality", ""))
        if not modality and header.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
            raise InputError(path, "a DICOM file without a modality; it was cut off or damaged", "a whole one")
        return About(
            series_uid=str(header.get("SeriesInstanceUID", "")),
            patient_id=str(header.get("PatientID", "")),
            modality=modality,
            description=str(header.get("SeriesDescription", "")),
            refers_to=_referred(header, REFERENCES.get(modality, ())),
        )
    except InputError:
        raise
    except Exception as error:  # as in `_read`
        raise InputError(path, "a damaged DICOM file", "a readable one") from error


def _referred(header: Dataset, sequences: Sequence[str]) -> str:
    """The series UID at the end of a chain of sequences; empty if the chain is broken."""
    for name in sequences:
        if not (items := header.get(name)):
            return ""
        header = items[0]
    return str(header.get("SeriesInstanceUID", "")) if sequences else ""


def read_mark(header: Dataset) -> str:
    """What a header says of being synthetic; empty if nothing."""
    if str(header.get("SyntheticData", "")) != "YES":
        return ""
    for item in header.get("ContributingEquipmentSequence") or []:
        purposes = item.get("PurposeOfReferenceCodeSequence") or [Dataset()]
        if str(purposes[0].get("CodeValue", "")) == SYNTHESIZING_EQUIPMENT and "ContributionDescription" in item:
            return str(item.ContributionDescription)
    return "SyntheticData YES"


def read_header(path: Path) -> Dataset:
    """The header of a DICOM file, without pixels.

    Raises:
        InputError: it cannot be read.
    """
    return _read(path, pixels=False)


def _read(path: Path, *, pixels: bool = True, only: list[str] | None = None) -> Dataset:
    try:
        # From memory: a damaged length then reads what there is instead of allocating what it says.
        source: Any = BytesIO(path.read_bytes()) if pixels else path
        return pydicom.dcmread(source, stop_before_pixels=not pixels, specific_tags=only)
    except OSError:
        raise
    except Exception as error:  # pydicom lets through whatever its parser stumbles over.
        raise InputError(path, "a damaged DICOM file", "a readable one") from error


def _usable(slices: list[tuple[Path, Dataset]]) -> tuple[list[tuple[Path, Dataset]], list[str]]:
    """The CT slices of a series, and a note on localizers that were left out."""
    kept, localizers = [], 0
    for file, header in slices:
        try:
            modality, kind = str(header.get("Modality", "")), header.get("SOPClassUID")
            is_localizer = "LOCALIZER" in (header.get("ImageType") or [])
            frames = int(header.get("NumberOfFrames") or 1)
        except Exception as error:
            raise InputError(file, "a damaged DICOM file", "a readable one") from error
        if modality != "CT":
            raise InputError(file, f"modality {modality or 'unknown'}", "CT")
        if kind != CTImageStorage or frames > 1:
            raise InputError(file, f"SOP class {getattr(kind, 'name', kind)}, {frames} frames", "CT Image Storage")
        if is_localizer:
            localizers += 1
        else:
            kept.append((file, header))
    if len(kept) < 2:
        raise InputError(slices[0][0].parent, f"{len(kept)} CT slices", "two or more of one series")
    return kept, [f"{localizers} localizer images left out"] * bool(localizers)


def _check_like_first(
    file: Path, header: Dataset, first: Dataset, orientation: NDArray[np.float64], spacing: NDArray[np.float64]
) -> None:
    rows, columns = header.get("Rows"), header.get("Columns")
    if (rows, columns) != (first.get("Rows"), first.get("Columns")):
        raise InputError(file, f"{rows} x {columns} pixels", f"{first.get('Rows')} x {first.get('Columns')}, as others")
    if not np.allclose(_numbers(file, header, "ImageOrientationPatient", 6), orientation, atol=1e-3):
        raise InputError(file, "another orientation than other slices", "slices of one orientation")
    if not np.allclose(_numbers(file, header, "PixelSpacing", 2), spacing, rtol=1e-4):
        raise InputError(file, "another pixel spacing than other slices", "slices of one spacing")


def _without_copies(
    slices: list[tuple[Path, Dataset]], positions: NDArray[np.float64], depth: NDArray[np.float64]
) -> tuple[list[tuple[Path, Dataset]], NDArray[np.float64], NDArray[np.float64], list[str]]:
    """The slices without copies of the same instance; different ones at one place are refused."""
    keep, notes = [0], []
    for i in range(1, len(slices)):
        if depth[i] - depth[keep[-1]] > SAME_POSITION_MM:
            keep.append(i)
            continue
        (one, known), (other, header) = slices[keep[-1]], slices[i]
        same = known.get("SOPInstanceUID") == header.get("SOPInstanceUID")
        if not same or known.get("PixelData") != header.get("PixelData"):
            raise InputError(
                one.parent, f"two slices at one position: {one.name} and {other.name}", "one slice at each position"
            )
        notes.append(f"{other.name} is a copy of {one.name}")
    return [slices[i] for i in keep], positions[keep], depth[keep], notes


def _check_even(where: Path, files: list[Path], depth: NDArray[np.float64]) -> float:
    """The distance of slices, which must be the same throughout."""
    if len(depth) < 2:
        raise InputError(where, "one slice", "two or more")
    steps = np.diff(depth)
    usual = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - usual)))
    if abs(steps[worst] - usual) > UNEVEN * usual:
        between = f"{files[worst].name} (at {depth[worst]:g} mm) and {files[worst + 1].name} ({depth[worst + 1]:g} mm)"
        others = int((np.abs(steps - usual) > UNEVEN * usual).sum()) - 1
        missing = steps[worst] / usual - 1
        if round(missing) >= 1 and abs(missing - round(missing)) < UNEVEN * (round(missing) + 1):
            found = f"{round(missing)} slices missing between {between}"
        else:
            found = f"uneven slices: {steps[worst]:g} mm instead of {usual:g} mm between {between}"
        found += f", and {others} more such places" * bool(others)
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


def _hounsfield(file: Path, header: Dataset) -> NDArray[np.int16]:
    """The pixels [y, x] of a slice in HU; padding becomes air."""
    try:
        pixels = int(header.Rows) * int(header.Columns)
        if not 0 < pixels <= MOST_PIXELS or int(header.get("SamplesPerPixel", 1)) != 1:
            raise InputError(file, f"{header.Rows} x {header.Columns} pixels", f"1 to {MOST_PIXELS} grey ones")
        slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
        if slope is None or intercept is None or str(header.get("RescaleType", "HU")) != "HU":
            raise InputError(file, "no rescale to HU", "RescaleSlope and RescaleIntercept")
        stored = header.pixel_array
        slope, intercept = float(slope), float(intercept)
        if not (np.isfinite(slope) and np.isfinite(intercept) and slope):
            raise InputError(file, f"a rescale of {slope:g} x + {intercept:g}", "one that gives HU")
        if slope == 1 and intercept.is_integer() and abs(intercept) < 2**30:
            values: NDArray[Any] = stored.astype(np.int32) + int(intercept)
        else:
            values = np.rint(stored * slope + intercept)
        made = np.clip(values, -(2**15), 2**15 - 1).astype(np.int16)
        for low, high in _padding(header, stored.dtype):
            made[(stored >= low) & (stored <= high)] = AIR_HU
        return made
    except InputError:
        raise
    except Exception as error:  # Decoders raise whatever damaged pixels make them stumble over.
        reason = str(error).split("\n")[0][:120]
        raise InputError(file, f"pixels that cannot be decoded ({reason})", "a readable CT slice") from error


def _padding(header: Dataset, dtype: np.dtype) -> Iterator[tuple[int, int]]:
    """The stored values that stand for no pixel, from and to."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return
    limit = header.get("PixelPaddingRangeLimit", value)
    # The element may be written unsigned where the pixels are signed.
    ends = [int(np.array(int(end)).astype(np.int64).astype(dtype)) for end in (value, limit)]
    yield min(ends), max(ends)


def _numbers(file: Path, header: Dataset, name: str, count: int) -> NDArray[np.float64]:
    try:
        values = np.array([float(v) for v in header.get(name) or []])
    except (TypeError, ValueError) as error:
        raise InputError(file, f"a damaged {name}", f"{count} numbers") from error
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(file, f"{name} of {len(values)} numbers", str(count))
    if name == "ImageOrientationPatient" and not np.allclose(
        [values[:3] @ values[:3], values[3:] @ values[3:], values[:3] @ values[3:]], [1, 1, 0], atol=1e-3
    ):
        raise InputError(file, f"{name} {values.tolist()}", "two orthogonal directions")
    if name == "PixelSpacing" and not (values > 0).all():
        raise InputError(file, f"{name} {values.tolist()}", "positive millimetres")
    return values
