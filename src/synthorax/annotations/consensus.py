"""Nodules of a scan and their voxels, out of what its readers marked."""

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
"""Relative difference of two spacings that is taken for rounding."""


def as_read(volume: Volume) -> Volume:
    """A scan with its rows and columns as the readers saw them, slices from feet to head.

    Outlines count rows and columns as they were scanned, and a patient may lie turned round. An image whose rows
    alone or columns alone run the other way was mirrored by a converter, as NIfTI often is; no scanner does that.

    Raises:
        InputError: the slices are not axial.
    """
    if not np.allclose(np.abs(volume.direction), np.eye(3), atol=1e-3):
        raise InputError("outlines", f"axes {np.round(volume.direction, 3).tolist()}", "axial slices")
    turned = volume.direction[0, 0] < 0 and volume.direction[1, 1] < 0
    return orient(volume, "RAS" if turned else "LPS")


def slice_grid(volume: Volume, *, patient_id: str = "", study_uid: str = "", series_uid: str = "") -> AnnotatedScan:
    """The slice grid of a volume that is `as_read`.

    Raises:
        InputError: its pixels are not square.
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
    """The nodules of a scan and their voxels.

    A nodule's voxels are those that at least `readers` readers marked; where there is none, it keeps label 0
    and its place is that of all readings together.

    Args:
        volume: on the grid that the outlines were drawn on, `as_read`; it may be a part of the scan.

    Returns:
        The voxels of each label; the nodules in the order of the labels, those without voxels last; and a note on each
        nodule of which slices are not in the volume. A nodule of which no slice is there is left out.

    Raises:
        InputError: the volume is of another grid, or a nodule lies beside its rows or columns.
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
                raise InputError(f"scan {scan.series_uid}", f"{what} {ours:g} mm apart", f"{theirs:g} mm, as annotated")
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
                    f"a nodule is left out: its outlines lie in {slices}, and the scan has 0 to {grid.n_slices - 1}"
                )
                continue
            notes.append(f"a nodule in {slices} is cut, and the scan has 0 to {grid.n_slices - 1}")
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
    """The part of a region in slices 0 to `n_slices` - 1; an empty one if there is none."""
    first = max(region.corner[0], 0)
    mask = region.mask[first - region.corner[0] : max(n_slices - region.corner[0], 0)]
    return Region((first, *region.corner[1:]), mask)
