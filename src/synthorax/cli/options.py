"""Options that several verbs share, the groups that `--help` shows them in, and the parsing of their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from synthorax.errors import InputError
from synthorax.io.mappings import parse_yaml, read_mapping
from synthorax.patch import MOST_PATCH_VOXELS

LAYERS_TEXT = re.compile(r"\d+(_\d+)+")
"""Layers as in 32_3_64_1024, which YAML would read as one number."""
LEAST_MM, MOST_MM = 1e-3, 1e3
"""Voxel spacings in mm that are allowed; others are typing errors."""
Number = TypeVar("Number", int, float)

NODULE_FLAGS = Group("Nodules", sort_key=1)
PLACING_FLAGS = Group("Automatic placement", sort_key=2)
RATING_FLAGS = Group("Ratings of the nodules", sort_key=3)
OF_SYSTEM = 4
"""Position of the group with a system's own options."""
TRAINING_FLAGS = Group("Training", sort_key=5)
FOLDER_FLAGS = Group("Folders of scans", sort_key=6)
OUTPUT_FLAGS = Group("Output", sort_key=7)
COMPUTING_FLAGS = Group("Seed and computing", sort_key=8)

DIAMETERS = "a diameter in mm for all nodules, or one for each, as in 6,8,12"
"""What `--diameter` takes, for errors."""
Out = Annotated[Path, Parameter(group=OUTPUT_FLAGS)]
Overwrite = Annotated[bool, Parameter(group=OUTPUT_FLAGS)]
Json = Annotated[bool, Parameter(name="--json", group=OUTPUT_FLAGS)]
Seed = Annotated[int, Parameter(group=COMPUTING_FLAGS)]
Device = Annotated[str, Parameter(group=COMPUTING_FLAGS)]
Workers = Annotated[int | None, Parameter(group=COMPUTING_FLAGS)]
Cluster = Annotated[str | None, Parameter(group=COMPUTING_FLAGS)]
ConfigFile = Annotated[Path | None, Parameter(group=TRAINING_FLAGS)]
Settings = Annotated[list[str] | None, Parameter(negative="", group=TRAINING_FLAGS)]
Trainings = Annotated[int, Parameter(group=TRAINING_FLAGS)]


def parse_zyx(
    text: str, option: str, expected: str, kind: type[Number], *, most: int = MOST_PATCH_VOXELS
) -> tuple[Number, Number, Number]:
    """Parse `"1.25,0.7,0.7"` as three positive numbers in the order z, y, x.

    Args:
        text: value of the option.
        option: name of the option, for the error.
        expected: what the error says was expected.
        kind: `float` for a voxel spacing in mm, `int` for numbers of voxels.
        most: largest product of three numbers of voxels.

    Example:
        >>> parse_zyx("1.25,0.7,0.7", "--spacing", "Z,Y,X in mm", float)
        (1.25, 0.7, 0.7)

    Raises:
        InputError: not three positive numbers; a spacing outside `LEAST_MM` to `MOST_MM`; or too many voxels.
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
    """Return settings from a YAML file, `KEY=VALUE` pairs and options; of two for one key the later one counts.

    Args:
        pairs: values of `--set`.
        config: YAML file of settings, or a run's config.yaml; None for no file.
        named: settings that have an option of their own; None where the option was not given.

    Example:
        >>> parse_settings(["steps=10", "betas=[0, 0.9]"], None, layers="32_3_64_1024")
        {'steps': 10, 'betas': [0, 0.9], 'layers': '32_3_64_1024'}

    Raises:
        InputError: the file is not a mapping, or a pair has no `=`.
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
    """Return the places, three numbers each, of an option that may be repeated.

    Raises:
        InputError: a place is not three numbers with commas between them.
    """
    return [parse_numbers(text, option, expected) for text in texts or ()]


def parse_numbers(text: str, option: str, expected: str, count: int | None = 3) -> list[float]:
    """Return numbers that are written with commas between them.

    Args:
        text: value of the option.
        option: name of the option, for the error.
        expected: what the error says was expected.
        count: how many numbers there have to be; None for any.

    Raises:
        InputError: the text is not numbers, or their count is wrong.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(option, repr(text), expected) from error
    if count is not None and len(found) != count:
        raise InputError(option, repr(text), expected)
    return found
