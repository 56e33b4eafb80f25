#!/usr/bin/env python3
"""Measure painters of label maps and run the study of segmentation; write its results page.

    python scripts/results_segmentation.py --out docs/results --volumes RUN [--slices RUN] [--neighbours RUN]
        [--cyclegan RUN] [--other MODEL ...] [--arms KIND,...] [--without-study] [--without-inputs]

SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`. All runs are trained by `recipes/translation.sh` on the store
build/results-segmentation/store, which `--store` makes and stops: `--volumes` of `compact`, in every arm of the study;
`--slices` of `compact2d`; `--neighbours` of `compact2d --slices 5`; `--cyclegan` of `compact --model cyclegan`.
`--other` are injectors. Trainings are kept in build/results-segmentation; run the script again to continue.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pages import picture, spread, table
from synthorax import api, hub
from synthorax.datasets.case import CaseEntry
from synthorax.datasets.store import Store
from synthorax.figures import tissue_slices
from synthorax.io.atomic import atomic_file
from synthorax.makers import Maker, Painter
from synthorax.metrics.estimates import CONFIDENCE
from synthorax.seeding import generator
from synthorax.studies.painted_maps import MAP_FIGURES, PaintedCase, gives_away, map_figures, paint_cases
from synthorax.studies.results import Interval, machine
from synthorax.studies.segmentation import PAPER_LATER, PAPER_SEGMENTATION, THESIS_ARMS, SegmentationOutcome
from synthorax.studies.segmentation_arms import SegmenterArmKind
from synthorax.studies.segmentation_config import SEGMENTERS
from synthorax.studies.segmentation_figures import COMPARED, SegmenterTest
from synthorax.studies.segmentation_page import (
    over_amounts,
    over_iterations,
    replaced_sentence,
    segmentation_differences,
    study_segmentation,
)
from synthorax.training.files import read_log

TRAININGS = 3
PAINTED_CASES = 96
"""Number of test label maps to paint, one for each patient."""
WORST, SHOWN = 5, 5
KINDS = {
    "volumes": "volumes (3D)",
    "slices": "slices (2D)",
    "neighbours": "slices of five (2.5D)",
    "cyclegan": "volumes, CycleGAN",
}
INPUTS = ("mask", "mask-noise", "labels")
MODELS = ("pix2pix", "cyclegan")
TABLE_STEPS, TABLE_PRESET = 600, "compact2d"
"""Steps and preset of the painters in the table of inputs and models."""
TABLE_STUDY: dict[str, Any] = {"steps": 300, "checkpoints": (300,), "headline": 300, "precision": "bf16"}
READER = "reader"
"""Name of the network of a CycleGAN that turns CT into label maps."""
ADDED_HU = (0.0, 10.0, 30.0)
SATURATED = 0.99
"""A painted voxel beyond this share of half the HU window counts as at the end of the painter's range."""
TIMED_VOXELS = (128, 128, 128)
TIMED = """
import sys, time, numpy as np
from measuring import peak_gb
from synthorax import hub
from synthorax.editing.painting import painted_slabs
from synthorax.volume import Volume
painter = hub.find(sys.argv[1], "paints")
labels = np.random.default_rng(0).integers(1, 5, tuple(map(int, sys.argv[2:]))).astype(np.uint8)
began, cpu = time.perf_counter(), time.process_time()
slices = sum(len(slab) for _, slab in painted_slabs(Volume(labels, painter.spacing_mm), painter, 0))
took = time.perf_counter() - began, time.process_time() - cpu
print(*took, peak_gb())
"""


def cell(value: Interval | None, form: str = ".3f") -> str:
    """A figure with its interval."""
    return "" if value is None else spread(value.mean, value.low, value.high, form)


def chance(p: float | None) -> str:
    """A p, or that it is small."""
    return "" if p is None else f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def first_of_each(cases: Sequence[CaseEntry], most: int) -> list[CaseEntry]:
    """Return one case with a label map for each patient."""
    found: dict[str, CaseEntry] = {}
    for case in cases:
        if case.has_tissue:
            found.setdefault(case.patient_id, case)
    return list(found.values())[:most]


