"""A bar while a data set is worked through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """The items, with a bar on a terminal where there are any."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, what, total, console=console, disable=not (total and console.is_terminal))
