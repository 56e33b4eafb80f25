"""One reader's annotation of one nodule: outlines in the slices of a scan, and ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthorax.region import Region


@dataclass(frozen=True)
class AnnotatedScan:
    """An annotated scan: its patient, and the slice grid on which outlines were drawn.

    Attributes:
        patient_id, study_uid, series_uid: ids of the scan.
        pixel_spacing_mm: in-plane distance of pixel centres, the same along rows and columns.
        slice_spacing_mm: distance of slice centres.
        slice_thickness_mm: thickness of a slice.
        first_slice_z_mm: patient z of the lowest slice.
        n_slices: number of slices.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    pixel_spacing_mm: float
    slice_spacing_mm: float
    slice_thickness_mm: float
    first_slice_z_mm: float
    n_slices: int

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x)."""
        return self.slice_spacing_mm, self.pixel_spacing_mm, self.pixel_spacing_mm

    def slice_index(self, z_mm: float) -> int:
        """Return the index of the slice nearest to a patient z."""
        return round((z_mm - self.first_slice_z_mm) / self.slice_spacing_mm)


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed outline in one slice.

    Attributes:
        slice_index: index of the slice in the scan.
        points_px: [n, (x, y)] = (column, row); the pixels next to the nodule, just *outside* of it.
        inclusion: False for the outline of a hole.
    """

    slice_index: int
    points_px: NDArray[np.int16]
    inclusion: bool = True

    def paint(self, slice_mask: NDArray[np.bool_], corner_yx: tuple[int, int]) -> None:
        """Mark the pixels strictly inside the outline; the pixels of a hole are cleared instead.

        An outline with no pixel inside marks its own pixels, because the reader did see a nodule there.

        Args:
            slice_mask: [y, x], changed in place; must cover the outline.
            corner_yx: pixel (row, column) of `slice_mask[0, 0]`.
        """
        from skimage.draw import line, polygon  # slow to import, and `--help` of a verb does not need it

        x, y = self.points_px.T.astype(np.int64)
        top, left = y.min(), x.min()
        y, x = y - top, x - left
        inside = np.zeros((y.max() + 1, x.max() + 1), bool)
        inside[polygon(y, x)] = True
        inside[y, x] = False
        next_y, next_x = np.roll(y, -1), np.roll(x, -1)
        for i in np.flatnonzero((abs(next_y - y) > 1) | (abs(next_x - x) > 1)):
            inside[line(y[i], x[i], next_y[i], next_x[i])] = False
        if self.inclusion and not inside.any():
            inside[y, x] = True
        top, left = top - corner_yx[0], left - corner_yx[1]
        window = slice_mask[top : top + inside.shape[0], left : left + inside.shape[1]]
        window[inside] = self.inclusion


@dataclass(frozen=True, eq=False)
class Reading:
    """One reader's outlines and ratings of one nodule of 3 mm or more.

    Attributes:
        scan: scan that the reader read.
        reader: index of the reading session, 0 to 3.
        contours: outlines of the nodule and of holes in it.
        ratings: name of a LIDC rating (`nodule.RATINGS`) -> value.
    """

    scan: AnnotatedScan
    reader: int
    contours: tuple[Contour, ...]
    ratings: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def region(self) -> Region:
        """The nodule's voxels: those inside its outlines, without its holes."""
        slices = [c.slice_index for c in self.contours]
        points = np.concatenate([c.points_px for c in self.contours])
        left, top = points.min(0).tolist()
        right, bottom = points.max(0).tolist()
        corner = min(slices), top, left
        mask = np.zeros((max(slices) - corner[0] + 1, bottom - top + 1, right - left + 1), bool)
        for contour in sorted(self.contours, key=lambda c: not c.inclusion):
            contour.paint(mask[contour.slice_index - corner[0]], (top, left))
        return Region(corner, mask)

    @cached_property
    def outline_mm(self) -> NDArray[np.float64]:
        """Outline points [n, (z, y, x)] in millimetres of the slice grid."""
        slices = np.repeat([c.slice_index for c in self.contours], [len(c.points_px) for c in self.contours])
        points = np.concatenate([c.points_px for c in self.contours])
        return np.column_stack([slices, points[:, ::-1]]) * self.scan.voxel_mm

    @cached_property
    def diameter_mm(self) -> float:
        """Longest chord of the nodule within a slice, from edge to edge, in millimetres.

        The outline runs through the pixels just outside the nodule, so that its own chord is one pixel too long.
        """
        longest = max(longest_chord(c.points_px) for c in self.contours if c.inclusion)
        return max(longest - 1.0, 1.0) * self.scan.pixel_spacing_mm


def row_ends(points_px: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the first and the last point of each row of points [n, (x, y)]; the longest chord ends at two of these."""
    x, y = points_px.T.astype(np.float64)
    order = np.lexsort((x, y))
    rows, start = np.unique(y[order], return_index=True)
    left, right = np.minimum.reduceat(x[order], start), np.maximum.reduceat(x[order], start)
    return np.column_stack([np.concatenate([left, right]), np.concatenate([rows, rows])])


def longest_chord(points_px: NDArray[np.integer]) -> float:
    """Return the largest distance between two of the points [n, (x, y)], in pixels."""
    ends = row_ends(points_px)
    return float(np.sqrt(((ends[:, None] - ends[None]) ** 2).sum(-1).max()))