def map_lines(cases: Mapping[str, Sequence[PaintedCase]]) -> Iterator[str]:
    """Give the figures of painted CT compared with real CT."""
    first = next(iter(cases.values()))
    columns = {"real": map_figures(first, made=False)}
    columns |= {name: map_figures(own, made=True) for name, own in cases.items()}
    forms = {name: ".2f" if "correlation" in name else ".0f" for name in MAP_FIGURES}
    rows = [
        [name, *(cell(found.get(name), forms[name]) for found in columns.values())]
        for name in MAP_FIGURES
        if any(name in found for found in columns.values())
    ]
    yield from table(["HU", *columns], rows)


def planes(cases: Sequence[PaintedCase], rows: Mapping[str, Sequence[PaintedCase]], *, coronal: bool) -> Figure:
    """Write middle slices of label maps, real CT and each painter's CT."""

    def plane(values: NDArray) -> NDArray:
        middle = values.shape[1 if coronal else 0] // 2
        return values[:, middle][::-1] if coronal else values[middle]

    shown = {"real": [plane(case.real) for case in cases]}
    shown |= {name: [plane(case.made) for case in own] for name, own in rows.items()}
    captions = [f"off by {case.error_hu:.0f} HU" for case in next(iter(rows.values()))]
    return tissue_slices([plane(case.classes) for case in cases], shown, captions=captions)


def picture_lines(cases: Mapping[str, Sequence[PaintedCase]], out: Path) -> Iterator[str]:
    """Give pictures of the first cases, of those with the largest error of the first painter, and coronal planes."""
    first = next(iter(cases.values()))
    some = list(range(SHOWN))
    worst = np.argsort([-case.error_hu for case in first])[:WORST].tolist()
    for name, rows, coronal, text in (
        ("first", some, False, "the first test patients: label map, real CT, painted CT"),
        ("worst", worst, False, f"the {WORST} of {len(first)} test patients whose painted CT is furthest from real CT"),
        ("coronal", some, True, "the same volumes in coronal planes, where slices that jump show"),
    ):
        own = {kind: [each[i] for i in rows] for kind, each in cases.items()}
        figure = planes([first[i] for i in rows], own, coronal=coronal)
        yield from picture(figure, out / f"segmentation-{name}.png", text)


def cycle_lines(runs: Mapping[str, Path], cases: Mapping[str, Sequence[PaintedCase]]) -> Iterator[str]:
    """Give how well CycleGANs recover the label map from painted and from real CT, without and with added noise.

    Section 6.1 suspects that a painter hides the label map in its output: noise would then reduce the share more than for real CT.
    """
    rows = []
    for name, run in runs.items():
        if READER in hub.load(run).system.networks:
            read = [read_back(run, cases[name], made=made, noise_hu=hu) for made in (True, False) for hu in ADDED_HU]
            rows.append([name, *(f"{share:.3f}" for share in read)])
    if rows:
        heads = [f"{what} CT, {hu:g} HU added" for what in ("painted", "real") for hu in ADDED_HU]
        yield "Share of voxels whose class a CycleGAN reads back:"
        yield ""
        yield from table(["painter", *heads], rows)
        yield ""


def read_back(run: Path, cases: Sequence[PaintedCase], *, made: bool, noise_hu: float) -> float:
    """Return the share of voxels whose class the reader of a run recovers."""
    system: Any = hub.load(run).system
    shares = []
    for i, case in enumerate(cases):
        noise = noise_hu * generator(0, "added noise", i).standard_normal(case.classes.shape)
        unit = system.config.patch.to_unit(((case.made if made else case.real) + noise).astype(np.float32))
        shown = torch.from_numpy(unit)[:, None] if system.config.by_slices else torch.from_numpy(unit)[None, None]
        with torch.no_grad():
            found = system.networks[READER](shown).argmax(1).numpy().reshape(case.classes.shape)
        shares.append(float((found == case.classes).mean()))
    return float(np.mean(shares))


