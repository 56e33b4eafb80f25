"""Checks of the arrays that metrics take."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError


def vector(subject: str, values: ArrayLike, length: int | None = None) -> NDArray[np.float64]:
    """Return finite numbers [n], n at least 1.

    Raises:
        InputError: the array has another shape or values that are not finite, or not `length` rows.
    """
    return _finite(subject, values, 1, length)


def matrix(subject: str, values: ArrayLike, length: int | None = None) -> NDArray[np.float64]:
    """Return finite numbers [n, d], n at least 1.

    Raises:
        InputError: the array has another shape or values that are not finite, or not `length` rows.
    """
    return _finite(subject, values, 2, length)


def labels(subject: str, values: ArrayLike) -> NDArray[np.bool_]:
    """Return labels 0 and 1 as bool [n]; both classes must occur.

    Raises:
        InputError: there is another value, or one class only.
    """
    found = flags(subject, values)
    if found.all() or not found.any():
        raise InputError(subject, f"only class {int(found[0])} in {len(found)} rows", "both classes")
    return found


def flags(subject: str, values: ArrayLike, length: int | None = None) -> NDArray[np.bool_]:
    """Return numbers that are 0 or 1 as bool [n], n at least 1.

    Raises:
        InputError: there is another value, or there are not `length` rows.
    """
    found = vector(subject, values, length)
    if not np.isin(found, (0, 1)).all():
        raise InputError(subject, f"the value {found[~np.isin(found, (0, 1))][0]:g}", "0 or 1")
    return found == 1


def units(patients: ArrayLike, length: int | None = None) -> tuple[NDArray[np.int64], int]:
    """Return the patient of each row as a number from 0, int64 [n], and the number of patients.

    Raises:
        InputError: there are fewer than 2 patients, or not `length` rows.
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    if length is not None and len(index) != length:
        raise InputError("patients", f"{len(index)} rows", f"{length} rows, one for each row of the data")
    if len(names) < 2:
        raise InputError("patients", f"{len(names)} of them", "2 or more patients to resample")
    return index.astype(np.int64), len(names)


def volumes(subject: str, values: ArrayLike) -> NDArray[np.float32]:
    """Return finite voxels, float32 [n, z, y, x], n at least 1.

    Raises:
        InputError: the array has another shape, or values that are not finite.
    """
    found = np.asarray(values, np.float32)
    if found.ndim != 4 or not found.size:
        raise InputError(subject, f"shape {found.shape}", "one volume or more, [n, z, y, x]")
    if not np.isfinite(found).all():
        raise InputError(subject, "values that are not finite", "finite numbers")
    return found


def _finite(subject: str, values: ArrayLike, axes: int, length: int | None) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    if found.ndim != axes or not found.size:
        raise InputError(subject, f"shape {found.shape}", f"one row or more, {'[n]' if axes == 1 else '[n, d]'}")
    if not np.isfinite(found).all():
        raise InputError(subject, f"{(~np.isfinite(found)).sum()} values that are not finite", "finite numbers")
    if length is not None and len(found) != length:
        raise InputError(subject, f"{len(found)} rows", f"{length} rows")
    return found
