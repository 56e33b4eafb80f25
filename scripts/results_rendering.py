#!/usr/bin/env python3
"""Measure rendered nodules beside real ones, and two versions of the renderer beside each other.

    python scripts/results_rendering.py measure OUT [--src CHECKOUT/src] [--quick]
    python scripts/results_rendering.py time OUT --before CHECKOUT/src [--after CHECKOUT/src]
    python scripts/results_rendering.py page [--before OUT] --after OUT --out docs/results

`measure` renders by the version in `--src`, or by this one, and writes `made.npz`, `judged.npz` and `figures.json` into
OUT. With `--quick` it takes training patients alone, as the constants of rendering are set on them, and tells what is
told apart, KID and HU. `page` writes rendering.md with its pictures. SYNTHORAX_REAL_DATA names a folder that holds
`luna16-nodules` and `lidc-scans`. Places and controls are kept in build/results-rendering.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pages import spread
from rendering_measures import (
    KINDS,
    Made,
    Pairs,
    control_figures,
    curves,
    diameters,
    kids,
    read_judged,
    told,
    unseen,
    write_judged,
)
from rendering_sites import Job, Real, matched_jobs, real_nodules, write_jobs
from synthorax import api
from synthorax.datasets.lineage import outline_patients
from synthorax.io.atomic import atomic_file
from synthorax.provenance import fingerprint
from synthorax.studies.fidelity import Patches
from synthorax.studies.results import machine
from synthorax.studies.told_apart import TELLER, Controls, controls, told_apart

SEED = 0
HERE = Path(__file__).resolve().parent
WORK = Path("build") / "results-rendering"
QUICK_SOLID = 2
"""Of the solid nodules of training patients, `--quick` takes one in so many."""


def sites(real: Path) -> tuple[list[Real], list[Job], list[str]]:
    """Real nodules, a place for each, and the patients whose outlines may be used; kept for later calls."""
    WORK.mkdir(parents=True, exist_ok=True)
    store = api.prepare("patches", real / "luna16-nodules", WORK / "store")
    code = fingerprint((HERE / "rendering_sites.py").read_bytes() + store.fingerprint.encode())[:16]
    kept = WORK / f"sites-{code}.pickle"
    if not kept.exists():
        reals = real_nodules(store)
        found = reals, matched_jobs(reals, SEED), sorted(outline_patients(store))
        with atomic_file(kept) as file:
            file.write_bytes(pickle.dumps(found))
    return pickle.loads(kept.read_bytes())  # written above, by this script


def quick_jobs(reals: Sequence[Real], jobs: Sequence[Job]) -> list[Job]:
    """Jobs of training patients: all nodules but the solid ones, of which it is one in `QUICK_SOLID`."""
    train = [job for job in jobs if reals[job.real].split == "train"]
    solid = [job for job in train if reals[job.real].kind == "solid" and not reals[job.real].spiculated]
    kept = {job.real for job in solid[::QUICK_SOLID]}
    return [job for job in train if job.real in kept or job not in solid]


def render_all(reals: Sequence[Real], jobs: Sequence[Job], outlines: Sequence[str], out: Path, src: Path) -> Made:
    """Render every job by a version of the package."""
    folder = WORK / f"jobs-{jobs_key(jobs)}"
    if not (folder / "jobs.json").exists():
        write_jobs(folder, reals, jobs, outlines)
    command = [sys.executable, str(HERE / "rendering_made.py"), str(folder), str(out / "made.npz")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(src)})
    return Made.of(out / "made.npz")


def jobs_key(jobs: Sequence[Job]) -> str:
    """By which the same places are known."""
    return fingerprint(repr([(job.real, job.cube, job.center, job.seed) for job in jobs]).encode())[:12]


def known_controls(pairs: Pairs) -> Controls:
    """The controls, which do not depend on what is made; from an earlier call if there was one."""
    code = (HERE.parent / "src" / "synthorax" / "studies" / "told_apart.py").read_bytes()
    key = fingerprint(code + repr(TELLER).encode() + pairs.hu.tobytes())[:16]
    kept = [WORK / f"controls-{key}-{name}.npz" for name in ("same", "blurred")]
    if not all(file.exists() for file in kept):
        found = controls(pairs.real, SEED, device="cpu")
        for file, judged in zip(kept, (found.same, found.blurred), strict=True):
            write_judged(file, judged)
    return Controls(*(read_judged(file) for file in kept))


def measure(out: Path, src: Path, quick: bool) -> dict[str, Any]:
    """Render and measure; writes `figures.json`."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    reals, jobs, outlines = sites(Path(os.environ["SYNTHORAX_REAL_DATA"]))
    jobs = quick_jobs(reals, jobs) if quick else jobs
    pairs = Pairs.of(reals, jobs)
    say(started, f"{len(jobs)} places")
    made = render_all(reals, jobs, outlines, out, src)
    say(started, "rendered")
    split = "train" if quick else "test"
    figures: dict[str, Any] = {
        "jobs": jobs_key(jobs),
        "quick": quick,
        "machine": machine(),
        "notes": {"nodules": len(jobs), "noted": int((made.notes != "").sum())},
        "curves": {
            "real": curves(pairs, pairs.hu, pairs.mask, split),
            "made": curves(pairs, made.hu, made.mask, split),
        },
    }
    show_curves(figures["curves"])
    figures["kid"] = measured_kids(pairs, made, quick)
    say(started, "KID x 1000: " + ", ".join(f"{name} {three(v, '.1f')}" for name, v in figures["kid"].items()))
    judged = told_apart(pairs.real, pairs.made(made), SEED, device="cpu")
    write_judged(out / "judged.npz", judged)
    figures["told"] = {name or "every": told(pairs, judged, name) for name in ({""} if quick else {"", "test"})}
    for name, rows in figures["told"].items():
        say(started, f"told apart, {name} patients: {shown(rows)}")
    figures["controls"] = control_figures(known_controls(pairs))
    say(started, f"controls: {figures['controls']}")
    if not quick:
        figures |= more(pairs, reals, made, started)
    with atomic_file(out / "figures.json") as file:
        file.write_text(json.dumps(figures, indent=1))
    return figures