def time_lines(runs: Mapping[str, Path]) -> Iterator[str]:
    """Give time and memory of painting, each in a separate process, and the logged time of a training step."""
    rows = []
    here = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    for name, run in runs.items():
        command = [sys.executable, "-c", TIMED, str(run), *map(str, TIMED_VOXELS)]
        measured = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": here}
        )
        seconds, cpu, memory = map(float, measured.stdout.split())
        steps = [float(row["steps_per_second"]) for row in read_log(run) if row.get("steps_per_second")]
        size = sum(each.numel() for each in hub.load(run).system.networks["painter"].parameters())
        weights = f"{2 * size / 1e6:.1f}"
        step = f"{1 / np.median(steps):.2f}" if steps else "not kept"
        rows.append([name, f"{seconds:.1f}", f"{cpu:.1f}", f"{memory:.1f}", step, weights])
    heads = [
        "painter",
        "128^3: seconds",
        "CPU seconds",
        "GB at most",
        "seconds a step",
        "MB of the painter in half precision",
    ]
    yield from table(heads, rows)


def arm_lines(outcome: SegmentationOutcome) -> Iterator[str]:
    """Give the arms' figures, with the thesis' figures below them."""
    names = list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics))
    rows: list[list[str]] = []
    for arm in outcome.arms:
        counts = outcome.learned.get(arm.name, (0, 0, 0))
        rows.append([arm.name, *(f"{n:,}" if n else "" for n in counts), *(cell(arm.metrics.get(n)) for n in names)])
        if arm.paper:
            own = (f"*{arm.paper[name]:.3f}*" if name in arm.paper else "" for name in names)
            rows.append(["*thesis*", "", "", "", *own])
    yield from table(["arm", "real patients", "real volumes", "synthetic volumes", *names], rows)


def spread_lines(outcome: SegmentationOutcome, headline: int, last: int) -> Iterator[str]:
    """Give tables 5.2 to 5.7 next to this project's figures."""
    rows = []
    for name, measures in outcome.spreads.items():
        model = THESIS_ARMS.get(name)
        for measure in COMPARED:
            own = measures[measure]
            row = [name, measure, f"{own.median:.3f}", f"{own.mean:.3f}", f"{own.sd:.3f}", f"{own.with_empty:.3f}"]
            thesis: list[str] = []
            for published in (PAPER_SEGMENTATION, PAPER_LATER):
                found = published.get(model, {}).get(measure) if model is not None else None
                thesis.append(
                    "" if found is None else f"{found[0]:.3f}, {found[1]:.3f}, {found[2]:.3f}, {chance(found[3])}"
                )
            rows.append(row + thesis)
    heads = ["arm", "measure", "median", "mean", "SD", "mean, empty ones as 0"]
    heads += ["*thesis, 100,000 steps*: median, mean, SD, p", "*120,000 steps*"]
    yield f"After {headline} steps, a number chosen beforehand; {last} are the last."
    yield ""
    yield from table(heads, rows)


def test_lines(tests: Sequence[SegmenterTest]) -> Iterator[str]:
    """Give the comparisons of arms."""
    rows = [
        [
            test.a,
            test.b,
            test.measure,
            f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})",
            chance(test.p),
            chance(test.p_holm),
            chance(test.p_volumes),
        ]
        for test in tests
    ]
    yield from table(["arm", "less", "measure", "difference (95 %)", "p", "p, Holm", "p, paired t over volumes"], rows)


