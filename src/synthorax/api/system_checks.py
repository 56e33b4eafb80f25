"""Checks of a system's package: whether it has all that its entry in the registry promises."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from synthorax.errors import InputError
from synthorax.makers import FLAG_TYPES, Options, Role, check_maker, meanings
from synthorax.registry import Entry

TYPES_OF_FLAGS = "str, int, float, bool, Path or Literal, a tuple of these, or a union with one of them"
SMOKE = "smoke"
"""The preset that every trained system has: a training of seconds, for tests."""
_RATINGS = frozenset({
    "calcification", "internal_structure", "lobulation", "malignancy", "margin", "sphericity", "spiculation",
    "subtlety", "texture",
})  # fmt: skip
_SAMPLES = frozenset({"model", "n", "out", "seed", "diameter", "device", "overwrite"})
_EDITS = frozenset({
    "scan", "with", "at", "voxel", "diameter", "nodules", "plan", "series", "seed", "out", "workers", "cluster",
    "device", "force", "patient", "patient_from", "keep_identity", "overwrite", "json",
})  # fmt: skip
_PLACING = frozenset({"auto", "site", "nodule_mm", "vessel_mm", "wall_mm", "outlines", "lungs"})
OF_EVERY_VERB = frozenset({"help", "h", "version"})
VERB_FLAGS: Mapping[Role, frozenset[str]] = {
    "makes shapes": _SAMPLES | _RATINGS | {"positive", "formats"},
    "makes patches": _SAMPLES | _RATINGS | {"positive", "formats"} | _EDITS | _PLACING,
    "makes scans": _SAMPLES | {"inject", "share", "workers", "cluster"},
    "injects": _EDITS | _RATINGS | _PLACING,
    "erases": _EDITS | {"labels"},
}
"""Names of the arguments and flags that the verbs of a role have themselves, so that no option can have them."""
TRAIN_FLAGS = frozenset({
    "data", "out", "preset", "seed", "config", "set", "more_steps", "from", "device", "devices", "nodes", "max_minutes",
})  # fmt: skip
"""Names of the flags that `synthorax train` has itself."""
WITHOUT_TORCH = """
import sys
sys.path[:] = sys.argv[2:]
from importlib import import_module
import_module(sys.argv[1])
sys.exit("torch" in sys.modules)
"""
"""A program that imports a module by the places in its arguments, and fails if the module imports torch."""


def check_entry(entry: Entry) -> None:
    """Refuse a system whose package lacks a part that its entry promises; makes and trains no network.

    The roles of a trained system's maker may depend on its configuration and training, so they are not checked here.

    Raises:
        InputError: names the part, what is wrong with it, and what it has to be.
    """
    _check_kinds(entry, {"Options": entry.options, "TrainingOptions": entry.training_options})
    for options in (entry.options, entry.training_options):
        _with_defaults(entry, options)
        _check_help(entry, options, options.model_fields)
        _check_types(entry, options)
    _check_flags(entry)
    if not entry.is_trained:
        if entry.roles:
            check_roles(entry, entry.load("maker", "maker")(entry.options()))
    else:
        _check_presets(entry)
        _check_system(entry)
        parameters = ("config", "data", "seed", "options")
        _check_call(entry, "training.training", entry.load("training", "training"), parameters)
    _check_without_torch(entry)


def check_named(entry: Entry, made: object) -> None:
    """Refuse a System, or a maker, whose name is not its entry's.

    Raises:
        InputError: names both.
    """
    if (name := getattr(made, "name", None)) != entry.name:
        kind = made.__name__ if isinstance(made, type) else type(made).__name__
        raise InputError(f"system {entry.name}", f"a {kind} named {name!r}", f"{entry.name!r}, the name of its entry")


def _check_kinds(entry: Entry, classes: Mapping[str, Any]) -> None:
    for name, kind in classes.items():
        if not (isinstance(kind, type) and issubclass(kind, Options)):
            raise InputError(f"{entry.package}.config.{name}", repr(kind), "a class that inherits makers.Options")
        _check_is_named(entry, name, kind)


def _check_is_named(entry: Entry, name: str, kind: type[Options]) -> None:
    """Refuse a class of options under a name by which it is not found, where the one that is looked for is missing."""
    where = f"{entry.package}.config"
    own = [found for found in vars(import_module(where)).values() if inspect.isclass(found)]
    others = [each.__name__ for each in own if issubclass(each, Options) and each.__module__ == where]
    if name == "Options":
        others = [each for each in others if not each.endswith("TrainingOptions")]
    if kind is Options and (similar := [each for each in others if each.endswith(name)]):
        raise InputError(f"{where}.{similar[0]}", "a class that is not used", f"the name {name}")


def _with_defaults(entry: Entry, options: type[Options]) -> None:
    """Refuse options of which one has no default, or a default of another type."""
    try:
        made = options()
    except ValidationError as error:
        missing = ".".join(map(str, error.errors()[0]["loc"]))
        found = f"{missing} of {options.__name__} without a default that fits"
        raise InputError(f"{entry.package}.config", found, "a default for every option") from error
    try:
        options.model_validate({name: getattr(made, name) for name in options.model_fields})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        where = f"{entry.package}.config.{options.__name__}.{name}"
        expected = f"a value of its type, {options.model_fields[name].annotation}"
        raise InputError(where, f"the default {getattr(made, name)!r}", expected) from error


def _check_help(entry: Entry, kind: type[BaseModel], flags: Iterable[str]) -> None:
    """Refuse a class of which a field that becomes a flag has no help."""
    known = meanings(kind)
    for name in flags:
        if not known.get(name):
            where, expected = f"{entry.package}.config.{kind.__name__}.{name}", "a line of it under `Attributes:`"
            raise InputError(where, "no help", f"{expected} in the docstring of {kind.__name__}")


def _check_types(entry: Entry, kind: type[Options]) -> None:
    """Refuse options of a type that cannot be typed on a command line."""
    for name, field in kind.model_fields.items():
        if not _can_be_typed(field.annotation):
            where = f"{entry.package}.config.{kind.__name__}.{name}"
            raise InputError(where, f"the type {field.annotation}, which no flag can have", TYPES_OF_FLAGS)


def _can_be_typed(kind: Any) -> bool:
    """Return whether values of a type, or of a member of a union, can be typed on a command line."""
    if get_origin(kind) is Annotated:
        return _can_be_typed(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return any(_can_be_typed(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return all(_can_be_typed(part) for part in get_args(kind))
    return get_origin(kind) is Literal or kind is Any or kind in FLAG_TYPES


def _check_flags(entry: Entry) -> None:
    """Refuse options, and settings with a flag, that have the name of a flag of the verbs that take them."""
    taken = OF_EVERY_VERB.union(*(VERB_FLAGS.get(role, ()) for role in entry.roles))
    named = [(f"config.{entry.options.__name__}", name, taken) for name in entry.options.model_fields]
    if entry.is_trained:
        if isinstance(entry.flags, str):
            raise InputError(f"{entry.package}.config.FLAGS", f"the text {entry.flags!r}", "a tuple of names")
        training = entry.training_options
        of_training = f"config.{training.__name__}"
        named += [(of_training, name, TRAIN_FLAGS | OF_EVERY_VERB) for name in training.model_fields]
        named += [("config.FLAGS", name, TRAIN_FLAGS | OF_EVERY_VERB) for name in entry.flags]
        if twice := sorted(set(entry.flags) & training.model_fields.keys()):
            where = f"{entry.package}.{of_training}"
            raise InputError(where, f"{twice[0]!r}, which is in FLAGS too", "another name, or not in FLAGS")
    for where, name, others in named:
        if name in others:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{entry.package}.{where}", f"{name!r}, but the verbs have a {flag} of their own", "another name"
            )


def _check_presets(entry: Entry) -> None:
    """Refuse presets of another class than `Config`, without `SMOKE`, or that JSON cannot hold; and unknown names."""
    where, config, presets = f"{entry.package}.config", entry.config, entry.presets
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise InputError(f"{where}.Config", repr(config), "a class that inherits pydantic.BaseModel")
    if SMOKE not in presets:
        found, expected = ", ".join(presets) or "no preset", f"a preset {SMOKE!r} too, a training of seconds"
        raise InputError(f"{where}.PRESETS", found, expected)
    for name, preset in presets.items():
        if not isinstance(preset, config):
            raise InputError(f"{where}.PRESETS", f"{name}, a {type(preset).__name__}", "a Config")
        try:
            again = config.model_validate(json.loads(json.dumps(preset.model_dump(mode="json"))))
        except (ValidationError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{where}.PRESETS", f"{name}, which JSON cannot hold ({reason})", "plain values"
            ) from error
        if again != preset:
            found = f"{name}, which is another configuration when it is read back from a run folder"
            raise InputError(f"{where}.PRESETS", found, "plain values")
    _check_names(f"{where}.FLAGS", entry.flags, config.model_fields, "a setting of Config")
    _check_help(entry, config, entry.flags)
    for name, names in {
        "ABOUT_PRESETS": entry.about_presets,
        "CORE_SECONDS": entry.core_seconds,
        "CPU_PRESET": [entry.cpu_preset] if entry.cpu_preset else [],
    }.items():
        _check_names(f"{where}.{name}", names, presets, "a name of PRESETS")


def _check_names(where: str, names: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise InputError(where, repr(name), f"{what}: {', '.join(known)}")


def _check_system(entry: Entry) -> None:
    """Refuse a class `System` that is not one, has another name, or lacks a method that a verb calls."""
    from synthorax.training.system import System
    from synthorax.training.trainable import Trainable

    where, system = f"{entry.package}.system.System", entry.load("system", "System")
    base: type = System if entry.roles else Trainable  # a network that only measures has no maker
    if not (isinstance(system, type) and issubclass(system, base)):
        raise InputError(where, repr(system), f"a class that inherits {base.__module__}.{base.__name__}")
    if missing := sorted(getattr(system, "__abstractmethods__", ())):
        raise InputError(where, f"no {', '.join(missing)}", "all methods of a System")
    check_named(entry, system)
    _check_call(entry, "system.System.restore", getattr(system, "restore", None), ("config", "weights"))
    if not entry.roles:
        return
    if getattr(system, "maker", None) is System.maker:
        raise InputError(where, "no maker", f"the method maker(lineage), since it {' and '.join(sorted(entry.roles))}")
    _check_call(entry, "system.System.maker", getattr(system, "maker", None), ("self", "lineage"))


def check_roles(entry: Entry, maker: object) -> None:
    """Refuse a maker that lacks a role of its entry, or what the role requires, or has another name.

    Raises:
        InputError: names the missing part, or the roles.
    """
    check_named(entry, check_maker(maker, entry.roles))


def _check_call(entry: Entry, name: str, function: Any, parameters: tuple[str, ...]) -> None:
    """Refuse a function that cannot be called with these arguments, in this order."""
    where, expected = f"{entry.package}.{name}", f"{name.rpartition('.')[2]}({', '.join(parameters)})"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise InputError(where, f"a {type(function).__name__}", f"a function {expected}") from error
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise InputError(where, f"a function of {signature}", expected) from error


def _check_without_torch(entry: Entry) -> None:
    """Refuse a `config` that imports torch, which takes seconds: every `synthorax --help` imports it."""
    command = [sys.executable, "-c", WITHOUT_TORCH, f"{entry.package}.config", *sys.path]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        found, expected = "a module that imports torch", "torch imported by the other modules only"
        raise InputError(f"{entry.package}.config", found, expected)
