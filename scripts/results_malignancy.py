#!/usr/bin/env python3
"""Run the study of malignancy with all patients, with a tenth of them, and with a ResNet-50; write its results page.

    python scripts/results_malignancy.py --out docs/results --measured FOLDER [--few-run FOLDER]
    python scripts/results_malignancy.py --without-models

SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`. Trainings are kept in build/results-malignancy; run the script
again to continue after a stop. `--measured` is the folder of `scripts/results_in_painting.py measure` with `render`,
`ac-wgan` and `class-aware`, and of `scripts/injection_times.py class-aware --out FOLDER/times.json`. `--few-run` is a
class-aware in-painter trained on the tenth alone (the store build/results-malignancy/few-store); without it one is
trained. `--without-models` trains the arms that need no model, and writes nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, cast, get_args

from in_painting_page import (
    class_lines,
    hu_by_class_lines,
    in_painting_lines,
    kid_lines,
    read_figures,
    reconstruction_lines,
    sheet_lines,
    sites_lines,
    times_lines,
    told_apart_lines,
    width_lines,
)
from pages import picture, spread, sure_differences, table
from synthorax import api, hub
from synthorax.datasets.store import Store
from synthorax.io.atomic import atomic_file
from synthorax.makers import Method
from synthorax.studies.answers import SURE
from synthorax.studies.malignancy import PAPER_COUNTS, PAPER_RESULTS, MalignancyOutcome, MalignancyTest
from synthorax.studies.malignancy_page import malignancy_differences, study_malignancy
from synthorax.studies.malignancy_recipes import PAPER_RATIO, RATIOS, RAW, ArmKind, in_contexts
from synthorax.studies.results import LEAST_TRAININGS, Arm, Interval, machine
from synthorax.tasks.config import TaskConfig, task_config

RENDER, GAN, MODEL = "render", "ac-wgan", "class-aware"
TRAININGS = 5
FEW_PATIENTS, FEW_STEPS = 33, 250
FEW_IN_PAINTER = {"steps": 1500}
"""Steps with a tenth of the patients: some 180 epochs of their patches."""
DEEP: dict[str, Any] = {
    "network": {"kind": "resnet", "architecture": "resnet-50", "width": 64},
    "batch_size": 16,
    "steps": 300,
}
"""ResNet-50 at its full width, on the patches of `compact`, six times through the training patches."""
DEEP_TRAININGS = 3
DEEP_ARMS: tuple[ArmKind, ...] = ("raw", "flips", "malignant")
NOT_RUN = ("ResNet-101", "ResNet-152", "ResNeXt-101")


def cell(value: Interval | None) -> str:
    """A figure with its interval."""
    return "" if value is None else spread(value.mean, value.low, value.high, ".3f")


def chance(p: float | None) -> str:
    """Return a p value as text, or that it is small."""
    return "" if p is None else f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def arm_lines(outcome: MalignancyOutcome) -> Iterator[str]:
    """Give the arms' figures, with the paper's figures below them."""
    names = list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics))
    rows: list[list[str]] = []
    for arm in outcome.arms:
        made = outcome.made.get(arm.name) or ""
        rows.append([arm.name, f"{made:,}" if made else "", *(cell(arm.metrics.get(name)) for name in names)])
        if arm.paper:
            own = (f"*{arm.paper[name]:.3f}*" if name in arm.paper else "" for name in names)
            rows.append(["*paper*", "", *own])
    yield from table(["arm", "made", *names], rows)


def test_lines(outcome: MalignancyOutcome) -> Iterator[str]:
    """Give the comparisons of arms."""
    rows = [
        [
            test.a,
            test.b,
            f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})",
            chance(test.p),
            chance(test.p_holm),
            f"{test.delong:+.3f}",
            chance(test.p_delong),
        ]
        for test in outcome.tests
    ]
    heads = ["AUC of", "less that of", "difference (95 %)", "p", "p, Holm", "of mean scores", "p, DeLong"]
    yield from table(heads, rows)


def study_text(outcome: MalignancyOutcome) -> Iterator[str]:
    """Give the description of the trainings and figures, and how to read the tables."""
    yield f"Cubes of 32 mm around LUNA16's nodules; a nodule is malignant if the median of its readers' ratings is 4 or more. Every training draws {outcome.drawn:,} patches ({outcome.drawn // 2:,} with {FEW_PATIENTS} patients, {DEEP['steps'] * DEEP['batch_size']:,} for the ResNet-50),"
    yield "cropped and scaled at random in every arm; “raw” is real nodules alone, without flips and turns. The weights with the best AUC on the validation patients were evaluated once on the test patients. Rendered and ac-wgan nodules are added in benign contexts only, because they leave"
    yield "parts of the nodule that was there; the class-aware in-painter also replaces the nodule in malignant contexts, as in the paper. A benign context is the place of a benign training nodule, a malignant context that of a malignant one. In a malignant context a synthetic nodule has the"
    yield "diameter of the nodule that was there; in a benign context it has that of a malignant training nodule, which is at least as large as the nodule that was there if such a one exists."
    yield ""
    yield "Means over the trainings; 95 % intervals resample test patients and trainings, p is Student's t over both. One model of each method made all its nodules, so the intervals do not include how much another training of it would differ. DeLong's"
    yield "test compares the trainings' mean scores and treats nodules of one patient as independent. A nodule is called malignant at a probability of .5 or more. `within strata` compares nodules below 8 mm, of 8 to 12 mm and above only with each"
    yield "other, `pairs of like size` those whose diameters differ by at most 15 %, so that the diameter gives little information. Figures in italics are those of the paper (Yang et al., *Class-Aware Adversarial Lung Nodule Synthesis in CT Images*), of other patients; they cannot be compared directly."


def smallest_line(outcome: MalignancyOutcome) -> str:
    """Give the smallest detectable difference, as a sentence."""
    test = outcome.counts["test"]
    if outcome.smallest is None:
        return f"With fewer than {LEAST_TRAININGS} trainings of each arm it is not known how small a difference of two AUCs could be detected."
    return (
        f"The smallest difference of two AUCs that these {test['malignant']} malignant and {test['benign']} benign test nodules of"
        f" {test['patients']} patients can detect with a power of 80 % is {outcome.smallest:.3f}."
    )


def study_lines(outcome: MalignancyOutcome, out: Path, name: str, text: str) -> Iterator[str]:
    """Smallest difference, arms, picture and tests of a study."""
    yield f"**{smallest_line(outcome)}**"
    yield ""
    yield from (f"{note}" for note in outcome.notes)
    yield ""
    yield from arm_lines(outcome)
    yield ""
    yield from picture(malignancy_differences(outcome), out / f"malignancy-{name}.png", text)
    yield from test_lines(outcome)
    yield ""


def count_lines(outcome: MalignancyOutcome) -> Iterator[str]:
    """Give table 1 of the paper next to this project's figures."""
    rows = []
    for name, (benign, malignant) in PAPER_COUNTS.items():
        own = outcome.counts[name]
        rows.append([name, own["benign"], own["malignant"], own["patients"], benign, malignant])
        if name == "train":
            made = round(PAPER_RATIO * own["malignant"])
            rows.append(["train + made", own["benign"], own["malignant"] + made, own["patients"], benign, 696])
    heads = ["patches", "benign", "malignant", "patients", "paper, benign", "paper, malignant"]
    yield from table(heads, rows)


