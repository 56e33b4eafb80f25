#!/usr/bin/env python3
"""Compare rendered nodules with real ones, and two versions of the renderer with each other.

    python scripts/results_rendering.py measure OUT [--src CHECKOUT/src] [--quick]
    python scripts/results_rendering.py time OUT --before CHECKOUT/src [--after CHECKOUT/src]
    python scripts/results_rendering.py page [--before OUT] --after OUT --out docs/results

`measure` renders with the version in `--src`, or with this one, and writes `made.npz`, `judged.npz` and `figures.json` into
OUT. With `--quick` it uses training patients only, on whom the constants of rendering are chosen, and prints what is
distinguished, KID and HU. `page` writes rendering.md with its pictures. SYNTHORAX_REAL_DATA names a folder with
`luna16-nodules` and `lidc-scans`. Places and controls are kept in build/results-rendering.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from known_sites import SEED, WORK, jobs_key, known_controls, sites
from pages import three, titled
from rendering_measures import (
    KINDS,
    MM,
    VIEWS,
    Made,
    Pairs,
    control_figures,
    curves,
    diameters,
    judged_file,
    kids,
    told_apart_figures,
    unseen,
    write_judged,
)
from rendering_page import Version, page, result
from rendering_sites import Job, Real, write_jobs
from rendering_times import times
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.nodule import NoduleAttributes
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameters_mm
from synthorax.studies.fidelity import Patches
from synthorax.studies.results import machine
from synthorax.studies.told_apart import told_apart

FAINT, FAINT_MM = 150, (3.0, 5.0)
"""Number and diameters of ground-glass nodules that are requested to see whether those hidden by noise get a note."""
HERE = Path(__file__).resolve().parent
QUICK_PROFILES = 40
"""Number of solid nodules whose own outlines `--quick` renders."""
QUICK_SOLID = 2
"""`--quick` uses one in so many solid nodules of training patients."""


def quick_jobs(reals: Sequence[Real], jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of training patients: all nodules that are not solid, and one in `QUICK_SOLID` solid ones."""
    train = [job for job in jobs if reals[job.real].split == "train"]
    solid = [job for job in train if reals[job.real].kind == "solid" and not reals[job.real].spiculated]
    kept = {job.real for job in solid[::QUICK_SOLID]}
    return [job for job in train if job.real in kept or job not in solid]


def render_all(
    pairs: Pairs,
    every: Sequence[Real],
    outlines: Sequence[str],
    file: Path,
    src: Path,
    attributes: Sequence[NoduleAttributes] | None = None,
    *,
    own_shapes: bool = False,
) -> Made:
    """Render a nodule for each real one by a version of the package.

    Args:
        file: file to write the patches to.
        attributes: attributes of each nodule; those of its real twin if not given.
        own_shapes: whether each nodule gets the shape of its twin's mask.
    """
    folder = WORK / f"jobs-{jobs_key(pairs.jobs)}-{file.stem}"
    asked = attributes or [real.attributes for real in pairs.reals]
    write_jobs(folder, every, pairs.jobs, outlines, asked, own_shapes=own_shapes)
    command = [sys.executable, str(HERE / "rendering_made.py"), str(folder), str(file)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(src)})
    return Made.of(file)


