"""Writes docs/results/lung.md: LuNG's own experiment on its seeds and on LIDC's shapes.

python scripts/results_lung.py --work DIR [--out docs/results]

The studies are kept in DIR; run the script again to continue them. The original seeds need SYNTHORAX_REAL_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from synthorax import api
from synthorax.datasets.shape_files import read_shape_set
from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM
from synthorax.io.atomic import atomic_file
from synthorax.shapes.acceptance import measure
from synthorax.studies.results import machine
from synthorax.studies.shapes import RELEASED, ShapeStudy, measurable
from synthorax.systems.lung.config import lung_config
from synthorax.systems.lung.system import Lung
from synthorax.training.devices import make_fabric

RELEASED_MINUTES = 80
"""Minutes of the released run, on a GPU."""
PASSES = (1, 2, 4, 8, 15, 25, 40)
SAMPLES_IN_CURVE = 2000
"""Nodules that are generated for each point of the learning curve."""
SHOWN = {
    "score": ("Score", "%.0f"),
    "acceptance": ("AC", "%.3f"),
    "mse": ("MSE", "%.4f"),
    "feature_distance": ("FtDist", "%.2f"),
    "feature_mmse": ("FtMMSE", "%.3f"),
    "dice": ("Dice", "%.2f"),
    "held_out_mse": ("MSE held out", "%.2f"),
    "held_out_dice": ("Dice held out", "%.2f"),
    "clean": ("clean", "%.2f"),
    "inverted": ("inverted", "%.3f"),
    "copies": ("copies", "%.3f"),
}


def main() -> None:
    """Run the studies that are missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/results-lung"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--compare", default="sizes,feedback,depth,fit")
    arguments = parser.parse_args()
    seeds = Path(os.environ["SYNTHORAX_REAL_DATA"]) / "lung-seeds" / "seeds.npy"
    work, out = arguments.work, arguments.out
    compare = [name for name in arguments.compare.split(",") if name]
    studies: dict[str, dict[str, Any]] = {
        "seeds": {"data": seeds, "settings": {"layers": "32_3_64_1024"}, "compare": compare},
        "lidc-51": {"data": "lidc", "nodules": 51, "preset": "smooth", "samples": 2000},
        "lidc-51-grey": {"data": "lidc", "nodules": 51, "preset": "compact", "training_seeds": 2, "samples": 2000},
    }
    for latents in (3, 4, 6):
        studies[f"lidc-1000-{latents}"] = {
            "data": "lidc",
            "nodules": 1000,
            "preset": "smooth",
            "settings": {"layers": f"32_{latents}_64_1024"},
            "training_seeds": 1,
            "samples": 2000,
        }
    found = {}
    for name, options in studies.items():
        api.study_shapes(out=work / name, **options)
        found[name] = json.loads((work / name / "results.json").read_text())
    curve = work / "curve.json"
    if not curve.is_file():
        with atomic_file(curve) as file:
            file.write_text(json.dumps(list(learning_curve(seeds, work))))
    out.mkdir(parents=True, exist_ok=True)
    for picture in sorted((work / "seeds").glob("*.png")):
        shutil.copy(picture, out / f"lung-{picture.name}")
    text = "\n".join(page(found, json.loads(curve.read_text()), compare)) + "\n"
    with atomic_file(out / "lung.md") as file:
        file.write_text(text)


def learning_curve(seeds: Path, folder: Path) -> Iterator[dict[str, float]]:
    """Give error and Score by number of passes and seconds, without the time of measuring."""
    shapes, features = measurable(read_shape_set(seeds, LUNG_GRID, LUNG_SPACING_MM))
    config = lung_config("compact", {"iterations": max(PASSES)})
    study = ShapeStudy(shapes, features, config, folder, make_fabric("cpu"))
    started, paused = time.perf_counter(), 0.0
    system, data = Lung.for_training(config, shapes.occupancy, 0)
    system.prepare_training(study.fabric)
    for step in range(max(PASSES)):
        system.training_step(data(step), step)
        if step + 1 in PASSES:
            seconds = time.perf_counter() - started - paused
            analysis = study.sample(system, SAMPLES_IN_CURVE, 0, reconnected=True).analysis
            mse, _ = study.reproduction(system)
            score = measure(analysis, features, mse, 0)
            yield {"passes": step + 1, "seconds": seconds, "mse": mse, "score": score.score, "ac": score.acceptance}
            paused = time.perf_counter() - started - seconds


