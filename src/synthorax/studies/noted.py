"""Reading the scores and results that an earlier call of a study wrote; damaged or oversized files are refused."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.limits import read_bounded
from synthorax.io.mappings import read_mapping

MOST_SCORE_BYTES = 2**30
"""Largest size in bytes of a training's scores; masks of a thousand patches of 64 x 64 x 64 voxels take a quarter."""
EXPECTED_NOTE = "a file that this study wrote; delete it, and the same command makes it again"

NOTE_DAMAGE = (OSError, ValueError, LookupError, TypeError, EOFError, NotImplementedError, BadZipFile, zlib.error)
"""Exceptions that reading a damaged archive of scores can raise."""


def read_scores(note: Path, n_val: int, n_test: int) -> tuple[NDArray, NDArray, NDArray[np.float64]]:
    """Read a training's scores or masks of validation and test patches, and its marks [c, 5]; see `Scores`.

    Args:
        note: the file.
        n_val, n_test: numbers of patches that the file must have.

    Raises:
        InputError: the file is damaged, or something else wrote it.
    """
    try:
        with ZipFile(BytesIO(read_bounded(note, MOST_SCORE_BYTES))) as zipped:
            if sum(entry.file_size for entry in zipped.infolist()) > MOST_SCORE_BYTES:
                raise ValueError("larger than scores can be")
            val, test, marks = (_array(zipped.read(f"{name}.npy")) for name in ("val", "test", "marks"))
        if len(val) != n_val or len(test) != n_test or val.shape[1:] != test.shape[1:] or marks.shape[1:] != (5,):
            raise ValueError(f"scores of {len(val)} and {len(test)} patches, not of {n_val} and {n_test}")
    except NOTE_DAMAGE as error:
        raise InputError(note, f"damaged scores ({_words(error)})", EXPECTED_NOTE) from error
    return val, test, marks


def read_figures(note: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read a training's results: `metrics`, name to number, and lists of numbers.

    Args:
        note: the file.
        expected: name of each list to its shape.

    Raises:
        InputError: the file is damaged, or something else wrote it.
    """
    found = read_mapping(note, "note of a training")
    try:
        if not np.isfinite([float(value) for value in found["metrics"].values()]).all():
            raise ValueError("a value that is not a finite number")
        for name, shape in expected.items():
            if (values := np.array(found[name], float)).shape != shape:
                raise ValueError(f"{name} of shape {values.shape}, not {shape}")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(note, f"damaged figures ({_words(error)})", EXPECTED_NOTE) from error
    return found


def _array(data: bytes) -> NDArray:
    """Read a `.npy` file of finite numbers or bools; refuse a header that claims another size than the file has."""
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read_header(stream)
    if kind.kind not in "fb" or int(np.prod(shape, dtype=object)) * kind.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of {kind} {shape} in {len(data)} bytes")
    found: NDArray = np.load(BytesIO(data), allow_pickle=False)
    if not np.isfinite(found).all():
        raise ValueError("values that are not finite numbers")
    return found


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
