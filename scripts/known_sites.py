"""Sites, real nodules, controls and verdicts of the results pages, kept between calls."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from measuring import user_seconds
from rendering_measures import Pairs, View, read_judged, write_judged
from rendering_sites import Job, Real, matched_jobs, real_nodules
from synthorax import api
from synthorax.datasets.lineage import outline_patients
from synthorax.io.atomic import atomic_file
from synthorax.provenance import fingerprint
from synthorax.studies import told_apart as told_apart_module
from synthorax.studies.fidelity import Patches
from synthorax.studies.told_apart import TELLER, Controls, Judged, controls, told_apart

SEED = 0
HERE = Path(__file__).resolve().parent
WORK = Path("build") / "results-rendering"
STORE = WORK / "store"
MADE_NODULES = WORK / "made"
"""Folder of the methods' nodules at the sites, for all pages that measure them."""
Kept = TypeVar("Kept")


def kept(file: Path, make: Callable[[], Kept]) -> Kept:
    """Return the result of `make`, or that of an earlier call from its file, whose name has a key of all inputs."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = make()
        with atomic_file(file) as temporary:
            temporary.write_bytes(pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL))
        return found
    result: Kept = pickle.loads(file.read_bytes())  # written above
    return result


def kept_figures(file: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `make`, or that of an earlier call from its file, with `key` and `cpu minutes`.

    Args:
        file: JSON file to write.
        key: key of all inputs; a file with another key is written again.
    """
    if file.exists() and (found := dict(json.loads(file.read_text()))).get("key") == key:
        return found
    before = user_seconds()
    found = {"key": key, **make()}
    found["cpu minutes"] = round((user_seconds() - before) / 60, 1)
    write_figures(file, found)
    return found


def write_figures(file: Path, figures: object) -> None:
    """Write figures as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n")


def sites(real: Path) -> tuple[list[Real], list[Job], list[str]]:
    """Return real nodules, a place for each, and the patients whose outlines may be used."""
    WORK.mkdir(parents=True, exist_ok=True)
    store = api.prepare("patches", real / "luna16-nodules", STORE)
    code = fingerprint((HERE / "rendering_sites.py").read_bytes() + store.fingerprint.encode())[:16]

    def found() -> tuple[list[Real], list[Job], list[str]]:
        reals = real_nodules(store)
        return reals, matched_jobs(reals, SEED), sorted(outline_patients(store))

    return kept(WORK / f"sites-{code}.pickle", found)


def jobs_key(jobs: Sequence[Job]) -> str:
    """Return a key of the places."""
    return fingerprint(repr([(job.real, job.cube, job.center, job.seed) for job in jobs]).encode())[:12]


def known_controls(pairs: Pairs, view: View) -> Controls:
    """Return the controls, which do not depend on the synthetic nodules."""
    real = pairs.seen(pairs.real, view)
    files = [WORK / f"controls-{_key(real)}-{name}.npz" for name in ("same", "blurred")]
    if not all(file.exists() for file in files):
        found = controls(real, SEED, device="cpu")
        for file, judged in zip(files, (found.same, found.blurred), strict=True):
            write_judged(file, judged)
    return Controls(*(read_judged(file) for file in files))


def known_verdict(real: Patches, made: Patches) -> Judged:
    """Return the verdict of a newly trained network on synthetic and real patches."""
    file = WORK / f"verdict-{_key(real, made)}.npz"
    if not file.exists():
        write_judged(file, told_apart(real, made, SEED, device="cpu"))
    return read_judged(file)


def _key(*sets: Patches) -> str:
    """Return a key of patches and of the network that judges them."""
    code = Path(str(told_apart_module.__file__)).read_bytes()
    content: list[Any] = [each.hu.tobytes() + repr(each.patients.tolist()).encode() for each in sets]
    return fingerprint(b"".join([code, repr(TELLER).encode(), *content]))[:16]
