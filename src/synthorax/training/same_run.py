"""Whether the run in a folder is the one that is asked for: what has to be the same, and that it may get more steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

from pydantic import BaseModel, ValidationError

from synthorax.errors import InputError
from synthorax.training.config import BEFORE_AUTO

STEPS_SETTING = "config.steps"
"""The one setting that may grow when a run is gone on with."""
HAD_STEPS = "had_steps"
"""Of `config.yaml`: the steps that the run had before `--more-steps` gave it more."""
LONGEST_SETTING = 120
"""Characters of a setting that an error shows."""


def check_config(file: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the steps that a run has and the larger number that is asked for; None if it has as many.

    Args:
        file: names the run in an error.
        found: what the run noted. It may lack fields of a model in `asked`: they had their defaults.
        asked: what has to be the same, but for more steps.

    Raises:
        InputError: something else differs, or fewer steps are asked for.
    """
    found = {key: _with_defaults(found.get(key), asked.get(key)) for key in found.keys() - {HAD_STEPS}}
    asked = {key: value for key, value in asked.items() if key != HAD_STEPS}
    before, now = (_flat(as_mappings(each)).get(STEPS_SETTING) for each in (found, asked))
    is_longer = isinstance(before, int) and isinstance(now, int) and now > before
    check_same(file, found, asked, aside=frozenset({STEPS_SETTING}) if is_longer else frozenset())
    return (before, now) if is_longer else None  # type: ignore[return-value]


def check_same(
    file: Path, found: Mapping[str, Any], asked: Mapping[str, Any], *, aside: frozenset[str] = frozenset()
) -> None:
    """Refuse a run that noted something other than what is asked for.

    Args:
        file: names the run in the error.
        aside: keys that may differ, those of inner mappings joined by points.

    Raises:
        InputError: says what differs, and how to go on.
    """
    found, asked = _flat(as_mappings(found)), _flat(as_mappings(asked))
    for key in sorted((found.keys() | asked.keys()) - aside):
        if found.get(key) == asked.get(key):
            continue
        there, wanted = (shorten(str(values.get(key)), LONGEST_SETTING) for values in (found, asked))
        way = "--from this run and another --out train its weights further"
        setting = key.removeprefix("config.")
        if key == STEPS_SETTING:
            way = f"--set {setting}={there}, or more, goes on with this run; so does --more-steps"
        elif key in found and setting != key and not set(". ") & set(setting + there):
            way = f"--set {setting}={there} goes on with this run; {way}"
        raise InputError(file, f"a run with {key} {there}", f"{wanted}, as asked; {way}")


def as_mappings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with its models as mappings."""
    return {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in tree.items()}


def _with_defaults(found: Any, asked: Any) -> Any:
    """What a run noted, as a model of the kind that is asked for if it is one."""
    if isinstance(asked, BaseModel):
        if "precision" in type(asked).model_fields and isinstance(found, Mapping):
            found = {"precision": BEFORE_AUTO, **found}
        with suppress(ValidationError, InputError):
            return type(asked).model_validate(found)
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(tree)).items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
