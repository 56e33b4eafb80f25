"""The position and the rescale to HU of the slices in CT files, which hold one slice or many frames each."""

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
"""Most pixels of a slice."""
MOST_SCAN_VOXELS = MOST_BYTES // 2
"""Most voxels of a scan, each int16."""
SAME_RECONSTRUCTION = 0.02
"""ImagerPixelSpacing replaces a missing PixelSpacing if it is within 2 % of ReconstructionDiameter / Columns."""
HU_TYPES = {"": "", "HU": "", "US": "unspecified", "HU_MOD": "modified HU"}
"""Values of RescaleType that are read as HU, and the meaning of those that get a note. By the DICOM standard, CT
without a RescaleType is HU."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a CT series.

    Attributes:
        file: file that contains the slice.
        header: header of the file.
        slice_header: the elements about this slice alone; the same as `header` if the file holds one slice.
        frame: index of the frame in its file; None if the file holds one slice.
        orientation: unit vectors along a row and along a column, LPS, [6].
        spacing_mm: distance between rows and distance between columns.
        position_mm: (x, y, z) of the centre of the first pixel, LPS.
        slope, intercept: HU = stored value * slope + intercept.
        number: InstanceNumber of the file as written; empty for a frame.
        notes: doubts about the header.
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
        """The name of the file, and if it has several frames the number of the frame, from 1."""
        return self.file.name if self.frame is None else f"frame {self.frame + 1} of {self.file.name}"


@dataclass(frozen=True)
class Size:
    """The size of an image by its header."""

    rows: int
    columns: int
    frames: int

    @property
    def voxels(self) -> int:
        """Number of pixels in all frames."""
        return self.rows * self.columns * self.frames


def claimed_size(file: Path, header: Dataset) -> Size:
    """Return the size of a grey image by its header.

    Raises:
        InputError: the image has colours, or too many pixels for a CT.
    """
    try:
        size = Size(int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1))
        samples = int(header.get("SamplesPerPixel") or 1)
    except Exception as error:  # pydicom raises errors of any kind over damaged elements
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
    """Return the bytes of PixelData as they are stored; empty if they are missing or cannot be read."""
    try:
        pixels = header.get("PixelData")
    except Exception:  # as above
        return b""
    return pixels if isinstance(pixels, bytes) else b""


def planes_of(file: Path, header: Dataset) -> list[Plane]:
    """Return the slices of a CT file, without localizers.

    Raises:
        InputError: the file is not CT, or its size, position, orientation or rescale to HU is missing or not usable.
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
            raise InputError(file, f"SOP class CT Image Storage with {size.frames} frames", "one frame in each file")
        return [] if is_localizer(header) else [_plane(file, header, header, None)]
    return list(_frames(file, header, size.frames))


def _frames(file: Path, header: Dataset, count: int) -> Iterator[Plane]:
    """The frames of an Enhanced CT, each with the elements of its own and of the shared functional groups."""
    try:
        shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        own = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    except Exception as error:  # as above
        raise InputError(file, "damaged functional groups", "an Enhanced CT") from error
    if len(own) not in (0, count):
        found = f"{count} frames, but functional groups for {len(own)}"
        raise InputError(file, found, "functional groups for every frame")
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
"""Functional groups of an Enhanced CT, with the elements in them that a classic CT slice has in its header."""
FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)
"""Tags of the shared and the per-frame functional groups."""
CONVERTED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""Functional groups in which a Legacy Converted CT keeps other elements of the original slices."""


def _flat(header: Dataset, shared: Dataset, own: Dataset) -> Dataset:
    """Return the elements of a frame as the header of a classic CT slice would have them."""
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
    """Return the header of a slice; the header of a frame is made as if the frame were a file of its own."""
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
    """Millimetres between rows and between columns, with a note if they come from ImagerPixelSpacing."""
    keyword, notes = "PixelSpacing", []
    if not element_text(header, keyword) and element_text(header, "ImagerPixelSpacing"):
        keyword = "ImagerPixelSpacing"
        notes = ["PixelSpacing is missing; ImagerPixelSpacing is used instead"]
    spacing_mm = element_numbers(file, header, keyword, 2)
    if not (spacing_mm > 0).all():
        raise InputError(file, f"{keyword} {spacing_mm.tolist()}", "positive millimetres")
    if notes and element_text(header, "ReconstructionDiameter"):
        width_mm = element_numbers(file, header, "ReconstructionDiameter", 1)[0] / int(image.Columns)
        if abs(width_mm - spacing_mm[1]) > SAME_RECONSTRUCTION * width_mm:
            found = f"no PixelSpacing, and ImagerPixelSpacing {spacing_mm.tolist()} mm, although the reconstruction"
            found += f" diameter gives {width_mm:.4g} mm"
            raise InputError(file, found, "PixelSpacing")
    return spacing_mm, notes


MOST_SLOPE = 2.0**16
"""Largest slope and intercept of a rescale to HU; larger ones would clip all values of a slice to the ends of int16."""


def _rescale(file: Path, header: Dataset) -> tuple[float, float, list[str]]:
    """Slope and intercept of the rescale to HU, with a note if the header leaves open whether it gives HU."""
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
        raise InputError(file, f"a rescale of {slope:g} x + {intercept:g}", "a rescale that gives HU")
    meaning = HU_TYPES[kind]
    return slope, intercept, [f"RescaleType is {kind} ({meaning}); its values are taken for HU"] * bool(meaning)
