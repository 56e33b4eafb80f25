"""Progress bars and lines on the screen while a data set is processed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """Return the items with a progress bar on a terminal; without items there is no bar.

    Args:
        items: the items.
        what: title of the bar.
        total: number of items.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, total, console=console, disable=not (total and console.is_terminal))


def tell(text: str) -> None:
    """Print a line on stderr, apart from a verb's result on stdout."""
    print(text, file=sys.stderr)
