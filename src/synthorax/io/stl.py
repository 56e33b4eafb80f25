"""Reading and writing binary STL, the mesh format that every viewer, slicer and printer opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.io.contents import what_is
from synthorax.io.limits import check_file, read_bounded

EXPECTED_STL = "a binary STL file"
MOST_STL_BYTES = 2**30
STL_HEADER_BYTES = 80
"""Bytes of the header, into which synthorax writes its mark; the number of triangles follows."""
START_BYTES = 84
"""Bytes of the header and the number of triangles."""
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(path: Path, triangles_mm: NDArray[np.floating], mark: str) -> None:
    """Write triangles [f, 3, (x, y, z)] in millimetres; `mark` goes into the 80-byte header.

    Raises:
        OutputError: the file cannot be written.
    """
    records = np.zeros(len(triangles_mm), _TRIANGLE)
    a, b, c = np.asarray(triangles_mm, np.float64).swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    records["normal"] = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    records["corners"] = triangles_mm
    # A binary STL must not begin with the word "solid", by which programs recognise the text format.
    header = mark.encode("ascii", "replace")[:STL_HEADER_BYTES].ljust(STL_HEADER_BYTES)
    with atomic_file(path) as file:
        file.write_bytes(header + np.uint32(len(records)).tobytes() + records.tobytes())


def read_stl(path: Path) -> tuple[NDArray[np.float32], str]:
    """Read a binary STL.

    Returns:
        Triangles [f, 3, (x, y, z)] in mm, and the header.

    Raises:
        InputError: the file is not a binary STL, was cut off or is damaged, or has corners that are not finite.
    """
    header = read_stl_header(path)
    content = read_bounded(path, MOST_STL_BYTES, EXPECTED_STL)
    count = int.from_bytes(content[STL_HEADER_BYTES:START_BYTES], "little")
    if len(content) != START_BYTES + count * _TRIANGLE.itemsize:
        if _is_text(content):
            raise InputError(path, "a text STL file", f"{EXPECTED_STL}; save the mesh as binary STL")
        found = f"{len(content)} bytes for {count} triangles; the file was cut off or damaged"
        raise InputError(path, found, f"{START_BYTES + count * _TRIANGLE.itemsize} bytes")
    corners = np.frombuffer(content, _TRIANGLE, offset=START_BYTES)["corners"].copy()
    if not np.isfinite(corners).all():
        raise InputError(path, "corners that are not finite", EXPECTED_STL)
    return corners, header


def read_stl_header(path: Path) -> str:
    """Read the header of an STL file: the first 80 bytes, or the first line of a text STL without `solid`.

    Raises:
        InputError: the file is not STL.
    """
    check_file(path, EXPECTED_STL, most_bytes=MOST_STL_BYTES)
    with open(path, "rb") as file:
        start = file.read(1024)
    if _is_text(start):
        return start.split(b"\n", 1)[0].decode("ascii", "replace").strip()[len("solid") :].strip()
    if len(start) < START_BYTES:
        raise InputError(path, what_is(path) or f"{len(start)} bytes", EXPECTED_STL)
    return start[:STL_HEADER_BYTES].decode("ascii", "replace").rstrip(" \0")


def _is_text(start: bytes) -> bool:
    """Return whether a file is a text STL by its beginning; some binary files begin with `solid` too."""
    return start.lstrip()[:5].lower() == b"solid" and (b"facet" in start[:1024] or b"endsolid" in start[:1024])
