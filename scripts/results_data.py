#!/usr/bin/env python3
"""Measure preparing, reading and writing real CT, and write docs/results/data.md with its pictures.

    python scripts/results_data.py --out docs/results

SYNTHORAX_REAL_DATA names a folder with `lidc-scans` and `luna16-nodules`. If TorchIO and MONAI are installed
(`pip install torchio monai`), they augment the same patches for comparison.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from measuring import Cost, process_cost, user_seconds
from other_augmenters import SCALE, SHIFT_VOXELS, Batches, installed
from pages import titled
from synthorax import api, figures
from synthorax.annotations.clustering import AnnotatedNodule, cluster
from synthorax.annotations.lidc_table import read_lidc_scans
from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import nodule_places
from synthorax.datasets.store import Store
from synthorax.io.atomic import atomic_file
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.images import read_image, write_image
from synthorax.io.scans import read_scan
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.studies.results import machine
from synthorax.volume import Volume

SEED = 0
BATCH = 32
OURS = "synthorax"
ROUNDS = 15
ROUND_TRIPS = 50
PATCHES = 300
AUGMENTATIONS = {
    "flips and shifts": Augmentation(shift_voxels=SHIFT_VOXELS),
    "flips, shifts and scaling": Augmentation(shift_voxels=SHIFT_VOXELS, scale=SCALE),
}


def prepared(kind: str, source: Path, store: Path) -> Cost:
    """Return the time and memory of `synthorax prepare` as a whole process."""
    return process_cost(["prepare", kind, str(source), "--out", str(store)])


def lidc_lines(store: Store, out: Path) -> Iterator[str]:
    """Give the nodules of the LIDC scans compared with the annotation table, and a picture of each."""
    table = {found.scan.patient_id: cluster(found.readings) for found in read_lidc_scans().values() if found.readings}
    yield "| scan | nodule | readers | diameter mm | table | voxels | table | volume mm³ | malignancy |"
    yield "|---|---|---|---|---|---|---|---|---|"
    panels = []
    for entry in store.cases:
        case = store.read(entry.case_id)
        theirs = table[entry.patient_id]
        for nodule in entry.nodules:
            twin = min(theirs, key=partial(diameter_gap, nodule.attributes))
            region = case.region(nodule)
            voxels = region.voxels if region else 0
            volume = voxels * float(np.prod(entry.spacing_mm))
            ratings = " ".join(f"{value:.0f}" for value in nodule.ratings["malignancy"])
            yield (
                f"| {entry.patient_id} | {nodule.nodule_id} | {nodule.extra['readers']} | {nodule.attributes.diameter_mm:.2f}"
                f" | {twin.attributes.diameter_mm:.2f} | {voxels} | {int(twin.consensus(2).mask.sum())} | {volume:.0f} | {ratings} |"
            )
            z, y, x = np.rint(case.ct.to_voxel(nodule.center_mm)).astype(int).tolist()
            marked = region.within((0, 0, 0), entry.shape) if region else np.zeros(entry.shape, bool)
            caption = f"{entry.patient_id} {nodule.nodule_id}" + ", one reader" * (not nodule.label)
            panels.append(figures.Slice(case.ct.voxels[z], marked[z], caption, (y, x)))
    figures.ct_slices(panels, half=40).savefig(out / "data-contours.png", bbox_inches="tight")
    wholes = [figures.Slice(p.hu, p.mask, p.caption, (256, 256)) for p in panels[:3]]
    figures.ct_slices(wholes, half=256).savefig(out / "data-slices.png", bbox_inches="tight")


def diameter_gap(attributes: NoduleAttributes, other: AnnotatedNodule) -> float:
    """Return the difference of two nodules' diameters."""
    return abs((other.attributes.diameter_mm or 0) - (attributes.diameter_mm or 0))


