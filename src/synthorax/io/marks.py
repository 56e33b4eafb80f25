"""Finding the synthetic mark: inside a file, or in the sidecar beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io import dicom
from synthorax.io.images import is_image, read_mark
from synthorax.io.scans import sidecar
from synthorax.io.stl import read_stl
from synthorax.provenance import MANIFEST

MARKED = "SYNTHETIC"
"""How a mark begins."""
MOST_MANIFEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Found:
    """A synthetic mark.

    Attributes:
        text: what it says.
        place: where it is.
    """

    text: str
    place: str


def find_marks(path: Path) -> list[Found]:
    """The marks of a file or folder: in its header, in its DICOM slices, in the manifest of its folder.

    Raises:
        InputError: nothing there, or a file that cannot be read.
    """
    if not path.exists():
        raise InputError(path, "nothing", "a file or folder")
    found = []
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        marked = [text for file in files if dicom.is_dicom(file) if (text := dicom.read_mark(dicom.read_header(file)))]
        if marked:
            found.append(Found(marked[0], f"{len(marked)} DICOM files of {len(files)} files"))
    elif is_image(path):
        if text := read_mark(path):
            found.append(Found(text, "the image's header"))
    elif path.suffix.lower() == ".stl":
        found.append(Found(read_stl(path)[1], "the mesh's header"))
    elif dicom.is_dicom(path) and (text := dicom.read_mark(dicom.read_header(path))):
        found.append(Found(text, "the DICOM header"))
    manifests = [folder / MANIFEST for folder in [path, *path.parents][:3]]
    for manifest in [sidecar(path), *manifests] if is_image(path) else manifests:
        if text := _of_manifest(manifest):
            found.append(Found(text, str(manifest)))
            break
    return [f for f in found if f.text.startswith((MARKED, "SyntheticData"))]


def _of_manifest(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_MANIFEST_BYTES:
            return ""
        return str(dict(json.loads(path.read_text())).get("synthetic", ""))
    except (OSError, ValueError, TypeError):
        return ""
