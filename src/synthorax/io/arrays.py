"""NumPy arrays in `.npy` files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.contents import what_is
from synthorax.io.limits import MOST_BYTES, check_file


def open_npy(path: Path) -> NDArray:
    """Map the array of a `.npy` file into memory without reading it.

    Raises:
        InputError: there is no such file, it holds Python objects or text, it was cut off, or it is too large.
    """
    check_file(path, "a .npy file", most_bytes=MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 wrote, and reads them
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises errors of many kinds over a damaged header
        found = what_is(path) or "no readable NumPy array"
        found = "a NumPy array that was cut off or damaged" if found == "a NumPy array" else found
        raise InputError(path, found, "a .npy file of numbers") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(path, "several arrays (.npz)", "a .npy file of one array")
    return array
