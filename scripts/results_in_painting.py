#!/usr/bin/env python3
"""Measure nodules that methods add at the same healthy sites of held-out patients, compared with real nodules.

    python scripts/results_in_painting.py measure OUT --method render --method ac-wgan --method class-aware=RUN [--quick]
    python scripts/results_in_painting.py page OUT --out FOLDER

`measure` writes `figures.json` and pictures into OUT; `page` writes all of it as one page. Pages of results take parts of it
from `in_painting_page.py`. Sites are those of validation and test patients, on whom no method may have been trained; `--quick`
uses validation patients alone, so that a method may be tuned by its results, and leaves out long measurements. Results are
kept until a model or the code changes. SYNTHORAX_REAL_DATA names a folder with `luna16-nodules`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from in_painting_made import Making, Places, code_of, common_rows, named_methods
from in_painting_measures import (
    QUICK_READERS,
    READERS,
    MalignancyReaders,
    class_rows,
    in_painting_rows,
    kid_rows,
    profile_rows,
    real_measure_rows,
    reconstruction_rows,
    told_apart_rows,
    width_rows,
)
from in_painting_page import read_figures, whole_page
from in_painting_sheets import class_pictures, contact_sheet
from known_sites import MADE_NODULES, STORE, jobs_key, kept, sites
from measuring import user_seconds
from pasted_nodules import PASTED
from rendering_measures import Pairs
from synthorax import open_store
from synthorax.datasets.case import Split
from synthorax.datasets.store import Store
from synthorax.editing.learned import Learned
from synthorax.io.atomic import atomic_file
from synthorax.provenance import fingerprint
from synthorax.studies.results import machine

EVERY_SITE, QUICK_EVERY_SITE = 2, 3
"""Both seeds and both classes are made at one site in so many."""
MEASURING = ("editing", "rendering", "systems", "nn", "metrics", "studies", "tasks", "shapes", "scanner.py", "patch.py")
MEASURING_SCRIPTS = (
    "condition_measures",
    "in_painting_made",
    "in_painting_measures",
    "pasted_nodules",
    "rendering_measures",
)
"""Parts of the package and scripts that make and measure nodules; if they change, figures are measured again."""


def measure(out: Path, asked: Sequence[str], quick: bool) -> dict[str, Any]:
    """Make and measure nodules, and write `figures.json`."""
    torch.set_num_threads(1)  # small networks: two threads take longer than one
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    places = places_of(quick)
    every, splits = places.every, splits_of(quick)
    store = open_store(STORE)
    makings = makings_of(asked, store, places, quick)
    methods = {name: making.method for name, making in makings.items()}
    head = {"quick": quick, "jobs": jobs_key(places.jobs), "code": figures_code()}
    shas = {name: method.lineage.model_sha256 for name, method in methods.items()}
    if (known := _known(out, head, shas)) is not None:
        say(started, "the figures are of these models, sites and measures already")
        return known
    figures: dict[str, Any] = {
        **head,
        "machine": machine(),
        "sites": {split: sum(every[job.real].split == split for job in places.jobs) for split in splits},
        "methods": {name: {"sha256": shas[name], "heeds": sorted(method.heeds)} for name, method in methods.items()},
    }
    key = fingerprint(repr((head, shas)).encode())[:16]

    def step(name: str, make: Callable[[], Any]) -> Any:
        """Return the result of a step, or that of an earlier call that was stopped after it."""
        return kept(out / "steps" / f"{name}-{key}.pickle", make)

    for name, making in makings.items():
        figures["methods"][name]["in-painting"] = step(f"in-painting-{name}", partial(in_painting_rows, making))
        say(started, f"{name}: {figures['methods'][name]['in-painting']['missed']}")
    judged = [making for name, making in makings.items() if name != PASTED]  # the edge of what is pasted can be told
    rows = common_rows(judged)
    pairs = Pairs.of(every, [places.jobs[i] for i in rows])
    figures["common sites"] = len(rows)
    figures["kid"] = step("kid", lambda: kid_rows(places, judged, rows))
    say(started, f"KID x 1000: {figures['kid']}")
    kind, _ = Counter(every[places.jobs[i].real].kind for i in rows).most_common(1)[0]
    alone = [i for i in rows if every[places.jobs[i].real].kind == kind]
    figures["kid of a class"] = {"kind": kind, "n": len(alone), "kid": kid_rows(places, judged, alone)}
    figures["profiles"] = profile_rows(pairs, judged, rows)
    for name, found in width_rows(pairs, every, judged, rows).items():
        (figures if name == "real" else figures["methods"][name])["widths"] = found
    readers = MalignancyReaders(store, QUICK_READERS if quick else READERS)
    of_real = step("readers", lambda: {split: readers.real(split) for split in splits})
    figures["readers"] = of_real | {"n": QUICK_READERS if quick else READERS}
    figures["real measures"] = step("real", partial(real_measure_rows, places))
    say(started, f"real nodules: {figures['readers']}, {figures['real measures']}")
    for making in judged:
        name = making.name
        contact_sheet(pairs, making, rows, out)
        if "malignancy" in making.method.heeds:
            figures["methods"][name]["class"] = step(f"class-{name}", partial(class_rows, making, readers))
            class_pictures(making, out)
            say(started, f"{name}, class: {figures['methods'][name]['class']}")
        if isinstance(making.method, Learned):
            make = partial(reconstruction_rows, places, making.method)
            figures["methods"][name]["reconstruction"] = step(f"reconstruction-{name}", make)
            say(started, f"{name}, reconstruction: {figures['methods'][name]['reconstruction']}")
    figures["told"] = step("told", lambda: told_apart_rows(pairs, judged, rows, 1 if quick else 2))
    say(started, f"told apart: {figures['told']}")
    figures["cpu minutes"] = round(user_seconds() / 60, 1)
    with atomic_file(out / "figures.json") as file:
        file.write_text(json.dumps(figures, indent=1))
    return figures


def splits_of(quick: bool) -> tuple[Split, ...]:
    """Return the splits whose patients' sites are used."""
    return ("val",) if quick else ("val", "test")


