#!/usr/bin/env python3
"""Run the study of false alarms in whole chests, with all training patients and with a tenth; write its page.

    python scripts/results_false_alarms.py measure OUT [--model [FEW:]RUN ...] [--eraser [FEW:]RUN ...]
    python scripts/results_false_alarms.py page OUT --out docs/results

`--model` names injectors and `--eraser` erasers; with the prefix `few:` they are used in the arms with a tenth of the
patients, and must have been trained on these alone. SYNTHORAX_REAL_DATA names a folder with `luna16-nodules` and
`chests`. Trainings are kept in OUT; run the script again to continue after a stop. With three injectors and an eraser it
takes some three hours of a core. If the models of the few patients are trained in OUT/few-models, the page says how long:

    synthorax train injector --data OUT/few-store --preset compact --out OUT/few-models/injector --max-minutes 60
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pages import table
from synthorax import api
from synthorax.io.atomic import atomic_file
from synthorax.studies.alarm_arms import CORNERS, HARD, HARD_SHARE, PASTED_ARM
from synthorax.studies.alarm_figures import ALARMS, FIGURES, FOUND
from synthorax.studies.chest_places import FROM_MASS_MM, LOOK_ALIKE_KINDS, MASS_MM, TREE_ML
from synthorax.studies.unmarked_chests import MOST_FALSE_ALARMS, MOST_OF_KIND
from synthorax.tasks.scanning import MOST_MARKS
from synthorax.training.files import read_log

TRAININGS = 2
FEW_PATIENTS, FEW_STEPS = 33, 600
"""A tenth of the training patients; their detectors are trained for half as many steps."""
CHEST_SPLIT, CHEST_SEED = (4 / 7, 1 / 7, 2 / 7), 0
"""Of the seven chests four are trained on, one validates, and two are tested on."""
FEW = "few:"
"""Prefix of models that were trained on few patients."""
FEW_RUNS = "few-models"
"""Folder of the runs of models that were trained on few patients."""
PARTS = {"all": "All training patients", "few": f"{FEW_PATIENTS} training patients"}


def measure(out: Path, models: Sequence[str], erasers: Sequence[str]) -> None:
    """Run both studies, or continue them."""
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    out.mkdir(parents=True, exist_ok=True)
    chests = api.prepare("scans", real / "chests", out / "chests", split=CHEST_SPLIT, seed=CHEST_SEED)
    cubes = api.prepare("patches", real / "luna16-nodules", out / "store")
    few = api.prepare("patches", real / "luna16-nodules", out / "few-store", train_patients=FEW_PATIENTS)
    for part, store, settings in (("all", cubes, {}), ("few", few, {"steps": FEW_STEPS})):
        api.study_false_alarms(
            store,
            chests,
            out / part,
            models=_of(part, models),
            erasers=_of(part, erasers),
            settings=settings,
            trainings=TRAININGS,
            device="cpu",
        )


def _of(part: str, named: Sequence[str]) -> list[str]:
    """Return the models of a study."""
    return [one.removeprefix(FEW) for one in named if one.startswith(FEW) == (part == "few")]


def page_lines(measured: Path) -> Iterator[str]:
    """Give the lines of the page."""
    found = {part: json.loads((measured / part / "results.json").read_text()) for part in PARTS}
    yield "# Which synthetic nodules reduce a detector's false alarms in whole chests?"
    yield ""
    yield answer([found[part] for part in PARTS])
    yield ""
    for part, text in PARTS.items():
        yield f"{text}: {verdict(found[part])}"
        yield ""
    one = found["all"]
    here = ", ".join(f"{key} {value}" for key, value in one["machine"].items())
    yield f"Written by `python scripts/results_false_alarms.py` on {one['date']}: {here}."
    yield ""
    yield "## The study"
    yield ""
    yield from study_lines(one)
    for part, text in PARTS.items():
        yield ""
        yield f"## {text}"
        yield ""
        yield from arm_lines(found[part])
    yield from trained_lines(measured / FEW_RUNS)


def trained_lines(runs: Path) -> Iterator[str]:
    """Give how long the models of the few patients were trained, if their runs are there."""
    said = []
    for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
        if log := read_log(folder):
            said.append(f"{folder.name} {log[-1]['step']:,} steps in {log[-1]['seconds'] / 60:.0f} minutes")
    if said:
        yield f"These models were trained on the {FEW_PATIENTS} patients alone, each on a core beside other work: {', '.join(said)}."


def answer(studies: Sequence[Mapping[str, Any]]) -> str:
    """Return the answer to the page's title, in a sentence."""
    fewer = sorted({name for found in studies for name, change in changed_by(found).items() if change < 0})
    if fewer:
        return f"{', '.join(fewer)}."
    after, before = ([_mean_alarms(found, name) for found in studies] for name in (HARD, CORNERS))
    changes = " and ".join(f"from {b:.2f} a chest to {a:.2f}" for b, a in zip(before, after, strict=True))
    n = studies[0]["counts"]["test chests"]
    return (
        f"None did in {n} test chests, with all training patients or with {FEW_PATIENTS} of them; real structures that look like nodules, given as"
        f" negatives, did, {changes} (means over {TRAININGS} trainings)."
    )


