"""What `synthorax inject` and `erase` share: flags of the method that they name, and the scan as it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from synthorax.cli.flags import with_options
from synthorax.hub import able, system_of
from synthorax.io.scans import Scan, read_scan
from synthorax.io.walk import told
from synthorax.makers import Options, Role
from synthorax.screen import say

WITH = "--with"


def with_method(
    verb: Callable[..., int], arguments: Sequence[str], role: Role, default: str = ""
) -> Callable[..., int]:
    """Return a verb with the flags of the method that its arguments name after `--with`.

    A method that is not known gives it the general flags alone, and the verb itself tells of it.

    Args:
        default: the method where none is named.
    """
    named = default
    for word, following in pairwise([*arguments, ""]):
        if word == WITH:
            named = following
        elif word.startswith(WITH + "="):
            named = word.removeprefix(WITH + "=")
    is_known = named and (named in able((role,)) or Path(named).exists())
    if not is_known:
        return with_options(verb, Options, named or "a method")
    entry = system_of(named)
    return with_options(verb, entry.options, entry.name, epilogue=_others(role, entry.name))


def _others(role: Role, shown: str) -> str:
    """Which other methods there are, and that their flags may be others."""
    others = [name for name in able((role,)) if name != shown]
    listed = f"Methods beside {shown}: {', '.join(others)}, or a run folder. " if others else ""
    return f"{listed}The flags of a method are told by `--with METHOD --help`." if others else ""


def scan_to_edit(path: Path, series: str | None, force: bool) -> Scan:
    """A scan as it is stored; what was left out beside it is told on the screen."""
    read = read_scan(path, series, any_values=force, as_stored=True)
    if read.dicom is not None and read.dicom.left_out:
        say(f"synthorax: warning: left out {told(read.dicom.left_out)}", error=True)
    return read
