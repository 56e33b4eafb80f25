"""What the screen shows while a data set is worked through."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """The items, with a bar on a terminal where there are any."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, total, console=console, disable=not (total and console.is_terminal))


def tell(text: str) -> None:
    """A line on the screen, beside a verb's result."""
    print(text, file=sys.stderr)
