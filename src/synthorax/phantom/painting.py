"""Painting anatomy on voxels, with the deepest layer last; a voxel mixes the HU of the parts in it by their shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import Box
from synthorax.anatomy.tissue import Tissue
from synthorax.phantom.lattice import Solid
from synthorax.phantom.raster import Grid, occupancy
from synthorax.phantom.tubes import Tubes


@dataclass(frozen=True, eq=False)
class Canvas:
    """A slab of a chest that is being painted.

    Attributes:
        grid: positions of its voxels.
        hu: HU, float32 [z, y, x].
        tissues, lobes, airways, vessels, body: [z, y, x], as in `Chest`.
    """

    grid: Grid
    hu: NDArray[np.float32]
    tissues: NDArray[np.uint8]
    lobes: NDArray[np.uint8]
    airways: NDArray[np.bool_]
    vessels: NDArray[np.bool_]
    body: NDArray[np.bool_]

    def share(self, part: Solid) -> tuple[Box, NDArray[np.float32]]:
        """Return the box in which a solid may lie, and the share of each voxel that it fills, [z, y, x] of the box."""
        box, depth = self.depth(part)
        np.subtract(0.5, depth, out=depth)
        return box, np.clip(depth, 0, 1, out=depth)

    def depth(self, part: Solid) -> tuple[Box, NDArray[np.float32]]:
        """Return the box in which a solid may lie, and the signed distance from it in voxels, [z, y, x] of the box."""
        box = self.grid.between(part.low_mm, part.high_mm)
        inside = self.grid.part(box)
        if min(inside.shape) == 0:
            return box, np.zeros(inside.shape, np.float32)
        return box, part.at(inside.z, inside.y, inside.x)

    def paint(
        self, box: Box, share: NDArray[np.float32], hu: float | NDArray[np.float32], tissue: Tissue | None
    ) -> None:
        """Mix HU into the voxels of a box by a share [z, y, x]; a share of 0.5 or more sets the tissue, unless None."""
        into = self.hu[box]
        change = hu - into
        change *= share
        into += change
        if tissue is not None:
            np.copyto(self.tissues[box], np.uint8(tissue), where=share >= 0.5)

    def fill(self, part: Solid, hu: float | NDArray[np.float32], tissue: Tissue) -> None:
        """Paint a solid; HU is one number or [z, y, x] of the whole canvas."""
        box, share = self.share(part)
        if share.size:
            self.paint(box, share, hu if np.ndim(hu) == 0 else np.asarray(hu)[box], tissue)

    def draw(self, tubes: Tubes, hu: float, tissue: Tissue) -> NDArray[np.float32]:
        """Paint capsules, and return the share of each voxel that they fill, [z, y, x]."""
        share = occupancy(self.near(tubes), self.grid)
        box = _bounds(share)
        self.paint(box, share[box], hu, tissue)
        return share

    def near(self, tubes: Tubes) -> Tubes:
        """Return the capsules that may touch the slab."""
        reach = tubes.reach_mm + 2 * max(self.grid.spacing_mm)
        low = np.minimum(tubes.start[:, 2], tubes.end[:, 2]) - reach
        high = np.maximum(tubes.start[:, 2], tubes.end[:, 2]) + reach
        return tubes.chosen((high >= self.grid.z[0]) & (low <= self.grid.z[-1]))


def _bounds(share: NDArray[np.float32]) -> Box:
    """Return the smallest box that holds all nonzero voxels."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(share.any(tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
    return box[0], box[1], box[2]
