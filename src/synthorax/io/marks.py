"""Finding the synthetic mark in a file, in a folder's files, or in the sidecar beside them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io import dicom
from synthorax.io.atomic import MARK
from synthorax.io.images import is_image, read_mark
from synthorax.io.scans import sidecar
from synthorax.io.stl import read_stl_header
from synthorax.io.walk import check_listed, not_regular, survey
from synthorax.provenance import MANIFEST

MARK_START = "SYNTHETIC"
"""Start of every synthetic mark."""
SIDECAR_FIELDS = ("synthetic", "ImageComments")
"""Fields of a JSON sidecar that may hold the mark: our own, and that of dcm2niix."""
MOST_MANIFEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class FoundMark:
    """A synthetic mark.

    Attributes:
        text: text of the mark.
        place: file, header or number of files in which it was found, in words.
        partly: whether other files of the folder have no mark.
        without: the files of the folder without a mark, and those that cannot be read.
    """

    text: str
    place: str
    partly: bool = False
    without: tuple[str, ...] = ()


def find_marks(path: Path) -> list[FoundMark]:
    """Return the marks of a file or folder: in the headers of its images and slices, and in its sidecar.

    In a folder, a file that cannot be read counts as a file without a mark.

    Raises:
        InputError: the path does not exist, or cannot be read.
    """
    found = []
    if path.is_dir():
        check_listed(path)
        marks, unreadable = _in_folder(path)
        without = tuple(sorted({*unreadable, *(file for file, mark in marks.items() if not mark)}))
        for mark, files in Counter(filter(None, marks.values())).items():
            place = f"{files} of {len(marks)} files" + f", {len(unreadable)} unreadable" * bool(unreadable)
            found.append(FoundMark(mark, place, bool(without), without))
    elif kind := not_regular(path):
        raise InputError(path, kind, "a file or folder")
    elif text := _in_header(path):
        found.append(FoundMark(text, "its header"))
    ours = [folder / MANIFEST for folder in [path, *path.parents][:3] if (folder / MARK).is_file()]
    for manifest in [sidecar(path), *ours] if is_image(path) else ours:
        if text := _in_manifest(manifest):
            found.append(FoundMark(text, str(manifest)))
            break
    return found


def _in_folder(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The mark of each file of a folder by its path, empty for files without one, and the paths that cannot be read."""
    surveyed = survey(folder)
    marks: dict[str, str] = {}
    closed = [path for path, reason in surveyed.left_out if "cannot" in reason]
    unreadable = [str(path) for path in closed]
    for file in surveyed.files:
        try:
            mark = _in_header(file)
        except InputError:
            mark = ""
            unreadable.append(str(file))
        if mark is not None:
            marks[str(file)] = mark
    if closed and not any(marks.values()):
        raise InputError(closed[0], "a file or folder that cannot be read", "readable files; this may hold the mark")
    return marks, unreadable


def _in_header(path: Path) -> str | None:
    """Return the mark inside a file; empty if there is none, None if a file of its kind cannot hold a mark."""
    if is_image(path):
        text = read_mark(path)
    elif path.suffix.lower() == ".stl":
        text = read_stl_header(path)
    elif dicom.is_dicom(path):
        return dicom.read_mark(dicom.read_header(path))
    else:
        return None
    return text if text.startswith(MARK_START) else ""


def _in_manifest(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MOST_MANIFEST_BYTES:
            return ""
        content = dict(json.loads(path.read_text()))
        said = [str(content.get(field, "")) for field in SIDECAR_FIELDS]
        return next((text for text in said if text.startswith(MARK_START)), "")
    except (OSError, ValueError, TypeError, RecursionError):
        return ""
