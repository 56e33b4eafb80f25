"""Functions that write the results pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure


def titled(title: str, result: Sequence[str], lines: Iterable[str]) -> list[str]:
    """Return a page: its title, its result in a few sentences, and its lines.

    Args:
        result: sentences; the generator of lines may append to it.
    """
    measured = list(lines)
    return [f"# {title}", "", *result, "", *measured]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Give a table's lines, one for each row of cells."""
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def picture(figure: Figure, path: Path, text: str) -> Iterator[str]:
    """Save a picture, and give the lines that show it."""
    figure.savefig(path, bbox_inches="tight")
    yield f"![{text}]({path.name})"
    yield ""


def spread(value: float, low: float | None, high: float | None, form: str) -> str:
    """Return a figure as text, with its interval if it has one."""
    return f"{value:{form}}" + ("" if low is None else f" ({low:{form}} to {high:{form}})")


def three(found: Sequence[float] | None, form: str) -> str:
    """Return a value, low and high as text."""
    if found is None:
        return "not measured"
    value, low, high = found
    return spread(value, low, high, form)
