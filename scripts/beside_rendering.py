"""Decides in which figures a method's in-painted nodules are better than rendered ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from in_painting_made import RENDER
from synthorax.studies.in_painting import INNER_SEAM_WITHIN, LEAST_SEED_DIVERSITY, TEXTURE_WITHIN

PERFECT_AUC = 0.5
BETTER, NOT_BETTER, BOTH_GOOD, UNKNOWN = "better", "not", "both", "unknown"
KINDS = {
    BETTER: "better than rendered ones in",
    NOT_BETTER: "no better in",
    BOTH_GOOD: "both reach the goal in",
    UNKNOWN: "no verdict, since its controls failed, on",
}
"""Kinds of verdicts, and how a sentence begins with each."""


@dataclass(frozen=True)
class Line:
    """A figure by which methods are compared.

    Attributes:
        text: name on the page.
        form: format of the values.
        goal: goal in words.
        value: function of the figures of `results_in_painting.py` and a method's name; None if the value is unknown.
        off: function that returns the distance of a value from that of real nodules.
        reached: function that says whether a value reaches the goal, if there is one.
        less: of a figure, the difference to rendering's with its interval, where it was compared pair by pair.
        void: why nothing can be said, or nothing.
    """

    text: str
    form: str
    goal: str
    value: Callable[[Mapping[str, Any], str], Sequence[float] | None]
    off: Callable[[float], float]
    reached: Callable[[float], bool] | None = None
    less: Callable[[Mapping[str, Any], str], Sequence[float] | None] | None = None
    void: Callable[[Mapping[str, Any]], str] | None = None


def _of_in_painting(name: str) -> Callable[[Mapping[str, Any], str], Sequence[float] | None]:
    def value(figures: Mapping[str, Any], method: str) -> Sequence[float] | None:
        found: Sequence[float] | None = figures["methods"][method]["in-painting"][name]["value"]
        return found

    return value


def _told_apart(view: str) -> Line:
    def value(figures: Mapping[str, Any], method: str) -> Sequence[float] | None:
        found = figures["told"].get(view, {"methods": {}})["methods"].get(method)
        return None if found is None else found["auc"]

    def less(figures: Mapping[str, Any], method: str) -> Sequence[float] | None:
        found: Sequence[float] | None = figures["told"][view]["methods"][method]["less rendered"]
        return found

    def void(figures: Mapping[str, Any]) -> str:
        return str(figures["told"][view]["controls"]["void"]) if view in figures["told"] else ""

    off: Callable[[float], float] = lambda auc: abs(auc - PERFECT_AUC)  # noqa: E731
    return Line(f"told apart, {view}", ".3f", f"{PERFECT_AUC:g}", value, off, None, less, void)


def _kid(figures: Mapping[str, Any], method: str) -> Sequence[float] | None:
    found: Sequence[float] | None = figures["kid"].get(method)
    return found


def _texture(name: str, text: str) -> Line:
    return Line(
        text,
        ".2f",
        f"1 ± {TEXTURE_WITHIN:g}",
        _of_in_painting(name),
        lambda value: abs(log(max(value, 1e-9))),
        lambda value: abs(value - 1) <= TEXTURE_WITHIN,
    )


def _diversity(name: str, text: str) -> Line:
    return Line(
        text,
        ".2f",
        f"at least {LEAST_SEED_DIVERSITY:g}",
        _of_in_painting(name),
        lambda value: max(1 - value, 0.0),
        lambda value: value >= LEAST_SEED_DIVERSITY,
    )


LINES = (
    Line("KID x 1000", ".0f", "as real", _kid, lambda value: max(value, 0.0)),
    _told_apart("whole"),
    _told_apart("nodule alone"),
    Line(
        "seam",
        ".2f",
        f"at most {1 + INNER_SEAM_WITHIN:g}",
        _of_in_painting("inner_seam"),
        lambda value: max(value - 1, 0.0),
        lambda value: value <= 1 + INNER_SEAM_WITHIN,
    ),
    _texture("texture_to_real", "texture of nodules"),
    _texture("lung", "texture of lung that was replaced"),
    _diversity("diversity_hu", "diversity in HU"),
    _diversity("diversity_shape", "diversity in shape"),
)


@dataclass(frozen=True)
class Verdict:
    """The result of a figure's comparison of a method with rendering.

    Attributes:
        kind: `BETTER`, `BOTH_GOOD` where both reach the goal, `NOT_BETTER`, or `UNKNOWN`.
        text: the figure with both values, and whether they differ beyond chance: the interval of their difference does
            not hold 0 or, of figures that were not compared pair by pair, their intervals do not overlap.
    """

    kind: str
    text: str


def verdicts(figures: Mapping[str, Any], name: str) -> list[Verdict]:
    """Compare a method with rendering by every figure.

    Args:
        figures: figures that `results_in_painting.py` wrote; rendering must be among the methods.
        name: name of the method.
    """
    found = []
    for line in LINES:
        own, other = (line.value(figures, method) for method in (name, RENDER))
        if own is None or other is None:
            continue
        text = f"{line.text} ({own[0]:{line.form}} against {other[0]:{line.form}}"
        if line.void is not None and line.void(figures):
            found.append(Verdict(UNKNOWN, text + ")"))
            continue
        if line.reached is not None and line.reached(own[0]) and line.reached(other[0]):
            found.append(Verdict(BOTH_GOOD, text + ")"))
            continue
        apart = None if line.less is None else line.less(figures, name)
        is_apart = own[1] > other[2] or own[2] < other[1]
        is_sure = is_apart if apart is None else not apart[1] <= 0 <= apart[2]
        kind = BETTER if line.off(own[0]) < line.off(other[0]) else NOT_BETTER
        found.append(Verdict(kind, f"{text}{', beyond chance' * is_sure})"))
    return found


def better_than_rendering(found: Sequence[Verdict]) -> str:
    """Return a sentence, without a full stop, on the figures in which a method is better than rendering or not."""
    of_kind = {kind: ", ".join(one.text for one in found if one.kind == kind) for kind in KINDS}
    better = of_kind[BETTER]
    said = [f"better than rendered ones in {better}" if better else "better than rendered ones in no figure"]
    said += [f"{KINDS[kind]} {texts}" for kind, texts in of_kind.items() if texts and kind != BETTER]
    return "; ".join(said)
