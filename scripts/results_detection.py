#!/usr/bin/env python3
"""Run the studies of detection and of fidelity, train GANs that are not bundled; write docs/results/detection.md.

    python scripts/results_detection.py --out docs/results [--run FOLDER]

SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`. Trainings are kept in build/results-detection; run the script
again to continue after a stop. All of it takes some six hours of two cores. FOLDER is the run that the bundled GAN was
trained in, for its curves.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pages import picture, spread, sure_differences, table
from synthorax import api, hub
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import LUNG_SHARE, nodule_places
from synthorax.datasets.store import Store
from synthorax.io.atomic import atomic_file
from synthorax.studies.arms import REFERENCE
from synthorax.studies.detection import SENSITIVITY_OF, STRATA, TESTED, DetectionOutcome
from synthorax.studies.detection_page import differences, study_detection
from synthorax.studies.fidelity import Patches
from synthorax.studies.fidelity_page import Fidelity, side_by_side, study_fidelity
from synthorax.studies.results import Arm, Interval, Test, machine
from synthorax.tasks.config import TaskConfig, task_config

TRAININGS = 3
AMOUNTS = (1.0, 4.0)
MODEL, EXTRACTOR = "ac-wgan", "features-24mm"
PHANTOMS, PHANTOM_SPLIT = 30, (0.6, 0.2, 0.2)
PHANTOM_TRAININGS = 2
PHANTOM_CUBES = {"size": [32, 32, 32], "spacing_mm": [1.5, 1.5, 1.5]}
PHANTOM_STEPS, PHANTOM_GAN = 600, {"widths": [64, 32, 16, 8], "steps": 1500}
FEW_PATIENTS, FEW_STEPS, FEW_GAN = 33, 600, {"steps": 1200}
PICTURES = {
    "curves": "the training's curves, smoothed, with bands that hold 95 % of the values nearby",
    "texture": "samples by diameter and texture, each beside a real nodule",
    "malignancy": "samples by diameter and malignancy, each beside a real nodule",
    "neighbours": "samples over their nearest training nodules",
}
SHOWN = ("auc", "sensitivity", "specificity", "f1", "precision at 1 nodule to 71 others", "f1 at 1 nodule to 71 others")
FEW_SHOWN, PHANTOM_SHOWN = ("auc", "sensitivity", "specificity"), ("auc", "sensitivity", "specificity", "froc")
SAMPLES_SHOWN = 8
LEAST_SHOWN = 1e-4
"""A p below this is shown as smaller than it."""
LITTLE_TO_GAIN = 0.99
"""An AUC that leaves little room for a better arm."""


def cell(value: Interval | None) -> str:
    """A figure with its interval."""
    return "" if value is None else spread(value.mean, value.low, value.high, ".3f")


def arm_lines(arms: list[Arm], shown: Sequence[str], *, thesis: bool = False) -> Iterator[str]:
    """Give the arms' figures, with the thesis' figures below them."""
    names = [name for name in shown if any(name in arm.metrics for arm in arms)]
    rows = []
    for arm in arms:
        rows.append([arm.name, *(cell(arm.metrics.get(name)) for name in names)])
        if thesis and arm.paper:
            rows.append(["*thesis*", *(f"*{arm.paper[name]:.3f}*" if name in arm.paper else "" for name in names)])
    yield from table(["arm", *names], rows)


def test_lines(outcome: DetectionOutcome) -> Iterator[str]:
    """Give the comparisons of arms, in the order of the study's questions."""
    rows = []
    for test in outcome.tests:
        if test.metric == TESTED[0]:
            p, holm = (chance(value) for value in (test.p, test.p_holm))
            rows.append([test.a, test.b, f"{test.difference:+.4f} ({test.low:+.4f} to {test.high:+.4f})", p, holm])
    yield from table(["AUC of", "less that of", "difference (95 %)", "p", "p, Holm"], rows)


def strata_lines(outcome: DetectionOutcome) -> Iterator[str]:
    """Sensitivity by diameter, and of nodules that are not solid."""
    heads = [f"{name} ({outcome.counts[name]})" for name in STRATA]
    rows = [[arm.name, *(cell(arm.metrics.get(SENSITIVITY_OF[name])) for name in STRATA)] for arm in outcome.arms]
    yield from table(["arm", *heads], rows)


def chance(p: float | None) -> str:
    """Return a p value as text, or that it is small."""
    if p is None:
        return ""
    return f"{p:.4f}" if p >= LEAST_SHOWN else f"< {LEAST_SHOWN:.4f}"