def paper_lines() -> Iterator[str]:
    """Table 2 of the paper."""
    rows = [
        [network, name.replace("made", "raw + synthesis"), *(f"{value:.4f}" for value in row)]
        for network, arms in PAPER_RESULTS.items()
        for name, row in arms.items()
    ]
    yield from table(["paper's network", "arm", "ACC", "SEN", "SPE", "AUC"], rows)


def arm_of(outcome: MalignancyOutcome, name: str) -> Arm:
    """An arm by its name."""
    return next(arm for arm in outcome.arms if arm.name == name)


def made_test(outcome: MalignancyOutcome) -> MalignancyTest:
    """The paper's comparison: real nodules with the in-painter's malignant ones, and without."""
    wanted = in_contexts(MODEL, "malignant", PAPER_RATIO)
    return next(test for test in outcome.tests if (test.a, test.b) == (wanted, RAW))


def answer(outcome: MalignancyOutcome, few: MalignancyOutcome) -> str:
    """Return the answer to the page's title, in a sentence."""
    found = {"all training patients": made_test(outcome), f"{FEW_PATIENTS} of them": made_test(few)}
    helped = [who for who, test in found.items() if test.difference > 0 and (test.p_holm or 1) < SURE]
    if helped:
        return f"Yes: malignant nodules by {MODEL} improve the classifier with {' and with '.join(helped)}."
    return (
        f"Not measurably: malignant nodules by {MODEL} do not improve the classifier, with {' or with '.join(found)}."
    )


def verdict(outcome: MalignancyOutcome) -> str:
    """Return the effect of synthetic nodules, in sentences."""
    raw, test = arm_of(outcome, RAW).metrics["auc"], made_test(outcome)
    sure = [each for each in outcome.tests if each.p_holm is not None and each.p_holm < SURE]
    change = spread(test.difference, test.low, test.high, "+.3f")
    return (
        f"a classifier that is trained on real nodules only, without flips, reaches an AUC of {cell(raw)}; {PAPER_RATIO:g} malignant nodules by {MODEL} for each"
        f" real one change it by {change}. {sure_differences(((each.a, each.b, each.difference) for each in sure), SURE)}"
    )


def makers(run: str | Path) -> list[Method]:
    """The methods under test."""
    return [cast(Method, hub.find(what, "injects")) for what in (GAN, run)]


