"""Errors of Python functions in the words of the command line: names of arguments become the flags that set them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cyclopts import CycloptsError

from synthorax.errors import InputError, SynthoraxError

QUOTED_ARGUMENT = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")
"""An argument of a Python function in an error's text, with or without a value: `seed`, `region=cube`."""
SETTINGS_FLAG = "--set"
"""Flag for the settings of a system, each as KEY=VALUE."""
PLACE_FLAGS = ("--at", "--voxel")
ARGUMENT_FLAGS: Mapping[str, Sequence[str]] = {
    "at_mm": PLACE_FLAGS,
    "place": PLACE_FLAGS,
    "diameter_mm": ("--diameter",),
    "clearance": ("--wall-mm", "--vessel-mm", "--nodule-mm"),
}
"""Flags of the arguments that have another name than their flag, or several flags."""
VERB_ARGUMENT_FLAGS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "inject": {"labels": ("--nodules",)},
    "erase": {"labels": ("--nodules",), "only_labels": ("--labels",)},
}
"""The same for single verbs, whose flags have the names of other arguments."""


def in_flags(error: InputError, arguments: Sequence[str]) -> InputError:
    """Return an error that names the flags of the command line where it named arguments of a Python function.

    The subject is translated if it is an argument; in the other parts, arguments between backticks are.

    Args:
        error: the error.
        arguments: words after `synthorax`.
    """
    flags = _flags_of(arguments)
    subject, *texts = error.args
    if isinstance(subject, str) and subject in flags:
        subject = flags[subject]

    def named(quoted: re.Match[str]) -> str:
        name, value = quoted.groups()
        if name in flags:
            return flags[name] + (f" {value}" if value else "")
        is_setting = value is not None and "settings" in flags
        return f"{flags['settings']} {name}={value}" if is_setting else quoted[0]

    return InputError(subject, *(QUOTED_ARGUMENT.sub(named, text) for text in texts))


def _flags_of(arguments: Sequence[str]) -> dict[str, str]:
    """Return the flag of each argument of the verb that the command line names; of several flags those that were typed.

    If the options of the named method or system cannot be loaded, the flags are those of the verb alone.
    """
    from synthorax.cli import build_app, verb_of

    verb = verb_of(arguments)
    flags: dict[str, str] = {}
    for words in (arguments, verb):
        try:
            command = build_app(words).parse_commands(words)[1][-1]
            if command.default_command is None:  # there is no such verb
                return {}
            found: Any = command.assemble_argument_collection(parse_docstring=False)
        except (SynthoraxError, CycloptsError):
            continue
        flags = {
            one.field_info.name: one.names[0] for one in found if one.field_info.kind is one.field_info.KEYWORD_ONLY
        }
        break
    typed = {word.partition("=")[0] for word in arguments}
    others = VERB_ARGUMENT_FLAGS.get(" ".join(verb), {})
    claimed = {name for names in others.values() for name in names}
    known = set(flags.values())
    flags = {name: flag for name, flag in flags.items() if flag.startswith("-") and flag not in claimed}
    if SETTINGS_FLAG in known:
        flags["settings"] = SETTINGS_FLAG
    for argument, names in {**ARGUMENT_FLAGS, **others}.items():
        if own := [name for name in names if name in known]:
            flags[argument] = " or ".join([name for name in own if name in typed] or own)
    return flags