def measured_kids(pairs: Pairs, made: Made, quick: bool) -> dict[str, list[float]]:
    """KID against the real nodules of training patients, and by class against those of the class."""

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
    """What `--quick` leaves out."""
    around = told_apart(pairs.without_middle(pairs.real), pairs.without_middle(pairs.made(made)), SEED, device="cpu")
    rows = pairs.rows("all", "test")
    asked = np.array([real.chord_mm for real in pairs.reals])[rows]
    stated = np.array([real.stated_mm for real in pairs.reals])[rows]
    found = {
        "surroundings": {name or "every": told(pairs, around, name) for name in ("", "test")},
        "invisible": unseen(pairs, reals, made),
        "diameters": {
            "made, asked": diameters(made.hu[rows], made.mask[rows], asked, pairs.hosts[rows]),
            "real, chord of the mask": diameters(pairs.hu[rows], pairs.mask[rows], asked, pairs.owners[rows]),
            "real, stated": diameters(pairs.hu[rows], pairs.mask[rows], stated, pairs.owners[rows]),
        },
    }
    for name, value in found.items():
        say(started, f"{name}: {value}")
    return found


def three(found: Sequence[float], form: str) -> str:
    """A value with its interval."""
    value, low, high = found
    return spread(value, low, high, form)


def say(started: float, text: str) -> None:
    """Tell of the progress."""
    print(f"{time.monotonic() - started:5.0f} s  {text}", flush=True)


def shown(rows: Mapping[str, Any]) -> str:
    """AUCs by class in one line."""
    return "; ".join(
        f"{kind} ({row['n']}) {three(row['auc'], '.3f') if row['auc'] else 'too few'}" for kind, row in rows.items()
    )


def show_curves(found: Mapping[str, Mapping[str, Any]]) -> None:
    """HU of real and made nodules by class, on the screen."""
    for kind, real in found["real"].items():
        made = found["made"].get(kind)
        if made is not None:
            gaps = [abs(a - b) for a, b in zip(real["curve"], made["curve"], strict=True) if None not in (a, b)]
            print(
                f"         {kind} ({real['n']}), real | made: HU in the mask {real['hu']:.0f} | {made['hu']:.0f},"
                f" between nodules {real['spread']:.0f} | {made['spread']:.0f},"
                f" within {real['within']:.0f} | {made['within']:.0f}, profile differs by {np.mean(gaps):.0f}"
            )


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("out", type=Path)
    verb.add_argument("--src", type=Path, default=HERE.parent / "src")
    verb.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.verb == "measure":
        measure(given.out, given.src.resolve(), given.quick)


if __name__ == "__main__":
    main()
