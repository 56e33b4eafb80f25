"""Where the slices of CT files lie, and how their stored values become HU: a file a slice, or a file of many frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage

from synthorax.errors import InputError
from synthorax.io.dicom_elements import brief, element_numbers, element_text, is_localizer
from synthorax.io.dicom_file import CT_CLASSES
from synthorax.io.limits import MOST_BYTES

MOST_SLICE_PIXELS = 4096 * 4096
"""A slice of more pixels is refused."""
MOST_SCAN_VOXELS = MOST_BYTES // 2
"""A scan of more voxels, each int16, is refused."""
SAME_RECONSTRUCTION = 0.02
"""ImagerPixelSpacing stands for PixelSpacing if ReconstructionDiameter / Columns differs from it by at most 2 %."""
HU_TYPES = {"": "", "HU": "", "US": "unspecified", "HU_MOD": "modified HU"}
"""Types of rescale that are read as HU, and what those mean that are noted. CT without a type is HU by the standard."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a CT series.

    Attributes:
        header: of the file.
        slice_header: what it says of this slice.
        frame: index of the frame in its file; None where the file is one slice.
        orientation: unit vectors of a row and of a column, in LPS.
        spacing_mm: between rows, and between columns.
        position_mm: (x, y, z) of the centre of the first pixel, LPS.
        slope, intercept: HU = stored value * slope + intercept.
        number: InstanceNumber of the file as written; empty for a frame.
        notes: what was doubted.
    """

    file: Path
    header: Dataset
    slice_header: Dataset
    frame: int | None
    orientation: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    position_mm: NDArray[np.float64]
    slope: float
    intercept: float
    number: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file, and the number of the frame, from 1, where it has several."""
        return self.file.name if self.frame is None else f"frame {self.frame + 1} of {self.file.name}"


@dataclass(frozen=True)
class Size:
    """What a header claims of its pixels."""

    rows: int
    columns: int
    frames: int

    @property
    def voxels(self) -> int:
        """Of all frames."""
        return self.rows * self.columns * self.frames


def claimed_size(file: Path, header: Dataset) -> Size:
    """The size of an image of grey values, as its header claims.

    Raises:
        InputError: colours, or more pixels than a CT has.
    """
    try:
        size = Size(int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1))
        samples = int(header.get("SamplesPerPixel") or 1)
    except Exception as error:  # pydicom raises whatever its conversion stumbles over.
        raise InputError(file, "no readable Rows, Columns and NumberOfFrames", "a CT image") from error
    if not 0 < size.rows * size.columns <= MOST_SLICE_PIXELS:
        raise InputError(file, f"{size.rows} x {size.columns} pixels", f"1 to {MOST_SLICE_PIXELS}")
    colours = element_text(header, "PhotometricInterpretation")
    if samples != 1 or colours not in ("MONOCHROME1", "MONOCHROME2", ""):
        raise InputError(file, f"{samples} values a pixel, {brief(colours)}", "grey values (MONOCHROME2)")
    if not 0 < size.voxels <= MOST_SCAN_VOXELS:
        raise InputError(
            file, f"{size.frames} frames of {size.rows} x {size.columns}", f"1 to {MOST_SCAN_VOXELS} voxels"
        )
    return size


def stored_pixels(header: Dataset) -> bytes:
    """The pixels as they are stored; empty if there are none, or none that can be read."""
    try:
        pixels = header.get("PixelData")
    except Exception:  # pydicom raises whatever its conversion stumbles over.
        return b""
    return pixels if isinstance(pixels, bytes) else b""


def planes_of(file: Path, header: Dataset) -> list[Plane]:
    """The slices of a CT file, localizers left out.

    Raises:
        InputError: not CT, a size that no CT has, no place, or no rescale to HU.
    """
    modality = element_text(header, "Modality").upper().split("\\")[0]
    kind = element_text(header, "SOPClassUID") or element_text(header.file_meta, "MediaStorageSOPClassUID")
    if modality not in ("CT", "") or (not modality and kind not in CT_CLASSES):
        raise InputError(file, f"modality {brief(modality) or 'unknown'}", "CT")
    if kind not in CT_CLASSES:
        name = brief(UID(kind).name) if kind else "unknown"
        raise InputError(file, f"SOP class {name}", "CT Image Storage, Enhanced or Legacy Converted Enhanced CT")
    size = claimed_size(file, header)
    if kind == CTImageStorage:
        if size.frames > 1:
            raise InputError(file, f"SOP class CT Image Storage of {size.frames} frames", "one frame a file")
        return [] if is_localizer(header) else [_plane(file, header, header, None)]
    return list(_frames(file, header, size.frames))


def _frames(file: Path, header: Dataset, count: int) -> Iterator[Plane]:
    """The frames of an Enhanced CT, each with the groups that it has of its own or shares."""
    try:
        shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        own = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    except Exception as error:  # pydicom raises whatever its parser stumbles over.
        raise InputError(file, "damaged functional groups", "an Enhanced CT") from error
    if len(own) not in (0, count):
        raise InputError(file, f"{count} frames and functional groups of {len(own)}", "groups of every frame")
    for frame in range(count):
        try:
            flat = _flat(header, shared, own[frame] if own else Dataset())
        except Exception as error:  # as above
            raise InputError(file, f"damaged functional groups of frame {frame + 1}", "an Enhanced CT") from error
        if not is_localizer(flat):
            yield _plane(file, header, flat, frame)


