"""Recognises folders and files that this tool wrote, for errors about one that is given in place of something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

MOST_OWN_BYTES = 2**26
"""Largest size in bytes of a study's results that are read to recognise it."""
FIRST_OWN_BYTES = 4096
"""Bytes at the start of a store's index, or of a run's configuration, that are read to recognise it."""
STUDY_RESULTS = "results.json"
"""File of the results in a study's folder."""


class OwnKind(NamedTuple):
    """What a folder or file of this tool is, and what takes it.

    Attributes:
        name: kind, with its article, such as `a store`.
        use: what to do with it.
    """

    name: str
    use: str


STORE = OwnKind("a store", "`train --data`, `study --data`, `export` and `info` take it")
RUN = OwnKind("a run of `train`", "`sample`, `inject --with`, `erase --with` and `info` take it as a model")
STUDY = OwnKind("a study", "`info` shows its results, and index.html is its page")
MANIFEST_FILE = OwnKind("the manifest of a folder that synthorax wrote", "give that folder")
TABLE_FILE = OwnKind("a table of nodules", "`prepare patches` takes its folder")


def own_kind(path: Path) -> OwnKind | None:
    """Return what a folder or file of this tool is; None for anything else.

    Folders of samples and of edited scans are not among the kinds, since they are taken as folders of scans.
    """
    if path.is_dir():
        if _begins(path / "zarr.json", b'"synthorax"'):
            return STORE
        is_trained = any((path / name).is_file() for name in ("data.json", "weights.safetensors"))
        if is_trained and _begins(path / "config.yaml", b"system:"):
            return RUN
        return STUDY if is_study(path) else None
    if path.name == STUDY_RESULTS and is_study(path.parent):
        return STUDY
    if path.name == "manifest.json" and path.is_file():
        return MANIFEST_FILE
    return TABLE_FILE if path.name == "nodules.csv" and path.is_file() else None


def _begins(file: Path, word: bytes) -> bool:
    """Return whether a file can be read and has a word in its first `FIRST_OWN_BYTES`."""
    try:
        with open(file, "rb") as opened:
            return word in opened.read(FIRST_OWN_BYTES)
    except OSError:
        return False


def is_study(folder: Path) -> bool:
    """Return whether a folder has the results of a study that this tool wrote."""
    file = folder / STUDY_RESULTS
    try:
        if not file.is_file() or file.stat().st_size > MOST_OWN_BYTES:
            return False
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "study" in content and isinstance(content.get("arms"), list)
