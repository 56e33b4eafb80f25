"""Surfaces of masks as triangle meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.shapes.reconnection import ON_THRESHOLD

LEVEL_CLEARANCE = 1e-3
"""Values nearer to the level of the surface than this are moved away from it."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed triangle mesh whose normals point outwards.

    Attributes:
        vertices_mm: float [v, (x, y, z)], LPS.
        faces: int [f, 3], indices of vertices.
    """

    vertices_mm: NDArray[np.float64]
    faces: NDArray[np.int64]

    @property
    def triangles_mm(self) -> NDArray[np.float64]:
        """Corners of the triangles in mm, [f, 3, (x, y, z)]."""
        return self.vertices_mm[self.faces]

    @property
    def volume_mm3(self) -> float:
        """Enclosed volume; positive if the normals point outwards."""
        a, b, c = self.triangles_mm.swapaxes(0, 1)
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def surface(
    field: NDArray[np.floating],
    spacing_mm: Sequence[float],
    level: float = ON_THRESHOLD,
    origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> Mesh:
    """Return the surface at which a field crosses a level, as a mesh that is closed also at the border of the grid.

    Args:
        field: [z, y, x].
        spacing_mm: voxel size (z, y, x).
        level: value of the field at the surface.
        origin_mm: world position (x, y, z) of the first voxel's centre.

    >>> voxel = np.zeros((3, 3, 3))
    >>> voxel[1, 1, 1] = 1
    >>> surface(voxel, (1.0, 1.0, 1.0), level=0.5).faces.shape  # an octahedron
    (8, 3)
    """
    from skimage.measure import marching_cubes  # slow to import, and `--help` of a verb does not need it

    # A value equal to the level would put several vertices into one place, where the mesh would be open.
    values = np.asarray(field, np.float64)
    values = np.where(
        values >= level, np.maximum(values, level + LEVEL_CLEARANCE), np.minimum(values, level - LEVEL_CLEARANCE)
    )
    padded = np.pad(values, 1)
    vertices, faces, _, _ = marching_cubes(padded, level, spacing=tuple(spacing_mm), allow_degenerate=False)
    vertices = (vertices - np.asarray(spacing_mm))[:, ::-1] + np.asarray(origin_mm)
    mesh = Mesh(vertices.astype(np.float64), faces.astype(np.int64))
    return mesh if mesh.volume_mm3 >= 0 else Mesh(mesh.vertices_mm, mesh.faces[:, ::-1])
