"""A scan in HU, whatever it is stored as, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.geometry import crop, orient, turned_like
from synthorax.io import dicom
from synthorax.io.atomic import atomic_file
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.fractions import as_labels
from synthorax.io.images import image_stem, is_image, open_image, write_image
from synthorax.io.placing import times
from synthorax.io.segments import list_segments, read_segments
from synthorax.provenance import write_manifest
from synthorax.volume import Volume

AIR_BELOW_HU = -200
"""A CT of a chest has some air in it, and a picture that was scaled has not."""
MOST_OFF = 0.25
"""A mask whose voxels lie further off an image's voxels than this part of a voxel, anywhere, is of another grid."""
TOLD_OFF = 0.05
"""From this part of a voxel on, a mask's offset is told."""


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
    dicom: dicom.CtSeries | None = None
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
    if path.is_file() and is_image(path):
        if series is not None:
            raise InputError(path, f"an image, and series {series} asked for", "DICOM, where a series is to be chosen")
        image = open_image(path)
        notes = image.notes
        try:
            check_hounsfield(path, image.volume, blanks=as_stored)
        except InputError as doubt:
            if not any_values or not np.isfinite(image.volume.voxels).any():
                raise
            notes = (*notes, str(doubt))
        if as_stored:
            return Scan(image.volume, notes=notes, path=path)
        volume, cut = _as_int16(path, image.volume)
        return Scan(volume, notes=(*notes, *cut), path=path)
    if path.is_file() and not dicom.is_dicom(path):
        raise InputError(path, "no image that is known", "a DICOM folder, NIfTI, MHA, MHD or NRRD")
    found = dicom.read_ct_series(path, series)
    return replace(of_series(found), path=path.parent if path.is_file() else path)


def of_series(found: dicom.CtSeries) -> Scan:
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
        raise InputError(subject, f"values from {low:g} to {high:g}", f"HU of a CT, air below {AIR_BELOW_HU}")


