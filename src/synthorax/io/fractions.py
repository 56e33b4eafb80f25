"""One rule for what the values of a mask mean.

Whole numbers are labels. Fractions from 0 to 1 are probabilities, and a voxel belongs to the nodule from a half on.
Probabilities so blurred that a half keeps only the middle of the nodule are refused, and so is any other fraction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

HALF = 0.5
"""A voxel of at least this probability belongs to the nodule."""
SMALLEST_SHARE = 0.5
"""Probabilities are refused if fewer than this share of the voxels above half of their peak reach a half."""
ROUNDING = 1e-3
"""Values this near to a whole number, or this far outside 0 to 1, come from rounding and scaling."""


def as_labels(subject: object, voxels: NDArray) -> tuple[NDArray, tuple[str, ...]]:
    """The labels of a mask's voxels, and a note where they were probabilities.

    Args:
        subject: file or argument that an error names.
        voxels: bool, integers or floats of any shape.

    Returns:
        Whole numbers from 0, of an integer type: uint8 for bools, probabilities, and floats that hold labels to 255.

    Raises:
        InputError: negative, not finite, fractions outside 0 to 1, or probabilities that `fault_of_half` refuses.
    """
    if voxels.dtype == np.bool_:
        return voxels.view(np.uint8), ()
    if voxels.dtype.kind not in "uif":
        raise InputError(subject, f"voxels of type {voxels.dtype}", "a mask of whole numbers or probabilities")
    if not voxels.size:
        return voxels.astype(np.uint8), ()
    low, high = voxels.min(), voxels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(subject, "values that are not finite (NaN or infinite)", "a mask of labels from 0")
    if low < -ROUNDING:
        raise InputError(subject, f"values from {low:g} to {high:g}", "a mask, whose values are 0 or above")
    if voxels.dtype.kind in "ui":
        return voxels, ()
    if _are_whole(voxels):
        return np.rint(voxels).astype(np.min_scalar_type(round(float(high)))), ()
    if high > 1 + ROUNDING:
        found = f"fractions from {low:g} to {high:g}"
        raise InputError(subject, found, "whole numbers (labels), or probabilities from 0 to 1")
    if fault := fault_of_half(voxels):
        raise InputError(subject, f"probabilities {fault}", "a mask that is not blurred; cut it at the value you mean")
    inside = voxels >= HALF
    taken = f"the {np.count_nonzero(inside)} voxels of {HALF:g} or more are taken"
    note = f"{_name(subject)}: probabilities up to {high:.3g}; {taken}"
    return inside.view(np.uint8), (note,)


def fault_of_half(probabilities: NDArray) -> str:
    """Why a half does not outline the nodule in probabilities of any shape; empty if it does.

    A mask of a few voxels that was blurred keeps a peak little above a half, and a half would keep its middle alone.
    """
    peak = float(probabilities.max())
    if peak < HALF:
        return f"up to {peak:.3g}, none of which reaches {HALF:g}"
    kept, around = (int(np.count_nonzero(probabilities >= least)) for least in (HALF, peak / 2))
    if kept < SMALLEST_SHARE * around:
        return f"up to {peak:.3g}, of which {kept} voxels reach {HALF:g} and {around} half of the peak"
    return ""


def _are_whole(values: NDArray) -> bool:
    """Whether every value is near a whole number; in pieces, so that a probability map is told by its first."""
    flat = values.reshape(-1) if values.flags.c_contiguous else values.ravel()
    return all(
        bool((np.abs(piece - np.rint(piece)) <= ROUNDING).all())
        for piece in (flat[i : i + 2**20] for i in range(0, len(flat), 2**20))
    )


def _name(subject: object) -> str:
    """A file's name, which a note may hold: its folders are the machine's affair."""
    return getattr(subject, "name", None) or str(subject)
