"""Values of JSON that someone else may have written, checked one by one. All raise ValueError."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST_ROW_TEXT = 2**16
"""Characters of the longest text in a row."""
STORE_FILES = ("zarr.json", "prepare.json")
"""Names of a store's own files."""
MOST_NAME_BYTES = 255
"""Bytes of a file's name, which file systems allow."""


def json_object(data: bytes) -> dict[str, Any]:
    """The JSON object that bytes hold."""
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"JSON that is no object but {_shown(found)}")
    return found


def field(row: Mapping[str, Any], name: str) -> Any:
    """A value of a row."""
    if name not in row:
        raise ValueError(f"no {name}")
    return row[name]


def text(value: Any, name: str) -> str:
    """A text."""
    if not isinstance(value, str) or len(value) > LONGEST_ROW_TEXT:
        raise ValueError(f"{name} {_shown(value)} where a text was expected")
    return value


def texts(values: Any, name: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(text(value, name) for value in items(values, name))


def table_of_texts(values: Any, name: str) -> list[dict[str, str]]:
    """A list of objects whose values are texts."""
    return [{key: text(value, key) for key, value in table(row, name).items()} for row in items(values, name)]


def items(value: Any, name: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ValueError(f"{name} {_shown(value)} where a list was expected")
    return value


def table(value: Any, name: str) -> dict[str, Any]:
    """An object, whose names JSON makes texts."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} {_shown(value)} where names and values were expected")
    return value


def whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} {_shown(value)} where a whole number from {least} to {most} was expected")
    return value


def number(value: Any, name: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"{name} {_shown(value)} where a finite number was expected")
    return float(value)


def numbers(value: Any, name: str, count: int) -> tuple[float, ...]:
    """So many finite numbers."""
    if len(items(value, name)) != count:
        raise ValueError(f"{name} {_shown(value)} where {count} numbers were expected")
    return tuple(number(one, name) for one in value)


def one_of(value: Any, name: str, choices: Sequence[Any]) -> Any:
    """One of some values."""
    if value not in choices:
        raise ValueError(f"{name} {_shown(value)} where one of {', '.join(map(repr, choices))} was expected")
    return value


def sha256_text(value: Any, name: str) -> str:
    """64 hex digits."""
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{name} {_shown(value)} where a SHA-256 was expected")
    return value


def folder_name(value: Any, name: str) -> str:
    """A name that a folder within another may have: no path, nothing hidden, nothing that leads out of it."""
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
    """Refuse a value that is there twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{name} {_shown(value)} twice")
        seen.add(value)


def splits(value: Any, patients: Sequence[str]) -> dict[str, list[str]]:
    """The patients of train, val and test: each in one of them, and all that cases have."""
    found = {name: list(texts(ids, f"split {name}")) for name, ids in table(value, "splits").items()}
    if set(found) != {"train", "val", "test"}:
        raise ValueError(f"splits {', '.join(found)[:60]} where train, val and test were expected")
    unique([patient for ids in found.values() for patient in ids], "patient of the splits")
    if missing := set(patients).difference(*found.values()):
        raise ValueError(f"patient {_shown(min(missing))} in no split")
    return found


def _shown(value: Any) -> str:
    """The start of a value, as an error shows it."""
    shown = repr(value[:60] if isinstance(value, str) else value)
    return shown if len(shown) <= 64 else shown[:60] + "..."
