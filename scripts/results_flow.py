#!/usr/bin/env python3
"""Measure flow matching on held-out patients beside rendering and other methods, time it, and write docs/results/flow.md.

    python scripts/results_flow.py measure OUT --flow RUN [--method [NAME=]MODEL ...] [--eraser [NAME=]MODEL ...] [--quick]
    python scripts/results_flow.py arms OUT --flow RUN [--few-flow RUN]
    python scripts/results_flow.py time OUT --flow RUN [--runs 5]
    python scripts/results_flow.py page OUT --out docs/results

RUN is a run folder or a bundled model's name. `--method` names further injectors to measure; rendering always is;
`--eraser` names erasers. `measure` writes figures and pictures into OUT, those of `results_in_painting.py` into
OUT/in-painting. Results are kept until a model or the code changes; run the script again to continue after a stop.
`--quick` uses validation patients and one detector, and leaves out memorisation, so that a model may be tuned by its
results. `arms` runs the studies of detection and malignancy, which takes hours; `--few-flow` is a flow that was trained on
a tenth of the patients; if not given, one is trained. `time` needs a machine without other work. `page` writes all that
was measured, and lists what was not. SYNTHORAX_REAL_DATA names a folder with `luna16-nodules` and `lidc-scans`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from condition_measures import TextureReader, outlined_rows, small_rows, texture_rows
from flow_arms import measured_arms
from flow_goals import ARMS, FLOW, TIMES
from flow_page import IN_PAINTING, PARTS, flow_page
from flow_times import seconds_by_steps
from in_painting_made import RENDER, Making
from injection_times import RUNS, beside_render
from known_sites import STORE, kept_figures, write_figures
from pasted_nodules import PASTED
from rendering_measures import EXTRACTOR
from response_measures import (
    DETECTORS,
    ERASER_INPUTS,
    QUICK_DETECTORS,
    Judging,
    erased_rows,
    erased_sheet,
    injected_rows,
    named_erasers,
)
from results_in_painting import figures_code, makings_of, places_of, say
from results_in_painting import measure as measure_in_painting
from synthorax import hub, open_store
from synthorax.datasets.store import Store
from synthorax.io.atomic import atomic_file
from synthorax.io.mappings import read_mapping
from synthorax.makers import Maker, Method
from synthorax.provenance import fingerprint, making_key
from synthorax.studies.fidelity_page import study_fidelity
from synthorax.studies.results import machine
from synthorax.tasks.config import task_config
from synthorax.tasks.features.system import FeatureNet
from synthorax.training.files import CONFIG, read_log
from training_hours import training_hours


def measure(out: Path, methods: Sequence[str], erasers: Sequence[str], flow: str, quick: bool) -> None:
    """Measure nodules of the flow, and write figures and pictures.

    Args:
        methods: injectors, including rendering and the flow; see `named_methods`.
        erasers: erasers, including the flow if it can erase; see `named_erasers`.
        flow: run folder or name of a bundled model.
    """
    torch.set_num_threads(1)  # small networks: two threads take longer than one
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    measure_in_painting(out / IN_PAINTING, methods, quick)
    store, places = open_store(STORE), places_of(quick)
    makings = makings_of(methods, store, places, quick)
    makings.pop(PASTED)
    judging = Judging(store, "val" if quick else "test", QUICK_DETECTORS if quick else DETECTORS, out)
    erasing = named_erasers(erasers, store)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        f"small-{name}": partial(small_rows, making) for name, making in makings.items()
    }
    reader = TextureReader(store)
    textured = {name: making for name, making in makings.items() if "texture" in making.method.heeds}
    parts |= {
        f"texture-{name}": partial(texture_rows, making, reader, judging.split) for name, making in textured.items()
    }
    outlined = {name: making for name, making in makings.items() if getattr(making.method, "takes_outlines", False)}
    parts |= {f"outlined-{name}": partial(outlined_rows, making) for name, making in outlined.items()}
    parts |= {f"injected-{name}": partial(injected_rows, judging, making) for name, making in makings.items()}
    parts |= {f"erased-{name}": partial(_erased, judging, name, method, out) for name, method in erasing.items()}
    if not quick:
        parts["fidelity"] = partial(_fidelity, store, makings[FLOW].method, flow, out)
    every = {name: making.method for name, making in makings.items()} | erasing
    figures: dict[str, Any] = {
        "quick": quick,
        "machine": machine(),
        "split": judging.split,
        "detectors": judging.n,
        "hours": {name: training_hours(what) for name, what in _named(methods, makings).items()},
        "steps": _steps(flow),
        **{kind: {} for kind in PARTS},
    }
    for part, make in parts.items():
        kind, _, name = part.partition("-")
        method = every[name or FLOW]
        key = fingerprint(repr((making_key(method), quick, figures_code())).encode())[:16]
        found = kept_figures(out / "parts" / f"{part}.json", key, make)
        figures[kind] |= {name or FLOW: found}
        say(started, f"{part}: {found['cpu minutes']:g} CPU minutes")
    minutes = [one["cpu minutes"] for kind in PARTS for one in figures[kind].values()]
    figures["cpu minutes"] = round(sum(minutes), 1)
    write_figures(out / "figures.json", figures)


def _named(methods: Sequence[str], makings: dict[str, Making]) -> dict[str, str]:
    """Return the argument of each method by its name, in the order of the call."""
    return dict(zip(makings, (text.rpartition("=")[2] for text in methods), strict=True))


def _steps(flow: str) -> dict[str, int]:
    """Return the number of steps done and in total of a run; empty for a model without a log."""
    folder = Path(flow)
    lines = read_log(folder) if folder.is_dir() else []
    if not lines:
        return {}
    return {"done": int(lines[-1]["step"]), "of": int(read_mapping(folder / CONFIG)["config"]["steps"])}


def _erased(judging: Judging, name: str, method: Method, out: Path) -> dict[str, Any]:
    """Measure detectors' responses to the places of erased nodules, and write a contact sheet."""
    found = {}
    for with_masks, text in ERASER_INPUTS.items():
        made = judging.erased(name, method, with_masks=with_masks)
        found[text] = erased_rows(judging, made)
        if with_masks:
            erased_sheet(judging, made, name, out)
    return {"told": found}


