"""Checks that the run in a folder has the requested settings; only its number of steps may grow."""

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
"""The one setting that may grow when a run is resumed."""
HAD_STEPS = "had_steps"
"""Key of `config.yaml`: the number of steps that the run had before `--more-steps` added some."""
PACKAGE_VERSION = "version"
"""Key of `config.yaml`: version of another package whose system began the run; another version may resume it."""
ASIDE = frozenset({HAD_STEPS, PACKAGE_VERSION})
"""Keys of `config.yaml` that are not compared."""
LONGEST_SETTING = 120
"""Largest number of characters of a setting in an error message."""


def check_config(file: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[int, int] | None:
    """Check that a run's configuration is the requested one, except that more steps may be requested.

    Args:
        file: file of the run's configuration, for the error.
        found: the run's configuration. Fields of a model in `asked` that it lacks count as their defaults.
        asked: the requested configuration.

    Returns:
        The run's number of steps and the larger requested number; None if they are equal.

    Raises:
        InputError: another setting differs, or fewer steps are requested.
    """
    found = {key: _with_defaults(found.get(key), asked.get(key)) for key in found.keys() - ASIDE}
    asked = {key: value for key, value in asked.items() if key not in ASIDE}
    before, now = (_flat(as_mappings(each)).get(STEPS_SETTING) for each in (found, asked))
    is_longer = isinstance(before, int) and isinstance(now, int) and now > before
    check_same(file, found, asked, aside=frozenset({STEPS_SETTING}) if is_longer else frozenset())
    return (before, now) if is_longer else None  # type: ignore[return-value]


def check_same(
    file: Path, found: Mapping[str, Any], asked: Mapping[str, Any], *, aside: frozenset[str] = frozenset()
) -> None:
    """Check that the mapping that a run recorded equals the requested one.

    Args:
        file: file of the recorded mapping, for the error.
        found: the recorded mapping.
        asked: the requested mapping.
        aside: keys that may differ; keys of nested mappings are joined by points.

    Raises:
        InputError: a value differs; the message says which, and how to continue.
    """
    found, asked = _flat(as_mappings(found)), _flat(as_mappings(asked))
    for key in sorted((found.keys() | asked.keys()) - aside):
        if found.get(key) == asked.get(key):
            continue
        there, wanted = (shorten(str(values.get(key)), LONGEST_SETTING) for values in (found, asked))
        way = "to train its weights further with other settings, use --from this run and another --out"
        setting = key.removeprefix("config.")
        if key == STEPS_SETTING:
            way = f"--set {setting}={there}, or more, resumes this run; so does --more-steps"
        elif key in found and setting != key and not set(". ") & set(setting + there):
            way = f"--set {setting}={there} resumes this run; {way}"
        raise InputError(file, f"a run with {key} {there}", f"{wanted}, as requested; {way}")


def as_mappings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping in which Pydantic models are converted to mappings."""
    return {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in tree.items()}


def _with_defaults(found: Any, asked: Any) -> Any:
    """Return a recorded value as a model of the requested class, with defaults for missing fields, if it is one."""
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