def confusion_lines(outcome: DetectionOutcome) -> Iterator[str]:
    """Give the figures of decisions on the test patients."""
    rows = [[name, *(f"{n:.1f}" for n in (tp, fn, fp, tn))] for name, (tp, fp, tn, fn) in outcome.confusions.items()]
    yield from table(["arm", "found", "missed", "false alarms", "rightly left"], rows)


def fidelity_lines(found: Fidelity, out: Path) -> Iterator[str]:
    """Give the pictures, measures and checks of fidelity."""
    for name, text in PICTURES.items():
        if name in found.pictures:
            yield from picture(found.pictures[name], out / f"detection-{name}.png", text)
    rows = [[name, *(spread(*measure, ".3g") for measure in row.values())] for name, row in found.likeness.items()]
    yield from table(["samples", *next(iter(found.likeness.values()))], rows)
    yield ""
    few = found.counts["selected"] < found.counts["samples"]
    selected = f" ({found.counts['selected']} of the selected ones)" if few else ""
    yield f"{found.counts['samples']} patches of each kind{selected} are compared with {found.counts['training']} training nodules by features of {EXTRACTOR}; the held-out set has {found.counts['held_out']} nodules of test patients."
    yield "Rendered nodules lie in real patches of training patients: all of the patch but its centre is real, so their figures cannot be compared with those of networks. FID and KID: lower is more similar. Attraction: .5 without memorisation, 1 for copies. Membership AUC: .5 is chance. The extractor was trained on the training patients, which"
    yield "shifts the last two a little; the row of real validation patients shows by how much."
    yield ""
    makers = list(dict.fromkeys(name for check in found.checks for name in check.made))
    rows = []
    for check in found.checks:
        what = check.what + (f" ({check.note})" if check.note else "")
        rows.append([what, cell(check.real), *(cell(check.made.get(name)) for name in makers)])
    yield from table(["do samples have what was requested?", "real, test patients", *makers], rows)


@dataclass(frozen=True, eq=False)
class Part:
    """Run the study of detection on a store, with a separately trained GAN."""

    store: Store
    config: TaskConfig
    model: hub.Model
    outcome: DetectionOutcome


def few_part(real: Path, work: Path) -> Part:
    """Run the study with a tenth of the training patients, on whom alone the GAN is trained too."""
    store = api.prepare("patches", real / "luna16-nodules", work / "few-store", train_patients=FEW_PATIENTS)
    config = task_config("detection", "compact", {"steps": FEW_STEPS})
    return part(store, config, work / "few", FEW_GAN, AMOUNTS, TRAININGS)


def phantom_part(work: Path) -> Part:
    """The study on whole phantom scans."""
    store = api.prepare_phantom(work / "phantoms", PHANTOMS, split=PHANTOM_SPLIT)
    config = task_config("detection", "compact", PHANTOM_CUBES | {"steps": PHANTOM_STEPS})
    return part(store, config, work / "phantom", PHANTOM_CUBES | PHANTOM_GAN, (1.0,), PHANTOM_TRAININGS)


def part(
    store: Store,
    config: TaskConfig,
    work: Path,
    gan: Mapping[str, object],
    amounts: Sequence[float],
    trainings: int,
) -> Part:
    """Train the AC-WGAN-GP's `compact` preset on a store, and run the study with it; continues after a stop."""
    run, out = (work.with_name(f"{work.name}-{what}") for what in ("gan", "study"))
    settings = {**gan, "segmenter_steps": 0}  # no arm uses the masks
    api.train("ac-wgan", store.path, run, preset="compact", settings=settings, device="cpu")
    model = hub.load(run)
    makers = [model.maker()]
    _, outcome = study_detection(store, config, out, makers=makers, amounts=amounts, trainings=trainings, device="cpu")
    return Part(store, config, model, outcome)


def samples_lines(found: Part, path: Path, text: str) -> Iterator[str]:
    """Write a picture of the GAN's samples above real training nodules."""
    places = nodule_places(found.store.in_split("train"))[:SAMPLES_SHOWN]
    real = Patches.of(PatchDataset(found.store, places, found.config.patch))
    made = api.sample(found.model, SAMPLES_SHOWN).ct
    yield from picture(side_by_side({"sample": made, "learned from": real.hu}), path, text)


