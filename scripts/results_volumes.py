#!/usr/bin/env python3
"""Run the study of whole chests on phantoms and on cubes of real nodules, and write its results page.

    python scripts/results_volumes.py --out docs/results [--run RUN --gan RUN] [--erase RUN] [--ablation RUN]... [--cubes RUN GAN]

Without runs the page has only time and memory. Train the runs beforehand: RUN and GAN on the training patients of build/results-volumes/phantoms (`--prepare` makes that store,
and the store `healthy` of the same patients without nodules), those of `--cubes` on the training patients of build/results-volumes/cubes,
for which SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`. `--costs` measures time and memory first; without it the
figures of an earlier call are used. Trainings and synthetic chests are kept in build/results-volumes; run the script again to continue.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pages import picture, spread, sure_differences, table
from synthorax import api, hub
from synthorax.datasets.store import Store
from synthorax.io.atomic import atomic_file
from synthorax.makers import Method, Streams
from synthorax.metrics.chest_copies import coarse
from synthorax.metrics.estimates import Estimate
from synthorax.studies.chest_fidelity import BLURRED_CHESTS, REAL_REAL
from synthorax.studies.patch_makers import rendering
from synthorax.studies.results import Interval, machine
from synthorax.studies.volumes_page import PAPER_TABLE, VolumesReport, study_volumes, volume_differences
from synthorax.tasks.config import task_config

PHANTOMS, SPLIT, NODULES = 300, (2 / 3, 0.4 / 3, 0.6 / 3), 0.7
"""Number of phantom patients, their split into 200, 40 and 60, and a mean number of nodules at which half of them have none."""
MADE, COMPARED, TRAININGS = 400, 100, 3
CUBES_MADE, CUBES_COMPARED = 600, 150
KEPT_NOISES = 5
"""Numbers of patients and of slice paths in the grids that show the effect of each noise."""
GOALS = {"compact": (128, 13.0, 6.0), "paper": (224, 60.0, 20.0)}
"""Goals by preset: slices, and seconds on two cores without and with AMX."""
MOST_GIGABYTES = 1.5
HA_GAN = "HA-GAN (Sun et al. 2022) with random weights, 256^3 on two such cores: 9.5 to 13 CPU seconds and 5.6 GB."
CORES = 2


def cell(value: Interval | None) -> str:
    """A figure with its interval."""
    return "" if value is None else spread(value.mean, value.low, value.high, ".3f")


def estimate(value: Estimate | None, form: str) -> str:
    """Return a value with its range as text."""
    return "" if value is None else spread(value.value, value.low, value.high, form)


def distance_lines(report: VolumesReport) -> Iterator[str]:
    """Give table 1 of the paper next to this project's figures."""
    rows = [
        [
            name,
            estimate(row.fid, ".2f"),
            f"{row.places:.2f}",
            estimate(row.kid, ".2f"),
            *(f"{each:.2f}" for each in row.by_orientation.values()),
            estimate(row.score, ".2f"),
        ]
        for name, row in report.distances.items()
    ]
    for name, (score, distance) in PAPER_TABLE.items():
        assert distance is not None
        own = f"*{score[0]:.2f}*" if score else ""
        rows.append([f"*paper, {name}*", f"*{distance[0]:.2f}*", f"*{distance[1]:.2f}*", "", "", "", "", own])
    heads = ["set", "FID", "over places, ±", "KID x 1000", "axial", "coronal", "sagittal", "IS"]
    yield from table(heads, rows)
    yield ""
    yield f"Extractor: {report.extractor}. Mean and 95 % range over random subsets of half as many scans as the real validation and test scans."
    yield "The paper's figures use the Inception network and other chests: the order of methods may be compared, the values may not."
    yield ""


def far_line(report: VolumesReport, model: str, gan: str) -> str:
    """Return a sentence on whether the excess over the real/real distance is under half of the 3D GAN's."""
    floor = report.distances[REAL_REAL].fid.value
    own, other = (report.distances[name].fid.value - floor for name in (model, gan))
    distances = f"The FID exceeds that of real/real ({floor:.2f}) by {own:.2f} for {model} and by {other:.2f} for {gan}"
    blurred = report.distances[BLURRED_CHESTS].fid.value - floor
    held = "under half of it" if own < other / 2 else f"{own / other:.2f} of it, not under half"
    return f"{distances}: {held}. Real chests that are blurred by a voxel exceed it by {blurred:.2f}."


