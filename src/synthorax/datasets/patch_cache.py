"""Patches and their masks in files of the user's cache, which are read instead of being made again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from synthorax.errors import OutputError
from synthorax.io.atomic import atomic_file

PatchesAndMasks = tuple[NDArray[np.int16], NDArray[np.uint8]]
"""HU of patches and the masks of their nodules, both [n, z, y, x]."""


def cached_patches(
    cache: Path | None, name: str, shape: tuple[int, int, int, int], make: Callable[[], PatchesAndMasks]
) -> PatchesAndMasks:
    """Return patches and masks from the cache; make and keep them if it does not have them.

    They are mapped from their files, or in memory if the cache cannot be written.

    Args:
        cache: folder of the cache; None for the user's cache folder.
        name: start of the names of the two files, which has to tell apart all that determines the patches.
        shape: shape of both arrays, (n, z, y, x); files with another one are made again.
        make: makes the patches.
    """
    folder = cache or platformdirs.user_cache_path("synthorax")
    files = [folder / f"{name}-{part}.npy" for part in ("ct", "mask")]
    with suppress(OSError, ValueError, EOFError):
        ct, mask = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
        if ct.shape == mask.shape == shape:
            return ct, mask
    made = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        arrays: tuple[NDArray, ...] = made
        for file, array in zip(files, arrays, strict=True):
            with atomic_file(file) as temporary, open(temporary, "wb") as stream:
                np.lib.format.write_array(stream, array)
    except (OSError, OutputError):
        return made
    return np.load(files[0], mmap_mode="r"), np.load(files[1], mmap_mode="r")
