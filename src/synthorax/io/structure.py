"""A segment or structure that was read from a file, placed on the voxels of a scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.geometry import crop, orient, resample_like
from synthorax.io.fractions import HALF
from synthorax.io.structure_names import StructureName
from synthorax.region import Region
from synthorax.volume import Volume

MOST_STRUCTURE_VOXELS = 2**29
"""Most voxels in the box of a structure, and in the boxes of all structures of a file together."""
SAME_VOXEL = 0.2
"""A mask is on the grid of a scan if its first and last voxels are off the scan's by at most this, in voxels."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A segment or structure that was read, or the reason why it cannot be used.

    Attributes:
        named: number, name and code of the structure.
        region: voxels of the structure in the scan; None if it cannot be used.
        reason: why it cannot be used; empty if it can.
        notes: parts of it that were left out or guessed.
        is_whole: whether all of it was used: no contour was left out, and no voxel lies outside the scan.
    """

    named: StructureName
    region: Region | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    is_whole: bool = True


def place_on(values: Volume, scan: Volume) -> tuple[Region, list[str], bool]:
    """Place a mask on the voxels of a scan; voxels where it is 0.5 or more belong to the region.

    The mask is resampled by linear interpolation if its voxels are not voxels of the scan.

    Args:
        values: bool, or fractions from 0 to 1, [z, y, x], on a grid of its own in any orientation.
        scan: gives the grid, in the orientation LPS (`geometry.orient`).

    Returns:
        The region within the scan, notes, and whether all of the mask lies in the scan.
    """
    upright = orient(values, "LPS")
    first, last = (scan.to_voxel(upright.to_world(end)) for end in ((0, 0, 0), np.array(upright.shape) - 1))
    corner = np.rint(first)
    same = (
        np.allclose(upright.direction, scan.direction, atol=1e-2)
        and np.abs(first - corner).max() <= SAME_VOXEL
        and np.abs(last - corner - upright.shape + 1).max() <= SAME_VOXEL
    )
    if same:
        mask = upright.voxels >= HALF
        low = np.clip(corner, 0, scan.shape).astype(int)
        high = np.clip(corner + upright.shape, 0, scan.shape).astype(int)
        if (high <= low).any():
            return Region.of(np.zeros((1, 1, 1), bool)), [], False
        inside = mask[tuple(slice(int(a), int(b)) for a, b in zip(low - corner, high - corner, strict=True))]
        outside = int(np.count_nonzero(mask)) - int(np.count_nonzero(inside))
        notes = [f"{outside} of its {np.count_nonzero(mask)} voxels lie outside the scan"] * bool(outside)
        return Region.of(inside).moved(low), notes, not outside
    return _resampled(upright, scan)


def _resampled(upright: Volume, scan: Volume) -> tuple[Region, list[str], bool]:
    """`place_on` for a mask that must be resampled."""
    size = " x ".join(f"{s:.3g}" for s in upright.spacing_mm)
    notes = [f"its voxels of {size} mm (z, y, x) are not the scan's; it was resampled"]
    around = np.array(list(product((-1, 1), repeat=3)))
    ends = (np.array(upright.shape) - 1) / 2 + around * (np.array(upright.shape) / 2)
    corners = scan.to_voxel(upright.to_world(ends))
    wanted = np.floor(corners.min(0)), np.ceil(corners.max(0)) + 1
    low, high = (np.clip(end, 0, scan.shape).astype(int) for end in wanted)
    if (high <= low).any():
        return Region.of(np.zeros((1, 1, 1), bool)), notes, False
    padded = crop(
        Volume(upright.voxels.astype(np.float32), upright.spacing_mm, upright.origin_mm, upright.direction),
        (-1, -1, -1),
        (np.array(upright.shape) + 2).tolist(),
        fill=0,
    )
    x, y, z = scan.to_world(low).tolist()
    grid = replace(scan, voxels=np.empty((1, 1, 1), np.float32), origin_mm=(x, y, z))
    mask = resample_like(padded, grid, (high - low).tolist(), fill=0).voxels >= HALF
    marked = upright.voxels >= HALF
    indices = scan.to_voxel(upright.to_world(np.argwhere(marked)[:: max(1, np.count_nonzero(marked) // 10_000)]))
    is_inside = bool(((indices > -1) & (indices < scan.shape)).all())
    notes += ["a part of it lies outside the scan"] * (not is_inside)
    return Region.of(mask).moved(low), notes, is_inside


def check_box_voxels(subject: object, sides: NDArray | tuple[int, ...]) -> None:
    """Refuse a box of more than `MOST_STRUCTURE_VOXELS` voxels.

    Args:
        subject: file or part of it that the error names.
        sides: voxels along each axis.

    Raises:
        InputError: the box is too large.
    """
    voxels = float(np.prod(np.asarray(sides, float)))
    if not voxels <= MOST_STRUCTURE_VOXELS:
        raise InputError(subject, f"a box of {voxels:.3g} voxels", f"at most {MOST_STRUCTURE_VOXELS} voxels")