def check_lines(report: VolumesReport) -> Iterator[str]:
    """Give the figures of anatomy, diversity and copies."""
    names = list(report.checks[REAL_REAL].outside)
    rows = [
        [
            name,
            f"{row.anomalies:.1%}",
            *(f"{row.outside[measure]:.1%}" for measure in names),
            estimate(row.ms_ssim, ".3f"),
            "" if row.copies is None else row.copies,
            ", ".join(f"{each:.0f}" for each in row.nearest),
        ]
        for name, row in report.checks.items()
    ]
    heads = ["set", "outside in any measure", *names, "MS-SSIM of pairs", "copies", "HU to the nearest training chest"]
    yield from table(heads, rows)
    yield ""
    yield "“Outside” means outside the range of the training chests. A copy is a chest that is nearer to a training chest than any chest of another patient, after"
    yield "alignment; distances are the smallest, the median and the largest."
    yield ""


def arm_lines(report: VolumesReport) -> Iterator[str]:
    """Give the arms' figures and their tests."""
    outcome = report.outcome
    assert outcome is not None
    names = list(dict.fromkeys(name for arm in outcome.arms for name in arm.metrics))
    yield from table(["arm", *names], [[arm.name, *(cell(arm.metrics.get(n)) for n in names)] for arm in outcome.arms])
    yield ""
    rows = [
        [
            test.a,
            test.b,
            test.metric,
            f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})",
            "" if test.p is None else f"{test.p:.3f}",
            "" if test.p_holm is None else f"{test.p_holm:.3f}",
        ]
        for test in outcome.tests
    ]
    yield from table(["arm", "less", "figure", "difference (95 %)", "p", "p, Holm"], rows)
    yield ""
    yield "The paper plots its accuracies (figure 3b) without numbers: when 10,000 synthetic volumes precede 900 real ones in training, the accuracy rises at"
    yield "all six sizes, significantly at 14 and 16."
    yield ""


def bias_lines(report: VolumesReport) -> Iterator[str]:
    """Give how well label and source can be predicted from traces."""
    assert report.outcome is not None
    bias = report.outcome.bias
    with_sham = "" if bias.told_sham is None else f", with sham edits {bias.told_sham:.3f}"
    yield f"From the source and the edits alone, without the image, the label can be predicted with an AUC of {bias.told:.3f}{with_sham}."
    if bias.source is not None:
        low, high = (0.5 + each for each in (bias.source.low, bias.source.high))
        known = "it does not recognise the source" if bias.source.equivalent else "equivalence to chance is not shown"
        yield f"A classifier that is trained to predict the source reaches an AUC of {0.5 + bias.source.difference:.3f} ({low:.3f} to {high:.3f}, 90 %); margin of equivalence .5 ± {bias.source.margin:g}: {known}."
    if bias.edited is not None:
        yield f"One that is trained to predict edits reaches {estimate(bias.edited, '.3f')}."
    if bias.sham_called is not None:
        yield f"The share of positive calls is higher by {cell(bias.sham_called)} in healthy chests with a sham edit than in other healthy chests."
    yield ""


def verdict(report: VolumesReport) -> str:
    """Return the effect of synthetic chests, in a sentence."""
    outcome = report.outcome
    assert outcome is not None
    sure = [test for test in outcome.tests if test.p_holm is not None and test.p_holm < 0.05]
    least = (
        ""
        if outcome.smallest is None
        else f"With these test patients a difference of two accuracies of {outcome.smallest:.3f} or more would be detected with a power of 80 %."
    )
    return f"{sure_differences((t.a, f'{t.b} ({t.metric})', t.difference) for t in sure)} {least}".strip()


def study_lines(report: VolumesReport, out: Path, name: str, model: str, gan: str) -> Iterator[str]:
    """Give all results of one study."""
    yield from (note for note in report.notes)
    yield ""
    for of, figure in report.pictures.items():
        yield f"{of}, by number and not by eye:"
        yield ""
        yield from picture(
            figure, out / f"volumes-{name}-{of.replace(' ', '-').replace(',', '')}.png", f"three planes of {of}"
        )
    yield far_line(report, model, gan)
    yield ""
    yield from distance_lines(report)
    yield from check_lines(report)
    if report.outcome is not None:
        yield f"**{verdict(report)}**"
        yield ""
        yield from picture(
            volume_differences(report.outcome), out / f"volumes-{name}-differences.png", "differences of the accuracy"
        )
        yield from arm_lines(report)
        yield from bias_lines(report)


