"""What a header may claim before anything is allocated for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from synthorax.errors import InputError

MOST_VOXELS = 2**29
"""512 x 512 x 2048: 1 GB of HU."""
MOST_DEFLATION = 1032
"""Deflate cannot make a file smaller than by this factor."""


def check_claim(
    path: Path, shape: Sequence[int], voxel_bytes: int, *, compressed: bool, stored_in: Path | None
) -> None:
    """Refuse a header that claims more voxels than a scan has, or than its file can hold.

    Args:
        stored_in: the file that holds the voxels, if it is known.

    Raises:
        InputError: as said.
    """
    voxels = math.prod(int(n) for n in shape)
    if not 0 < voxels <= MOST_VOXELS:
        raise InputError(path, f"a header of {' x '.join(map(str, shape))} voxels", f"1 to {MOST_VOXELS} voxels")
    if stored_in is not None:
        found = stored_in.stat().st_size if stored_in.is_file() else 0
        if voxels * voxel_bytes > found * (MOST_DEFLATION if compressed else 1):
            needed = f"{voxels * voxel_bytes} bytes of voxels, as its header says"
            raise InputError(path, f"{found} bytes; it was cut off or damaged", needed)
