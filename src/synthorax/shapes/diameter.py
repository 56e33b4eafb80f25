"""How wide a nodule is, as readers measure it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.reading import longest_chord


def axial_diameter_mm(inside: NDArray[np.int64], spacing_mm: tuple[float, float, float]) -> float:
    """Longest chord of a nodule within a slice, from edge to edge.

    Args:
        inside: indices (z, y, x) of its voxels, [n, 3].
        spacing_mm: (z, y, x); pixels are taken as square.
    """
    slices = (inside[inside[:, 0] == z][:, :0:-1] for z in np.unique(inside[:, 0]))
    return (max(longest_chord(points) for points in slices) + 1) * spacing_mm[2]
