"""A scan in HU, whatever it is stored as."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthorax.errors import InputError
from synthorax.io import dicom
from synthorax.io.images import is_image, read_image
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that was read.

    Attributes:
        ct: int16 HU.
        patient_id, series_uid: where the file says so, else empty.
        dicom: the series it was, if it was one.
    """

    ct: Volume
    patient_id: str = ""
    series_uid: str = ""
    dicom: dicom.CtSeries | None = None
    notes: tuple[str, ...] = ()


def read_scan(path: Path, series: str | None = None) -> Scan:
    """A CT scan: a DICOM folder or file, NIfTI, MHA, MHD or NRRD.

    Args:
        series: UID of a DICOM series, or its end, where a folder holds several.

    Raises:
        InputError: nothing readable there, or no CT in HU.
    """
    if not path.exists():
        raise InputError(path, "nothing", "a scan: a DICOM folder, NIfTI, MHA, MHD or NRRD")
    if path.is_file() and is_image(path):
        return Scan(to_hounsfield(path, read_image(path)))
    if path.is_file() and not dicom.is_dicom(path):
        raise InputError(path, "no image that is known", "a DICOM folder, NIfTI, MHA, MHD or NRRD")
    return of_series(dicom.read_ct_series(path.parent if path.is_file() else path, series))


def of_series(found: dicom.CtSeries) -> Scan:
    """The scan of a DICOM series."""
    return Scan(found.volume, found.patient_id, found.series_uid, found, found.notes)


def to_hounsfield(path: Path, volume: Volume) -> Volume:
    """An image's voxels as int16, if they can be HU.

    Raises:
        InputError: values that no CT has: none below 0, as in a mask or in a picture that was scaled; or not finite.
    """
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(path, "values that are not finite", "HU")
    low, high = voxels.min(), voxels.max()
    if low >= 0 or high == low:
        raise InputError(path, f"values from {low:g} to {high:g}", "HU of a CT, air below -200")
    if voxels.dtype == np.int16:
        return volume
    if voxels.dtype.kind == "f":
        voxels = np.rint(voxels)
    return replace(volume, voxels=np.clip(voxels, -(2**15), 2**15 - 1).astype(np.int16))
