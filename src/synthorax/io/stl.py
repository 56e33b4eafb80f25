"""Binary STL: the mesh format every viewer, slicer and printer opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.io.atomic import atomic_file

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
    # A binary STL must not begin with the word "solid", which marks the text format.
    header = mark.encode("ascii", "replace")[:80].ljust(80)
    with atomic_file(path) as file:
        file.write_bytes(header + np.uint32(len(records)).tobytes() + records.tobytes())


def read_stl(path: Path) -> tuple[NDArray[np.float32], str]:
    """Triangles [f, 3, (x, y, z)] and header of a binary STL."""
    content = path.read_bytes()
    records = np.frombuffer(content, _TRIANGLE, offset=84)
    return records["corners"].copy(), content[:80].decode("ascii").rstrip()
