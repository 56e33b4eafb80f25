"""Configurations by preset, with some settings changed. No torch here."""

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
"""Of arithmetic; weights are float32. `auto`: `32` or `bf16`, by the rule of `training.precision`. `32`: IEEE single
precision. `tf32`: on CUDA, convolutions and matrix products round what they multiply to 11 bits. `bf16`: the networks'
layers in bfloat16, the rest as `tf32`."""
BEFORE_AUTO: Precision = "32"
"""The precision of runs whose configuration names none."""
NO_LIST = frozenset({"tuple_type", "missing", "too_long", "too_short"})
"""Kinds of errors of a setting that is to be a list, of so many parts."""
Config = TypeVar("Config", bound=BaseModel)


def choose(presets: Mapping[str, Config], preset: str, settings: Mapping[str, Any]) -> Config:
    """A preset with some settings changed.

    Raises:
        InputError: no such preset, or a setting that does not exist or whose value does not fit.
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
            expected = f"a setting that there is, such as {' or '.join(get_close_matches(setting, names) or names[:3])}"
        elif first["type"] in NO_LIST and (example := _list_of(presets, preset, str(first["loc"][0]))):
            setting, expected = str(first["loc"][0]), f"a list, such as {example}"
        raise InputError(f"setting {setting}", repr(first["input"]), expected) from error
    except InputError as error:
        setting, found, expected = error.args
        raise InputError(f"setting {setting}", found, expected) from error


def _list_of(presets: Mapping[str, Config], preset: str, setting: str) -> str:
    """A list as `--set` takes it: the preset's own, or another's where that is empty; empty for other settings."""
    values = [getattr(presets[name], setting, ()) for name in (preset, *presets)]
    found = next((value for value in values if isinstance(value, tuple) and value), ())
    return f"[{', '.join(map(str, found))}]" if found else ""