def round_trips(folder: Path, result: list[str]) -> Iterator[str]:
    """Write random oblique and mirrored volumes in every format, read them again, and give the differences."""
    rng = np.random.default_rng(SEED)
    errors_mm, changed = [], 0
    yield "| format | greatest error mm | voxels that differ |"
    yield "|---|---|---|"
    for name in ("scan.nii", "scan.nii.gz", "scan.mha", "scan.mhd", "scan.nrrd", "DICOM"):
        worst, differ = 0.0, 0
        for _ in range(ROUND_TRIPS):
            mirror = np.diag([1, 1, rng.choice([-1, 1])])
            given = Volume(
                voxels=rng.integers(-1024, 3000, (4, 6, 5)).astype(np.int16),
                spacing_mm=tuple(rng.uniform(0.4, 5, 3).tolist()),
                origin_mm=tuple(rng.uniform(-400, 400, 3).tolist()),
                direction=Rotation.random(rng=rng).as_matrix() @ mirror,
            )
            if name == "DICOM":
                write_ct_series(folder / "dicom", given, mark=None, overwrite=True)
                found = read_scan(folder / "dicom").ct
            else:
                write_image(folder / name, given)
                found = read_image(folder / name)
            # A voxel is where it was if the value at its place is its own: a series may run the other way.
            indices = np.argwhere(np.ones(given.shape))
            places = found.to_voxel(given.to_world(indices))
            nearest = np.rint(places).astype(int)
            worst = max(worst, float(np.abs((places - nearest) * found.spacing_mm).max()))
            differ += int((found.voxels[tuple(nearest.T)] != given.voxels[tuple(indices.T)]).sum())
        errors_mm.append(worst)
        changed += differ
        yield f"| {name.removeprefix('scan')} | {worst:.1e} | {differ} |"
    result.append(
        f"{ROUND_TRIPS} random volumes written and read in each of {len(errors_mm)} formats come back with {changed} changed voxels, displaced by at most {max(errors_mm):.0e} mm."
    )


def patch_lines(store: Store, cache: Path, result: list[str]) -> Iterator[str]:
    """Give augmented 48^3 patches per second: from files, and from memory compared with other libraries."""
    places = nodule_places(store.in_split("train"))
    datasets, cold = {}, []
    for name, augmentation in AUGMENTATIONS.items():
        started = user_seconds()
        datasets[name] = PatchDataset(store, places, PatchSpec(), augmentation=augmentation, seed=SEED, cache=cache)
        cold.append(len(places) / (user_seconds() - started))
    yield f"A `PatchDataset` decodes the store's patches once, at {min(cold):.0f} patches a second, and then reads them from its cache."
    yield ""
    yield "Augmented patches a second from arrays in memory, in one process with one thread; medians of"
    yield f"{ROUNDS} rounds in which the libraries take turns. A patch has its HU scaled to -1 to 1, and the mask:"
    yield ""
    yield "| | " + " | ".join(AUGMENTATIONS) + " |"
    yield "|---|" + "---|" * len(AUGMENTATIONS)
    rates = augmentation_rates(datasets)
    ours = rates.pop(OURS)
    yield f"| {OURS} | " + " | ".join(f"{rate:.0f}" for rate in ours) + " |"
    for name, theirs in rates.items():
        cells = (f"{rate:.0f} (ours {own / rate:.1f} x)" for rate, own in zip(theirs, ours, strict=True))
        yield f"| {name} | " + " | ".join(cells) + " |"
    gains = [[own / theirs[i] for theirs in rates.values()] for i, own in enumerate(ours)]
    compared = [
        f"{own:.0f} a second with {name}" + (f", {min(each):.1f} to {max(each):.1f} times as many" if each else "")
        for own, each, name in zip(ours, gains, AUGMENTATIONS, strict=True)
    ]
    result.append(
        f"One thread augments patches of 48 x 48 x 48 voxels faster than TorchIO and MONAI: {'; '.join(compared)}."
        if rates
        else f"One thread augments patches of 48 x 48 x 48 voxels: {'; '.join(compared)}."
    )
    if not rates:
        yield "| TorchIO, MONAI | not installed |" + " |" * (len(AUGMENTATIONS) - 1)


