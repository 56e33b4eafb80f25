"""What the results pages are written with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def titled(title: str, result: Sequence[str], lines: Iterable[str]) -> list[str]:
    """A page: its title, its result in a few sentences, and its lines.

    Args:
        result: sentences; the lines may add them while they are measured.
    """
    measured = list(lines)
    return [f"# {title}", "", *result, "", *measured]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A table's lines, one of cells to a row."""
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def picture(figure: Figure, path: Path, text: str) -> Iterator[str]:
    """Save a picture; the lines that show it."""
    figure.savefig(path, bbox_inches="tight")
    yield f"![{text}]({path.name})"
    yield ""


def spread(value: float, low: float | None, high: float | None, form: str) -> str:
    """A figure with its interval, if it has one."""
    return f"{value:{form}}" + ("" if low is None else f" ({low:{form}} to {high:{form}})")


def three(found: Sequence[float] | None, form: str) -> str:
    """A value, low and high, as figures hold them."""
    if found is None:
        return "not measured"
    value, low, high = found
    return spread(value, low, high, form)
