"""Progress bars and lines on the screen while a data set is processed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_A_LINE = 30.0
"""Least seconds between two lines of a progress that is not shown on a terminal."""


def with_progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """Return the items with a progress bar on a terminal, or else with a line now and then; none without items.

    Args:
        items: the items.
        what: title of the bar.
        total: number of items.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        return _with_lines(items, what, total)
    return track(items, what, total, console=console, disable=not total)


def _with_lines(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items, and print how many there were, at most one line in `SECONDS_A_LINE`."""
    told = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if done < total and (now := time.monotonic()) - told >= SECONDS_A_LINE:
            tell(f"{what}: {done} of {total}")
            told = now


def tell(text: str) -> None:
    """Print a line on stderr, apart from a verb's result on stdout."""
    print(text, file=sys.stderr)
