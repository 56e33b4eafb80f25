"""Options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from synthorax.errors import InputError
from synthorax.io.mappings import parse_yaml, read_mapping

LAYERS = re.compile(r"\d+(_\d+)+")
"""Layers as in 32_3_64_1024, which YAML takes for a number."""
Number = TypeVar("Number", int, float)


def parse_zyx(text: str, option: str, expected: str, kind: type[Number]) -> tuple[Number, Number, Number]:
    """`"1.25,0.7,0.7"` as three positive numbers.

    Raises:
        InputError: not three positive numbers.
    """
    try:
        z, y, x = (kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(option, repr(text), expected) from error
    if not all(isfinite(number) and number > 0 for number in (z, y, x)):
        raise InputError(option, repr(text), expected)
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
            settings[key] = value if LAYERS.fullmatch(value) else parse_yaml(value)
        except ValueError as error:
            raise InputError("--set", repr(pair), "KEY=VALUE") from error
    return settings | {name: value for name, value in named.items() if value is not None}
