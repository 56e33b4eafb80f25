"""The goals of flow matching, each with its result: a table of its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flow_arms_page import helped_lines
from in_painting_made import RENDER
from injection_times import BUSY, MOST_ABOVE_S
from pages import table, three

FLOW = "flow"
TIMES, ARMS = "times.json", "arms.json"
NOT_YET = "Not measured."
BY_CPU = "; CPU counts, as other work slowed the machine"
USUAL_STEPS, MOST_SECONDS = 16, 1.0
"""Goal for the seconds of a single nodule, with the default number of steps."""
WHOLE_DIAMETER = "diameter, measured against asked or stated: rank correlation"
"""Check of the study of fidelity (`studies.conditions`) on samples that are made from noise alone."""
HALF_WAY = "at least the mean of rendering's and real"
NO_COPIES = 0.5
"""Attraction of samples that are not nearer to training nodules than to others."""
Figures = Mapping[str, Any]


def goal_lines(figures: Figures, painted: Figures) -> Iterator[str]:
    """Give each goal with its result, and whether it is reached."""
    yield from table(["", "found", "goal", ""], _goals(figures, painted))


def _goals(figures: Figures, painted: Figures) -> Iterator[Sequence[str]]:
    widths = painted["methods"][FLOW]["widths"]
    above = widths.get("above half-way")
    real, rendered = (one["widths"]["half-width"] for one in (painted, painted["methods"][RENDER]))
    found = f"{three(widths['half-width'], '.2f')}; rendering {rendered[0]:.2f}, real {real[0]:.2f}"
    yield _goal("diameter, rank correlation", found, HALF_WAY, above is not None and above[0] >= 0)
    small = figures["small"].get(FLOW)
    if small is None:
        yield "nodules of a few millimetres hidden by noise", NOT_YET, "none", ""
    else:
        yield _goal(
            f"nodules of {small['mm']:g} mm hidden by noise",
            f"{small['invisible']} of {small['n']}",
            "none",
            not small["invisible"],
        )
    if (texture := figures["texture"].get(FLOW)) is None:
        yield "low and high texture at one site distinguished, AUC", NOT_YET, "as real", ""
    else:
        own, theirs = texture["auc"], texture["real"]
        found = f"{three(own, '.3f')}; real {theirs[0]:.3f}"
        yield _goal(
            "low and high texture at one site distinguished, AUC", found, "as real: intervals meet", own[2] >= theirs[1]
        )
    yield from _rating_goals(figures)
    outlined = figures["outlined"].get(FLOW)
    if outlined is None:
        yield "given outline and visible nodule, Dice", NOT_YET, "above that of another nodule's outline", ""
    else:
        own, another = outlined["told"], outlined["another"]
        found = f"{three(own, '.2f')}; another's outline {another[0]:.2f}"
        yield _goal("given outline and visible nodule, Dice", found, "above another's outline", own[1] > another[2])
    for name, one in figures["erased"].items():
        for text, row in one["told"].items():
            left = row["way left"]
            found = f"{three(left['value'], '.3f')} of the difference left"
            goal = f"shown within {left['margin']:g}"
            yield _goal(f"erased by {name}, {text}, as healthy sites", found, goal, left["equivalent"])
    yield from _memory_goals(figures)
    yield from _time_goals(figures)
    if figures[ARMS] is None:
        what = "synthetic nodules added to real ones: a detector, a classifier of malignancy"
        yield what, NOT_YET, "", ""
    else:
        for row in helped_lines(figures[ARMS]):
            yield [*row, "", ""]


def _goal(text: str, found: str, goal: str, is_reached: bool) -> Sequence[str]:
    return text, found, goal, "reached" if is_reached else "MISSED"


def _rating_goals(figures: Figures) -> Iterator[Sequence[str]]:
    """Diameter, texture and malignancy of whole patches, the ratings at similar diameter."""
    found = figures["fidelity"].get(FLOW, {})
    if "checks" not in found:
        what = "texture and malignancy distinguished at similar diameter, AUC"
        yield what, found.get("missing", NOT_YET), "as real", ""
        return
    for check in found["checks"]:
        if check["what"] == WHOLE_DIAMETER and check["real"] is not None:
            own, rendered, real = check["made"][FLOW], check["made"][RENDER], check["real"]
            text = f"{_cell(own)}; rendering {rendered['mean']:.2f}, real {real['mean']:.2f}"
            is_reached = own["mean"] >= (rendered["mean"] + real["mean"]) / 2
            yield _goal("diameter in whole patches from noise, rank correlation", text, HALF_WAY, is_reached)
        if "told apart" in check["what"] and FLOW in check["made"]:
            own, real = check["made"][FLOW], check["real"]
            of_real = "not known" if real is None else _cell(real)
            reached = real is not None and own["high"] >= real["low"]
            yield _goal(check["what"], f"{_cell(own)}; real {of_real}", "as real: intervals meet", reached)


def _memory_goals(figures: Figures) -> Iterator[Sequence[str]]:
    found = figures["fidelity"].get(FLOW, {})
    if "likeness" not in found:
        yield "attraction to training nodules", found.get("missing", NOT_YET), f"{NO_COPIES:g} in the interval", ""
        return
    value, low, high = found["likeness"][FLOW]["attraction"]
    real = found["likeness"]["real, validation patients"]["attraction"][0]
    text = f"{three((value, low, high), '.2f')}; real validation patients {real:.2f}"
    yield _goal("attraction to training nodules", text, f"low end at most {NO_COPIES:g}", low <= NO_COPIES)


def _time_goals(figures: Figures) -> Iterator[Sequence[str]]:
    times = figures[TIMES]
    if times is None:
        yield "a process into a whole scan, seconds above rendering", NOT_YET, f"at most {MOST_ABOVE_S:g}", ""
        return
    render = times["methods"][RENDER]
    is_busy = render["seconds"] > BUSY * render["user"]
    for name, one in times["methods"].items():
        if "above_s" in one:
            found = f"{one['above_s']:+.2f}, {one['above_user_s']:+.2f} of CPU{BY_CPU * is_busy}"
            counted = one["above_user_s" if is_busy else "above_s"]
            goal = f"at most {MOST_ABOVE_S:g}"
            yield _goal(f"{name}: a process, seconds above rendering", found, goal, counted <= MOST_ABOVE_S)
    usual = [row for row in times["by steps"]["rows"] if row["steps"] == USUAL_STEPS]
    best = min(usual, key=lambda row: float(row["cpu_seconds"]))
    is_busy = best["seconds"] > BUSY * best["cpu_seconds"]
    found = f"{best['seconds']:.2f}, {best['cpu_seconds']:.2f} of CPU{BY_CPU * is_busy}"
    text = f"a nodule by itself, {USUAL_STEPS} steps in {best['precision']}, seconds"
    counted = best["cpu_seconds" if is_busy else "seconds"]
    yield _goal(text, found, f"under {MOST_SECONDS:g}", counted < MOST_SECONDS)


def _cell(found: Mapping[str, Any]) -> str:
    return (
        three((found["mean"], found["low"], found["high"]), ".3f")
        if found["low"] is not None
        else f"{found['mean']:.3f}"
    )
