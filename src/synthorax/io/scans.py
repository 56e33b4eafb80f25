"""A scan in HU, whatever it is stored as, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.atomic import atomic_file
from synthorax.io.contents import what_is
from synthorax.io.images import image_stem, is_image, open_image, write_image
from synthorax.io.walk import not_regular
from synthorax.provenance import write_manifest
from synthorax.volume import Volume

if TYPE_CHECKING:
    from synthorax.io.dicom import CtSeries

AIR_BELOW_HU = -200
"""A CT of a chest has some air in it, and a picture that was scaled has not."""

UNSHIFTED_MOST = 600
"""Values from 0 to more than this are perhaps a scanner's raw values; masks and pictures stay below."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that was read.

    Attributes:
        ct: HU; int16 if it was not read as it is stored.
        patient_id, series_uid: where the file says so, else empty.
        dicom: the series it was, if it was one.
        notes: what was mended or doubted when it was read.
        path: where it was read from.
    """

    ct: Volume
    patient_id: str = ""
    series_uid: str = ""
    dicom: CtSeries | None = None
    notes: tuple[str, ...] = ()
    path: Path | None = None


def read_scan(path: Path, series: str | None = None, *, any_values: bool = False, as_stored: bool = False) -> Scan:
    """A CT scan: a DICOM folder or file, NIfTI, MHA, MHD or NRRD.

    Args:
        series: UID of a DICOM series, or its end, where a folder holds several.
        any_values: take an image of values that no CT of a chest has, and say so in the notes.
        as_stored: leave an image's voxels as they are, fractions and blanks (NaN) too; whole numbers if not.

    Raises:
        InputError: nothing readable there, or no CT in HU.
    """
    if not path.exists():
        raise InputError(path, "nothing", "a scan: a DICOM folder, NIfTI, MHA, MHD or NRRD")
    if is_image(path) and not path.is_dir():
        if series is not None:
            raise InputError(path, f"an image, and series {series} asked for", "DICOM, where a series is to be chosen")
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
    from synthorax.io import dicom  # pydicom takes longer to import than an image to read

    if path.is_file() and not dicom.is_dicom(path):
        kind = not_regular(path) or what_is(path) or "a file of no known kind"
        raise InputError(path, kind, "a DICOM folder, NIfTI, MHA, MHD or NRRD")
    found = dicom.read_ct_series(path, series)
    return replace(of_series(found), path=path.parent if path.is_file() else path)


def of_series(found: CtSeries) -> Scan:
    """The scan of a DICOM series."""
    return Scan(found.volume, found.patient_id, found.series_uid, found, found.notes)


def check_hounsfield(subject: object, volume: Volume, *, blanks: bool = False) -> None:
    """Refuse values that no CT has.

    Args:
        blanks: NaN is taken for what the scanner did not see.

    Raises:
        InputError: not finite, or no air, as in a mask or in a picture that was scaled.
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
        hint = "; values from 0 on are often HU plus 1024, which is to be taken off" if is_shifted else ""
        raise InputError(subject, f"values from {low:g} to {high:g}", f"HU of a CT, air below {AIR_BELOW_HU}{hint}")


def _as_int16(path: Path, volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The volume in whole HU, and a note where values lay outside int16."""
    voxels = volume.voxels
    if voxels.dtype == np.int16:
        return volume, ()
    low, high = -(2**15), 2**15 - 1
    made = np.empty(voxels.shape, np.int16)
    cut = blank = 0
    for plane, values in zip(made, voxels, strict=True):  # a copy of a whole scan in double precision takes gigabytes
        known = np.where(np.isnan(values), AIR_HU, values) if voxels.dtype.kind == "f" else values
        inside = np.clip(known, low, high)
        cut += int(np.count_nonzero(inside != known))
        blank += int(np.count_nonzero(known != values))
        plane[:] = np.rint(inside) if voxels.dtype.kind == "f" else inside
    notes = []
    if cut:
        notes.append(f"{path.name}: {cut} voxels below {low} or above {high} HU were cut to these")
    if blank:
        notes.append(f"{path.name}: {blank} voxels that are no numbers were set to {AIR_HU} HU")
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
    """Where an image's sidecar lies: beside it, `.json` in place of its suffix."""
    return path.with_name(image_stem(path) + ".json")
