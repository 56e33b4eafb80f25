"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from synthorax.errors import InputError

Number = TypeVar("Number", int, float)


def parse_zyx(text: str, option: str, expected: str, kind: type[Number]) -> tuple[Number, Number, Number]:
    """`"1.25,0.7,0.7"` as a tuple of three numbers.

    Raises:
        InputError: not three numbers.
    """
    try:
        z, y, x = (kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(option, repr(text), expected) from error
    return z, y, x


def parse_settings(pairs: Sequence[str], config: Path | None, **named: Any) -> dict[str, Any]:
    """Settings from a YAML file, then `KEY=VALUE` pairs, then options that were given.

    Raises:
        InputError: a file that is no mapping, or a pair without `=`.
    """
    settings: dict[str, Any] = {}
    if config is not None:
        try:
            content = yaml.safe_load(config.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(config, "no readable YAML", "a file of settings") from error
        if not isinstance(content, dict):
            raise InputError(config, type(content).__name__, "a mapping of settings")
        settings |= content.get("config", content)
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InputError("--set", repr(pair), "KEY=VALUE")
        settings[key] = yaml.safe_load(value) if "_" not in value else value
    return settings | {name: value for name, value in named.items() if value is not None}
