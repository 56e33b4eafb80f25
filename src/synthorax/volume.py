"""A volume: voxels and the geometry that places them in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError


def check_spacing(spacing_mm: Sequence[float]) -> None:
    """Refuse a voxel size (z, y, x) in mm that is not three positive numbers.

    Raises:
        InputError: names the voxel size.
    """
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise InputError("spacing", f"{tuple(spacing_mm)} mm", "three positive millimetres (z, y, x)")


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels [z, y, x] (HU for CT, bool or uint8 for a mask) and the geometry that places them.

    Attributes:
        voxels: array [z, y, x].
        spacing_mm: distance between voxel centres along (z, y, x), in array order.
        origin_mm: world position (x, y, z), LPS, of the centre of voxel [0, 0, 0].
        direction: 3x3; its columns are the world directions of the x, y and z array axes.

    Raises:
        InputError: the array does not have three axes, the spacing is not positive, or the columns of the direction
            are not perpendicular unit vectors.

    >>> import numpy as np
    >>> import synthorax as sx
    >>> scan = sx.Volume(np.zeros((40, 64, 64), np.int16), spacing_mm=(2.5, 0.7, 0.7), origin_mm=(-20.0, -10.0, -300.0))
    >>> scan.to_world((10, 0, 0)).tolist()  # (x, y, z) of the first voxel of slice 10
    [-20.0, -10.0, -275.0]
    >>> scan.to_voxel((-20.0, -10.0, -275.0)).tolist()  # and back: (z, y, x)
    [10.0, 0.0, 0.0]
    """

    voxels: NDArray
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise InputError("volume", f"shape {self.voxels.shape}", "three axes [z, y, x]")
        check_spacing(self.spacing_mm)
        if not np.allclose(self.direction.T @ self.direction, np.eye(3), atol=1e-4):
            raise InputError("volume", f"direction {self.direction.tolist()}", "orthonormal axes")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        z, y, x = self.voxels.shape
        return z, y, x

    @property
    def affine(self) -> NDArray[np.float64]:
        """The 4x4 matrix from voxel indices (x, y, z, 1) to world millimetres (x, y, z, 1), LPS."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing_mm[::-1])
        matrix[:3, 3] = self.origin_mm
        return matrix

    def to_world(self, indices_zyx: ArrayLike) -> NDArray[np.float64]:
        """Return world millimetres [..., (x, y, z)] of voxel indices [..., (z, y, x)]; fractions are allowed."""
        indices_xyz = np.asarray(indices_zyx, dtype=np.float64)[..., ::-1]
        return indices_xyz @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, points_xyz_mm: ArrayLike) -> NDArray[np.float64]:
        """Return fractional voxel indices [..., (z, y, x)] of world millimetres [..., (x, y, z)]."""
        offset = np.asarray(points_xyz_mm, dtype=np.float64) - self.affine[:3, 3]
        return (offset @ np.linalg.inv(self.affine[:3, :3]).T)[..., ::-1]

    def holds(self, index_zyx: ArrayLike) -> bool:
        """Whether a fractional index (z, y, x) lies inside the volume, up to the faces of its outermost voxels."""
        index = np.asarray(index_zyx)
        return bool((index >= -0.5).all() and (index <= np.array(self.shape) - 0.5).all())