def few_lines(found: Part, out: Path) -> Iterator[str]:
    """Give the results of the study with few patients."""
    outcome, nodules = found.outcome, sum(len(case.nodules) for case in found.store.in_split("train"))
    yield f"The same validation and test patients, but {FEW_PATIENTS} training patients with {nodules} nodules; `synthorax prepare ... --train-patients {FEW_PATIENTS}` makes such a store. A GAN of its"
    yield f"own was trained on these patients alone ({FEW_GAN['steps']:,} steps), and rendered nodules have their outlines, though the renderer's constants were chosen on all training"
    yield f"patients. An arm has {FEW_STEPS} steps, half as many as above, and the GAN was trained for fewer steps: compare these arms with each other, not with"
    yield f"those above. {TRAININGS} trainings; there is one draw of the patients and one GAN, so the intervals do not include how much others would differ."
    yield f"{outcome.note}"
    yield ""
    yield from arm_lines(outcome.arms, FEW_SHOWN)
    yield ""
    text = "differences of the AUC from that of flips alone, with few patients"
    yield from picture(differences(outcome), out / "detection-few.png", text)
    yield from samples_lines(
        found, out / "detection-few-samples.png", "samples of the GAN of few patients, over real ones"
    )
    yield from test_lines(outcome)


def phantom_lines(found: Part, out: Path) -> Iterator[str]:
    """Give the results of the study on whole scans, with the FROC."""
    store, outcome = found.store, found.outcome
    nodules = {name: sum(len(case.nodules) for case in store.in_split(name)) for name in ("train", "test")}
    yield f"{PHANTOMS} phantom chests ({counts(store)}), {nodules['train']} nodules to train on and {nodules['test']} to find; patches of 48 mm as 32^3 voxels of 1.5 mm,"
    yield f"{PHANTOM_STEPS} steps, {PHANTOM_TRAININGS} trainings. The GAN was trained on the same phantoms ({PHANTOM_GAN['steps']:,} steps, an hour of one core, far less than it needs). `froc` is the"
    yield "mean sensitivity at LUNA16's seven rates of false positives, with the detector scanning the lungs of the whole test scans."
    yield f"{outcome.note}"
    yield ""
    yield f"With {len(store.splits['test'])} test patients and as many patches without a nodule as with one, a single false alarm changes the specificity by {1 / nodules['test']:.2f}: this shows that the study runs at"
    yield "48 mm and on whole scans, not which arm is better. So few nodules, and equally few patches without one (`--negatives 1`, the thesis has 71), cannot train a detector for whole scans, which"
    yield "have thousands of windows, and `froc` is low in every arm. A phantom's nodules are rendered, which favours the arm with rendered nodules."
    yield ""
    yield from arm_lines(outcome.arms, PHANTOM_SHOWN)
    yield ""
    yield from samples_lines(
        found, out / "detection-phantom-samples.png", "samples of the phantoms' GAN, over phantoms"
    )


