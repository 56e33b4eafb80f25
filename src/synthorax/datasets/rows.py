"""Checks of values in JSON that someone else may have written. All functions raise ValueError."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_ROW_TEXT = 2**16
"""Most characters of a text in a row."""
STORE_FILES = ("zarr.json", "prepare.json")
"""Names of a store's own files."""
MOST_NAME_BYTES = 255
"""Most bytes of a file name that file systems allow."""


def json_object(data: bytes) -> dict[str, Any]:
    """Parse bytes as a JSON object."""
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{_shown(found)} where a JSON object was expected")
    return found


def field(row: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field that a row must have."""
    if name not in row:
        raise ValueError(f"no {name}")
    return row[name]


def text(value: Any, name: str) -> str:
    """Return a value that must be a text."""
    if not isinstance(value, str) or len(value) > LONGEST_ROW_TEXT:
        raise ValueError(f"{name} {_shown(value)} where a text was expected")
    return value


def texts(values: Any, name: str) -> tuple[str, ...]:
    """Return a value that must be a list of texts."""
    return tuple(text(value, name) for value in items(values, name))


def table_of_texts(values: Any, name: str) -> list[dict[str, str]]:
    """Return a value that must be a list of objects whose values are texts."""
    return [{key: text(value, key) for key, value in table(row, name).items()} for row in items(values, name)]


def items(value: Any, name: str) -> list[Any]:
    """Return a value that must be a list."""
    if not isinstance(value, list):
        raise ValueError(f"{name} {_shown(value)} where a list was expected")
    return value


def table(value: Any, name: str) -> dict[str, Any]:
    """Return a value that must be an object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} {_shown(value)} where names and values were expected")
    return value


def whole(value: Any, name: str, least: int, most: int) -> int:
    """Return a value that must be a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} {_shown(value)} where a whole number from {least} to {most} was expected")
    return value


def number(value: Any, name: str) -> float:
    """Return a value that must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"{name} {_shown(value)} where a finite number was expected")
    return float(value)


def numbers(value: Any, name: str, count: int) -> tuple[float, ...]:
    """Return a value that must be a list of `count` finite numbers."""
    if len(items(value, name)) != count:
        raise ValueError(f"{name} {_shown(value)} where {count} numbers were expected")
    return tuple(number(one, name) for one in value)


def one_of(value: Any, name: str, choices: Sequence[Any]) -> Any:
    """Return a value that must be one of some choices."""
    if value not in choices:
        raise ValueError(f"{name} {_shown(value)} where one of {', '.join(map(repr, choices))} was expected")
    return value


def sha256_text(value: Any, name: str) -> str:
    """Return a value that must be a SHA-256: 64 lower-case hex digits."""
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{name} {_shown(value)} where a SHA-256 was expected")
    return value


def folder_name(value: Any, name: str) -> str:
    """Return a value that must be the plain name of a subfolder: no path, not hidden, not a store's own file."""
    bad = not isinstance(value, str) or not value or value.startswith(".") or not value.isprintable()
    if (
        bad
        or value.lower() in STORE_FILES
        or set(value) & set("/\\:")
        or len(value.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES
    ):
        raise ValueError(f"{name} {_shown(value)} where a plain name of a folder was expected")
    return str(value)


def unique(values: Sequence[str], name: str) -> None:
    """Check that no value occurs twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{name} {_shown(value)} twice")
        seen.add(value)


def splits(value: Any, patients: Sequence[str]) -> dict[str, list[str]]:
    """Return a value that must give the patients of train, val and test, each in one split, and all patients of cases.

    Args:
        value: the value.
        patients: patients of the cases.
    """
    found = {name: list(texts(ids, f"split {name}")) for name, ids in table(value, "splits").items()}
    if set(found) != {"train", "val", "test"}:
        raise ValueError(f"splits {', '.join(found)[:60]} where train, val and test were expected")
    unique([patient for ids in found.values() for patient in ids], "patient of the splits")
    if missing := set(patients).difference(*found.values()):
        raise ValueError(f"patient {_shown(min(missing))} in no split")
    return found


def _shown(value: Any) -> str:
    """Return the start of a value for an error's text."""
    shown = repr(value[:60] if isinstance(value, str) else value)
    return shown if len(shown) <= 64 else shown[:60] + "..."
