"""Printing text on a terminal, with control characters spelled out.

Names of files and patients may hold characters that a terminal obeys instead of showing them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that move the cursor, change colours or titles, or turn the direction of writing."""


def plain(text: object) -> str:
    r"""Return the text with each character that a terminal would obey as its escape sequence; line ends and tabs stay.

    >>> print(plain("chest\x1b[2J.nii"))
    chest\x1b[2J.nii
    """
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(text: object) -> str:
    """Return the `plain` text on one line, with line ends as their escape sequences."""
    return plain(text).replace("\r", "\\r").replace("\n", "\\n")


def say(text: object, *, error: bool = False, end: str = "\n") -> None:
    """Print `plain` text on standard output, or on standard error if `error` is true."""
    print(plain(text), file=sys.stderr if error else sys.stdout, end=end, flush=error)


def warn(note: object) -> None:
    """Print a warning on standard error."""
    say(f"synthorax: warning: {note}", error=True)


def quantity(n: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def first_of(names: Sequence[str], most: int) -> str:
    """Join the first names, at most `most`, with dots if there are more.

    >>> first_of(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)
