"""Headers of text, as MetaImage and NRRD have them: bounded, and every number in them checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from synthorax.errors import InputError
from synthorax.io.limits import check_file

MOST_TEXT_HEADER_BYTES = 2**20
"""Bytes of the longest header that is read; headers of large segmentations take a tenth of it."""
MOST_FILES = 10_000
"""Data files of one image."""
LONGEST_FILE_NAME = 1000
"""Characters of a data file's name."""
PATTERN = re.compile(r"(\S*%\S*) +([+-]?[0-9]{1,9}) +([+-]?[0-9]{1,9}) +([+-]?[0-9]{1,9})(?: +[0-9])?")
"""Data files by a pattern of their names, and the first number, the last and the step."""
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
NUMBER = re.compile(r"[+-]?(?:(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:e[+-]?[0-9]{1,4})?|nan|inf)", re.IGNORECASE)


def header_bytes(path: Path, expected: str) -> bytes:
    """The first bytes of a file, among which its header ends.

    Raises:
        InputError: no regular file, or one that cannot be read.
    """
    check_file(path, expected)
    try:
        with open(path, "rb") as file:
            return file.read(MOST_TEXT_HEADER_BYTES)
    except OSError as error:
        raise InputError(path, "a file that cannot be read", expected) from error


def whole_numbers(path: Path, field: str, text: str, count: int | None = None) -> list[int]:
    """The whole numbers of a field, which spaces part.

    Raises:
        InputError: another number of them, or something else.
    """
    return [int(part) for part in _parts(path, field, text, count, WHOLE_NUMBER, "whole numbers")]


def decimal_numbers(path: Path, field: str, text: str, count: int | None = None) -> list[float]:
    """The numbers of a field, which spaces part; NaN and infinity too.

    Raises:
        InputError: another number of them, or something else.
    """
    return [float(part) for part in _parts(path, field, text, count, NUMBER, "numbers")]


def _parts(path: Path, field: str, text: str, count: int | None, pattern: re.Pattern[str], what: str) -> list[str]:
    parts = text.split(maxsplit=MOST_FILES)
    if not all(pattern.fullmatch(part) for part in parts) or (count is not None and len(parts) != count):
        raise InputError(path, f"{field} {quoted(text)}", f"{_several(count)}{what}")
    return parts


def named_files(path: Path, fields: Mapping[str, str], value: str) -> tuple[Path, ...]:
    """The files of voxels of a header: of its list, of a pattern with a range of numbers, or one.

    Args:
        fields: of the header; `list` has a name a line where the header ends in a list.
        value: what the field that names the files holds.

    Raises:
        InputError: a file that lies elsewhere, too many, none; or no such pattern.
    """
    if "list" in fields:
        return _data_files(path, [line.strip() for line in fields["list"].splitlines() if line.strip()])
    if pattern := PATTERN.fullmatch(value):
        return _pattern_files(path, *pattern.groups())
    return _data_files(path, [value])


def _data_files(path: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The files that a header names for its voxels; they lie beside it or in folders below.

    Raises:
        InputError: one that lies elsewhere, too many, none.
    """
    if not 0 < len(names) <= MOST_FILES:
        raise InputError(path, f"{len(names)} files of voxels", f"1 to {MOST_FILES}")
    for name in names:
        parts = PurePosixPath(name).parts
        if (
            not 0 < len(name) <= LONGEST_FILE_NAME
            or "\0" in name
            or name.startswith("/")
            or ".." in parts
            or ":\\" in name
        ):
            found = f"voxels in the file {quoted(name)}"
            raise InputError(path, found, "a file beside the header; move it there and name it without a folder")
    return tuple(path.parent / name for name in names)


def _pattern_files(path: Path, pattern: str, *numbers: str) -> tuple[Path, ...]:
    """The files of a printf-like pattern (`slice%03d.raw`) and a range of numbers, both ends included.

    Args:
        numbers: the first, the last, and the step.

    Raises:
        InputError: no such pattern, or too many files.
    """
    first, last, step = map(int, numbers)
    found = re.fullmatch(r"([^%]*)%(0?)([0-9]{0,2})[di]([^%]*)", pattern)
    if found is None or step == 0 or not 0 <= (last - first) // step < MOST_FILES:
        raise InputError(path, f"voxels in the files {quoted(pattern)}", "one %d and a range of numbers")
    before, zero, width, after = found.groups()
    count = range(first, last + (1 if step > 0 else -1), step)
    return _data_files(path, [f"{before}{n:{zero}{width or 1}d}{after}" for n in count])


def decoded_name(raw: bytes) -> str:
    """A name in a header as the system has it, whatever its encoding."""
    return os.fsdecode(raw)


def quoted(text: str, most: int = 60) -> str:
    """Text of a file as an error shows it: short, in quotes, and without characters that a terminal obeys."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def _several(count: int | None) -> str:
    return "" if count is None else f"{count} "
