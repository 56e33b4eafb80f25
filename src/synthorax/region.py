"""The voxels of one nodule as a mask in a box of the scan, so that nodules may overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Region:
    """Marked voxels of a scan, in a box around them.

    Attributes:
        corner: index (z, y, x) of the box's first voxel; the box may reach beyond the scan.
        mask: bool [z, y, x]; True at the marked voxels.

    >>> import numpy as np
    >>> mask = np.zeros((40, 64, 64), bool)
    >>> mask[10:14, 30:36, 20:26] = True
    >>> region = Region.of(mask)
    >>> region.corner, region.shape, region.voxels
    ((10, 30, 20), (4, 6, 6), 144)
    >>> bool((region.within((0, 0, 0), mask.shape) == mask).all())
    True
    """

    corner: tuple[int, int, int]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray) -> Region:
        """Return the region of a whole scan's mask [z, y, x] in its smallest box; an empty box if none is marked."""
        marked = mask if mask.dtype == np.bool_ else mask != 0
        sides = []
        for axis in range(3):
            inside = np.flatnonzero(marked.any(tuple({0, 1, 2} - {axis})))
            if not len(inside):
                return cls((0, 0, 0), np.zeros((0, 0, 0), bool))
            sides.append(slice(int(inside[0]), int(inside[-1]) + 1))
            marked = marked[(*(slice(None),) * axis, sides[-1])]
        z, y, x = (side.start for side in sides)
        return cls((z, y, x), marked.copy())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of the box in voxels (z, y, x)."""
        z, y, x = self.mask.shape
        return z, y, x

    @property
    def box(self) -> tuple[slice, ...]:
        """Slices (z, y, x) of the box in an array of the whole scan."""
        return tuple(slice(start, start + n) for start, n in zip(self.corner, self.shape, strict=True))

    @property
    def voxels(self) -> int:
        """Number of marked voxels."""
        return int(np.count_nonzero(self.mask))

    def indices(self) -> NDArray[np.int64]:
        """Return the indices in the scan of the marked voxels, [n, (z, y, x)]."""
        return np.argwhere(self.mask) + self.corner

    def moved(self, by: Iterable[int]) -> Region:
        """Return the region shifted `by` voxels along (z, y, x)."""
        z, y, x = (int(a + b) for a, b in zip(self.corner, by, strict=True))
        return Region((z, y, x), self.mask)

    def within(self, start: Sequence[int], shape: Sequence[int]) -> NDArray[np.bool_]:
        """Return which voxels of another box of the scan are marked, bool [z, y, x].

        Args:
            start: index (z, y, x) in the scan of that box's first voxel; may be negative.
            shape: size of that box in voxels (z, y, x).
        """
        box = np.zeros(tuple(shape), bool)
        self.paint(box, True, start)
        return box

    def paint(self, labels: NDArray, value: int, start: Sequence[int] = (0, 0, 0)) -> None:
        """Set the marked voxels of an array to a value; marked voxels outside the array are ignored.

        Args:
            labels: array [z, y, x], changed in place.
            value: written into it.
            start: index (z, y, x) in the scan of the array's first voxel.
        """
        if (sides := self._shared(start, labels.shape)) is not None:
            mine, theirs = sides
            labels[theirs][self.mask[mine]] = value

    def overlap(self, other: Region) -> int:
        """Return the number of voxels that both regions mark."""
        sides = self._shared(other.corner, other.mask.shape)
        return 0 if sides is None else int(np.count_nonzero(self.mask[sides[0]] & other.mask[sides[1]]))

    def likeness(self, other: Region) -> float:
        """Return the number of voxels that both regions mark as a share of the smaller region's; 0 if one is empty."""
        smaller = min(self.voxels, other.voxels)
        return self.overlap(other) / smaller if smaller else 0.0

    def _shared(self, start: Sequence[int], shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
        """The overlap of this box with another, as slices of this box and of the other; None if they do not overlap."""
        low = np.maximum(self.corner, start)
        high = np.minimum(np.add(self.corner, self.mask.shape), np.add(start, shape))
        if (high <= low).any():
            return None
        mine, theirs = (
            tuple(slice(int(a), int(b)) for a, b in zip(low - first, high - first, strict=True))
            for first in (self.corner, start)
        )
        return mine, theirs


def agreement(regions: Sequence[Region]) -> tuple[tuple[int, int, int], NDArray[np.uint16]]:
    """Count how many regions mark each voxel, in the smallest box around all of their boxes.

    Returns:
        Index (z, y, x) in the scan of the box's first voxel, and the counts [z, y, x].
    """
    corner = np.min([r.corner for r in regions], axis=0)
    counts = np.zeros(np.max([np.add(r.corner, r.shape) for r in regions], axis=0) - corner, np.uint16)
    for region in regions:
        start = np.subtract(region.corner, corner)
        counts[tuple(slice(a, a + n) for a, n in zip(start, region.shape, strict=True))] += region.mask
    z, y, x = corner.tolist()
    return (z, y, x), counts


def paint_labels(
    regions: Sequence[Region], shape: Sequence[int], start: Sequence[int] = (0, 0, 0)
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a label map in which region i has the label i + 1; where regions overlap, the smaller one lies on top.

    Args:
        regions: regions of one scan.
        shape: voxels (z, y, x) of the map.
        start: index (z, y, x) in the scan of the map's first voxel.

    Returns:
        [z, y, x], uint8, or uint16 for more than 255 regions.
    """
    labels = np.zeros(tuple(shape), np.uint8 if len(regions) <= np.iinfo(np.uint8).max else np.uint16)
    for i in sorted(range(len(regions)), key=lambda i: -regions[i].voxels):
        regions[i].paint(labels, i + 1, start)
    return labels


def regions_of(labels: NDArray[np.integer], wanted: Iterable[int] | None = None) -> list[Region]:
    """Return the region of each wanted label of a map [z, y, x], in their order; a label without voxels is empty.

    Args:
        labels: the map.
        wanted: the labels; None for all from 1 to the largest in the map.
    """
    from scipy.ndimage import find_objects

    boxes = find_objects(labels)
    found = []
    for label in range(1, len(boxes) + 1) if wanted is None else wanted:
        box = boxes[label - 1] if 0 < label <= len(boxes) else None
        if box is None:
            found.append(Region((0, 0, 0), np.zeros((0, 0, 0), bool)))
        else:
            z, y, x = (side.start for side in box)
            found.append(Region((z, y, x), labels[box] == label))
    return found
