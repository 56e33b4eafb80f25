"""Chooses a configuration by its preset and changes some of its settings. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from synthorax.errors import InputError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Precision = Annotated[
    Literal["auto", "32", "tf32", "bf16"],
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]
"""Precision of the networks' arithmetic; weights are always float32. `auto`: `32` or `bf16`, by the rule of
`training.precision`. `32`: IEEE single precision. `tf32`: on CUDA, convolutions and matrix products round their inputs
to 11 bits. `bf16`: the networks' layers run in bfloat16, the rest as with `tf32`."""
BEFORE_AUTO: Precision = "32"
"""Precision of older runs, whose configuration does not name one."""
NO_LIST = frozenset({"tuple_type", "missing", "too_long", "too_short"})
"""Pydantic's error types for a value that should be a list, or a list of another length."""
Config = TypeVar("Config", bound=BaseModel)


def choose(presets: Mapping[str, Config], preset: str, settings: Mapping[str, Any]) -> Config:
    """Return the configuration of a preset with some settings changed.

    Args:
        presets: configurations by the names of their presets.
        preset: name of the preset.
        settings: new values by the names of the settings.

    Raises:
        InputError: the preset does not exist, a setting does not exist, or a value is not valid.
    """
    if preset not in presets:
        raise InputError("preset", repr(preset), " or ".join(presets))
    chosen = presets[preset]
    try:
        return type(chosen).model_validate(chosen.model_dump() | dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        setting, expected = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Input should be ")
        if first["type"] == "extra_forbidden":
            names = list(type(chosen).model_fields)
            expected = f"an existing setting, such as {' or '.join(get_close_matches(setting, names) or names[:3])}"
        elif first["type"] in NO_LIST and (example := _list_of(presets, preset, str(first["loc"][0]))):
            setting, expected = str(first["loc"][0]), f"a list, such as {example}"
        raise InputError(f"setting {setting}", repr(first["input"]), expected) from error
    except InputError as error:
        setting, found, expected = error.args
        raise InputError(f"setting {setting}", found, expected) from error


def _list_of(presets: Mapping[str, Config], preset: str, setting: str) -> str:
    """Return an example of a list setting as `--set` takes it: the preset's value, or another preset's if it is empty.

    Return an empty string for a setting that is not a list.
    """
    values = [getattr(presets[name], setting, ()) for name in (preset, *presets)]
    found = next((value for value in values if isinstance(value, tuple) and value), ())
    return f"[{', '.join(map(str, found))}]" if found else ""
