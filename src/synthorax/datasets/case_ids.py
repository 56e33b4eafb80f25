"""Names of cases, which are names of folders in a store and must be valid on every file system."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from synthorax.io.images import image_stem
from synthorax.provenance import fingerprint

MOST_LETTERS = 100
"""Longest name; a longer one is cut, and part of its hash is appended to keep it unique."""
RESERVED_NAMES = re.compile(r"(zarr\.json|prepare\.json|(con|prn|aux|nul|com\d|lpt\d)(\..*)?)", re.IGNORECASE)
"""Names of a store's own files, and names that Windows reserves for devices."""


def case_ids(stems: Sequence[str], paths: Sequence[Path | None] = ()) -> list[str]:
    """Return a unique name for each case: its stem, with its folders or a number where several stems are the same.

    Names that differ only in capitals count as the same, because some file systems treat them so.

    Args:
        stems: file stem or id of each case.
        paths: path below the source of each image, whose folders can make its name unique; None for other cases.
    """
    paths = paths or [None] * len(stems)
    clean = [_clean(stem) for stem in stems]
    often = _repeated(clean)
    longer = [
        _clean("_".join((*path.parent.parts, image_stem(path)))) if path and name.casefold() in often else name
        for name, path in zip(clean, paths, strict=True)
    ]
    often = _repeated(longer)
    used = {name.casefold() for name in longer} - often
    made = []
    for name in longer:
        number = 1
        while name.casefold() in often and f"{name}-{number:02d}".casefold() in used:
            number += 1
        made.append(f"{name}-{number:02d}" if name.casefold() in often else name)
        used.add(made[-1].casefold())
    return made


def _repeated(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(name.casefold() for name in names).items() if count > 1}


def _clean(stem: str) -> str:
    """Turn a stem into a valid name of a folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "case"
    if RESERVED_NAMES.fullmatch(name):
        name = f"case_{name}"
    if len(name) > MOST_LETTERS:
        name = f"{name[:MOST_LETTERS]}-{fingerprint(stem.encode('utf-8', 'surrogatepass'))[:8]}"
    return name
