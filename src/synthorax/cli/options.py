"""Options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from synthorax.errors import InputError
from synthorax.io.mappings import parse_yaml, read_mapping
from synthorax.patch import MOST_PATCH_VOXELS

LAYERS_TEXT = re.compile(r"\d+(_\d+)+")
"""Layers as in 32_3_64_1024, which YAML takes for a number."""
LEAST_MM, MOST_MM = 1e-3, 1e3
"""Sizes of a voxel: below a thousandth of a millimetre or above a metre it is a slip of the pen."""
Number = TypeVar("Number", int, float)


def parse_zyx(
    text: str, option: str, expected: str, kind: type[Number], *, most: int = MOST_PATCH_VOXELS
) -> tuple[Number, Number, Number]:
    """`"1.25,0.7,0.7"` as three positive numbers: millimetres if floats, voxels if whole.

    Args:
        most: voxels in all.

    Raises:
        InputError: not three positive numbers, or such as no image has.
    """
    try:
        z, y, x = (kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(option, repr(text), expected) from error
    if not all(isfinite(number) and number > 0 for number in (z, y, x)):
        raise InputError(option, repr(text), expected)
    if kind is int and z * y * x > most:
        raise InputError(option, f"{z} x {y} x {x} voxels", f"at most {most} in all")
    if kind is float and not all(LEAST_MM <= number <= MOST_MM for number in (z, y, x)):
        raise InputError(option, repr(text), f"{LEAST_MM:g} to {MOST_MM:g} mm along each axis")
    return z, y, x


def parse_settings(pairs: Sequence[str], config: Path | None, **named: Any) -> dict[str, Any]:
    """Settings from a YAML file, then `KEY=VALUE` pairs, then options that were given.

    Raises:
        InputError: a file that is no mapping, or a pair without `=`.
    """
    settings: dict[str, Any] = {}
    if config is not None:
        content = read_mapping(config)
        inner = content.get("config", content)
        if not isinstance(inner, dict):
            raise InputError(config, f"config: {inner}", "a mapping of settings")
        settings |= inner
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InputError("--set", repr(pair), "KEY=VALUE")
        try:
            settings[key] = value if LAYERS_TEXT.fullmatch(value) else parse_yaml(value)
        except ValueError as error:
            raise InputError("--set", repr(pair), "KEY=VALUE") from error
    return settings | {name: value for name, value in named.items() if value is not None}


def parse_places(texts: Sequence[str] | None, option: str, expected: str) -> list[list[float]]:
    """Places, three numbers each, of an option that may be given several times.

    Raises:
        InputError: not three numbers.
    """
    return [parse_numbers(text, option, expected) for text in texts or ()]


def parse_numbers(text: str, option: str, expected: str, count: int | None = 3) -> list[float]:
    """Numbers with commas between them.

    Args:
        count: how many there are to be; any if None.

    Raises:
        InputError: other text, or another number of them.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(option, repr(text), expected) from error
    if count is not None and len(found) != count:
        raise InputError(option, repr(text), expected)
    return found
