"""The page on flow matching, made from the figures that `results_flow.py` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from beside_rendering import LINES, PERFECT_AUC, better_than_rendering, verdicts
from flow_arms_page import arms_lines, helped_sentence
from flow_goals import ARMS, FLOW, NOT_YET, TIMES, Figures, goal_lines
from in_painting_made import RENDER
from in_painting_page import (
    class_lines,
    hu_by_class_lines,
    in_painting_lines,
    kid_lines,
    named,
    read_figures,
    reconstruction_lines,
    sheet_lines,
    shown_beside,
    sites_lines,
    times_lines,
    told_apart_lines,
    width_lines,
)
from injection_page import erased_lines, erased_sheet_lines, healed_lines, injected_lines
from pages import table, three
from results_detection import fidelity_lines
from synthorax.metrics.borders import SEEN_REACH_MM
from synthorax.metrics.contrast import SEEN
from synthorax.studies.conditions import Check
from synthorax.studies.fidelity_page import Fidelity
from synthorax.studies.results import Interval
from training_hours import CLOCK

IN_PAINTING = "in-painting"
"""Folder of the figures of `results_in_painting.py`."""
PARTS = ("small", "texture", "outlined", "injected", "erased", "fidelity")
"""Figures that are measured separately, each by the names of methods."""
OUTLINED = {
    "told": "the outline that was given",
    "another": "the outline of another nodule of similar diameter",
    "ball": "a ball of the diameter",
    "real": "real nodules at their own places, and their outlines",
}


def flow_page(measured: Path, out: Path) -> Iterator[str]:
    """Give the lines of the page; pictures are copied next to it."""
    figures, painted = read_figures(measured), read_figures(measured / IN_PAINTING)
    figures |= {name: _read(measured / name) for name in (TIMES, ARMS)}
    here = ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    minutes = figures["cpu minutes"] + painted["cpu minutes"]
    yield "# Nodules by flow matching, compared with real ones"
    yield ""
    yield from result_lines(figures, painted)
    yield ""
    yield f"Written by `python scripts/results_flow.py` on {date.today().isoformat()}; {here}; {minutes:.0f} CPU minutes{', quick' if figures['quick'] else ''}. Weights: {painted['methods'][FLOW]['sha256'][:16]}{_done(figures)}."
    yield ""
    yield from beside_lines(figures, painted)
    yield ""
    yield from goal_lines(figures, painted)
    erased = {name: one["told"] for name, one in figures["erased"].items()}
    as_injection = {**figures, "erased": erased}
    has_class = "class" in painted["methods"][FLOW]
    parts = {
        "Sites": sites_lines(painted),
        "Told apart from real ones": told_apart_lines(painted),
        "KID": kid_lines(painted),
        "HU by class": hu_by_class_lines(painted, out, FLOW),
        "Seam, diversity, texture": in_painting_lines(painted),
        "Real or made?": sheet_lines(measured / IN_PAINTING, out, FLOW),
        "Diameters": width_lines(painted),
        "Nodules of a few millimetres": small_lines(figures),
        "Outlines": outlined_lines(figures),
        "Do the nodules have the requested texture?": texture_lines(figures),
        **(
            {
                "Do the nodules look benign or malignant, as requested?": class_lines(
                    painted, measured / IN_PAINTING, out, FLOW
                )
            }
            if has_class
            else {}
        ),
        "Reconstruction": reconstruction_lines(painted, FLOW),
        "Drawn nodules and a detector": injected_lines(figures),
        **({} if not erased else _erasing(as_injection, measured, out)),
        "Texture and malignancy, and memorisation": memory_lines(figures, measured, out),
        "Seconds": seconds_lines(figures, measured),
        "Do they help a detector, and a classifier of malignancy?": _arms(figures, out),
    }
    for title, lines in parts.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield from lines


def _erasing(figures: Figures, measured: Path, out: Path) -> dict[str, Iterator[str]]:
    return {
        "Erased nodules and a detector": erased_lines(figures),
        "Lung in the place of a nodule": healed_lines(figures),
        "Erased or healthy?": erased_sheet_lines(figures, measured, out),
    }


def _arms(figures: Figures, out: Path) -> Iterator[str]:
    if figures[ARMS] is None:
        return iter([NOT_YET])
    return arms_lines(figures[ARMS], out)


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def _done(figures: Figures) -> str:
    """Return how far the training of a run is, if its log says so."""
    steps = figures["steps"]
    return f", after {steps['done']:,} of {steps['of']:,} steps" if steps else ""


def result_lines(figures: Figures, painted: Figures) -> Iterator[str]:
    """Return the results in two sentences, and one on the studies if they were run."""
    judged = painted["told"]["whole"]
    own, rendered = (judged["methods"][name]["auc"][0] for name in (FLOW, RENDER))
    void = ", which is not valid, because its controls fail" if judged["controls"]["void"] else ""
    yield f"A network that was trained on real and synthetic nodules of other patients distinguishes a nodule by flow matching from a real one in {own:.0%} of pairs{void}; {PERFECT_AUC:.0%} is perfect, and for rendered nodules it is {rendered:.0%}."
    yield f"Nodules by flow matching are {better_than_rendering(verdicts(painted, FLOW))}."
    if figures[ARMS] is not None:
        yield helped_sentence(figures[ARMS])


def beside_lines(figures: Figures, painted: Figures) -> Iterator[str]:
    """Give every method's figures and its hours of training."""
    names = [name for name in painted["methods"] if name in figures["hours"]]
    controls = [name for name in painted["methods"] if name not in names]
    rows = [["goal", "", *(line.goal for line in LINES)]]
    rows += [[named(name), _hours(figures, name), *_values(painted, name)] for name in [*names, *controls]]
    yield from table(["", "hours of training", *(line.text for line in LINES)], rows)
    yield ""
    yield CLOCK
    for view, one in painted["told"].items():
        if one["controls"]["void"]:
            yield f"The AUCs of {view} are not valid: {one['controls']['void']}."


