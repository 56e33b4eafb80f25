"""What a terminal is given to show.

Names of files and patients come from anywhere, and some of their characters a terminal obeys instead of showing.
"""

from __future__ import annotations

import re
import sys

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that move the cursor, change colours or titles, or turn the direction of writing."""


def plain(text: object) -> str:
    """Text with every character that a terminal would obey spelled out by its number; lines and tabs stay."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(text: object) -> str:
    """`plain` text on one line."""
    return plain(text).replace("\r", "\\r").replace("\n", "\\n")


def say(text: object, *, error: bool = False, end: str = "\n") -> None:
    """Print plain text on standard output, or on standard error."""
    print(plain(text), file=sys.stderr if error else sys.stdout, end=end, flush=error)


def warn(note: object) -> None:
    """Print a warning on standard error."""
    say(f"synthorax: warning: {note}", error=True)
