"""Checks that the run in a folder is the requested one: system, preset, data and settings; only steps may be added."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

from pydantic import BaseModel, ValidationError

from synthorax.errors import InputError
from synthorax.training.config import BEFORE_AUTO
from synthorax.training.files import CONFIG

STEPS_SETTING = "config.steps"
"""The one setting that may grow when a run is resumed."""
HAD_STEPS = "had_steps"
"""Key of `config.yaml`: the number of steps that the run had before `--more-steps` added some."""
PACKAGE_VERSION = "version"
"""Key of `config.yaml`: version of another package whose system began the run; another version may resume it."""
ON_DATA = "on"
"""Key of `config.yaml`: name of the data's folder, for people; data are compared by their fingerprint."""
ASIDE = frozenset({HAD_STEPS, PACKAGE_VERSION, ON_DATA})
"""Keys of `config.yaml` that are not compared."""
FINGERPRINT = "fingerprint"
"""Key of `data.json`: hash of the data."""
SETTINGS_START = "config."
"""Start of the keys of a system's settings."""
MOST_SETTINGS_NAMED = 6
"""Most settings that an error names."""
LONGEST_SETTING = 60
"""Largest number of characters of a setting in an error message."""


def check_config(run: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[int, int] | None:
    """Check that a run's configuration is the requested one, except that more steps may be requested.

    Args:
        run: folder of the run, for the error.
        found: the run's configuration. Fields of a model in `asked` that it lacks count as their defaults.
        asked: the requested configuration.

    Returns:
        The run's number of steps and the larger requested number; None if they are equal.

    Raises:
        InputError: another setting differs, or fewer steps are requested. The error names all settings that differ.
    """
    there, wanted = _comparable(found, asked), _flat(as_mappings(asked))
    before, now = there.get(STEPS_SETTING), wanted.get(STEPS_SETTING)
    is_longer = isinstance(before, int) and isinstance(now, int) and now > before
    aside = ASIDE | ({STEPS_SETTING} if is_longer else set())
    if differ := [key for key in sorted((there.keys() | wanted.keys()) - aside) if there.get(key) != wanted.get(key)]:
        raise _other_settings(run, differ, there, wanted)
    return (before, now) if is_longer else None  # type: ignore[return-value]


def check_kind(run: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Check that a run is of the requested system and preset.

    Args:
        run: folder of the run, for the error.
        found: the run's configuration.
        asked: the requested configuration.

    Raises:
        InputError: the system or the preset differs.
    """
    about = _described(found)
    if found.get("system") != asked.get("system"):
        raise InputError(run, about, f"a run of {asked.get('system')}, as requested; another --out starts one")
    if found.get("preset") != asked.get("preset"):
        way = f"--preset {found.get('preset')} with the run's own settings (--config {run / CONFIG}) resumes this run"
        raise InputError(
            run, about, f"preset {asked.get('preset')}, as requested; {way}, another --out starts a new one"
        )


def check_fingerprint(
    run: Path, config: Mapping[str, Any], found: Mapping[str, Any], asked: Mapping[str, Any], on: str
) -> None:
    """Check by its fingerprint that a run was begun on the requested data.

    Args:
        run: folder of the run, for the error.
        config: the run's configuration.
        found: the run's description of its data.
        asked: description of the requested data.
        on: name of the requested data, such as `the store luna`; may be empty.

    Raises:
        InputError: the fingerprint differs.
    """
    if found.get(FINGERPRINT) == asked.get(FINGERPRINT):
        return
    had = str(config.get(ON_DATA) or "")
    if had and on == had:
        other = f"{on} as it was when the run began; it has changed since"
    else:
        way = f"--data with {had} resumes" if had else "the data of the run, chosen by the same options, resume"
        other = f"{on or 'other data'}, as requested; {way} this run"
    further = "to train its weights on other data, use --from this run and another --out"
    raise InputError(run, _described(config), f"{other}; {further}")


def check_data(run: Path, config: Mapping[str, Any], found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Check that all else that a run notes about its data is as requested.

    Args:
        run: folder of the run, for the error.
        config: the run's configuration.
        found: the run's description of its data.
        asked: description of the requested data.

    Raises:
        InputError: the descriptions differ.
    """
    there, wanted = _flat(as_mappings(found)), _flat(as_mappings(asked))
    for key in sorted(there.keys() | wanted.keys()):
        if there.get(key) != wanted.get(key):
            was, now = (shorten(_text(values.get(key)), LONGEST_SETTING) for values in (there, wanted))
            expected = f"{key} {now}, as requested; another --out starts a new run"
            raise InputError(run, f"{_described(config)}, with {key} {was}", expected)


def _described(config: Mapping[str, Any]) -> str:
    """Return a run in words, such as `a run of ac-wgan, preset smoke, on luna`."""
    words = f"a run of {config.get('system', 'an unknown system')}"
    words += f", preset {config['preset']}" if config.get("preset") else ""
    return words + (f", on {config[ON_DATA]}" if config.get(ON_DATA) else "")


def _other_settings(
    run: Path, differ: Sequence[str], there: Mapping[str, Any], wanted: Mapping[str, Any]
) -> InputError:
    """Return the error for settings that differ, with the options that resume the run."""

    def listed(values: Mapping[str, Any]) -> str:
        named = [
            f"{key.removeprefix(SETTINGS_START)} {shorten(_text(values.get(key, 'none')), LONGEST_SETTING)}"
            for key in differ[:MOST_SETTINGS_NAMED]
        ]
        return ", ".join(named) + (
            f" and {len(differ) - MOST_SETTINGS_NAMED} more" if len(differ) > MOST_SETTINGS_NAMED else ""
        )

    ways = [_option(key, there) if key in wanted else "" for key in differ]
    if len(differ) > MOST_SETTINGS_NAMED or not all(ways):
        own = [way for key, way in zip(differ, ways, strict=True) if way and not key.startswith(SETTINGS_START)]
        ways = [f"--config {run / CONFIG}", *own]
        if any(key not in wanted or (not key.startswith(SETTINGS_START) and not _option(key, there)) for key in differ):
            ways = []  # such as a setting of another version, or the hash of the model that the training started from
    way = f"{' '.join(ways)} resumes this run; " if ways else ""
    if list(differ) == [STEPS_SETTING]:
        way = f"{ways[0]}, or more, resumes this run, and so does --more-steps; "
    way += "to train its weights further with other settings, use --from this run and another --out"
    return InputError(run, f"a run with {listed(there)}", f"{listed(wanted)}, as requested; {way}")


def _option(key: str, there: Mapping[str, Any]) -> str:
    """Return the option that gives a setting the run's value; empty if none does."""
    if key == "seed" and key in there:
        return f"--seed {there[key]}"
    name = key.removeprefix(SETTINGS_START)
    if key == name or key not in there or "." in name or isinstance(there[key], dict):
        return ""
    return f"--set {shlex.quote(f'{name}={_text(there[key])}')}"


def _text(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _comparable(found: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration as one level of settings, with defaults for fields that it lacks."""
    return _flat(as_mappings({key: _with_defaults(value, asked.get(key)) for key, value in found.items()}))


def as_mappings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping in which Pydantic models are converted to mappings."""
    return {k: v.model_dump(mode="json") if isinstance(v, BaseModel) else v for k, v in tree.items()}


def _with_defaults(found: Any, asked: Any) -> Any:
    """Return a recorded value as a model of the requested class, with defaults for missing fields, if it is one."""
    if isinstance(asked, BaseModel) and isinstance(found, Mapping):
        fields = type(asked).model_fields
        found = ({"precision": BEFORE_AUTO} if "precision" in fields else {}) | dict(found)
        other = {name: value for name, value in found.items() if name not in fields}  # of another version
        with suppress(ValidationError, InputError):
            known = type(asked).model_validate({name: found[name] for name in found if name in fields})
            return other | known.model_dump(mode="json")
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(tree)).items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
