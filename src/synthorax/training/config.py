"""Configurations by preset, with some settings changed. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
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
        setting = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"setting {setting}", repr(first["input"]), first["msg"].removeprefix("Input should be ")
        ) from error
    except InputError as error:
        setting, found, expected = error.args
        raise InputError(f"setting {setting}", found, expected) from error