def places_of(quick: bool) -> Places:
    """Return the sites of validation and test patients, or of validation patients only."""
    every, jobs, _ = sites(Path(os.environ["SYNTHORAX_REAL_DATA"]))
    return Places(every, [job for job in jobs if every[job.real].split in splits_of(quick)])


def makings_of(asked: Sequence[str], store: Store, places: Places, quick: bool) -> dict[str, Making]:
    """Return the nodules of the methods at the sites, by the methods' names; the control is the last.

    Args:
        asked: see `named_methods`.
    """
    some = range(0, len(places.jobs), QUICK_EVERY_SITE if quick else EVERY_SITE)
    methods = named_methods(asked, store, places)
    return {name: Making(name, method, places, some, MADE_NODULES) for name, method in methods.items()}


def figures_code() -> str:
    """Return the key of the code that measures nodules."""
    return fingerprint(code_of(MEASURING, MEASURING_SCRIPTS))[:16]


def _known(out: Path, head: Mapping[str, Any], shas: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the figures of an earlier call, if they are of the same sites, code and models."""
    if not (out / "figures.json").exists():
        return None
    found = read_figures(out)
    same = {name: found.get(name) for name in head} == head
    return found if same and {name: one["sha256"] for name, one in found["methods"].items()} == shas else None


def say(started: float, text: str) -> None:
    """Print the progress."""
    print(f"{time.monotonic() - started:5.0f} s  {text}", flush=True)


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("out", type=Path)
    verb.add_argument("--method", action="append", required=True, dest="methods", metavar="[NAME=]MODEL")
    verb.add_argument("--quick", action="store_true")
    verb = verbs.add_parser("page")
    verb.add_argument("measured", type=Path, metavar="OUT")
    verb.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "measure":
        measure(given.out, given.methods, given.quick)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    lines = list(whole_page(given.measured, given.out))
    with atomic_file(given.out / "in-painting.md") as file:
        file.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