def page(found: dict[str, dict[str, Any]], curve: list[dict[str, float]], compare: list[str]) -> Iterator[str]:
    """The lines of the page."""
    seeds, here = found["seeds"], machine()
    yield "# LuNG's own experiment"
    yield ""
    score = seeds["arms"][0]["metrics"]["score"]
    passes = next(row for row in curve if row["passes"] == lung_config("compact", {}).iterations)
    yield f"Trained on LuNG's own 51 nodules, the autoencoder reaches a Score of {score['mean']:.0f} ({score['low']:.0f} to {score['high']:.0f}) by LuNG's released protocol (higher is better);"
    yield f"the released run reaches {RELEASED['score']:.0f}. Training takes {passes['seconds']:.0f} seconds on a CPU; the released run took {RELEASED_MINUTES} minutes on a GPU."
    yield ""
    yield f"Written by `make results-lung` on {date.today().isoformat()}: " + ", ".join(
        f"{k} {v}" for k, v in here.items()
    )
    yield "MSE is 1000 x the squared error of a voxel; intervals are 95 %, Student's t over the training seeds."
    yield "The network is the paper's 32_3_64_1024; `compact` trains it by arranged latent vectors and a convex fit."
    yield "AC is the share of nodules that are accepted; FtDist the distance to the closest real nodule in the 12 features, in standard deviations; FtMMSE the squared difference of the features' means;"
    yield "Score = (FtDist - 1) / ((FtMMSE + 0.1) (MSE + 0.1) (1 - AC)). Clean is the share of nodules in one piece before reconnection, inverted that of dark ones on bright, copies that of nodules with a Dice above 0.95 with a training sample."
    yield "Arms I and II are those of the tables I and II of LuNG's paper."
    yield ""
    yield "## On the 51 original seeds, by the released protocol"
    yield ""
    main_arm = seeds["arms"][0]
    yield f"{len(main_arm['seeds'])} trainings, {seeds['samples']['main']} nodules each."
    yield ""
    yield "| | here | 95 % interval | released run |"
    yield "|---|---|---|---|"
    for key, (title, form) in SHOWN.items():
        if key in main_arm["metrics"]:
            metric = main_arm["metrics"][key]
            span = f"{form % metric['low']} to {form % metric['high']}"
            paper = form % RELEASED[key] if key in RELEASED else ""
            yield f"| {title} | {form % metric['mean']} | {span} | {paper} |"
    yield ""
    yield "Of the seeds' own variants the analyzer accepts: " + "; ".join(
        f"{100 * share:.1f} % ({name})" for name, share in seeds["base_acceptance"].items()
    )
    yield "(the paper: 95 % of random base nodules; it does not say at which point of the interpolation they were taken)."
    yield ""
    yield "Suspicious: " + "; ".join(
        f"{name}: {100 * real:.1f} % of the seeds, {100 * new:.1f} % of accepted nodules"
        for name, (real, new) in seeds["suspicious"].items()
    )
    auc = seeds["svm_auc"]
    yield f"(the SVM's AUC on held-out LIDC patients: {auc['mean']:.3f}, {auc['low']:.3f} to {auc['high']:.3f}, most of it by size)."
    yield ""
    yield "## Training"
    yield ""
    yield f"One training, measured after a number of passes on {SAMPLES_IN_CURVE:,} nodules; `compact` ends after {passes['passes']}. The Scores above are means over {len(main_arm['seeds'])} trainings."
    yield ""
    yield "| passes | seconds | MSE | AC | Score |"
    yield "|---|---|---|---|---|"
    for row in curve:
        yield f"| {row['passes']} | {row['seconds']:.1f} | {row['mse']:.4f} | {row['ac']:.3f} | {row['score']:.0f} |"
    yield ""
    yield f"The released run: {RELEASED_MINUTES} minutes on a GPU for MSE .0757 and Score 177."
    yield ""
    yield "## Pictures"
    yield ""
    yield "![figure 2: six of the seeds, the middle slices](lung-figure-2.png)"
    yield "![figure 8: six steps between two seeds](lung-figure-8.png)"
    yield "![figure 9: the first six accepted nodules](lung-figure-9.png)"
    yield "![figure 10: the 12 features of accepted nodules, the seeds' = 1](lung-figure-10.png)"
    yield "![figure 11: distances to the classifier's centroids](lung-figure-11.png)"
    yield ""
    yield "## Arms compared"
    yield ""
    yield from table(seeds["arms"][1:])
    if compare:
        yield ""
        yield "![acceptance, novelty and error against each other](lung-front.png)"
    if "sizes" in compare:
        yield ""
        yield "![figure 5: Score by size, without feedback and with one reflection fed back](lung-figure-5.png)"
        yield "![figure 6: what the Score is made of](lung-figure-6.png)"
        yield "![figure 7: where the seeds lie, two of the latent neurons](lung-figure-7.png)"
    yield ""
    yield "## On LIDC's shapes"
    yield ""
    arms = []
    for data in (data for name, data in found.items() if name != "seeds"):
        name = f"{data['data']['nodules']} nodules, {data['config']['target']} fields, {data['config']['layers']}"
        arms.append(data["arms"][0] | {"name": name, "paper": {}})
    yield from table(arms)
    yield ""
    yield "Five trainings of the first arm, two of the second, one of each arm that is trained on 1,000 nodules; 2,000 nodules are generated in each."
    yield "Outlined nodules are smooth; if they are trained on as grey fields, generated nodules are rough, which changes their features. Three latent"
    yield "variables cannot represent a thousand nodules: Dice compares training nodules with their reconstructions. With"
    yield "more latent variables they fit, but the cube of latent vectors then has more space between nodules, and fewer samples are accepted."


def table(arms: list[dict[str, Any]]) -> Iterator[str]:
    """Give a table with arms as rows, and the paper's figures in brackets."""
    yield "| arm | " + " | ".join(title for title, _ in SHOWN.values()) + " |"
    yield "|---|" + "---|" * len(SHOWN)
    for arm in arms:
        cells = []
        for key, (_, form) in SHOWN.items():
            metric = arm["metrics"].get(key)
            text = form % metric["mean"] if metric else ""
            if metric and metric["low"] is not None and len(arm["seeds"]) > 2:
                text += f" ({form % metric['low']} to {form % metric['high']})"
            if key in arm["paper"]:
                text += f" [{form % arm['paper'][key]}]"
            cells.append(text)
        yield f"| {arm['name']} | " + " | ".join(cells) + " |"
    if any(arm["paper"] for arm in arms):
        yield ""
        yield "In square brackets the paper's figures."


if __name__ == "__main__":
    Console(stderr=True).print("Studies go on where they stopped.")
    main()
