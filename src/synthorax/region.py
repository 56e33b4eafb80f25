"""The voxels of one nodule as a boxed bit mask, so that nodules of a scan may overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Region:
    """A box of a scan's voxels, some of which are marked.

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
        """The marked voxels of a whole scan [z, y, x] in the smallest box; a mask without one gives an empty box."""
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
    def voxels(self) -> int:
        """Number of marked voxels."""
        return int(np.count_nonzero(self.mask))

    def indices(self) -> NDArray[np.int64]:
        """Indices [n, (z, y, x)] of the marked voxels in the scan."""
        return np.argwhere(self.mask) + self.corner

    def moved(self, by: Iterable[int]) -> Region:
        """The region with its box (z, y, x) voxels further along each axis."""
        z, y, x = (int(a + b) for a, b in zip(self.corner, by, strict=True))
        return Region((z, y, x), self.mask)

    def within(self, start: Sequence[int], shape: Sequence[int]) -> NDArray[np.bool_]:
        """The marked voxels of another box of the scan, bool [z, y, x].

        Args:
            start: index (z, y, x) of the box's first voxel; may be negative.
            shape: its size in voxels (z, y, x).
        """
        box = np.zeros(tuple(shape), bool)
        self.paint(box, True, start)
        return box

    def paint(self, labels: NDArray, value: int, start: Sequence[int] = (0, 0, 0)) -> None:
        """Set the marked voxels of an array [z, y, x] to a value; marked voxels outside the array are left out.

        Args:
            labels: changed in place.
            start: index (z, y, x) in the scan of the array's first voxel.
        """
        if (sides := self._shared(start, labels.shape)) is not None:
            mine, theirs = sides
            labels[theirs][self.mask[mine]] = value

    def overlap(self, other: Region) -> int:
        """Number of voxels that both regions mark."""
        sides = self._shared(other.corner, other.mask.shape)
        return 0 if sides is None else int(np.count_nonzero(self.mask[sides[0]] & other.mask[sides[1]]))

    def _shared(self, start: Sequence[int], shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
        """Where this box and another meet, as slices of each; None if they do not."""
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
    """How many regions mark each voxel, in the smallest box around the boxes of all of them.

    Returns:
        Index (z, y, x) of the box's first voxel, and the counts [z, y, x].
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
    """A label map [z, y, x] in which region i has the label i + 1. Where regions overlap, the smaller lies on top.

    Args:
        shape: of the map, in voxels (z, y, x).
        start: index (z, y, x) in the scan of the map's first voxel.

    Returns:
        uint8, or uint16 where there are more than 255 regions.
    """
    labels = np.zeros(tuple(shape), np.uint8 if len(regions) <= np.iinfo(np.uint8).max else np.uint16)
    for i in sorted(range(len(regions)), key=lambda i: -regions[i].voxels):
        regions[i].paint(labels, i + 1, start)
    return labels


def regions_of(labels: NDArray[np.integer], wanted: Iterable[int]) -> list[Region]:
    """The regions of labels of a map [z, y, x], in the order asked for; a label that is not there has an empty one."""
    from scipy.ndimage import find_objects

    boxes = find_objects(labels)
    found = []
    for label in wanted:
        box = boxes[label - 1] if 0 < label <= len(boxes) else None
        if box is None:
            found.append(Region((0, 0, 0), np.zeros((0, 0, 0), bool)))
        else:
            z, y, x = (side.start for side in box)
            found.append(Region((z, y, x), labels[box] == label))
    return found