def measure(out: Path, src: Path, quick: bool) -> dict[str, Any]:
    """Render and measure, and write `figures.json`."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    reals, jobs, outlines = sites(Path(os.environ["SYNTHORAX_REAL_DATA"]))
    jobs = quick_jobs(reals, jobs) if quick else jobs
    pairs = Pairs.of(reals, jobs)
    say(started, f"{len(jobs)} places")
    made = render_all(pairs, reals, outlines, out / "made.npz", src)
    say(started, "rendered")
    figures: dict[str, Any] = {
        "jobs": jobs_key(jobs),
        "quick": quick,
        "machine": machine(),
        "notes": {"nodules": len(jobs), "noted": int((made.notes != "").sum())},
        "curves": own_curves(reals, jobs, outlines, out, src, quick),
    }
    show_curves(figures["curves"])
    figures["kid"] = measured_kids(pairs, made, quick)
    say(started, "KID x 1000: " + ", ".join(f"{name} {three(v, '.1f')}" for name, v in figures["kid"].items()))
    figures["told"], figures["controls"] = {}, {}
    for view in VIEWS[: 2 if quick else 3]:
        shown = pairs.seen(pairs.real, view), pairs.seen(pairs.made(made), view)
        judged = told_apart(*shown, SEED, device="cpu")
        write_judged(out / judged_file(view), judged)
        splits = {"every": ""} if quick else {"every": "", "test": "test"}
        figures["told"][view] = {name: told_apart_figures(pairs, judged, split) for name, split in splits.items()}
        for name, rows in figures["told"][view].items():
            say(started, f"told apart, {view}, {name}: {in_one_line(rows)}")
        figures["controls"][view] = control_figures(known_controls(pairs, view))
        say(started, f"controls, {view}: {figures['controls'][view]}")
    if not quick:
        figures |= more(pairs, reals, made, started)
        figures["invisible"] |= faint(pairs, reals, outlines, out, src)
        say(started, f"invisible: {figures['invisible']}")
    with atomic_file(out / "figures.json") as file:
        file.write_text(json.dumps(figures, indent=1))
    return figures


def own_curves(
    reals: Sequence[Real], jobs: Sequence[Job], outlines: Sequence[str], out: Path, src: Path, quick: bool
) -> dict[str, Any]:
    """Return HU and profiles of real nodules, and of their own outlines rendered at the places with their ratings.

    The nodules are those of validation and test patients; with `--quick` those of training patients, few of them solid.
    """
    chosen = [job for job in jobs if reals[job.real].outlined and (quick or reals[job.real].split != "train")]
    if quick:
        solid = [job for job in chosen if reals[job.real].kind == "solid"]
        chosen = [job for job in chosen if job not in solid[QUICK_PROFILES:]]
    pairs = Pairs.of(reals, chosen)
    widths = axial_diameters_mm((real.outline for real in pairs.reals), MM)
    asked = [
        replace(real.attributes, diameter_mm=mm) for real, mm in zip(pairs.reals, widths.round(2).tolist(), strict=True)
    ]
    made = render_all(pairs, reals, outlines, out / "own-outlines.npz", src, asked, own_shapes=True)
    return {"real": curves(pairs, pairs.hu, pairs.outline), "made": curves(pairs, made.hu, made.mask)}


def measured_kids(pairs: Pairs, made: Made, quick: bool) -> dict[str, list[float]]:
    """Return the KID to the real nodules of training patients, and by class to those of the class."""

    def of(patches: Patches, kind: str, split: str = "") -> Patches:
        rows = pairs.rows(kind, split)
        return Patches(patches.hu[rows], patches.patients[rows])

    real, own = pairs.real, pairs.made(made)
    train = of(real, "all", "train")
    sets = {f"made, {kind}": (of(own, kind, "train"), of(real, kind, "train")) for kind in (*KINDS, "spiculated")}
    if quick:
        return kids({"made": (own, train)} | sets)
    sets |= {f"made, {split}": (of(own, "all", split), train) for split in ("train", "val", "test")}
    sets |= {f"real, {split}": (of(real, "all", split), train) for split in ("val", "test")}
    places = Patches(pairs.before.astype(np.float32), pairs.hosts)
    return kids(sets | {"places without a nodule, test": (of(places, "all", "test"), train)})


def more(pairs: Pairs, reals: Sequence[Real], made: Made, started: float) -> dict[str, Any]:
    """Measure what `--quick` leaves out."""
    rows = pairs.rows("all", "test")
    asked = np.array([real.asked_mm for real in pairs.reals])[rows]
    stated = np.array([real.stated_mm for real in pairs.reals])[rows]
    found = {
        "invisible": unseen(pairs, reals, made, np.array([real.asked_mm for real in pairs.reals]), ("all", *KINDS)),
        "diameters": {
            "made, asked": diameters(made.hu[rows], made.mask[rows], asked, pairs.hosts[rows]),
            "real, as readers measure": diameters(pairs.hu[rows], pairs.outline[rows], asked, pairs.owners[rows]),
            "real, stated": diameters(pairs.hu[rows], pairs.outline[rows], stated, pairs.owners[rows]),
        },
    }
    for name, value in found.items():
        say(started, f"{name}: {value}")
    return found


def faint(
    pairs: Pairs, reals: Sequence[Real], outlines: Sequence[str], out: Path, src: Path
) -> dict[str, dict[str, int]]:
    """Render ground glass of 3 to 5 mm at places of test patients; noise hides some of these nodules."""
    jobs = [job for job in pairs.jobs if reals[job.real].split == "test"][:FAINT]
    widths = generator(SEED, "faint").uniform(*FAINT_MM, len(jobs)).round(1)
    asked = [NoduleAttributes(diameter_mm=mm, texture=1.0) for mm in widths.tolist()]
    some = Pairs.of(reals, jobs)
    made = render_all(some, reals, outlines, out / "faint.npz", src, asked)
    found = unseen(some, reals, made, widths, ["all"])["all"]
    return {"faint": found | {"real": 0}}


def say(started: float, text: str) -> None:
    """Print the progress."""
    print(f"{time.monotonic() - started:5.0f} s  {text}", flush=True)


def in_one_line(rows: Mapping[str, Any]) -> str:
    """Return AUCs by class in one line."""
    return "; ".join(
        f"{kind} ({row['n']}) {three(row['auc'], '.3f') if row['auc'] else 'too few'}" for kind, row in rows.items()
    )


def show_curves(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print HU of real and rendered nodules by class."""
    for kind, real in found["real"].items():
        made = found["made"].get(kind)
        if made is not None:
            gaps = [abs(a - b) for a, b in zip(real["curve"], made["curve"], strict=True) if None not in (a, b)]
            print(
                f"         {kind} ({real['n']}), real | made: HU in the mask {real['hu']:.0f} | {made['hu']:.0f},"
                f" between nodules {real['spread']:.0f} | {made['spread']:.0f},"
                f" within {real['within']:.0f} | {made['within']:.0f}, profile differs by {np.mean(gaps):.0f}"
            )


