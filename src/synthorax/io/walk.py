"""Listing the files below a folder."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthorax.errors import InputError
from synthorax.io.limits import KINDS

LeftOut = tuple[Path, str]
"""A file or folder that was left out, and the reason."""


@dataclass(frozen=True)
class Surveyed:
    """The files below a folder.

    Attributes:
        files: regular files, sorted.
        left_out: pipes, devices, links to nothing, folders that cannot be listed, and prepared stores, which may lie in
            the folder of the scans that they were made from.
    """

    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def survey(folder: Path) -> Surveyed:
    """List the files of a folder, its subfolders and linked folders, each once; hidden ones are ignored."""
    found: list[Path] = []
    left_out: list[LeftOut] = []
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        left_out.append((Path(error.filename or folder), f"a folder that cannot be listed ({error.strerror})"))

    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if place != os.fspath(folder) and _is_store(Path(place)):
            left_out.append((Path(place), "a store that synthorax prepared"))
            folders.clear()
            continue
        for name in names:
            if name.startswith("."):
                continue
            path = Path(place) / name
            if kind := not_regular(path):
                left_out.append((path, kind))
            else:
                found.append(path)
    return Surveyed(tuple(sorted(found)), tuple(sorted(left_out)))


def _is_store(folder: Path) -> bool:
    try:
        with open(folder / "prepare.json", "rb") as file:
            return "synthorax" in json.loads(file.read(2**20))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def real_path(path: Path) -> Path:
    """Return a path with its links resolved; a link to itself is returned unchanged."""
    return Path(os.path.realpath(path))


def files_below(folder: Path) -> list[Path]:
    """Return the regular files of a folder and its subfolders, as `survey` lists them."""
    return list(survey(folder).files)


def not_regular(path: Path) -> str:
    """Return what a path is if it cannot be read as a file, such as `a pipe`; empty if it can be read."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else "nothing"
    except (OSError, ValueError) as error:
        return f"a file that cannot be looked at ({getattr(error, 'strerror', None) or error})"
    if not stat.S_ISREG(mode):
        return next((kind for is_kind, kind in KINDS if is_kind(mode)), "no regular file")
    return "" if os.access(path, os.R_OK) else "a file that cannot be read (permission denied)"


def check_listed(folder: Path) -> None:
    """Refuse a folder that cannot be listed.

    Raises:
        InputError: names the folder and the system's reason.
    """
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        found = f"a folder that cannot be listed ({error.strerror})"
        raise InputError(folder, found, "a folder that you may read") from error


def listed(left_out: Sequence[LeftOut], most: int = 5) -> str:
    """Return one line that names the left-out files: `a.dcm (an empty file), b.dcm (a pipe) and 3 more`."""
    named = ", ".join(f"{path.name} ({reason})" for path, reason in left_out[:most])
    return named + f" and {len(left_out) - most} more" * (len(left_out) > most)


def counted(left_out: Sequence[LeftOut]) -> str:
    """Return one line with the number of left-out files for each reason, without names, which may name a patient."""
    reasons: dict[str, int] = {}
    for _, reason in left_out:
        reasons[reason] = reasons.get(reason, 0) + 1
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
