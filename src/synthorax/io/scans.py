"""A scan in HU, whatever it is stored as, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthorax.errors import InputError
from synthorax.io import dicom
from synthorax.io.atomic import atomic_file
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import image_stem, is_image, read_image, write_image
from synthorax.provenance import write_manifest
from synthorax.volume import Volume

AIR_BELOW_HU = -200
"""A CT of a chest has some air in it, and a picture that was scaled has not."""


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
    if path.is_file():
        series = dicom.read_about(path).series_uid
        path = path.parent
    return of_series(dicom.read_ct_series(path, series))


def of_series(found: dicom.CtSeries) -> Scan:
    """The scan of a DICOM series."""
    return Scan(found.volume, found.patient_id, found.series_uid, found, found.notes)


def to_hounsfield(path: Path, volume: Volume) -> Volume:
    """An image's voxels as int16, if they can be HU.

    Raises:
        InputError: values that no CT has: not finite, or no air, as in a mask or in a picture that was scaled.
    """
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(path, "values that are not finite", "HU")
    low, high = voxels.min(), voxels.max()
    if low > AIR_BELOW_HU or high == low:
        raise InputError(path, f"values from {low:g} to {high:g}", f"HU of a CT, air below {AIR_BELOW_HU}")
    if voxels.dtype == np.int16:
        return volume
    if voxels.dtype.kind == "f":
        voxels = np.rint(voxels)
    return replace(volume, voxels=np.clip(voxels, -(2**15), 2**15 - 1).astype(np.int16))


def write_scan(
    path: Path,
    volume: Volume,
    *,
    mark: str | None,
    about: Mapping[str, Any] | None = None,
    source: Scan | None = None,
    keep_identity: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a scan as an image, by the name's suffix, or else as a folder of DICOM slices; with a sidecar.

    Args:
        mark: the synthetic mark, put into headers and sidecar; None for a patient's scan, which gets no sidecar.
        about: what else the sidecar tells.
        source: what it was made from; a DICOM series gives its acquisition to the one that is written.
        keep_identity: keep the patient and study of that series too.
        overwrite: replace a DICOM folder that we made.

    Raises:
        InputError: a folder that holds something else.
        OutputError: it cannot be written.
    """
    details = {"synthetic": mark, **(about or {})}
    if is_image(path):
        write_image(path, volume, mark=mark)
        if mark:
            with atomic_file(sidecar(path)) as file:
                write_manifest(file, details)
        return
    series = source.dicom if source else None
    write_ct_series(
        path,
        volume,
        mark=mark,
        source=series,
        keep_identity=keep_identity,
        sidecar=details if mark else None,
        overwrite=overwrite,
    )


def sidecar(path: Path) -> Path:
    """Where an image's sidecar lies: beside it, `.json` in place of its suffix."""
    return path.with_name(image_stem(path) + ".json")