def write_page(before: Path | None, after: Path, out: Path) -> None:
    """Write rendering.md and its pictures.

    Raises:
        InputError: the figures are of other places than those of this version, or of `--quick`.
    """
    reals, jobs, _ = sites(Path(os.environ["SYNTHORAX_REAL_DATA"]))
    folders = {"before": before, "after": after} if before else {"rendered": after}
    versions = [Version.of(name, folder) for name, folder in folders.items() if folder is not None]
    for version, folder in zip(versions, folders.values(), strict=True):
        if version.figures["jobs"] != jobs_key(jobs):
            raise InputError(folder, "figures of other places", "those of `measure` without --quick, by this version")
    kept = after / "times.json"
    known = json.loads(kept.read_text()) if kept.exists() else None
    lines = titled(
        "Rendered nodules beside real ones", [result(versions)], page(Pairs.of(reals, jobs), versions, known, out)
    )
    with atomic_file(out / "rendering.md") as file:
        file.write_text("\n".join(lines).rstrip() + "\n")


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("out", type=Path)
    verb.add_argument("--src", type=Path, default=HERE.parent / "src")
    verb.add_argument("--quick", action="store_true")
    verb = verbs.add_parser("time")
    verb.add_argument("out", type=Path)
    verb.add_argument("--before", type=Path, required=True)
    verb.add_argument("--after", type=Path, default=HERE.parent / "src")
    verb = verbs.add_parser("page")
    verb.add_argument("--before", type=Path)
    verb.add_argument("--after", type=Path, required=True)
    verb.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "measure":
        measure(given.out, given.src.resolve(), given.quick)
    elif given.verb == "time":
        sources = {"before": given.before.resolve(), "after": given.after.resolve()}
        WORK.mkdir(parents=True, exist_ok=True)
        found = times(Path(os.environ["SYNTHORAX_REAL_DATA"]), WORK, sources)
        with atomic_file(given.out / "times.json") as file:
            file.write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
    else:
        write_page(given.before, given.after, given.out)


if __name__ == "__main__":
    main()