def augmentation_rates(datasets: dict[str, PatchDataset]) -> dict[str, list[float]]:
    """Return the patches per second of user CPU of each library, for each augmentation."""
    torch.set_num_threads(1)
    makers: dict[str, list[Callable[[int], object]]] = {OURS: []}
    for scaling, dataset in enumerate(datasets.values()):
        hu, masks = (np.array(array[:PATCHES]) for array in (dataset._voxels, dataset._masks))
        makers[OURS].append(partial(dataset.batch, size=BATCH))
        for name, batches in installed().items():
            made = batches(hu, masks, scaling=bool(scaling))
            makers.setdefault(name, []).append(partial(random_batch, made, len(hu)))
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in calls] for name, calls in makers.items()}
    for step in range(ROUNDS + 1):
        for name, calls in makers.items():
            for call, taken in zip(calls, seconds[name], strict=True):
                started = user_seconds()
                call(step)
                taken.append(user_seconds() - started)
    return {name: [BATCH / float(np.median(taken[1:])) for taken in found] for name, found in seconds.items()}


def random_batch(made: Batches, n: int, step: int) -> object:
    """Return a batch of random rows."""
    return made(np.random.default_rng([SEED, step]).integers(0, n, BATCH))


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        result: list[str] = []
        lines = titled("Real CT in and out", result, page(real, work, out, result))
    with atomic_file(out / "data.md") as file:
        file.write_text("\n".join(lines) + "\n")


def page(real: Path, work: Path, out: Path, result: list[str]) -> Iterator[str]:
    """Give the lines of the page, and append the sentences of its result to `result`."""
    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    yield f"Written by `make results-data` on {date.today().isoformat()}: {here}."
    yield ""
    yield f"All seconds are of user CPU, since other work ran on the machine (its load was {os.getloadavg()[0]:.0f})."
    yield ""
    yield "## LIDC-IDRI"
    yield ""
    cost = prepared("lidc", real / "lidc-scans", work / "lidc")
    yield "LIDC-IDRI-0001 as 25 of its original DICOM slices and LIDC-IDRI-0003 as NIfTI, both with their XML files:"
    yield f"prepared in {cost.user_seconds:.1f} s. Nodules and voxels (outlined by two readers or more) compared with the package's annotation table:"
    yield ""
    yield from lidc_lines(Store(work / "lidc"), out)
    yield ""
    yield "![the nodules with the outline of their voxels](data-contours.png)"
    yield "![whole slices](data-slices.png)"
    yield ""
    yield "## A series of 140 slices"
    yield ""
    scan = read_image(real / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz")
    started = user_seconds()
    write_ct_series(work / "dicom", scan, mark=None)
    written = user_seconds() - started
    cost = min((prepared("scans", work / "dicom", work / f"scan{i}") for i in range(3)), key=lambda c: c.user_seconds)
    size = sum(p.stat().st_size for p in (work / "scan0").rglob("*") if p.is_file()) / 1e6
    started = user_seconds()
    write_image(work / "scan.nii.gz", scan)
    nifti = user_seconds() - started
    yield f"Preparing a DICOM series of 512 x 512 x 140 voxels as a store of {size:.0f} MB, as a whole process: {cost.user_seconds:.1f} s, {cost.gigabytes:.2f} GB (best of 3)."
    result.append(f"A DICOM series of 512 x 512 x 140 voxels becomes a store in {cost.user_seconds:.1f} s of CPU.")
    yield f"Written as DICOM in {written:.1f} s, as .nii.gz in {nifti:.1f} s."
    yield ""
    yield "## The 946 nodules"
    yield ""
    cubes = real / "luna16-nodules"
    cost = prepared("patches", cubes, work / "cubes")
    store = Store(work / "cubes")
    about = api.info(work / "cubes")
    yield f"{len(store)} cubes of {sum(map(len, store.splits.values()))} patients in {cost.user_seconds:.1f} s, {cost.gigabytes:.2f} GB a process; left out: {len(store.skipped)}."
    yield f"Nodules by split: {about['nodules']}; patients: {about['patients']}; diameters (least, quartiles, most): {about['diameter_mm']} mm."
    yield f"Fingerprint `{store.fingerprint[:16]}`."
    yield ""
    yield "### 48 x 48 x 48 patches"
    yield ""
    yield from patch_lines(store, work / "cache", result)
    yield ""
    yield "## Out and in again"
    yield ""
    yield f"{ROUND_TRIPS} random volumes each, oblique, half of them mirrored:"
    yield ""
    yield from round_trips(work, result)


if __name__ == "__main__":
    main()
