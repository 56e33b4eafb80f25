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


def sure_differences(pairs: Iterable[tuple[str, str, float]], p: float = 0.05) -> str:
    """Return which arms are significantly better or worse than another, as a sentence.

    Args:
        pairs: arm, arm that it is compared with, and the difference of the first less the second, of each
            significant test.
        p: corrected p value below which a difference is significant.

    >>> sure_differences([("a", "b", 0.1), ("c", "b", -0.2)])
    'Significantly better (p < 0.05 after correction): “a” than “b”; significantly worse: “c” than “b”.'
    >>> sure_differences([])
    'No two arms differ significantly (p < 0.05 after correction).'
    """
    found = list(pairs)
    better, worse = (", ".join(f"“{a}” than “{b}”" for a, b, d in found if d * sign > 0) for sign in (1, -1))
    test = f"p < {p:g} after correction"
    if better:
        second = f"significantly worse: {worse}" if worse else "none is significantly worse"
        return f"Significantly better ({test}): {better}; {second}."
    if worse:
        return f"Significantly worse ({test}): {worse}; none is significantly better."
    return f"No two arms differ significantly ({test})."


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