def _fidelity(store: Store, maker: Maker, flow: str, out: Path) -> dict[str, Any]:
    """Run the study of fidelity on patches that the flow generates from noise alone; write a picture of neighbours."""
    if "makes patches" not in maker.roles:
        return {"missing": "the flow learned no whole patches"}
    extractor = hub.load(EXTRACTOR)
    assert isinstance(extractor.system, FeatureNet)
    config = task_config("detection", "compact", {})
    run = Path(flow) if Path(flow).is_dir() else None
    _, found = study_fidelity(
        store, config, out / "fidelity", maker, extractor, extractor_name=EXTRACTOR, run=run, device="cpu"
    )
    for name, figure in found.pictures.items():
        figure.savefig(out / f"flow-{name}.png", bbox_inches="tight")
    return {
        "likeness": found.likeness,
        "checks": [asdict(check) for check in found.checks],
        "counts": found.counts,
        "pictures": list(found.pictures),
    }


def measure_times(out: Path, flow: str, runs: int) -> None:
    """Time whole processes, also of rendering, and nodules by steps; write `times.json`."""
    scan = Path(os.environ["SYNTHORAX_REAL_DATA"]) / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz"
    with tempfile.TemporaryDirectory() as work:
        erases = "erases" in hub.find(flow, "injects").roles
        erasers = {f"{FLOW}, erasing": flow} if erases else {}
        found = beside_render({FLOW: flow}, scan, Path(work), runs, erasers)
    figures = {"machine": machine(), "runs": runs, "methods": found, "by steps": seconds_by_steps(flow)}
    write_figures(out / TIMES, figures)


def measure_arms(out: Path, flow: str, few_flow: str | None) -> None:
    """Run the studies of detection and malignancy; write `arms.json`."""
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    write_figures(out / ARMS, measured_arms(real, flow, few_flow, out / "arms", figures_code()))


def main() -> None:
    """Measure, run the studies, time, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("measure", "arms", "time"):
        verb = verbs.add_parser(name)
        verb.add_argument("out", type=Path)
        verb.add_argument("--flow", required=True, metavar="RUN")
        if name == "measure":
            verb.add_argument("--method", action="append", default=[], dest="methods", metavar="[NAME=]MODEL")
            verb.add_argument("--eraser", action="append", default=[], dest="erasers", metavar="[NAME=]MODEL")
            verb.add_argument("--quick", action="store_true")
        elif name == "arms":
            verb.add_argument("--few-flow", metavar="RUN")
        else:
            verb.add_argument("--runs", type=int, default=RUNS)
    verb = verbs.add_parser("page")
    verb.add_argument("measured", type=Path, metavar="OUT")
    verb.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "measure":
        flow = f"{FLOW}={given.flow}"
        own = [flow] if "erases" in hub.find(given.flow, "injects").roles else []
        measure(given.out, [RENDER, *given.methods, flow], [*own, *given.erasers], given.flow, given.quick)
    elif given.verb == "arms":
        measure_arms(given.out, given.flow, given.few_flow)
    elif given.verb == "time":
        measure_times(given.out, given.flow, given.runs)
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        with atomic_file(given.out / "flow.md") as file:
            file.write_text("\n".join(flow_page(given.measured, given.out)).rstrip() + "\n")


if __name__ == "__main__":
    main()
