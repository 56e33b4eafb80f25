"""Text headers, as MetaImage and NRRD have them: read within bounds, with every number checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from synthorax.errors import InputError
from synthorax.io.limits import check_file

MOST_TEXT_HEADER_BYTES = 2**20
"""Most bytes of a header; headers of large segmentations take a tenth of it."""
MOST_FILES = 10_000
"""Most data files of one image."""
LONGEST_FILE_NAME = 1000
"""Most characters of a data file's name."""
PATTERN = re.compile(r"(\S*%\S*) +([+-]?[0-9]{1,9}) +([+-]?[0-9]{1,9}) +([+-]?[0-9]{1,9})(?: +[0-9])?")
"""Value of a field that names data files by a printf-like pattern, the first number, the last number and the step."""
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
NUMBER = re.compile(r"[+-]?(?:(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:e[+-]?[0-9]{1,4})?|nan|inf)", re.IGNORECASE)


def header_bytes(path: Path, expected: str) -> bytes:
    """Return the first `MOST_TEXT_HEADER_BYTES` of a file, which hold its header.

    Args:
        path: path of the file.
        expected: kind of file, for errors.

    Raises:
        InputError: the path is not a regular file, or cannot be read.
    """
    check_file(path, expected)
    try:
        with open(path, "rb") as file:
            return file.read(MOST_TEXT_HEADER_BYTES)
    except OSError as error:
        raise InputError(path, "a file that cannot be read", expected) from error


def whole_numbers(path: Path, field: str, text: str, count: int | None = None) -> list[int]:
    """Return the whole numbers of a field, which are separated by spaces.

    Args:
        path: path of the file, for errors.
        field: name of the field, for errors.
        text: value of the field.
        count: numbers that there must be; any if None.

    Raises:
        InputError: there are more or fewer numbers, or something else.
    """
    return [int(part) for part in _parts(path, field, text, count, WHOLE_NUMBER, "whole numbers")]


def decimal_numbers(path: Path, field: str, text: str, count: int | None = None) -> list[float]:
    """Return the numbers of a field, which are separated by spaces and may be NaN or infinite.

    Args: as of `whole_numbers`.

    Raises:
        InputError: there are more or fewer numbers, or something else.
    """
    return [float(part) for part in _parts(path, field, text, count, NUMBER, "numbers")]


def _parts(path: Path, field: str, text: str, count: int | None, pattern: re.Pattern[str], what: str) -> list[str]:
    parts = text.split(maxsplit=MOST_FILES)
    if not all(pattern.fullmatch(part) for part in parts) or (count is not None and len(parts) != count):
        raise InputError(path, f"{field} {quoted(text)}", f"{_several(count)}{what}")
    return parts


def named_files(path: Path, fields: Mapping[str, str], value: str) -> tuple[Path, ...]:
    """Return the data files that a header names: in a list, by a pattern with a range of numbers, or a single one.

    Args:
        path: path of the header.
        fields: fields of the header; if the header ends in a list of files, `list` has a name on each line.
        value: value of the field that names the files.

    Raises:
        InputError: a file does not lie beside or below the header, there are too many files or none, or the pattern
            is not valid.
    """
    if "list" in fields:
        return _data_files(path, [line.strip() for line in fields["list"].splitlines() if line.strip()])
    if pattern := PATTERN.fullmatch(value):
        return _pattern_files(path, *pattern.groups())
    return _data_files(path, [value])


def _data_files(path: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Return the paths of data files by their names.

    Raises:
        InputError: a file does not lie beside or below the header, or there are too many files or none.
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
    """Return the data files of a printf-like pattern (`slice%03d.raw`) and a range of numbers, both ends included.

    Args:
        path: path of the header.
        pattern: with one `%d`.
        numbers: first number, last number and step, as text.

    Raises:
        InputError: the pattern is not valid, or there are too many files.
    """
    first, last, step = map(int, numbers)
    found = re.fullmatch(r"([^%]*)%(0?)([0-9]{0,2})[di]([^%]*)", pattern)
    if found is None or step == 0 or not 0 <= (last - first) // step < MOST_FILES:
        raise InputError(path, f"voxels in the files {quoted(pattern)}", "one %d and a range of numbers")
    before, zero, width, after = found.groups()
    count = range(first, last + (1 if step > 0 else -1), step)
    return _data_files(path, [f"{before}{n:{zero}{width or 1}d}{after}" for n in count])


def decoded_name(raw: bytes) -> str:
    """Return a file name in a header as the operating system has it, whatever its encoding."""
    return os.fsdecode(raw)


def quoted(text: str, most: int = 60) -> str:
    """Return a text of a file for an error: cut to `most` characters, in quotes, control characters escaped."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def _several(count: int | None) -> str:
    return "" if count is None else f"{count} "
