"""Places of whole chests that look like nodules and are none: crossing vessels, hila, the lung wall.

Nobody outlined the nodules and tumours of these chests. So a place is not taken for healthy if it lies near dense
tissue as thick as a mass, or at an isolated dense spot, which may be a nodule. A look-alike is connected to the wall or
to a tree of vessels. A small unmarked nodule on the wall or on a vessel can still be among the look-alikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.morphology import closed, dilated, distance_inside, eroded
from synthorax.volume import Volume

LookAlikeKind = Literal["wall", "hilum", "vessel"]
LOOK_ALIKE_KINDS: tuple[LookAlikeKind, ...] = get_args(LookAlikeKind)

DENSE_BLOCK_HU = -500.0
"""Blocks of a scan denser than this, in HU, are vessels, walls, nodules or masses."""
MASS_MM, FROM_MASS_MM = 6.0, 8.0
"""Dense tissue within the lungs that contains a ball of the first diameter in mm may be a mass. Places nearer to it
than the second distance in mm are neither healthy places nor look-alikes."""
MASS_CLOSING_MM = 20.0
"""Radius in mm of the closing of the lung mask before masses are searched, so that masses on a wall are found too."""
TREE_ML = 5.0
"""A connected component of dense blocks smaller than this, in millilitres, is not a tree of vessels; it may be a
nodule."""
SPOT_MM, AROUND_SPOT_MM = 2.0, 6.0
"""Standard deviations in mm of the two Gaussians whose difference is large at spots of the size of nodules."""
LEAST_SPOT_HU = 120.0
"""Least difference of the two Gaussians, in HU, at a look-alike."""
SPOTS_APART_MM = 10.0
"""Edge in mm of the box within which only the look-alike with the largest difference is kept."""
NEAR_WALL_MM, NEAR_AIRWAY_MM = 4.0, 25.0
"""A look-alike within the first distance in mm of tissue outside the lungs is of the kind `wall`; another one within
the second distance of the trachea or a main bronchus is of the kind `hilum`; the rest are of the kind `vessel`."""
OUTSIDE_MM = 1.5
"""A look-alike lies in the lungs, or at most this deep, in mm, in their wall."""
CLIPPED_HU = (-1000.0, -50.0)
"""HU are clipped to this range before spots are searched, so that bone, calcium and contrast medium are no denser than
soft tissue."""


@dataclass(frozen=True)
class LookAlike:
    """A place that looks like a nodule and is none.

    Attributes:
        center_mm: (x, y, z), LPS.
        kind: where it lies, see `NEAR_WALL_MM`.
        contrast_hu: difference of the two Gaussians of `SPOT_MM` and `AROUND_SPOT_MM` at the place.
    """

    center_mm: tuple[float, float, float]
    kind: LookAlikeKind
    contrast_hu: float


@dataclass(frozen=True, eq=False)
class ChestMap:
    """The healthy places and the look-alikes of a chest without outlined nodules.

    Attributes:
        lungs: the lungs of the chest, on a grid of blocks of its voxels.
    """

    lungs: Lungs

    @cached_property
    def _dense(self) -> NDArray[np.bool_]:
        return self.lungs.hu.voxels > DENSE_BLOCK_HU

    @cached_property
    def _unsaid(self) -> NDArray[np.bool_]:
        """Blocks near tissue that may be a mass, bool [z, y, x]; they count neither as healthy nor as look-alikes."""
        spacing = self.lungs.mask.spacing_mm
        room = closed(self.lungs.mask.voxels, MASS_CLOSING_MM, spacing)
        half = min(spacing) / 2  # from the middle of the nearest block outside to its face
        core = eroded(self._dense & room & self.lungs.body.voxels, MASS_MM / 2 + half, spacing)
        return dilated(core, MASS_MM / 2 + FROM_MASS_MM, spacing) if core.any() else core

    @cached_property
    def _tree(self) -> NDArray[np.bool_]:
        """Dense blocks of the body in connected components of at least `TREE_ML`, bool [z, y, x]."""
        labels = cc3d.connected_components(self._dense & self.lungs.body.voxels, connectivity=26)
        millilitres = np.bincount(labels.ravel()) * np.prod(self.lungs.mask.spacing_mm) / 1000
        large = millilitres >= TREE_ML
        large[0] = False
        found: NDArray[np.bool_] = large[labels]
        return found

    @cached_property
    def _lone(self) -> NDArray[np.bool_]:
        """Blocks in and around isolated dense spots, bool [z, y, x]."""
        spots = self._dense & ~self._tree & self.lungs.mask.voxels
        return dilated(spots, SPOT_MM, self.lungs.mask.spacing_mm) if spots.any() else spots

    @property
    def known(self) -> Volume:
        """The blocks of the lungs that are known to hold no nodule, bool [z, y, x]."""
        return replace(self.lungs.mask, voxels=self.lungs.mask.voxels & ~(self._unsaid | self._lone))

    def is_healthy(self, places_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which places [n, (x, y, z)] in mm are near no mass and no isolated dense spot, bool [n]."""
        found: NDArray[np.bool_] = ~(self._unsaid | self._lone)[self._index(places_mm)]
        return found

    def look_alikes(self, most: int) -> list[LookAlike]:
        """Return up to `most` look-alikes of each kind, those with the highest contrast first."""
        grid, spacing = self.lungs.mask, self.lungs.mask.spacing_mm
        near = dilated(grid.voxels, OUTSIDE_MM, spacing) & self.lungs.body.voxels
        hu = np.clip(self.lungs.hu.voxels.astype(np.float32), *CLIPPED_HU)
        spots = [gaussian_filter(hu, np.divide(mm, spacing)) for mm in (SPOT_MM, AROUND_SPOT_MM)]
        contrast = np.where(near & self._tree & ~self._unsaid, spots[0] - spots[1], -np.inf)
        size = [2 * max(round(SPOTS_APART_MM / step / 2), 1) + 1 for step in spacing]
        peaks = (contrast >= LEAST_SPOT_HU) & (contrast == maximum_filter(contrast, size, mode="nearest"))
        index = np.argwhere(peaks)
        index = index[np.argsort(-contrast[tuple(index.T)], kind="stable")]
        places = grid.to_world(index) if len(index) else np.zeros((0, 3))
        to_wall = distance_inside(grid.voxels, spacing)[tuple(index.T)]
        airways = self.lungs.airways.voxels
        to_airway = distance_inside(~airways, spacing)[tuple(index.T)] if airways.any() else np.full(len(index), np.inf)
        kinds = np.where(to_wall <= NEAR_WALL_MM, "wall", np.where(to_airway <= NEAR_AIRWAY_MM, "hilum", "vessel"))
        found = []
        for kind in LOOK_ALIKE_KINDS:
            for i in np.flatnonzero(kinds == kind)[:most].tolist():
                x, y, z = places[i].tolist()
                found.append(LookAlike((x, y, z), kind, float(contrast[tuple(index[i])])))
        return found

    def _index(self, places_mm: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
        grid = self.lungs.mask
        at = np.rint(grid.to_voxel(np.asarray(places_mm, float).reshape(-1, 3))).astype(np.int64)
        return tuple(np.clip(at, 0, np.subtract(grid.shape, 1)).T)


def count_by_kind(look_alikes: Sequence[LookAlike]) -> dict[LookAlikeKind, int]:
    """Return the number of look-alikes of each kind."""
    return {kind: sum(one.kind == kind for one in look_alikes) for kind in LOOK_ALIKE_KINDS}
