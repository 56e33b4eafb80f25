"""Telling a user how the request of a folder's first call differs from that of a later one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OPTION_GROUPS = frozenset({"request", "attributes", "clearance"})
"""Entries of a request that hold options of their own."""
OPTION_NAMES = {
    "synthorax": "the version of synthorax",
    "recipe": "the recipe of this version",
    "edit": "the verb",
    "kind": "the kind of source",
    "folder": "the folder's name",
    "source": "the source's name",
    "place": "the path of the source",
    "method": "--with",
    "diameters_mm": "--diameter",
    "at_mm": "--at",
}
"""Names of the entries that are not called like their flag."""
DECIDING = frozenset({"edit", "kind"})
"""Entries on which all other options depend."""
HASHED = frozenset({"place"})
"""Entries whose values tell a reader nothing."""
MOST_SHOWN = 40
"""Longest value, in characters, that a message shows."""


def differing_options(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the options in which two requests differ, each with its value then and now unless it is long.

    Requests of two verbs or kinds of source differ in all options, so only the verb or kind is named.

    Args:
        begun: request of the first call.
        wanted: request of this call.

    >>> differing_options({"seed": 1, "request": {"auto": 2}}, {"seed": 4, "request": {"auto": 2}, "annotated": "all"})
    '--annotated was not given, now all; --seed was 1, now 4'
    """
    then, now = dict(_options(begun)), dict(_options(wanted))
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    names = [name for name in names if name in DECIDING] or names
    return "; ".join(_told(name, then.get(name), now.get(name)) for name in names)


def _options(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in request.items():
        if name in OPTION_GROUPS and isinstance(value, Mapping):
            yield from _options(value)
        else:
            yield name, value


def _told(name: str, then: Any, now: Any) -> str:
    flag = OPTION_NAMES.get(name) or "--" + name.replace("_", "-")
    was, is_ = _text(then), _text(now)
    if name in HASHED or len(was) > MOST_SHOWN or len(is_) > MOST_SHOWN:
        return f"{flag} differs"
    return f"{flag} was {was}, now {is_}"


def _text(value: Any) -> str:
    if value is None or value == []:
        return "not given"
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return ",".join(map(str, value))
    return str(value)
