"""One rule for the values of a mask: labels or probabilities.

Whole numbers are labels. Fractions from 0 to 1 are probabilities, and voxels of 0.5 or more belong to the nodule.
Refused are probabilities so blurred that 0.5 keeps only the middle of the nodule, and all other fractions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError

HALF = 0.5
"""A voxel of at least this probability belongs to the nodule."""
SMALLEST_SHARE = 0.5
"""Of the voxels above half the peak probability, at least this share must reach `HALF`; otherwise the mask is blurred.
"""
ROUNDING = 1e-3
"""Rounding and scaling may move a value off a whole number, or outside 0 to 1, by this much."""


def as_labels(subject: object, voxels: NDArray) -> tuple[NDArray, tuple[str, ...]]:
    """Return the labels of a mask's voxels, with a note if the voxels were probabilities.

    Args:
        subject: file or argument that an error names.
        voxels: bool, integers or floats of any shape.

    Returns:
        Labels of an integer type, 0 or more: uint8 for bools, for probabilities, and for floats with labels up to 255.

    Raises:
        InputError: values are negative, not finite, fractions above 1, or probabilities that `fault_of_half` refuses.

    >>> labels, notes = as_labels("mask.nii", np.array([0.0, 0.4, 0.9, 1.0]))
    >>> labels.tolist(), notes
    ([0, 0, 1, 1], ('mask.nii: probabilities up to 1; the 2 voxels of 0.5 or more are taken',))
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
        expected = "a mask that is not blurred; threshold it yourself at the value that outlines the nodule"
        raise InputError(subject, f"probabilities {fault}", expected)
    inside = voxels >= HALF
    taken = f"the {np.count_nonzero(inside)} voxels of {HALF:g} or more are taken"
    note = f"{_name(subject)}: probabilities up to {high:.3g}; {taken}"
    return inside.view(np.uint8), (note,)


def fault_of_half(probabilities: NDArray) -> str:
    """Return why a threshold of 0.5 would not outline the nodule in these probabilities; empty if it does.

    After blurring, a mask of a few voxels has a peak little above 0.5, and the threshold would keep its middle alone.

    Args:
        probabilities: probabilities of any shape.
    """
    peak = float(probabilities.max())
    if peak < HALF:
        return f"up to {peak:.3g}, none of which reaches {HALF:g}"
    kept, around = (int(np.count_nonzero(probabilities >= least)) for least in (HALF, peak / 2))
    if kept < SMALLEST_SHARE * around:
        return f"up to {peak:.3g}: {kept} voxels reach {HALF:g}, but {around} reach half of that peak"
    return ""


def _are_whole(values: NDArray) -> bool:
    """Whether every value is near a whole number; tested in pieces, so that a probability map fails at the first."""
    flat = values.reshape(-1) if values.flags.c_contiguous else values.ravel()
    return all(
        bool((np.abs(piece - np.rint(piece)) <= ROUNDING).all())
        for piece in (flat[i : i + 2**20] for i in range(0, len(flat), 2**20))
    )


def _name(subject: object) -> str:
    """A file's name without its folders, which a note must not hold; other subjects as text."""
    return getattr(subject, "name", None) or str(subject)
