"""The kind of a file by its first bytes, for errors about a file that is not what its name says."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from synthorax.io.own_kinds import own_kind

FIRST_BYTES = 1024
"""Bytes from which the kind of a file is found."""
STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the file; `git lfs pull` fetches it"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"NRRD000", "an NRRD file by another name"),
    (b"ObjectType", "a MetaImage (MHA or MHD) by another name"),
    (b"NDims", "a MetaImage (MHA or MHD) by another name"),
)
JSON = "text that looks like JSON"
TEXT = frozenset(range(32, 127)) | {9, 10, 13}


def what_is(path: Path) -> str:
    """Return the kind of a file's content in words for an error, such as `an HTML page`; empty if it is not known.

    Of a gzip file, the content is looked at.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(FIRST_BYTES)
    except OSError:
        return ""
    if not head:
        return "an empty file"
    if not head.startswith(b"\x1f\x8b"):
        kind = _kind(head)
        own = own_kind(path) if kind == JSON else None
        return f"{own.name}; {own.use}" if own else kind
    try:
        with gzip.open(path) as packed:
            inside = packed.read(FIRST_BYTES)
    except (OSError, EOFError, zlib.error):
        return "a gzip file that was cut off or damaged"
    return f"a gzip file that holds {_kind(inside) or 'something else'}" if inside else "a gzip file that holds nothing"


def _kind(head: bytes) -> str:
    for start, name in STARTS:
        if head.startswith(start):
            return name
    if head[128:132] == b"DICM":
        return "a DICOM file"
    if head[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):
        return "a NIfTI or Analyze header; one file of header and voxels (.nii) is read"
    if not any(head):
        return "zeros; perhaps a copy that failed"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page; perhaps the answer to a download that failed"
    if start.startswith(b"<?xml"):
        return "an XML file"
    if start.startswith(b"{"):
        return JSON
    return "text" if TEXT.issuperset(head) else ""
