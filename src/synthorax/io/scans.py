"""Reading and writing a scan in HU: DICOM, NIfTI, MHA, MHD or NRRD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthorax.errors import InputError
from synthorax.geometry import AIR_BELOW_HU, AIR_HU
from synthorax.io.atomic import atomic_file
from synthorax.io.contents import what_is
from synthorax.io.images import image_stem, is_image, open_image, write_image
from synthorax.io.own_kinds import own_kind
from synthorax.io.walk import not_regular
from synthorax.provenance import write_manifest
from synthorax.volume import Volume

if TYPE_CHECKING:
    from synthorax.io.dicom import CtSeries

PICTURE_MOST = 255
"""Largest value of a mask, or of a CT scaled to the greys of a picture."""
UNSHIFTED_MOST = 600
"""Values from 0 to above this may be HU plus 1024, as scanners store them; masks and pictures stay below."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that was read.

    Attributes:
        ct: HU [z, y, x]; int16, or the stored type if it was read `as_stored`.
        patient_id, series_uid: ids of a DICOM series; empty for an image, unless its caller knows the patient.
        dicom: the DICOM series; None for an image.
        notes: repairs and doubts, a sentence each.
        path: the file or folder; None for a scan that was not read from one.
    """

    ct: Volume
    patient_id: str = ""
    series_uid: str = ""
    dicom: CtSeries | None = None
    notes: tuple[str, ...] = ()
    path: Path | None = None


def read_scan(path: Path, series: str | None = None, *, any_values: bool = False, as_stored: bool = False) -> Scan:
    """Read a CT scan from a DICOM folder or file, NIfTI, MHA, MHD or NRRD.

    Args:
        path: path of the scan.
        series: UID of a DICOM series, or the end of the UID; needed if the folder holds several.
        any_values: accept an image whose values are not those of a CT, with a note.
        as_stored: keep the type of an image's voxels, with fractions and blanks (NaN); otherwise voxels become int16.

    Raises:
        InputError: there is nothing readable, or no CT in HU.

    >>> scan = read_scan(Path("chest.nii.gz"))
    >>> str(scan.ct.voxels.dtype), scan.ct.voxels.ndim
    ('int16', 3)
    """
    if not path.exists():
        raise InputError(path, "nothing", "a scan: a DICOM folder, NIfTI, MHA, MHD or NRRD")
    if is_image(path) and not path.is_dir():
        if series is not None:
            raise InputError(path, f"an image, for which --series {series} has no meaning", "DICOM, or no --series")
        image = open_image(path)
        notes = image.notes
        try:
            check_hounsfield(path, image.volume, blanks=as_stored)
        except InputError as doubt:
            is_blank = image.volume.voxels.dtype.kind == "f" and not np.isfinite(image.volume.voxels).any()
            if not any_values or is_blank:
                raise
            notes = (*notes, str(doubt))
        if as_stored:
            return Scan(image.volume, notes=notes, path=path)
        volume, cut = _as_int16(path, image.volume)
        return Scan(volume, notes=(*notes, *cut), path=path)
    from synthorax.io import dicom  # importing pydicom takes longer than reading an image

    if path.is_file() and not dicom.is_dicom(path):
        kind = not_regular(path) or what_is(path) or "a file of no known kind"
        expected = "a DICOM folder, NIfTI, MHA, MHD or NRRD"
        if own := own_kind(path):
            kind, expected = own.name, f"{expected}; {own.use}"
        raise InputError(path, kind, expected)
    found = dicom.read_ct_series(path, series)
    return replace(of_series(found), path=path.parent if path.is_file() else path)


def of_series(found: CtSeries) -> Scan:
    """Return a DICOM series as a scan."""
    return Scan(found.volume, found.patient_id, found.series_uid, found, found.notes)


def check_hounsfield(subject: object, volume: Volume, *, blanks: bool = False) -> None:
    """Refuse voxels whose values are not HU of a CT.

    Args:
        subject: file or argument that an error names.
        volume: voxels [z, y, x].
        blanks: accept NaN, as outside the scanner's field of view.

    Raises:
        InputError: values are not finite, or none is as low as air, as in a mask or a scaled picture.
    """
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        seen = voxels[~np.isnan(voxels)]
        if not blanks or not seen.size or not np.isfinite(seen).all():
            raise InputError(subject, "values that are not finite", "HU")
        voxels = seen
    low, high = voxels.min(), voxels.max()
    if low > AIR_BELOW_HU or high == low:
        is_shifted = low >= 0 and high > UNSHIFTED_MOST
        hint = "; values from 0 on are often HU plus 1024: subtract 1024" if is_shifted else ""
        if low >= 0 and high <= PICTURE_MOST:
            hint = f"; values from 0 to at most {PICTURE_MOST} are those of a mask or a picture: give the CT itself"
        elif low < 0:
            hint = "; values that were scaled or normalised have to be brought back to HU"
        expected = f"HU of a CT, with air below {AIR_BELOW_HU}{hint}"
        raise InputError(subject, f"values from {low:g} to {high:g}", expected)


def _as_int16(path: Path, volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Return the volume in whole HU, with notes on values outside int16 and on NaN, which becomes air."""
    voxels = volume.voxels
    if voxels.dtype == np.int16:
        return volume, ()
    low, high = -(2**15), 2**15 - 1
    made = np.empty(voxels.shape, np.int16)
    cut = blank = 0
    for plane, values in zip(made, voxels, strict=True):  # plane by plane: a scan in float64 takes gigabytes
        known = np.where(np.isnan(values), AIR_HU, values) if voxels.dtype.kind == "f" else values
        inside = np.clip(known, low, high)
        cut += int(np.count_nonzero(inside != known))
        blank += int(np.count_nonzero(known != values))
        plane[:] = np.rint(inside) if voxels.dtype.kind == "f" else inside
    notes = []
    if cut:
        notes.append(f"{path.name}: {cut} voxels below {low} or above {high} HU were clipped to these")
    if blank:
        notes.append(f"{path.name}: {blank} voxels without a value (NaN) were set to {AIR_HU} HU")
    return replace(volume, voxels=made), tuple(notes)


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
    """Write a scan as an image if the name has an image's suffix, otherwise as a folder of DICOM slices.

    Args:
        path: file or folder to write.
        volume: HU [z, y, x].
        mark: the synthetic mark for the headers and the sidecar; None for a patient's scan, which gets no sidecar.
        about: further entries of the sidecar.
        source: scan from which this one was made; elements of its DICOM header are copied.
        keep_identity: copy the patient and the study of `source` too.
        overwrite: replace a DICOM folder that an earlier call made.

    Raises:
        InputError: the DICOM folder may not be replaced.
        OutputError: the scan cannot be written.
    """
    details: dict[str, Any] = {"synthetic": mark, **(about or {})}
    if is_image(path):
        write_image(path, volume, mark=mark)
        if mark:
            with atomic_file(sidecar(path)) as file:
                write_manifest(file, details)
        return
    from synthorax.io.dicom_kept import kept_elements
    from synthorax.io.dicom_out import write_ct_series

    series = source.dicom if source else None
    if series is not None and (not_kept := kept_elements(series, keep_identity=keep_identity)[1]):
        details["notes"] = [*details.get("notes", []), *not_kept]
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
    """Return the path of an image's sidecar: the image's path with the suffix `.json`."""
    return path.with_name(image_stem(path) + ".json")