def noise_shares(model: str | Path) -> dict[str, float]:
    """Return the shares of the voxels' variance due to patient, path and their interaction, over a grid of both.

    It is a two-way analysis of variance on the coarse grid that is used for copies, which averages the grain out.
    """
    chests = [
        api.sample_scan(model, p * KEPT_NOISES + s, patient=p, path=s).voxels
        for p in range(KEPT_NOISES)
        for s in range(KEPT_NOISES)
    ]
    values: NDArray[np.float64] = coarse(chests).reshape(KEPT_NOISES, KEPT_NOISES, -1).astype(np.float64)
    mean = values.mean((0, 1))
    of_patient, of_path = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - of_patient[:, None] - of_path[None]
    parts = {
        "patient": (of_patient**2).mean(),
        "path of slices": (of_path**2).mean(),
        "both together": (rest**2).mean(),
    }
    whole = sum(parts.values())
    return {name: float(part / whole) for name, part in parts.items()}


def cost_lines(costs: dict[str, Any]) -> Iterator[str]:
    """Give time and memory by number of slices, and those of a training step compared with the 3D GAN's."""
    rows = [
        [
            f"{one['system']} `{one['preset']}`",
            one["depth"],
            one["precision"],
            f"{one['cpu_seconds']:.1f}",
            f"{one['cpu_seconds'] / CORES:.1f}",
            f"{one['gigabytes']:.2f}",
        ]
        for one in costs["chests"]
    ]
    has_amx = any(flag.startswith("amx") for flag in costs["flags"])
    yield f"Relevant processor flags: {', '.join(costs['flags']) or 'none'}. Weights are random; the time includes writing the file."
    yield ""
    yield from table(["chest", "slices, or edge", "precision", "CPU seconds", f"CPU seconds / {CORES}", "GB"], rows)
    yield ""
    for preset, (depth, without, with_amx) in GOALS.items():
        found = [
            one for one in costs["chests"] if (one["system"], one["preset"], one["depth"]) == ("ct-sgan", preset, depth)
        ]
        if not found:
            continue
        best = min(found, key=lambda one: float(one["cpu_seconds"]))
        goal = with_amx if has_amx else without
        seconds = best["cpu_seconds"] / CORES
        outcome = "reached" if seconds < goal and best["gigabytes"] < MOST_GIGABYTES else "missed"
        yield f"`{preset}`, {depth} slices in {best['precision']}: {best['cpu_seconds']:.1f} CPU seconds, {seconds:.1f} s if {CORES} cores share them evenly, and {best['gigabytes']:.2f} GB; goal {goal:g} s and {MOST_GIGABYTES:g} GB {'with' if has_amx else 'without'} AMX: {outcome}."
        yield ""
    yield HA_GAN
    yield ""
    rows = [
        [one["system"], one["precision"], f"{one['cpu_seconds']:.2f}", f"{one['gigabytes']:.2f}"]
        for one in costs["steps"]
    ]
    yield "A training step of `compact` on 128^3, batch 4, one thread:"
    yield ""
    yield from table(["system", "precision", "CPU seconds", "GB"], rows)
    yield ""
    counted = ", ".join(f"`{name}` {n / 1e6:.2f}" for name, n in costs["parameters"].items())
    yield f"Million weights in all networks of ct-sgan: {counted}."
    yield ""


def run_study(
    store: Store,
    out: Path,
    preset: str,
    model: str | Path,
    erase: str | None,
    others: Sequence[str | Path],
    made: int,
    compared: int,
) -> VolumesReport:
    """Run a study that trains classifiers on one model's chests; other models' chests are only compared with real ones."""
    return study_volumes(
        store,
        task_config("volumes", preset, {}),
        out,
        makers=[cast(Streams, hub.find(model, "makes scans"))],
        injector=rendering(store),
        eraser=None if erase is None else cast(Method, hub.find(erase, "erases")),
        ablations=[cast(Streams, hub.find(run, "makes scans")) for run in others],
        made=made,
        compared=compared,
        trainings=TRAININGS,
        device="cpu",
    )[1]