def changed_by(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the significant changes of false alarms a chest by methods' nodules, by arm."""
    return {
        arm["name"]: arm["against"][ALARMS]["difference"]
        for arm in found["arms"]
        if arm["name"] not in (HARD, CORNERS, PASTED_ARM) and arm["against"] and _is_sure(arm)
    }


def _is_sure(arm: Mapping[str, Any]) -> bool:
    """Whether the false alarms of an arm differ significantly from the reference's."""
    p = arm["against"][ALARMS]["p_holm"]
    return p is not None and p < 0.05


def verdict(found: Mapping[str, Any]) -> str:
    """Return which synthetic nodules changed the number of false alarms significantly, in two sentences."""
    arms = {arm["name"]: arm for arm in found["arms"]}
    changed = changed_by(found)
    fewer = ", ".join(f"{name} ({d:+.1f} a chest)" for name, d in changed.items() if d < 0) or "no method's nodules"
    more = ", ".join(f"{name} ({d:+.1f})" for name, d in changed.items() if d > 0)
    own, corners = (_alarms(arms[name]) for name in (HARD, CORNERS))
    n, pasted = found["counts"]["test chests"], arms[PASTED_ARM]
    fewer_by_real = ""
    if _is_sure(pasted) and (less := pasted["against"][ALARMS]["difference"]) < 0:
        fewer_by_real = f"; so did real nodules of other patients pasted into training chests ({less:+.1f})"
    return (
        f"{fewer} reduced the false alarms (p < .05 after correction){f'; arms with more false alarms: {more}' if more else ''}. Real look-alikes "
        f"as negatives did: from {corners} to {own}, at the threshold at which {FOUND:.0%} of the nodules are found ({n} chests){fewer_by_real}."
    )


def _mean_alarms(found: Mapping[str, Any], name: str) -> float:
    return next(float(arm["figures"][ALARMS]["value"]) for arm in found["arms"] if arm["name"] == name)


def _alarms(arm: Mapping[str, Any]) -> str:
    alarms = arm["figures"][ALARMS]
    return f"{alarms['value']:.2f} a chest ({alarms['low']:.2f} to {alarms['high']:.2f})"


def study_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Give the description of the data and the arms."""
    counts = found["counts"]
    kinds = ", ".join(
        f"{sum(counts[f'{split} look-alikes: {kind}'] for split in ('train', 'val', 'test'))} at {kind}"
        for kind in LOOK_ALIKE_KINDS
    )
    yield "If patches without a nodule are corners of nodule cubes, the task is nearly solved: an AUC of .997. Here they also include look-alikes from whole chests:"
    yield f"dense spots that are connected to the wall or to a vessel tree of {TREE_ML:g} ml, up to {MOST_OF_KIND} of a kind in a chest ({kinds}), and up to {MOST_FALSE_ALARMS} places in a chest that a first detector mistakes"
    yield f"for nodules. These chests are not annotated: places within {FROM_MASS_MM:g} mm of dense tissue that contains a ball of {MASS_MM:g} mm, and isolated dense spots, count neither as nodules nor as false alarms. A small nodule on a wall or a vessel"
    yield "that no reader marked can still be among the look-alikes."
    yield ""
    yield f"Look-alikes replace {HARD_SHARE:.0%} of the patches without a nodule, synthetic nodules the same share of those with one. Arms: “{CORNERS}” has no look-alikes; “{HARD}” is the reference; “{PASTED_ARM}” has real training nodules"
    yield "simply pasted into training chests; the others have nodules that a method added to the same chests, placed as by `inject --auto`, or, as negatives, the places of training nodules that an eraser erased."
    yield ""
    yield f"Four chests are trained on and one validates. Tests use {counts['test chests']} chests of other patients: false alarms are the marks of a detector that scans the lungs, at the threshold at which it finds {FOUND:.0%} of {counts['nodules pasted into test chests']} real nodules of test patients. These were pasted into the same chests, so"
    yield f"that the scanner does not reveal the class. AUC in chests: those nodules against look-alikes of the same chests. AUC in cubes: as in the study of detection. Intervals of 95 % resample patients; with {counts['test chests']} test chests they are too narrow. The values of the {TRAININGS} trainings follow them. In each chest the {MOST_MARKS} most confident marks are kept."


def arm_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Give the tables of figures and differences."""
    rows = []
    for arm in found["arms"]:
        cells = []
        for figure in FIGURES:
            value, each = arm["figures"][figure], ", ".join(f"{one:.3g}" for one in arm["each"][figure])
            cells.append(f"{value['value']:.3g} ({value['low']:.3g} to {value['high']:.3g}); {each}")
        rows.append([arm["name"], *cells])
    yield from table(["arm", *FIGURES], rows)
    yield ""
    rows = [
        [
            arm["name"],
            figure,
            f"{arm['against'][figure]['difference']:+.3f} ({arm['against'][figure]['low']:+.3f} to {arm['against'][figure]['high']:+.3f})",
            *("" if (p := arm["against"][figure][name]) is None else f"{p:.4f}" for name in ("p", "p_holm")),
        ]
        for arm in found["arms"]
        if arm["against"]
        for figure in FIGURES
    ]
    yield from table([f"against “{HARD}”", "figure", "difference", "p", "p, Holm"], rows)
    yield ""
    for note in found["notes"]:
        yield f"- {note}."
    models = "; ".join(f"{name} {sha[:16]}" for name, sha in found["models"].items())
    yield f"Weights: {models or 'none'}. Every training drew {found['drawn']:,} patches."


def main() -> None:
    """Run the studies, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("out", type=Path)
    verb.add_argument("--model", action="append", default=[], dest="models")
    verb.add_argument("--eraser", action="append", default=[], dest="erasers")
    verb = verbs.add_parser("page")
    verb.add_argument("measured", type=Path, metavar="OUT")
    verb.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "measure":
        measure(given.out, given.models, given.erasers)
        return
    with atomic_file(given.out / "false-alarms.md") as file:
        file.write_text("\n".join(page_lines(given.measured)).rstrip() + "\n")


if __name__ == "__main__":
    main()
