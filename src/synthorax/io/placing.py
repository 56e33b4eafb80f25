"""Where a header puts its voxels: checked, mended within bounds, and told where the header leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError

ASSUMED_AXES = "x to the left, y to the back and z to the head are taken"
"""The axes of a header that gives none, as SimpleITK and 3D Slicer take them."""
MM_PER_UNIT = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "m": 1000.0,
    "meter": 1000.0,
    "metre": 1000.0,
    "um": 0.001,
    "µm": 0.001,
    "micron": 0.001,
    "micrometer": 0.001,
    "in": 25.4,
    "inch": 25.4,
}
SINGLE_PRECISION = 1e-4
"""Cosine between axes that comes from rounding, and is mended without a note."""
MOST_MOVED = 0.5
"""Axes that are not at right angles are straightened if no voxel moves by more than this share of a voxel."""
USUAL_MM = (0.1, 15.0)
"""Voxels of a chest CT are of such sizes; others are told."""
MOST_SPACING_MM = 1e3
MOST_ORIGIN_MM = 1e6


@dataclass(frozen=True, eq=False)
class Placed:
    """The geometry of a `Volume`, and what was doubted or mended in it.

    Attributes:
        spacing_mm: (z, y, x).
        origin_mm: (x, y, z), LPS.
        direction: columns are the world directions of the x, y and z array axes.
        assumed: whether the header does not say how the axes lie, so that `ASSUMED_AXES` are taken.
    """

    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    assumed: bool = False


def place(
    path: Path,
    spacing_xyz: ArrayLike,
    direction: ArrayLike,
    origin_xyz: ArrayLike,
    shape_zyx: Sequence[int],
    notes: Sequence[str] = (),
    *,
    assumed: bool = False,
) -> Placed:
    """The geometry that a header gives, its axes at right angles.

    Args:
        spacing_xyz: mm; a negative one turns its axis round.
        direction: 3x3, columns near unit length.
        origin_xyz: LPS mm of the first voxel.
        shape_zyx: voxels, which tell how far a crooked axis leads astray.
        notes: what the reader of the format found.
        assumed: whether the direction is `ASSUMED_AXES`, as the header gives none.

    Raises:
        InputError: no usable voxel size, position or direction; axes that are not at right angles.
    """
    spacing, axes, origin = (np.asarray(values, np.float64) for values in (spacing_xyz, direction, origin_xyz))
    told = list(notes)
    if not (np.isfinite(spacing).all() and (np.abs(spacing) <= MOST_SPACING_MM).all() and spacing.all()):
        expected = "a positive voxel size in mm; write the right one into the header"
        raise InputError(path, f"voxels of {times(spacing)} mm", expected)
    if not (np.isfinite(origin).all() and (np.abs(origin) <= MOST_ORIGIN_MM).all()):
        raise InputError(path, f"a first voxel at {origin.tolist()} mm", "a position in millimetres")
    lengths = np.linalg.norm(axes, axis=0) if (np.abs(axes) < 10).all() else np.zeros(3)
    if not ((lengths > 0.5).all() and (lengths < 2).all()):
        raise InputError(path, f"directions of {times(axes.T.ravel())}", "unit vectors at right angles")
    if (spacing < 0).any():
        told.append(f"{path.name}: a negative voxel size ({times(spacing)} mm) turns its axis round")
        axes = axes * np.sign(spacing)
        spacing = np.abs(spacing)
    straight, off, moved = _straightened(axes / lengths, spacing, shape_zyx)
    if moved > MOST_MOVED and off > SINGLE_PRECISION:
        found = f"axes {_degrees(off)} off a right angle, which a tilted gantry or a shear gives"
        raise InputError(path, found, "axes at right angles; resample the image first (SimpleITK.Resample)")
    if off > SINGLE_PRECISION:
        told.append(
            f"{path.name}: axes {_degrees(off)} off a right angle; straightened, which moves no voxel "
            f"by more than {moved:.2f} of a voxel"
        )
    if np.abs(lengths - 1).max() > 1e-3:
        told.append(f"{path.name}: directions of length {times(lengths)}; taken as unit vectors")
    if spacing.min() < USUAL_MM[0] or spacing.max() > USUAL_MM[1]:
        told.append(f"{path.name}: voxels of {times(spacing)} mm are unusual for a CT; is the header in millimetres?")
    x, y, z = spacing.tolist()
    first_x, first_y, first_z = origin.tolist()
    return Placed((z, y, x), (first_x, first_y, first_z), straight, tuple(told), assumed)


def scale_of_unit(path: Path, unit: str) -> tuple[float, tuple[str, ...]]:
    """Millimetres in a header's unit of length, 1 for an unknown one, and a note where it is not the millimetre."""
    scale = MM_PER_UNIT.get(unit.lower().rstrip("s") or "mm")
    if scale is None:
        return 1.0, (f"{path.name}: an unknown unit of length ({unit[:20]!r}); millimetres are taken",)
    return scale, () if scale == 1 else (f"{path.name}: lengths in {unit}; converted to mm",)


def mirrored(path: Path, direction: NDArray[np.float64]) -> tuple[str, ...]:
    """A note for axes that are left-handed, which no scanner writes; an image may have been mirrored on its way."""
    if np.linalg.det(direction) > 0:
        return ()
    return (f"{path.name}: left-handed axes, as the header says; look whether the image is mirrored",)


def times(sizes: ArrayLike) -> str:
    """Sizes along x, y, z as text."""
    return " x ".join(f"{size:g}" for size in np.asarray(sizes, float).tolist())


def _straightened(
    axes: NDArray[np.float64], spacing: NDArray[np.float64], shape_zyx: Sequence[int]
) -> tuple[NDArray[np.float64], float, float]:
    """The nearest orthonormal axes, the largest cosine between the given ones, and the furthest move in voxels."""
    left, _, right = np.linalg.svd(axes)
    straight = left @ right
    off = float(np.abs(axes.T @ axes - np.eye(3)).max())
    reach = spacing * (np.array(shape_zyx[::-1]) - 1)
    moves = np.abs((axes - straight) * reach).sum(1)
    return straight, off, float(np.linalg.norm(moves) / spacing.min())


def _degrees(cosine: float) -> str:
    return f"{np.degrees(np.arcsin(min(cosine, 1.0))):.2g} degrees"