def phantoms(work: Path) -> Store:
    """Make the store of the study, and a store of the same patients without nodules, to train models on."""
    store = api.prepare_phantom(work / "phantoms", scans=PHANTOMS, nodules=NODULES, split=SPLIT)
    api.prepare_phantom(work / "healthy", scans=PHANTOMS, nodules=0.0, split=SPLIT)
    return store


def page(given: argparse.Namespace, work: Path) -> Iterator[str]:
    """The lines of the page."""
    here = ", ".join(f"{name} {value}" for name, value in machine().items())
    costs = json.loads((work / "costs.json").read_text())
    yield "# Whole chests: are synthetic chests like real ones, and do they help?"
    yield ""
    if given.run is None:
        yield "No model of whole chests is trained yet, so neither question has an answer. Time and memory for a chest are measured with random weights; the tables below have them."
    else:
        yield from whole_lines(given, work)
    yield ""
    yield f"Written by `scripts/results_volumes.py` on {date.today().isoformat()}: {here}."
    yield ""
    yield "## Seconds, memory and training"
    yield ""
    yield from cost_lines(costs)
    if given.cubes:
        real = Path(os.environ["SYNTHORAX_REAL_DATA"])
        store = api.prepare("patches", real / "luna16-nodules", work / "cubes")
        run, gan = given.cubes
        cubes = run_study(store, work / "cube-study", "patch48", run, given.erase, [gan], CUBES_MADE, CUBES_COMPARED)
        yield "## Cubes of 48 mm around real nodules"
        yield ""
        yield from study_lines(cubes, given.out, "cubes", *named(run, gan))


def whole_lines(given: argparse.Namespace, work: Path) -> Iterator[str]:
    """Give the results on whole chests."""
    others = [given.gan, *given.ablation]
    whole = run_study(phantoms(work), work / "phantom-study", "compact", given.run, given.erase, others, MADE, COMPARED)
    model, gan = named(given.run, given.gan)
    counts = whole.counts
    yield f"On {PHANTOMS} phantoms, which take the place of real chests here ({counts['train']} to train, {counts['val']} to validate, {counts['test']} to test): {far_line(whole, model, gan)}"
    if whole.outcome is not None:
        yield verdict(whole)
    yield ""
    yield from study_lines(whole, given.out, "phantoms", model, gan)
    yield "## What each noise does"
    yield ""
    shares = noise_shares(given.run)
    parts = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    yield f"Of the variance over {KEPT_NOISES} patients and {KEPT_NOISES} paths of slices: {parts}."
    yield "The models of `--ablation` have their own rows in the tables above: without patient noise, without slice noise, with one channel, with the Jensen-Shannon objective."


def named(run: str | Path, gan: str | Path) -> tuple[str, str]:
    """Return the names of the model under study and of the 3D GAN in tables."""
    model, other = (hub.find(each, "makes scans").name for each in (run, gan))
    return model, other


def main() -> None:
    """Prepare, measure costs, or run the studies and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", help="CT-SGAN, a name or run folder")
    parser.add_argument("--gan", help="the 3D GAN, a run folder")
    parser.add_argument("--erase", help="takes nodules out")
    parser.add_argument("--ablation", action="append", default=[], help="another run folder")
    parser.add_argument("--cubes", nargs=2, metavar=("RUN", "GAN"), help="models of cubes")
    parser.add_argument("--prepare", action="store_true", help="make the stores of phantoms, and stop")
    parser.add_argument("--costs", action="store_true", help="measure seconds and memory, and stop")
    given = parser.parse_args()
    work = Path("build") / "results-volumes"
    work.mkdir(parents=True, exist_ok=True)
    if given.prepare:
        phantoms(work)
    if given.costs:
        command = [sys.executable, Path(__file__).with_name("volumes_costs.py"), "--out", work / "costs.json"]
        subprocess.run([str(part) for part in command], check=True)
    if given.prepare or given.costs:
        return
    if not given.out or (given.run is None) != (given.gan is None):
        parser.error("--out; and --run with --gan, or neither")
    lines = list(page(given, work))
    with atomic_file(given.out / "volumes.md") as file:
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
