#!/usr/bin/env python3
"""Measure CT-SGAN's injector and eraser on held-out patients, time them, and write docs/results/injection.md.

    python scripts/results_injection.py measure OUT --injector RUN --eraser RUN [--quick]
        [--method [NAME=]MODEL] [--also NAME=ERASER]
    python scripts/results_injection.py time OUT --injector RUN --eraser RUN [--runs 5]
    python scripts/results_injection.py page OUT --out docs/results

RUN is a run folder or a bundled model's name. `--method` names further injectors to measure; rendering always
is; `--also` names erasers. `measure` writes figures and pictures into OUT, those of `results_in_painting.py` into
OUT/in-painting. Results are kept; run the script again to continue after a stop. `--quick` uses validation
patients and one detector, so that models may be tuned by its results. `time` needs a machine without other work.
SYNTHORAX_REAL_DATA names a folder with `luna16-nodules` and `lidc-scans`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from in_painting_made import RENDER
from injection_files import SERIES_FOLDER, dicom_rows
from injection_page import injection_page
from injection_pictures import eraser_picture, injector_picture, radius_picture
from injection_times import RUNS, beside_render
from known_sites import SEED, STORE, WORK, write_figures
from measuring import user_seconds
from pasted_nodules import PASTED
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
from results_in_painting import makings_of, places_of, say
from results_in_painting import measure as measure_in_painting
from synthorax import api, open_store
from synthorax.geometry import orient
from synthorax.io.atomic import atomic_file
from synthorax.makers import Method
from synthorax.studies.results import machine

INJECTOR, ERASER = "injector", "eraser"
IN_PAINTING = "in-painting"
"""Folder of the figures of `results_in_painting.py`."""
INJECTED_MM = 8.0
"""Diameter of the nodule that is added to the DICOM series."""
PICTURED = 3
"""Number of real nodules whose erasure is shown."""


def measure(out: Path, injectors: Sequence[str], erasers: Sequence[str], quick: bool) -> None:
    """Measure, and write figures and pictures."""
    torch.set_num_threads(1)  # small networks: two threads take longer than one
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    measure_in_painting(out / IN_PAINTING, injectors, quick)
    store = open_store(STORE)
    judging = Judging(store, "val" if quick else "test", QUICK_DETECTORS if quick else DETECTORS, out)
    figures: dict[str, Any] = {"quick": quick, "machine": machine(), "split": judging.split, "detectors": judging.n}
    figures["injected"], figures["erased"] = {}, {}
    makings = makings_of(injectors, store, places_of(quick), quick)
    for name, making in makings.items():
        if name != PASTED:
            figures["injected"][name] = injected_rows(judging, making)
            say(started, f"{name}: {figures['injected'][name]}")
    erasing = named_erasers(erasers, store)
    for name, method in erasing.items():
        figures["erased"][name] = {}
        for with_masks, text in ERASER_INPUTS.items():
            found = judging.erased(name, method, with_masks=with_masks)
            figures["erased"][name][text] = erased_rows(judging, found)
            say(started, f"{name}, {text}: {figures['erased'][name][text]}")
            if with_masks:
                erased_sheet(judging, found, name, out)
    figures |= _of_scans(real, out, makings[INJECTOR].method, next(iter(erasing.values())))
    figures["cpu minutes"] = round(user_seconds() / 60, 1)
    write_figures(out / "figures.json", figures)


def _of_scans(real: Path, out: Path, injector: Method, eraser: Method) -> dict[str, Any]:
    """Write pictures of edits in a whole scan, and check an edited DICOM series."""
    lidc = api.prepare("lidc", real / "lidc-scans", WORK / "lidc")
    cases = [lidc.read(entry.case_id) for entry in lidc.cases]
    whole = max(cases, key=lambda case: case.ct.voxels.size)
    outlined = [(case.ct, region) for case in cases for one in case.nodules if (region := case.region(one)) is not None]
    shown = injector_picture(injector, orient(whole.ct), SEED, out)
    eraser_picture(eraser, outlined, SEED, out, PICTURED)
    series = real / "lidc-scans" / "LIDC-IDRI-0001"
    with tempfile.TemporaryDirectory() as work:
        put_in, taken_out = Path(work) / "injected", Path(work) / "erased"
        injected = api.inject(series, injector, auto=1, diameter_mm=INJECTED_MM, seed=SEED, out=put_in)
        nodule = injected.nodules[0]
        ill = put_in / SERIES_FOLDER
        mm = nodule.attributes.diameter_mm or INJECTED_MM
        erased = api.erase(ill, eraser, at_mm=nodule.center_mm, diameter_mm=mm, seed=SEED, force=True, out=taken_out)
        files = {"inject": dicom_rows(series, put_in, injected), "erase": dicom_rows(ill, taken_out, erased)}
    return {"radii": radius_picture(out, SEED), "shown mm": shown, "files": files, "scan": list(whole.ct.shape)}


def measure_times(out: Path, injector: str, eraser: str, runs: int) -> None:
    """Time whole processes, and write `times.json`."""
    scan = Path(os.environ["SYNTHORAX_REAL_DATA"]) / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz"
    with tempfile.TemporaryDirectory() as work:
        found = beside_render({INJECTOR: injector}, scan, Path(work), runs, {ERASER: eraser})
    write_figures(out / "times.json", {"machine": machine(), "runs": runs, "methods": found})


def main() -> None:
    """Measure, time, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("measure", "time"):
        verb = verbs.add_parser(name)
        verb.add_argument("out", type=Path)
        verb.add_argument("--injector", required=True)
        verb.add_argument("--eraser", required=True)
        if name == "measure":
            verb.add_argument("--method", action="append", default=[], dest="methods", metavar="[NAME=]MODEL")
            verb.add_argument("--also", action="append", default=[], metavar="NAME=ERASER")
            verb.add_argument("--quick", action="store_true")
        else:
            verb.add_argument("--runs", type=int, default=RUNS)
    verb = verbs.add_parser("page")
    verb.add_argument("measured", type=Path, metavar="OUT")
    verb.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "measure":
        injectors = [RENDER, *given.methods, f"{INJECTOR}={given.injector}"]
        measure(given.out, injectors, [f"{ERASER}={given.eraser}", *given.also], given.quick)
    elif given.verb == "time":
        measure_times(given.out, given.injector, given.eraser, given.runs)
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        with atomic_file(given.out / "injection.md") as file:
            file.write_text("\n".join(injection_page(given.measured, given.out)).rstrip() + "\n")


if __name__ == "__main__":
    main()