def _as_int16(path: Path, volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The volume in whole HU, and a note where values lay outside int16."""
    voxels = volume.voxels
    if voxels.dtype == np.int16:
        return volume, ()
    low, high = -(2**15), 2**15 - 1
    made = np.empty(voxels.shape, np.int16)
    cut: int = 0
    for plane, values in zip(made, voxels, strict=True):  # a copy of a whole scan in double precision takes gigabytes
        inside = np.clip(values, low, high)
        cut += int(np.count_nonzero(inside != values))
        plane[:] = np.rint(inside) if voxels.dtype.kind == "f" else inside
    notes = (f"{path.name}: {cut} voxels below {low} or above {high} HU were cut to these",) if cut else ()
    return replace(volume, voxels=made), notes


class Labels(NamedTuple):
    """The labels of a mask on the voxels of an image [z, y, x], and what was mended or left out to get them."""

    voxels: NDArray
    notes: tuple[str, ...] = ()


def read_mask_on(path: Path, ct: Volume) -> NDArray:
    """The labels of `read_labels_on` without the notes."""
    return read_labels_on(path, ct).voxels


def read_labels_on(path: Path, ct: Volume) -> Labels:
    """The labels of a mask whose voxels are voxels of an image: of all of it or a part, its axes any way round.

    A DICOM segmentation or structure set becomes labels 1, 2, ... wherever it lies.

    Raises:
        InputError: no mask, or one of other voxels.
    """
    if not is_image(path):
        from synthorax.io.dicom_masks import read_masks

        return Labels(read_masks(path, ct)[0].voxels)
    mask = open_image(path)
    values, notes = as_labels(path, mask.volume.voxels)
    placed = place_labels(path, replace(mask.volume, voxels=values), ct)
    return Labels(placed.voxels, (*mask.notes, *notes, *placed.notes))


def read_nodule_on(path: Path, ct: Volume, label: int | None = None) -> Labels:
    """The voxels of one nodule of a mask on the voxels of an image, bool [z, y, x].

    Args:
        label: the nodule's value in the mask, or its segment's in a segmentation of 3D Slicer; anything above 0 if
            not given.

    Raises:
        InputError: as `read_labels_on`; no voxel of that label; a label that several segments have.
    """
    if is_image(path) and list_segments(path):
        return _segment_on(path, ct, label)
    values, notes = read_labels_on(path, ct)
    marked = values > 0 if label is None else values == label
    if not marked.any():
        _refuse_empty(path, values, label)
    if label is None and len(found := np.unique(values[marked])) > 1:
        shown = ", ".join(map(str, found[:8].tolist())) + ", ..." * (len(found) > 8)
        notes += (f"{path.name}: labels {shown} are taken together for one nodule; the column mask_label parts them",)
    return Labels(marked, notes)


def _refuse_empty(path: Path, values: NDArray, label: int | None) -> None:
    found = np.unique(values[values > 0])
    if label is None or not len(found):
        raise InputError(path, "no voxel set in the image", "a nodule; leave the mask out where there is none")
    shown = ", ".join(map(str, found[:8].tolist())) + ", ..." * (len(found) > 8)
    raise InputError(path, f"no voxel of label {label}, but of {shown}", f"mask_label {found[0]}, or the right mask")


def _segment_on(path: Path, ct: Volume, label: int | None) -> Labels:
    """`read_nodule_on` for a segmentation: the only segment, or the only one of that value."""
    found = read_segments(path)
    chosen = [i for i, segment in enumerate(found.segments) if label in (None, segment.value)]
    if len(chosen) != 1:
        names = "; ".join(f"{segment.name}: {segment.value}" for segment in found.segments)[:200]
        wanted = "segments" if label is None else f"segments, {len(chosen)} of them of label {label}"
        expected = "one segment by mask_label; export the nodule's segment alone if it shares its value"
        raise InputError(path, f"{len(found.segments)} {wanted} ({names})", expected)
    region = found.regions[chosen[0]]
    if not region.voxels:
        raise InputError(path, f"no voxel in segment {found.segments[chosen[0]].name}", "a nodule")
    x, y, z = found.grid.to_world(region.corner).tolist()
    placed = place_labels(path, replace(found.grid, voxels=region.mask, origin_mm=(x, y, z)), ct)
    note = f"{path.name}: segment {found.segments[chosen[0]].name} is taken for the nodule"
    return Labels(placed.voxels, (*found.notes, *placed.notes, note))


def place_labels(subject: object, mask: Volume, ct: Volume) -> Labels:
    """The labels of a mask on the voxels of an image, which are the mask's own voxels: cropped, padded or turned.

    The mask's corners may lie `MOST_OFF` of a voxel off the image's voxels, as the headers round their numbers.

    Raises:
        InputError: other voxels, or a mask that lies outside the image.
    """
    upright, grid = orient(mask, "LPS"), orient(ct, "LPS")
    corners = np.array(list(product((0, 1), repeat=3))) * (np.array(upright.shape) - 1)
    shifts = grid.to_voxel(upright.to_world(corners)) - corners
    start = np.rint(shifts.mean(0)).astype(int)
    off = float(np.abs(shifts - start).max())
    if not off <= MOST_OFF:
        found = f"voxels of {_grid(mask)}"
        expected = (
            f"the image's voxels of {_grid(ct)}, or a part of them; resample the mask onto the image, "
            "nearest voxel (SimpleITK.Resample(mask, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor))"
        )
        raise InputError(subject, found, expected)
    notes = []
    name = getattr(subject, "name", None) or str(subject)
    if off > TOLD_OFF:
        notes.append(f"{name}: up to {off:.2f} of a voxel off the image's voxels, as if rounded; taken as the same")
    if start.any() or upright.shape != grid.shape:
        placed = crop(upright, (-start).tolist(), grid.shape, fill=0)
        outside = np.count_nonzero(upright.voxels) - np.count_nonzero(placed.voxels)
        if outside and not placed.voxels.any():
            raise InputError(subject, f"{_grid(mask)}, outside the image", f"a mask within the image's {_grid(ct)}")
        if outside:
            notes.append(f"{name}: {outside} marked voxels lie outside the image and are left out")
        upright = placed
    placed = replace(grid, voxels=upright.voxels)
    return Labels(turned_like(placed, ct).voxels, tuple(notes))


def _grid(volume: Volume) -> str:
    """A volume's voxels in words, along x, y and z as `info` shows them for its axes."""
    return (
        f"{' x '.join(map(str, volume.shape[::-1]))} (x, y, z) of {times(volume.spacing_mm[::-1])} mm "
        f"at {', '.join(f'{c:.6g}' for c in volume.origin_mm)} mm"
    )


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