@dataclass(frozen=True)
class Part:
    """A study of the page: its data, its classifier and its folder."""

    store: Store
    config: TaskConfig
    folder: Path
    arms: Sequence[ArmKind] = get_args(ArmKind)
    trainings: int = TRAININGS

    def run(self, model: str | Path | None, ratios: Sequence[float] = (PAPER_RATIO,)) -> MalignancyOutcome:
        """Run the study with the methods under test; with rendered nodules only if `model` is None."""
        return study_malignancy(
            self.store,
            self.config,
            self.folder,
            makers=[] if model is None else makers(model),
            arms=self.arms,
            ratios=ratios,
            trainings=self.trainings,
            device="cpu",
        )[1]


def parts(real: Path, work: Path) -> tuple[Part, Part, Part]:
    """The studies with all training patients, with few of them, and of a ResNet-50."""
    nodules = real / "luna16-nodules"
    store = api.prepare("patches", nodules, work / "store")
    few = api.prepare("patches", nodules, work / "few-store", train_patients=FEW_PATIENTS)
    return (
        Part(store, task_config("malignancy", "compact", {}), work / "study"),
        Part(few, task_config("malignancy", "compact", {"steps": FEW_STEPS}), work / "few-study"),
        Part(store, task_config("malignancy", "compact", DEEP), work / "deep", DEEP_ARMS, DEEP_TRAININGS),
    )


def page(real: Path, work: Path, few_run: Path | None, measured: Path, out: Path) -> Iterator[str]:
    """The lines of the page."""
    of_all, of_few, of_deep = parts(real, work)
    outcome = of_all.run(MODEL, RATIOS)
    if few_run is None:
        few_run = work / "few-run"
        api.train(MODEL, of_few.store.path, few_run, preset="compact", settings=FEW_IN_PAINTER, device="cpu")
    few, deep = of_few.run(few_run), of_deep.run(MODEL)
    here = ", ".join(f"{name} {value}" for name, value in machine().items())
    yield "# Do synthetic malignant nodules help to distinguish malignant from benign ones?"
    yield ""
    yield answer(outcome, few)
    yield ""
    yield f"With all training patients {verdict(outcome)}"
    yield f"With {FEW_PATIENTS} of them, on whom alone the in-painter was trained too, {verdict(few)}"
    yield ""
    yield f"Written by `make results-malignancy` on {date.today().isoformat()}: {here}. Weights of {MODEL}: {outcome.models[MODEL][:16]}."
    yield ""
    yield from study_text(outcome)
    yield ""
    yield from count_lines(outcome)
    yield ""
    yield "## With all training patients"
    yield ""
    yield from study_lines(outcome, out, "all", "differences of the AUC with all training patients")
    yield f"## With {FEW_PATIENTS} training patients"
    yield ""
    yield from study_lines(few, out, "few", "differences of the AUC with few training patients")
    yield "## ResNet-50"
    yield ""
    yield from study_lines(deep, out, "deep", "differences of the AUC of a ResNet-50")
    yield f"Not run: {', '.join(NOT_RUN)} (`--set network.architecture=resnet-152`), and patches of 64 mm (`--preset paper`), for which cubes of 50 mm are too small."
    yield "The paper's networks were pretrained on videos (Kinetics); such weights were not available, and ours start from random weights."
    yield ""
    yield from paper_lines()
    yield from in_painted_lines(measured, out)


def in_painted_lines(measured: Path, out: Path) -> Iterator[str]:
    """Give the figures of the in-painter's nodules next to real ones and those of other methods."""
    figures = read_figures(measured)
    parts = {
        "In-painted nodules beside real ones": sites_lines(figures),
        "Do the nodules look benign or malignant, as requested?": class_lines(figures, measured, out, MODEL),
        "Seam, diversity and texture": in_painting_lines(figures, (RENDER, GAN, MODEL)),
        "KID": kid_lines(figures),
        "HU by class": hu_by_class_lines(figures, out, MODEL),
        "Told apart from real ones": told_apart_lines(figures),
        "Real or made?": sheet_lines(measured, out, MODEL),
        "Diameters": width_lines(figures),
        "Reconstruction of real nodules": reconstruction_lines(figures, MODEL),
        "One nodule in a whole scan": times_lines(measured),
    }
    for title, lines in parts.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield from lines


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--few-run", type=Path)
    parser.add_argument("--without-models", action="store_true", help="train the arms that need no model, and stop")
    given = parser.parse_args()
    work = Path("build") / "results-malignancy"
    work.mkdir(parents=True, exist_ok=True)
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    if given.without_models:
        without_models(real, work)
        return
    if not given.out or not given.measured:
        parser.error("--out and --measured are needed for the page")
    given.out.mkdir(parents=True, exist_ok=True)
    lines = list(page(real, work, given.few_run, given.measured, given.out))
    with atomic_file(given.out / "malignancy.md") as file:
        file.write_text("\n".join(lines) + "\n")


def without_models(real: Path, work: Path) -> None:
    """Train the arms of real and of rendered nodules, whose results the page then reads."""
    of_all, of_few, of_deep = parts(real, work)
    for part in (of_all, of_few, replace(of_deep, arms=("raw", "flips"))):
        part.run(None)


if __name__ == "__main__":
    main()