HEADER_OF_GROUP = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
    "CTXRayDetailsSequence": ("KVP", "FilterType"),
    "CTExposureSequence": (),
    "CTAcquisitionDetailsSequence": ("DataCollectionDiameter",),
    "FrameAnatomySequence": (),
}
"""The functional groups of an Enhanced CT, and the header elements of a classic CT's slice that they stand for."""
FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)
CONVERTED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""Where a Legacy Converted CT keeps other elements of its slices."""


def _flat(header: Dataset, shared: Dataset, own: Dataset) -> Dataset:
    """What the header of a classic slice would say of a frame."""
    flat = Dataset()
    for groups in (shared, own):
        for sequence, keywords in HEADER_OF_GROUP.items():
            items = groups.get(sequence)
            for keyword in keywords if items else ():
                if keyword in items[0]:
                    flat[keyword] = items[0][keyword]
        for sequence in CONVERTED:
            for item in groups.get(sequence) or ():
                flat.update({element.tag: element for element in item})
    flat.ImageType = flat.get("FrameType") or header.get("ImageType")
    return flat


def classic_header(plane: Plane) -> Dataset:
    """The header of a slice without pixels; of a frame, as a file of its own would have it."""
    if plane.frame is None:
        return plane.header
    made = Dataset({tag: element for tag, element in plane.header.items() if tag not in FUNCTIONAL_GROUPS})
    made.update(plane.slice_header)
    return made


def _plane(file: Path, header: Dataset, slice_header: Dataset, frame: int | None) -> Plane:
    orientation = element_numbers(file, slice_header, "ImageOrientationPatient", 6)
    row, column = orientation[:3], orientation[3:]
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-3):
        raise InputError(file, f"ImageOrientationPatient {orientation.tolist()}", "two orthogonal directions")
    spacing_mm, doubted = _spacing(file, slice_header, header)
    slope, intercept, typed = _rescale(file, slice_header)
    return Plane(
        file=file,
        header=header,
        slice_header=slice_header,
        frame=frame,
        orientation=orientation,
        spacing_mm=spacing_mm,
        position_mm=element_numbers(file, slice_header, "ImagePositionPatient", 3),
        slope=slope,
        intercept=intercept,
        number=element_text(header, "InstanceNumber") if frame is None else "",
        notes=(*doubted, *typed),
    )


def _spacing(file: Path, header: Dataset, image: Dataset) -> tuple[NDArray[np.float64], list[str]]:
    """Millimetres between rows and between columns, with a note where they stand in another element."""
    keyword, notes = "PixelSpacing", []
    if not element_text(header, keyword) and element_text(header, "ImagerPixelSpacing"):
        keyword = "ImagerPixelSpacing"
        notes = ["PixelSpacing is missing; ImagerPixelSpacing is taken for it"]
    spacing_mm = element_numbers(file, header, keyword, 2)
    if not (spacing_mm > 0).all():
        raise InputError(file, f"{keyword} {spacing_mm.tolist()}", "positive millimetres")
    if notes and element_text(header, "ReconstructionDiameter"):
        width_mm = element_numbers(file, header, "ReconstructionDiameter", 1)[0] / int(image.Columns)
        if abs(width_mm - spacing_mm[1]) > SAME_RECONSTRUCTION * width_mm:
            found = f"no PixelSpacing, and ImagerPixelSpacing {spacing_mm.tolist()} where the diameter of"
            found += f" reconstruction gives {width_mm:.4g} mm"
            raise InputError(file, found, "PixelSpacing")
    return spacing_mm, notes


MOST_SLOPE = 2.0**16
"""Largest slope and intercept of a rescale to HU; a slice of one more would be all of the largest HU that is stored."""


def _rescale(file: Path, header: Dataset) -> tuple[float, float, list[str]]:
    """Slope and intercept to HU, with a note where the header does not say that it is HU."""
    missing = [name for name in ("RescaleSlope", "RescaleIntercept") if not element_text(header, name)]
    if missing:
        found = f"no rescale to HU: {' and '.join(missing)} missing"
        raise InputError(file, found, "a CT with RescaleSlope and RescaleIntercept")
    kind = element_text(header, "RescaleType").upper()
    if kind not in HU_TYPES:
        raise InputError(file, f"no rescale to HU: RescaleType {brief(kind)}", "HU")
    slope, intercept = (
        float(element_numbers(file, header, name, 1)[0]) for name in ("RescaleSlope", "RescaleIntercept")
    )
    if not 0 < abs(slope) <= MOST_SLOPE or abs(intercept) > MOST_SLOPE:
        raise InputError(file, f"a rescale of {slope:g} x + {intercept:g}", "one that gives HU")
    meaning = HU_TYPES[kind]
    return slope, intercept, [f"RescaleType is {kind} ({meaning}); its values are taken for HU"] * bool(meaning)
