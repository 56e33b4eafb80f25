"""The nodules of a scan and their voxels, by agreement of its readers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthorax.annotations.clustering import AnnotatedNodule
from synthorax.annotations.reading import AnnotatedScan
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.nodule import RATINGS, Nodule
from synthorax.region import Region
from synthorax.volume import Volume

SPACING_ROUNDING = 0.02
"""Two spacings that differ by up to this share are the same but for rounding."""


def as_read(volume: Volume) -> Volume:
    """Reorient a scan so that its rows and columns are those that the readers saw, and slices go from feet to head.

    Outlines are in rows and columns of the scanner's images, in which the patient may be turned by 180 degrees. An
    image of which only the rows or only the columns are reversed was mirrored by a converter, as is common for NIfTI.

    Raises:
        InputError: the slices are not axial.
    """
    if not np.allclose(np.abs(volume.direction), np.eye(3), atol=1e-3):
        raise InputError("outlines", f"axes {np.round(volume.direction, 3).tolist()}", "axial slices")
    turned = volume.direction[0, 0] < 0 and volume.direction[1, 1] < 0
    return orient(volume, "RAS" if turned else "LPS")


def slice_grid(volume: Volume, *, patient_id: str = "", study_uid: str = "", series_uid: str = "") -> AnnotatedScan:
    """Return the slice grid of a volume in the orientation of `as_read`.

    Args:
        volume: the scan in the orientation of `as_read`.
        patient_id, study_uid, series_uid: ids of the scan, for the result.

    Raises:
        InputError: the pixels are not square.
    """
    _, row, column = volume.spacing_mm
    if abs(row - column) > SPACING_ROUNDING * row:
        raise InputError("outlines", f"pixels of {row:g} x {column:g} mm", "square pixels")
    return AnnotatedScan(
        patient_id=patient_id,
        study_uid=study_uid,
        series_uid=series_uid,
        pixel_spacing_mm=column,
        slice_spacing_mm=volume.spacing_mm[0],
        slice_thickness_mm=volume.spacing_mm[0],
        first_slice_z_mm=volume.origin_mm[2],
        n_slices=volume.shape[0],
    )


def label_nodules(
    nodules: Sequence[AnnotatedNodule], volume: Volume, readers: int
) -> tuple[list[Region], list[Nodule], list[str]]:
    """Return the nodules of a scan and their voxels, those that at least `readers` readers marked.

    A nodule without such voxels gets label 0; its centre is that of all voxels that any reader marked.

    Args:
        nodules: readings grouped into nodules.
        volume: the scan or a part of it, on the grid of the outlines and in the orientation of `as_read`.
        readers: who must agree on a voxel.

    Returns:
        The voxels of each label; the nodules in the order of the labels, nodules without voxels last; and a note on
        each nodule with slices outside the volume. A nodule with no slice inside is left out.

    Raises:
        InputError: the volume has another pixel or slice spacing, or a nodule lies outside its rows or columns.
    """
    grid = slice_grid(volume)
    made: list[Nodule] = []
    regions: list[Region] = []
    notes: list[str] = []
    agreed = [nodule.consensus(readers) for nodule in nodules]
    order = sorted(range(len(nodules)), key=lambda i: not agreed[i].mask.any())
    for i in order:
        nodule, region = nodules[i], agreed[i]
        scan = nodule.scan
        for ours, theirs, what in (
            (grid.pixel_spacing_mm, scan.pixel_spacing_mm, "pixels"),
            (grid.slice_spacing_mm, scan.slice_spacing_mm, "slices"),
        ):
            if abs(ours - theirs) > SPACING_ROUNDING * theirs:
                expected = f"{what} {theirs:g} mm apart, as in the annotated scan"
                raise InputError(f"scan {scan.series_uid}", f"{what} {ours:g} mm apart", expected)
        offset = round((scan.first_slice_z_mm - grid.first_slice_z_mm) / grid.slice_spacing_mm)
        has_voxels = bool(region.mask.any())
        marked = region if has_voxels else nodule.consensus(1)
        marked = marked.moved((offset, 0, 0))
        stop = np.add(marked.corner, marked.mask.shape)
        slices = f"slices {marked.corner[0]} to {stop[0] - 1}"
        if min(marked.corner[1:]) < 0 or (stop[1:] > volume.shape[1:]).any():
            found = f"a nodule in rows {marked.corner[1]} to {stop[1] - 1}, columns {marked.corner[2]} to {stop[2] - 1}"
            raise InputError(f"scan {scan.series_uid}", found, f"{volume.shape[1]} rows, {volume.shape[2]} columns")
        if marked.corner[0] < 0 or stop[0] > grid.n_slices:
            marked = _within_slices(marked, grid.n_slices)
            has_voxels = has_voxels and bool(marked.mask.any())
            if not marked.mask.any():
                notes.append(
                    f"a nodule is left out: its outlines lie in {slices}, but the scan has 0 to {grid.n_slices - 1}"
                )
                continue
            notes.append(f"a nodule in {slices} is cut off: the scan has slices 0 to {grid.n_slices - 1}")
        if has_voxels:
            regions.append(marked)
        place = volume.to_world(marked.indices().mean(0))
        made.append(
            Nodule(
                nodule_id=f"{len(made) + 1:02d}",
                center_mm=(float(place[0]), float(place[1]), float(place[2])),
                attributes=nodule.attributes,
                label=len(regions) if has_voxels else 0,
                ratings={name: tuple(float(r.ratings[name]) for r in nodule.readings) for name in RATINGS},
                extra={"readers": str(len(nodule.readings))},
            )
        )
    return regions, made, notes


def _within_slices(region: Region, n_slices: int) -> Region:
    """Return the part of a region in slices 0 to `n_slices` - 1; may be empty."""
    first = max(region.corner[0], 0)
    mask = region.mask[first - region.corner[0] : max(n_slices - region.corner[0], 0)]
    return Region((first, *region.corner[1:]), mask)
