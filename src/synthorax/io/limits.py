"""Limits on files and on the sizes that headers claim, checked before anything is read or allocated."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from pathlib import Path

from synthorax.errors import InputError

MOST_VOXELS = 2**29
"""Most voxels of a volume, whatever their type: 512 x 512 x 2048."""
MOST_BYTES = 2**30
"""Most bytes of a volume's voxels: 1 GiB, which is `MOST_VOXELS` of int16."""
MOST_DEFLATION = 1032
"""Largest ratio of inflated to compressed bytes that deflate can reach."""
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_file(path: Path, expected: str = "a file", *, most_bytes: int | None = None) -> int:
    """Return the size in bytes of a regular file; a pipe or device, which may never end, is refused unopened.

    Args:
        path: path of the file.
        expected: kind of file, for errors.
        most_bytes: refuse a larger file.

    Raises:
        InputError: there is no such file, it is not a regular file, or it is too large.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError | NotADirectoryError) else _reason(error)
        raise InputError(path, found, expected) from error
    for is_kind, name in KINDS:
        if is_kind(status.st_mode):
            raise InputError(path, name, expected)
    if most_bytes is not None and status.st_size > most_bytes:
        raise InputError(path, f"{status.st_size} bytes", f"{expected} of at most {most_bytes} bytes")
    return status.st_size


def read_bounded(path: Path, most_bytes: int, expected: str = "a file") -> bytes:
    """Return the content of a regular file of at most `most_bytes`.

    Raises:
        InputError: see `check_file`, or the file cannot be read.
    """
    check_file(path, expected, most_bytes=most_bytes)
    try:
        with open(path, "rb") as file:
            return file.read(most_bytes)
    except OSError as error:
        raise InputError(path, _reason(error), expected) from error


def check_claim(
    path: Path, shape: Sequence[int], voxel_bytes: int, *, compressed: bool, stored_in: Path | None
) -> None:
    """Refuse a header that claims more voxels than `MOST_VOXELS` and `MOST_BYTES` allow, or than its file can hold.

    Args:
        path: path of the header.
        shape: claimed voxels along each axis.
        voxel_bytes: bytes of a voxel.
        compressed: whether the voxels are deflated.
        stored_in: the file that holds the voxels; None if that is not checked.

    Raises:
        InputError: the claim is too large.
    """
    sizes = [int(n) for n in shape]
    claimed = math.prod(sizes) * voxel_bytes
    if not (all(n > 0 for n in sizes) and claimed <= MOST_BYTES and math.prod(sizes) <= MOST_VOXELS):
        size = f"{' x '.join(map(str, sizes))} voxels of {voxel_bytes} bytes"
        expected = f"1 to {MOST_VOXELS} voxels and {MOST_BYTES} bytes; crop the image, or store it as int16"
        raise InputError(path, f"a header of {size}", expected)
    if stored_in is not None:
        found = stored_in.stat().st_size if stored_in.is_file() else 0
        if claimed > found * (MOST_DEFLATION if compressed else 1):
            needed = f"{claimed} bytes of voxels, as its header says"
            raise InputError(path, f"{found} bytes; the file was cut off or damaged", needed)


def _reason(error: Exception) -> str:
    """Return the system's reason for not opening a path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return "a name that no file can have"