def page(real: Path, work: Path, run: Path | None, out: Path) -> Iterator[str]:
    """The lines of the page."""
    store = api.prepare("patches", real / "luna16-nodules", work / "store")
    model, extractor = hub.load(MODEL), hub.load(EXTRACTOR)
    maker = model.maker()
    config = task_config("detection", "compact", {})
    _, outcome = study_detection(
        store,
        config,
        work / "study",
        makers=[maker],
        amounts=AMOUNTS,
        trainings=TRAININGS,
        device="cpu",
        thesis=model.system.name,
    )
    _, found = study_fidelity(
        store, config, work / "fidelity", maker, extractor, extractor_name=EXTRACTOR, run=run, device="cpu"
    )
    few, phantoms = few_part(real, work), phantom_part(work)
    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    yield "# Do a GAN's nodules help a detector?"
    yield ""
    yield from verdict(outcome, few.outcome, found)
    yield ""
    yield f"Written by `make results-detection` on {date.today().isoformat()}: {here}. Weights of {MODEL}: {model.sha256[:16]}."
    yield ""
    yield "## The study"
    yield ""
    nodules = sum(len(case.nodules) for case in store.cases)
    yield f"24 mm cubes of {nodules} real LUNA16 nodules and, as patches without one, corners of the same 50 mm cubes that are at least {100 * LUNG_SHARE:.0f} % lung: the chest wall and"
    yield f"the hilum, where detectors err most, are rare among them. Patients: {counts(store)}. No decision used the test patients, {outcome.counts['nodules']} nodules and {outcome.counts['patches without one']} patches without one."
    yield f"Every training draws {outcome.drawn:,} patches, half of them with a nodule. Synthetic nodules replace some of the real ones: one for each real one that is left, or four (`x 4`)."
    yield "Rendered nodules have outlines of training patients. All synthetic nodules have sizes and ratings that are drawn from those of the training nodules."
    yield f"{outcome.note}"
    yield ""
    yield f"Means over {TRAININGS} trainings; 95 % intervals resample test patients and trainings, and with only {TRAININGS} trainings they are too narrow; the tests below are Student's t over both. One GAN"
    yield "generated all cubes, so the intervals do not include how much another GAN would differ. Decisions use each arm's threshold of best balanced accuracy on the validation"
    yield "patients, which removes a shift of the operating point such as the thesis' tables 2 and 3 show. The same patients chose every arm's best weights, also those of arms"
    yield "that were trained on synthetic patches only. Figures at 1 nodule to 71 others follow from sensitivity and specificity if nodules are as rare as in the thesis' test set; with so few patches"
    yield "without a nodule they depend on a few false alarms. Figures in italics are those of the thesis' tables 2 to 5, of 48 mm cubes of 888 whole scans, which are not available here:"
    yield "they give an orientation and cannot be compared directly. The thesis is Cui, *Generative Adversarial Data Augmentation for Lung Nodule Detection*. “Larger detector” is twice as wide, “HU of the middle alone” the mean HU of the middle third without a network; “selected” samples are those that ac-wgan's critic takes for real, its “own judgement” is that critic's score."
    yield ""
    yield from arm_lines(outcome.arms, SHOWN, thesis=True)
    yield ""
    text = "differences of the AUC from that of flips alone"
    yield from picture(differences(outcome), out / "detection-differences.png", text)
    yield from test_lines(outcome)
    yield ""
    yield "Sensitivity by diameter and for nodules that are not solid, with the number of nodules:"
    yield ""
    yield from strata_lines(outcome)
    yield ""
    yield from confusion_lines(outcome)
    yield ""
    yield "## With a tenth of the patients"
    yield ""
    yield from few_lines(few, out)
    yield ""
    yield "## The GAN"
    yield ""
    yield from fidelity_lines(found, out)
    yield ""
    yield "## Whole scans"
    yield ""
    yield from phantom_lines(phantoms, out)
    yield "To run the thesis' own protocol if you have LUNA16's scans: `synthorax prepare luna16 ...`, `recipes/ac-wgan.sh STORE RUN MINUTES cuda paper`, then"
    yield "`synthorax study detection --data STORE --model RUN --preset paper --negatives 71 --out DIR`."


def counts(store: Store) -> str:
    """Patients by split."""
    return ", ".join(f"{len(ids)} {name}" for name, ids in store.splits.items())


def verdict(outcome: DetectionOutcome, few: DetectionOutcome, found: Fidelity) -> Iterator[str]:
    """Return the result in sentences, made from the figures; the first answers the page's title."""
    better = [
        test.a for one in (outcome, few) for test in significant(one) if test.difference > 0 and test.b == REFERENCE
    ]
    helped = sorted({name for name in better if name.startswith(f"{REFERENCE} + ")})
    reached = " and ".join(f"{reference_of(one).mean:.3f}" for one in (outcome, few))
    if helped:
        yield f"Yes: {', '.join(helped)} detects nodules better than real patches with flips alone."
    else:
        yield f"Not measurably: neither generated nor rendered nodules beside real ones improve on real patches with flips alone, with all training patients or with {FEW_PATIENTS} of them (AUC {reached})."
    yield ""
    yield f"With all training patients: {compared(outcome)}"
    yield ""
    yield f"With {FEW_PATIENTS} of them: {compared(few)}"
    yield ""
    kids = ", ".join(f"{name} {row['KID x 1000'][0]:.3g}" for name, row in found.likeness.items())
    yield f"KID x 1000 against the training nodules (lower is more similar; 0 or below: not measurably different): {kids}. These are {found.counts['samples']} samples; the card of {MODEL} (`synthorax info {MODEL}`) has the KID of more samples, which is the one to rely on."


def reference_of(outcome: DetectionOutcome) -> Interval:
    """Return the AUC of real patches with flips."""
    return next(arm for arm in outcome.arms if arm.name == REFERENCE).metrics["auc"]


def significant(outcome: DetectionOutcome) -> list[Test]:
    """Return the comparisons of AUC that are significant after correction."""
    return [test for test in outcome.tests if test.metric == TESTED[0] and (test.p_holm or 1) < 0.05]


def compared(outcome: DetectionOutcome) -> str:
    """Return the AUC of real patches with flips, and the arms that differ from another, as a sentence."""
    base = reference_of(outcome)
    little = ", which leaves little to gain" if base.mean > LITTLE_TO_GAIN else ""
    differences = sure_differences((test.a, test.b, test.difference) for test in significant(outcome))
    return f"real patches with flips alone reach an AUC of {cell(base)}{little}. {differences}"


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