def _hours(figures: Figures, name: str) -> str:
    if name not in figures["hours"]:
        return ""
    found = figures["hours"][name]
    return "not known" if found is None else f"{found:.1f}"


def _values(painted: Figures, name: str) -> Iterator[str]:
    for line in LINES:
        found = line.value(painted, name)
        yield "" if found is None else three(found, line.form)


def small_lines(figures: Figures) -> Iterator[str]:
    """Give the number of small nodules that cannot be seen, by method."""
    if not figures["small"]:
        yield NOT_YET
        return
    one = next(iter(figures["small"].values()))
    yield f"Nodules of {one['mm']:g} mm are requested by diameter only. A nodule cannot be seen if its ball is denser than the shell around it by less than {SEEN:g} standard deviations of the noise of a mean over as many voxels."
    yield "Intervals treat nodules as independent of each other (Clopper and Pearson)."
    yield ""
    rows = [
        [named(name), f"{one['invisible']} of {one['n']}", three(one["share"], ".3f"), _refused(one)]
        for name, one in figures["small"].items()
    ]
    yield from table(["", "not seen", "share", "refused"], rows)


def texture_lines(figures: Figures) -> Iterator[str]:
    """Give whether nodules of low and of high texture can be distinguished, by method."""
    if not figures["texture"]:
        yield NOT_YET
        return
    low, high = next(iter(figures["texture"].values()))["asked"]
    yield f"The same sites and seeds are painted with textures of {low:g} and {high:g}; only diameter and texture are requested. A network that was trained on real training patients distinguishes the two; among real nodules of {figures['split']} patients only pairs of similar diameter count."
    yield ""
    real = next(iter(figures["texture"].values()))["real"]
    rows = [["real nodules", three(real, ".3f"), ""]]
    for name, one in figures["texture"].items():
        rows.append([f"{named(name)}, {one['pairs']} pairs", three(one["auc"], ".3f"), three(one["wins"], ".3f")])
    yield from table(["", "AUC", "share of pairs whose denser one scores higher"], rows)


def outlined_lines(figures: Figures) -> Iterator[str]:
    """Give whether a nodule has the outline that its method was given."""
    if not figures["outlined"]:
        yield NOT_YET
        return
    yield f"Methods that take outlines are given those of real nodules, at healthy sites. The visible nodule is the set of voxels denser than the mean of the core and the lung around it, up to {SEEN_REACH_MM:g} mm beyond the outline. Its Dice with any outline there is above 0; the outline of another nodule of similar diameter and a ball are given for comparison."
    yield ""
    rows = [
        [f"{named(name)}, {one['n']}", *(three(one[key], ".2f") for key in OUTLINED), _refused(one)]
        for name, one in figures["outlined"].items()
    ]
    yield from table(["nodule seen, Dice with", *OUTLINED.values(), "refused"], rows)


def _refused(one: Mapping[str, Any]) -> str:
    return f"{len(one['refused'])}: {one['refused'][0]}" if one["refused"] else "none"


def memory_lines(figures: Figures, measured: Path, out: Path) -> Iterator[str]:
    """Give the results of the study of fidelity on patches generated from noise alone."""
    found = figures["fidelity"].get(FLOW, {})
    if "likeness" not in found:
        yield found.get("missing", NOT_YET)
        return
    yield "Whole patches are generated from noise alone, without any part of a scan: if they are nearer to training nodules than to others, the network has memorised these."
    yield ""
    for name in found["pictures"]:
        yield from shown_beside(measured, out, f"flow-{name}.png", PICTURES.get(name, name))
    checks = [
        Check(
            check["what"],
            None if check["real"] is None else Interval(**check["real"]),
            {name: Interval(**one) for name, one in check["made"].items()},
            check["note"],
        )
        for check in found["checks"]
    ]
    likeness = {name: {key: tuple(value) for key, value in row.items()} for name, row in found["likeness"].items()}
    yield from fidelity_lines(Fidelity(likeness, checks, {}, found["counts"]), out)


PICTURES = {
    "texture": "samples by diameter and texture, each beside a real nodule",
    "malignancy": "samples by diameter and malignancy, each beside a real nodule",
    "neighbours": "samples over their nearest training nodules",
    "curves": "the training's curves, smoothed",
}


def seconds_lines(figures: Figures, measured: Path) -> Iterator[str]:
    """Give the time of an edit as a process, and of a nodule by the number of steps."""
    times = figures[TIMES]
    if times is None:
        yield NOT_YET
        return
    yield from times_lines(measured)
    by_steps = times["by steps"]
    yield ""
    yield f"One nodule of {by_steps['mm']:g} mm by itself, the model being loaded; medians of {by_steps['n']}. Processor flags that count: {', '.join(by_steps['flags']) or 'none'}."
    yield ""
    rows = [
        [
            row["precision"],
            "with" if row["amx"] else "without",
            row["steps"],
            row["threads"],
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
        ]
        for row in by_steps["rows"]
    ]
    yield from table(["arithmetic", "AMX", "steps", "threads", "seconds", "CPU seconds"], rows)