def input_lines(store: Store, work: Path) -> Iterator[str]:
    """Give painters by input and model, all of one small size, and a segmenter trained on n real volumes and theirs."""
    rows = []
    cases = first_of_each(store.in_split("test"), PAINTED_CASES // 4)
    for model in MODELS:
        for inputs in INPUTS:
            run = work / f"{model}-{inputs}"
            settings = {"model": model, "inputs": inputs, "steps": TABLE_STEPS, "precision": "bf16"}
            api.train("translation", store, run, preset=TABLE_PRESET, settings=settings, device="cpu")
            painter = cast(Painter, hub.find(run, "paints"))
            config = SEGMENTERS["compact"].model_copy(update=TABLE_STUDY)
            _, outcome = study_segmentation(
                store, config, work / "study", makers=[painter], arms=(), trainings=1, device="cpu"
            )
            own = paint_cases(store, cases, painter, config.volume_spec)
            error = float(np.mean([case.error_hu for case in own]))
            spec = config.volume_spec
            unit = np.concatenate([np.abs(spec.to_unit(case.made.astype(np.float32))).ravel() for case in own])
            dice = next(arm for arm in outcome.arms if "synthetic" in arm.name).metrics["dice"]
            boundary = outcome.boundaries[painter.name]
            saturated = f"{(unit > SATURATED).mean():.3f}"
            rows.append([model, inputs, f"{error:.0f}", saturated, cell(boundary), cell(dice)])
    heads = [
        "model",
        "input",
        "HU off",
        "share of voxels at the end of the range",
        "Dice of painted nodules by a real U-Net",
    ]
    yield from table([*heads, "Dice of n + 10n"], rows)


def page(given: argparse.Namespace, real: Path, work: Path) -> Iterator[str]:
    """The lines of the page."""
    store = made_store(real, work)
    config = SEGMENTERS["compact"].model_copy(update={"precision": "bf16"})
    runs = {name: getattr(given, kind) for kind, name in KINDS.items() if getattr(given, kind) is not None}
    painters = {name: cast(Painter, hub.find(run, "paints")) for name, run in runs.items()}
    tested = first_of_each(store.in_split("test"), PAINTED_CASES)
    cases = {name: paint_cases(store, tested, painter, config.volume_spec) for name, painter in painters.items()}
    here = ", ".join(f"{name} {value}" for name, value in machine().items())
    written = f"Written by `scripts/results_segmentation.py` on {date.today().isoformat()}: {here}."
    yield "# How many real scans do volumes painted from label maps replace?"
    yield ""
    if given.without_study:
        first = next(iter(cases.values()))
        off = float(np.mean([case.error_hu for case in first]))
        yield "Not known yet: the study that answers it has not been run to its end."
        yield f"CT that is painted from the label maps of {len(first)} test patients differs from their real CT by {off:.0f} HU on average."
        yield ""
        yield written
        yield ""
    else:
        others: list[Maker] = [painter for name, painter in painters.items() if name != KINDS["volumes"]]
        others += [hub.find(what, "injects") for what in given.other]
        _, outcome = study_segmentation(
            store,
            config,
            work / "study",
            makers=[painters[KINDS["volumes"]], *others],
            trainings=TRAININGS,
            device="cpu",
            arms=given.arms.split(",") if given.arms else get_args(SegmenterArmKind),
        )
        answer, *others_of_study = study_lines(outcome, given.out, config.headline, config.checkpoints[-1])
        yield answer
        yield ""
        yield written
        if given.arms:
            yield f"Kinds of arms that were run: {given.arms.replace(',', ', ')} (of {', '.join(get_args(SegmenterArmKind))})."
        yield from others_of_study
    yield "## Painted and real CT"
    yield ""
    yield f"Label maps of {len(tested)} test patients, 48 mm each, painted by every painter. Intervals ({CONFIDENCE:.0%}) are over patients. Real and painted CT have"
    yield "the same label maps, so a difference is the painter's."
    yield ""
    yield from map_lines(cases)
    yield ""
    yield from picture_lines(cases, given.out)
    train = paint_cases(
        store, first_of_each(store.in_split("train"), PAINTED_CASES), next(iter(painters.values())), config.volume_spec
    )
    others_hu = np.stack([case.real for case in train])
    shares = ", ".join(f"{name} {gives_away(own, others_hu):.0%}" for name, own in cases.items())
    yield f"Does a painted volume reveal whose label map it has? Among the real volumes of {len(tested)} test and {len(train)} training patients, the most similar one is that"
    yield f"of its own label map for: {shares}. A label map is a coarse image of a patient, so a volume painted from it remains linked to that patient."
    yield ""
    yield ""
    yield from cycle_lines(runs, cases)
    yield "## Seconds and memory"
    yield ""
    yield from time_lines(runs)
    yield ""
    yield "The thesis' training took 30 h on a GTX 1070, and generating its data sets 10 minutes."
    if not given.without_inputs:
        yield ""
        yield "## Inputs and models"
        yield ""
        yield f"Painters of `{TABLE_PRESET}` size after {TABLE_STEPS} steps each: a comparison of early training, not of final quality."
        yield ""
        yield from input_lines(store, work / "inputs")


def study_lines(outcome: SegmentationOutcome, out: Path, headline: int, last: int) -> Iterator[str]:
    """The lines of the study."""
    counts = outcome.counts
    yield f"**{replaced_sentence(outcome)}**"
    yield ""
    assert outcome.smallest is not None
    yield f"The smallest difference of two mean Dice that {counts['test volumes']} volumes of {counts['test patients']} test patients can detect with a power of 80 % is {outcome.smallest:.3f}."
    yield ""
    yield "## The study"
    yield ""
    yield f"The thesis' U-Net at a quarter of its widths, on flipped and rotated windows of 32 mm. n = {counts['n patients']} real patients ({counts['n volumes']} cubes), on whom no painter was trained;"
    yield f"N = {counts['N patients']} ({counts['N volumes']} cubes), as 344 to 59. Synthetic volumes have the label maps of training patients, and nodules of training patients' outlines in"
    yield f"80 % of them, at the same places for all makers. Every training draws {outcome.drawn:,} windows; {TRAININGS} trainings in each arm. No decision used the {counts['test volumes']} cubes of {counts['test patients']} test patients"
    yield f"and {counts['empty volumes']} parts of the same cubes without a nodule. Figures in italics are those of the thesis (Hagvall Hörnstedt, *Synthesis of Thoracic Computer Tomography Images using Generative Adversarial Networks*), of 128^3 cubes of other patients; they cannot be compared directly."
    yield ""
    yield from (note for note in outcome.notes)
    yield ""
    yield from arm_lines(outcome)
    yield ""
    yield from picture(
        segmentation_differences(outcome), out / "segmentation-differences.png", "differences of the mean Dice"
    )
    yield from test_lines([test for test in outcome.tests if test.measure == COMPARED[0]])
    yield ""
    yield from spread_lines(outcome, headline, last)
    yield ""
    yield f"Is the order of the arms the same after {last} steps? In the thesis it is not: between 100,000 and 120,000 steps 59 real + 590 synthetic volumes fall behind 344 real ones."
    yield ""
    yield from test_lines([test for test in outcome.later if test.measure == COMPARED[0]])
    yield ""
    yield from picture(over_iterations(outcome), out / "segmentation-steps.png", "measures over steps")
    yield from picture(
        over_amounts(outcome), out / "segmentation-amounts.png", "Dice over real patients and synthetic volumes"
    )
    boundaries = ", ".join(f"{name} {cell(value)}" for name, value in outcome.boundaries.items())
    yield f"Boundaries: Dice of a network that was trained on N real patients with the masks of each maker's volumes: {boundaries}."
    yield ""


def made_store(real: Path, work: Path) -> Store:
    """Return the store of cubes with their label maps."""
    return api.prepare("patches", real / "luna16-nodules", work / "store", tissue=True)


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=Path)
    parser.add_argument("--other", nargs="*", default=[], help="injectors, by their names or run folders")
    parser.add_argument("--arms", help="kinds of arms of the study, with commas between them; by default all")
    parser.add_argument("--store", action="store_true", help="make the store, and stop")
    parser.add_argument("--without-study", action="store_true")
    parser.add_argument("--without-inputs", action="store_true")
    given = parser.parse_args()
    work = Path("build") / "results-segmentation"
    work.mkdir(parents=True, exist_ok=True)
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    if given.store:
        made_store(real, work)
        return
    if given.out is None or given.volumes is None:
        parser.error("--out and --volumes are needed, unless --store is given")
    if unknown := set((given.arms or "real").split(",")) - set(get_args(SegmenterArmKind)):
        expected = f"any of {', '.join(get_args(SegmenterArmKind))}, with commas between them"
        parser.error(f"--arms: found {', '.join(sorted(unknown))}; expected {expected}")
    lines = list(page(given, real, work))
    with atomic_file(given.out / "segmentation.md") as file:
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
