#!/usr/bin/env python3
"""Run the study of detection and that of fidelity for the bundled GAN; write docs/results/detection.md.

    python scripts/results_detection.py --out docs/results [--run FOLDER]

SYNTHORAX_REAL_DATA names a folder that holds `luna16-nodules`. Trainings are kept in build/results-detection, so that a
run that was stopped goes on. FOLDER is the run that the GAN was trained in, for its curves.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from synthorax import api, hub
from synthorax.datasets.store import Store
from synthorax.io.atomic import atomic_file
from synthorax.studies.detection import REFERENCE, STRATA, TESTED, Outcome
from synthorax.studies.detection_page import differences, study_detection
from synthorax.studies.fidelity_page import Fidelity, study_fidelity
from synthorax.studies.results import Arm, Interval, machine
from synthorax.tasks.config import task_config

TRAININGS = 3
AMOUNTS = (1.0, 4.0)
MODEL, EXTRACTOR = "ac-wgan", "features-24mm"
PHANTOMS, PHANTOM_SPLIT = 30, (0.6, 0.2, 0.2)
PHANTOM_TRAININGS = 2
PHANTOM_SETTINGS = {"size": (32, 32, 32), "spacing_mm": (1.5, 1.5, 1.5), "steps": 600}
PICTURES = {
    "curves": "the training's curves, smoothed, with bands that hold 95 % of the values nearby",
    "texture": "samples by diameter and texture, each beside a real nodule",
    "malignancy": "samples by diameter and malignancy, each beside a real nodule",
    "neighbours": "samples over their nearest training nodules",
}
SHOWN = ("auc", "sensitivity", "specificity", "f1", "precision at 1:71", "f1 at 1:71", "froc")


def cell(value: Interval | None) -> str:
    """A figure with its interval."""
    if value is None:
        return ""
    return f"{value.mean:.3f}" + ("" if value.low is None else f" ({value.low:.3f} to {value.high:.3f})")


def arm_lines(arms: list[Arm], shown: Sequence[str] = SHOWN) -> Iterator[str]:
    """The arms' figures, the thesis' below ours."""
    names = [name for name in shown if any(name in arm.metrics for arm in arms)]
    yield "| arm | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for arm in arms:
        yield f"| {arm.name} | " + " | ".join(cell(arm.metrics.get(name)) for name in names) + " |"
        if arm.paper.keys() & set(names) and shown == SHOWN:
            told = [f"*{arm.paper[name]:.3f}*" if name in arm.paper else "" for name in names]
            yield "| *thesis* | " + " | ".join(told) + " |"


def test_lines(outcome: Outcome) -> Iterator[str]:
    """Arms against each other, by what the study is about."""
    yield "| AUC of | less that of | difference (95 %) | p | p, Holm |"
    yield "|---|---|---|---|---|"
    for test in outcome.tests:
        if test.metric == TESTED[0]:
            p, holm = (f"{value:.4f}" if value is not None else "" for value in (test.p, test.p_holm))
            yield f"| {test.a} | {test.b} | {test.difference:+.4f} ({test.low:+.4f} to {test.high:+.4f}) | {p} | {holm} |"


def confusion_lines(outcome: Outcome) -> Iterator[str]:
    """Decisions on the test patients."""
    yield "| arm | found | missed | false alarms | rightly left |"
    yield "|---|---|---|---|---|"
    for name, (tp, fp, tn, fn) in outcome.confusions.items():
        yield f"| {name} | {tp:.1f} | {fn:.1f} | {fp:.1f} | {tn:.1f} |"


def fidelity_lines(found: Fidelity, out: Path) -> Iterator[str]:
    """Pictures, measures and checks."""
    for name, text in PICTURES.items():
        if name in found.pictures:
            found.pictures[name].savefig(out / f"detection-{name}.png", bbox_inches="tight")
            yield f"![{text}](detection-{name}.png)"
            yield ""
    names = list(next(iter(found.likeness.values())))
    yield "| samples | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for name, row in found.likeness.items():
        cells = [f"{v:.3g}" if low is None else f"{v:.3g} ({low:.3g} to {high:.3g})" for v, low, high in row.values()]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    yield f"{found.counts['samples']} of each, features of {EXTRACTOR}, against {found.counts['training']} training nodules; {found.counts['held_out']} of test patients are held out. FID and KID: less is"
    yield "more alike. Attraction: .5 without memorisation, 1 for copies. Membership AUC: .5 is guessing. The extractor learned from the training patients, which"
    yield "moves both a little: the row of real validation patients shows by how much."
    yield ""
    makers = list(dict.fromkeys(name for check in found.checks for name in check.made))
    yield "| does the condition take? | real, test patients | " + " | ".join(makers) + " |"
    yield "|---" * (len(makers) + 2) + "|"
    for check in found.checks:
        cells = [cell(check.real), *(cell(check.made.get(name)) for name in makers)]
        yield f"| {check.what} | " + " | ".join(cells) + " |"


def phantom_lines(work: Path) -> Iterator[str]:
    """The study on whole phantom scans, with the FROC."""
    store = api.prepare_phantom(work / "phantoms", PHANTOMS, split=PHANTOM_SPLIT)
    config = task_config("detection", "compact", PHANTOM_SETTINGS)
    _, outcome = study_detection(
        store, config, work / "phantom-study", amounts=(1.0,), trainings=PHANTOM_TRAININGS, device="cpu"
    )
    patients = ", ".join(f"{len(ids)} {name}" for name, ids in store.splits.items())
    yield f"{PHANTOMS} phantom chests ({patients}), patches of 48 mm as 32^3 voxels of 1.5 mm, {config.steps} steps, {PHANTOM_TRAININGS} trainings. `froc` is the mean sensitivity at LUNA16's"
    yield "seven rates of false positives, the detector led over the lungs of the whole test scans. The GAN has no arm here: the bundled one makes 24 mm cubes."
    yield ""
    yield from arm_lines(outcome.arms)


def page(real: Path, work: Path, run: Path | None, out: Path) -> Iterator[str]:
    """The lines of the page."""
    store = api.prepare("patches", real / "luna16-nodules", work / "store")
    model, extractor = hub.load(MODEL), hub.load(EXTRACTOR)
    config = task_config("detection", "compact", {})
    _, outcome = study_detection(
        store, config, work / "study", model=model, amounts=AMOUNTS, trainings=TRAININGS, device="cpu"
    )
    _, found = study_fidelity(
        store, config, work / "fidelity", model, extractor, extractor_name=EXTRACTOR, run=run, device="cpu"
    )
    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    yield "# Do a GAN's nodules help a detector?"
    yield ""
    yield f"Written by `make results-detection` on {date.today().isoformat()}: {here}. Weights of {MODEL}: {model.sha256[:16]}."
    yield ""
    yield from verdict(outcome, found)
    yield ""
    yield "## The study"
    yield ""
    nodules = sum(len(case.nodules) for case in store.cases)
    yield f"24 mm cubes of {nodules} real LUNA16 nodules and of the same scans' lung without one; patients: {counts(store)}. The test patients, {outcome.counts['nodules']} nodules and"
    yield f"{outcome.counts['patches without one']} patches without one, decided nothing. Every training draws {outcome.drawn:,} patches, half of them nodules; made ones take the place of real ones: one for"
    yield "each real one, or four (`x 4`). Rendered nodules have outlines of training patients, and all made ones the sizes and ratings of the training nodules. Means over"
    yield f"{TRAININGS} trainings, 95 % intervals over test patients and trainings; one GAN made all cubes, so how much another would differ is in no interval. Decisions are made"
    yield "at the threshold of best balanced accuracy on the validation patients. Figures at 1:71 are what sensitivity and specificity give if nodules are as rare as in the thesis'"
    yield "test set; with so few patches without a nodule here they hang on a handful of false alarms. In italics the thesis' tables 2 to 5, of 48 mm cubes of 888 whole scans,"
    yield "which are not at hand: beside ours, not against them."
    yield ""
    yield from arm_lines(outcome.arms)
    yield ""
    differences(outcome).savefig(out / "detection-differences.png", bbox_inches="tight")
    yield "![differences of the AUC from that of flips alone](detection-differences.png)"
    yield ""
    yield from test_lines(outcome)
    yield ""
    yield "Sensitivity by diameter, and of nodules that are not solid:"
    yield ""
    yield from arm_lines(outcome.arms, STRATA)
    yield ""
    yield from confusion_lines(outcome)
    yield ""
    yield "## The GAN"
    yield ""
    yield from fidelity_lines(found, out)
    yield ""
    yield "## Whole scans"
    yield ""
    yield from phantom_lines(work)
    yield ""
    yield "The thesis' own protocol, wherever LUNA16's scans are: `synthorax prepare luna16 ...`, `recipes/ac-wgan.sh STORE RUN MINUTES cuda paper`, then"
    yield "`synthorax study detection --data STORE --model RUN --preset paper --negatives 71 --out DIR`."


def counts(store: Store) -> str:
    """Patients by split."""
    return ", ".join(f"{len(ids)} {name}" for name, ids in store.splits.items())


def verdict(outcome: Outcome, found: Fidelity) -> Iterator[str]:
    """What it comes to, from the figures alone."""
    sure = [test for test in outcome.tests if test.metric == TESTED[0] and (test.p_holm or 1) < 0.05]
    better = [f"{test.a} than {test.b}" for test in sure if test.difference > 0]
    worse = [f"{test.a} than {test.b}" for test in sure if test.difference < 0]
    base = next(arm for arm in outcome.arms if arm.name == REFERENCE).metrics["auc"]
    yield f"Real patches with flips reach an AUC of {cell(base)} here, which leaves little to gain. With p < .05 after correction: better, {', '.join(better) or 'no arm than another'};"
    yield (
        f"worse, {', '.join(worse) or 'no arm than another'}. KID x 1000 against the training nodules: "
        + ", ".join(f"{name} {row['KID x 1000'][0]:.3g}" for name, row in found.likeness.items())
        + "."
    )


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    work = Path("build") / "results-detection"
    work.mkdir(parents=True, exist_ok=True)
    lines = list(page(Path(os.environ["SYNTHORAX_REAL_DATA"]), work, given.run, given.out))
    with atomic_file(given.out / "detection.md") as file:
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
