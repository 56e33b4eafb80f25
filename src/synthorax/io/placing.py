"""The geometry of an image header: checked, corrected within bounds, with notes on all that was assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError

ASSUMED_AXES = "x to the left, y to the back and z to the head are assumed"
"""Note on a header without orientation; SimpleITK and 3D Slicer assume the same."""
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
"""Axes whose cosine is at most this are at right angles but for rounding; they are corrected without a note."""
MOST_MOVED = 0.5
"""Axes that are not at right angles are straightened if no voxel moves by more than this, in voxels."""
USUAL_MM = (0.1, 15.0)
"""Voxel sizes of chest CT; a size outside this range gets a note."""
MOST_SPACING_MM = 1e3
"""Largest voxel size that is accepted."""
MOST_ORIGIN_MM = 1e6
"""Largest coordinate of a first voxel that is accepted."""


@dataclass(frozen=True, eq=False)
class Placed:
    """The geometry of a `Volume`, with notes on doubts and corrections.

    Attributes:
        spacing_mm: voxel size (z, y, x).
        origin_mm: position (x, y, z) of the first voxel, LPS.
        direction: 3x3; its columns are the world directions of the x, y and z array axes.
        notes: doubts, assumptions and corrections, each with the file's name.
        assumed: whether the header gives no orientation, so that LPS is assumed.
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
    """Check the geometry of a header and put its axes at right angles.

    Args:
        path: path of the file, for errors and notes.
        spacing_xyz: voxel size in mm; a negative size flips its axis.
        direction: 3x3; columns of about unit length are the world directions of the x, y and z array axes.
        origin_xyz: position of the first voxel in mm, LPS.
        shape_zyx: voxels; decide how far straightening the axes moves the last voxel.
        notes: notes of the format's reader, which come first.
        assumed: whether the header gives no orientation, so that LPS is assumed.

    Raises:
        InputError: the voxel size, position or direction is not usable, or the axes are too far off right angles.
    """
    spacing, axes, origin = (np.asarray(values, np.float64) for values in (spacing_xyz, direction, origin_xyz))
    noted = list(notes)
    if not (np.isfinite(spacing).all() and (np.abs(spacing) <= MOST_SPACING_MM).all() and spacing.all()):
        expected = "a positive voxel size in mm; write the right one into the header"
        raise InputError(path, f"voxels of {times(spacing)} mm", expected)
    if not (np.isfinite(origin).all() and (np.abs(origin) <= MOST_ORIGIN_MM).all()):
        raise InputError(path, f"a first voxel at {origin.tolist()} mm", "a position in millimetres")
    lengths = np.linalg.norm(axes, axis=0) if (np.abs(axes) < 10).all() else np.zeros(3)
    if not ((lengths > 0.5).all() and (lengths < 2).all()):
        raise InputError(path, f"directions of {times(axes.T.ravel())}", "unit vectors at right angles")
    if (spacing < 0).any():
        noted.append(f"{path.name}: a negative voxel size ({times(spacing)} mm) turns its axis round")
        axes = axes * np.sign(spacing)
        spacing = np.abs(spacing)
    straight, off, moved = _straightened(axes / lengths, spacing, shape_zyx)
    if moved > MOST_MOVED and off > SINGLE_PRECISION:
        found = f"axes {_degrees(off)} off a right angle, which a tilted gantry or a shear gives"
        raise InputError(path, found, "axes at right angles; resample the image first (SimpleITK.Resample)")
    if off > SINGLE_PRECISION:
        noted.append(
            f"{path.name}: axes {_degrees(off)} off a right angle; straightened, which moves no voxel "
            f"by more than {moved:.2f} of a voxel"
        )
    if np.abs(lengths - 1).max() > 1e-3:
        noted.append(f"{path.name}: directions of length {times(lengths)} are scaled to unit vectors")
    if spacing.min() < USUAL_MM[0] or spacing.max() > USUAL_MM[1]:
        noted.append(f"{path.name}: voxels of {times(spacing)} mm are unusual for a CT; is the header in millimetres?")
    x, y, z = spacing.tolist()
    first_x, first_y, first_z = origin.tolist()
    return Placed((z, y, x), (first_x, first_y, first_z), straight, tuple(noted), assumed)


def scale_of_unit(path: Path, unit: str) -> tuple[float, tuple[str, ...]]:
    """Return the millimetres in a unit of length, 1 for an unknown unit, and a note if the unit is not mm."""
    scale = MM_PER_UNIT.get(unit.lower().rstrip("s") or "mm")
    if scale is None:
        return 1.0, (f"{path.name}: an unknown unit of length ({unit[:20]!r}); millimetres are assumed",)
    return scale, () if scale == 1 else (f"{path.name}: lengths in {unit}; converted to mm",)


def mirrored(path: Path, direction: NDArray[np.float64]) -> tuple[str, ...]:
    """Return a note if the axes are left-handed, which no scanner writes: the image may have been mirrored."""
    if np.linalg.det(direction) > 0:
        return ()
    return (f"{path.name}: left-handed axes in the header; check that the image is not mirrored",)


def times(sizes: ArrayLike) -> str:
    """Return sizes as text, such as `0.7 x 0.7 x 2.5`."""
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
