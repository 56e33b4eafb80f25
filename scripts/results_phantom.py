#!/usr/bin/env python3
"""Measure lung segmentation, the phantom and injection; write docs/results/phantom.md with its pictures.

    python scripts/results_phantom.py --out docs/results

SYNTHORAX_REAL_DATA names a folder with `lidc-scans`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from measuring import peak_gb, whole_process
from pages import table, titled
from synthorax import api, figures
from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.morphology import distance_inside
from synthorax.datasets.phantoms import Phantom, make_phantom
from synthorax.editing.edited import Edited
from synthorax.geometry import resample_to_spacing
from synthorax.io.atomic import atomic_file
from synthorax.io.dicom_out import write_ct_series
from synthorax.io.scans import read_scan
from synthorax.shapes.overlap import dice
from synthorax.studies.results import machine
from synthorax.volume import Volume

SEED = 0
PHANTOM_SEEDS = (0, 1, 2, 3, 4, 5)
SHOWN_SEED = 3
SOFT_WINDOW_HU = (-160.0, 240.0)
VIEW_MM = 1.5
NODULES_INJECTED = 12
HU_BINS = {
    "air and lung": (-1100, -500),
    "fat": (-200, -30),
    "soft": (-30, 100),
    "100 to 300 HU": (100, 300),
    "bone": (300, 3072),
}


def planes(scans: dict[str, Volume], out: Path) -> None:
    """Write axial, coronal and sagittal slices of scans, one row for each scan, with two windows."""
    for name, window in (("lung", figures.DISPLAY_WINDOW_HU), ("soft", SOFT_WINDOW_HU)):
        panels = []
        for label, scan in scans.items():
            cube = resample_to_spacing(scan, (VIEW_MM,) * 3)
            lungs = find_lungs(cube)
            inside = np.argwhere(lungs.mask.voxels) * lungs.mask.spacing_mm / VIEW_MM
            (z0, y0, x0), (z1, y1, x1) = inside.min(0), inside.max(0)
            middle = int((y0 + y1) / 2), int((x0 + x1) / 2)
            for height in (0.9, 0.7, 0.52, 0.3):
                plane = cube.voxels[int(z0 + height * (z1 - z0))]
                panels.append(figures.Slice(plane, np.zeros(plane.shape, bool), f"{label}, axial", middle))
            level = cube.shape[0] - int((z0 + z1) / 2)
            for at, title in ((middle[0], "coronal"), (int(y0 + 0.62 * (y1 - y0)), "coronal, behind")):
                plane = cube.voxels[::-1, at]
                panels.append(figures.Slice(plane, np.zeros(plane.shape, bool), title, (level, middle[1])))
            plane = cube.voxels[::-1, :, int(x0 + 0.25 * (x1 - x0))]
            panels.append(figures.Slice(plane, np.zeros(plane.shape, bool), "sagittal", (level, middle[0])))
        figure = figures.ct_slices(panels, half=115, columns=7, window_hu=window)
        figure.savefig(out / f"phantom-planes-{name}.png", bbox_inches="tight")


def chest_numbers(ct: Volume, lungs: NDArray[np.bool_], body: NDArray[np.bool_]) -> dict[str, float]:
    """Return measures by which chest CTs can be compared."""
    voxel_ml = float(np.prod(ct.spacing_mm)) / 1000
    numbers = {"lung volume, l": lungs.sum() * voxel_ml / 1000}
    rows = np.flatnonzero(lungs.any((1, 2)))
    numbers["lung height, mm"] = (rows[-1] - rows[0] + 1) * ct.spacing_mm[0]
    hu = ct.voxels
    numbers["lung, median HU"] = float(np.median(hu[lungs]))
    to_wall = distance_inside(lungs, ct.spacing_mm)
    dense = hu > -500
    numbers["vessels, % of the lung deeper than 5 mm"] = 100 * dense[to_wall > 5].mean()
    for low, high in ((5, 10), (10, 20), (20, 30), (30, 60)):
        shell = (to_wall > low) & (to_wall <= high)
        numbers[f"vessels, % of {low} to {high} mm from the wall"] = 100 * dense[shell].mean()
    near = slice(rows[0], rows[-1] + 1)  # the abdomen and neck that a scan shows differ
    tissue = hu[near][body[near]]
    for name, (low, high) in HU_BINS.items():
        numbers[f"{name}, % of the body"] = 100 * ((tissue >= low) & (tissue < high)).mean()
    return numbers


def noise_spectrum(ct: Volume, soft: NDArray[np.bool_], pixels: int = 16) -> tuple[NDArray, NDArray, float]:
    """Return frequencies (1/mm), normalised noise power and standard deviation, from homogeneous squares of soft tissue."""
    hu = ct.voxels.astype(np.float32)
    power, count, variance = np.zeros((pixels, pixels)), 0, []
    step = pixels // 2
    window = np.outer(np.hanning(pixels), np.hanning(pixels))
    for z in range(0, ct.shape[0], 2):
        inside = uniform_filter(soft[z].astype(np.float32), pixels) > 0.999
        for y, x in np.argwhere(inside[::step, ::step]) * step:
            square = hu[z, y - step : y + step, x - step : x + step]
            if square.size < pixels**2:
                continue
            flat = square - square.mean()
            if abs(gaussian_filter(flat, 3)).max() > 25:
                continue
            power += abs(np.fft.fft2(flat * window)) ** 2
            variance.append(float(flat.var()))
            count += 1
    f = np.hypot(np.fft.fftfreq(pixels, ct.spacing_mm[1])[:, None], np.fft.fftfreq(pixels, ct.spacing_mm[2]))
    edges = np.linspace(0, 0.5 / ct.spacing_mm[1], 9)
    curve = np.array([power[(f >= a) & (f < b)].mean() for a, b in pairwise(edges)])
    return (edges[:-1] + edges[1:]) / 2, curve / curve.sum(), float(np.sqrt(np.median(variance))) if count else np.nan


def phantom_lines(real: Volume, out: Path, result: list[str]) -> Iterator[str]:
    """Give the phantom compared with a real chest."""
    real_lungs = find_lungs(real).on(real)
    columns = {"LIDC-IDRI-0003": chest_numbers(real, real_lungs.mask.voxels, real_lungs.body.voxels)}
    spectra = {}
    soft = (gaussian_filter(real.voxels.astype(np.float32), (0, 2, 2)) > 10) & (
        gaussian_filter(real.voxels.astype(np.float32), (0, 2, 2)) < 90
    )
    frequency, power, noise = noise_spectrum(real, soft & real_lungs.body.voxels)
    spectra["LIDC-IDRI-0003"] = (frequency, power)
    columns["LIDC-IDRI-0003"]["noise in soft tissue, HU"] = noise
    seconds, scores, shown = [], [], {}
    phantoms: dict[int, Phantom] = {}
    for seed in PHANTOM_SEEDS:
        started = time.perf_counter()
        made = phantoms[seed] = make_phantom(seed)
        seconds.append(time.perf_counter() - started)
        found = find_lungs(made.ct).on(made.ct)
        scores.append(float(dice(found.mask.voxels[None], made.chest.lobes[None] > 0)[0]))
        columns[f"phantom {seed}"] = chest_numbers(made.ct, made.chest.lobes > 0, made.chest.body)
        still = gaussian_filter(made.chest.hu.voxels, (0, 2, 2))
        flat = (abs(made.chest.hu.voxels - still) < 10) & (still > 10) & (still < 90)
        columns[f"phantom {seed}"]["noise in soft tissue, HU"] = noise_spectrum(made.ct, flat, pixels=12)[2]
        shown[f"phantom {seed}"] = made.ct
    memory = peak_gb()
    thin = make_phantom(SHOWN_SEED, spacing_mm=(2.5, 0.82, 0.82))
    still = gaussian_filter(thin.chest.hu.voxels, (0, 2, 2))
    flat = (abs(thin.chest.hu.voxels - still) < 10) & (still > 10) & (still < 90)
    spectra[f"phantom {SHOWN_SEED}, same voxels"] = noise_spectrum(thin.ct, flat)[:2]
    yield f"224 x 224 x 224 voxels of 1.5 mm with nodules and noise: {np.mean(seconds):.1f} s (slowest {max(seconds):.1f} s), this process at most {memory:.2f} GB."
    yield ""
    yield f"Dice of the lungs that are segmented without learned weights with the true lungs: {', '.join(f'{s:.3f}' for s in scores)}."
    yield ""
    yield "![a phantom above, LIDC-IDRI-0003 below, lung window](phantom-planes-lung.png)"
    yield "![the same, soft-tissue window](phantom-planes-soft.png)"
    yield ""
    rows = columns["LIDC-IDRI-0003"]
    deep = "vessels, % of the lung deeper than 5 mm"
    shares = [column[deep] for name, column in columns.items() if name != "LIDC-IDRI-0003"]
    result.append(
        f"A phantom chest of 224 x 224 x 224 voxels with nodules is generated in {np.mean(seconds):.1f} s, and the lungs segmented in it agree with the true ones (Dice {min(scores):.3f} or more)."
    )
    result.append(
        f"Vessels fill {min(shares):.1f} to {max(shares):.1f} % of its lungs deeper than 5 mm; in one real chest they fill {rows[deep]:.1f} %. Where it falls short is listed below."
    )
    yield from table(["", *columns], [[row, *(f"{found[row]:.3g}" for found in columns.values())] for row in rows])
    yield ""
    yield "![normalised noise power](phantom-noise.png)"
    planes({f"phantom {SHOWN_SEED}": thin.ct, "LIDC-IDRI-0003": real}, out)
    figures.lines({"noise power": spectra}, [figures.REAL, figures.SYNTHETIC], "1/mm", "share").savefig(
        out / "phantom-noise.png"
    )
    others = []
    for label, ct in shown.items():
        for plane in (ct.voxels[120], ct.voxels[::-1, 112]):
            others.append(figures.Slice(plane, np.zeros(plane.shape, bool), label, (112, 112)))
    figures.ct_slices(others, half=112, columns=6).savefig(out / "phantom-seeds.png", bbox_inches="tight")
    yield "![other seeds](phantom-seeds.png)"


def lung_picture(scans: dict[str, Volume], out: Path) -> None:
    """Write outlines of the lungs that are segmented in real scans."""
    panels = []
    for label, ct in scans.items():
        found = find_lungs(ct).on(ct)
        for z in np.linspace(0.12, 0.88, 5) * (ct.shape[0] - 1):
            plane = round(float(z))
            outline = found.mask.voxels[plane] | found.airways.voxels[plane]
            panels.append(figures.Slice(ct.voxels[plane], outline, label, (256, 256)))
    figures.ct_slices(panels, half=256).savefig(out / "phantom-lungs.png", bbox_inches="tight")


def seam_lines(ct: Volume, edited: Edited) -> Iterator[str]:
    """Give the changes at the border of the edit region."""
    region = edited.region.voxels
    outside = int((edited.ct.voxels != ct.voxels)[~region].sum())
    inner = distance_inside(region, ct.spacing_mm)
    rim = region & (inner <= 1.0)
    change = abs(edited.ct.voxels.astype(int) - ct.voxels)
    yield f"Voxels outside the edit region that differ: {outside} of {(~region).sum():,}. Within the outermost millimetre of the region"
    yield f"voxels change by {change[rim].mean():.2f} HU in the mean, {np.percentile(change[rim], 99):.0f} at the 99th percentile."
    steps = []
    for voxels in (ct.voxels, edited.ct.voxels):
        across = [
            abs(np.diff(voxels.astype(int), axis=axis))[np.diff(region.astype(np.int8), axis=axis) != 0]
            for axis in range(3)
        ]
        steps.append(np.concatenate(across))
    yield f"Steps between neighbours across the border: {steps[0].mean():.1f} HU before, {steps[1].mean():.1f} after (median"
    yield f"{np.median(steps[0]):.0f} and {np.median(steps[1]):.0f}, 99th percentile {np.percentile(steps[0], 99):.0f} and {np.percentile(steps[1], 99):.0f}), over {len(steps[0]):,} pairs."


def injection_lines(real: Path, work: Path, out: Path) -> Iterator[str]:
    """Give the time, the seams and the picture of a whole injection."""
    scan = real / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz"
    ct = read_scan(scan).ct
    write_ct_series(work / "dicom", ct, mark=None)
    yield "| one 8 mm nodule, placed by itself, into 512 x 512 x 140 | seconds | GB |"
    yield "|---|---|---|"
    for name, source in ((".nii.gz", scan), ("DICOM", work / "dicom")):
        command = ["inject", str(source), "--auto", "1", "--diameter", "8", "--seed", "7", "--overwrite"]
        seconds, gigabytes = min(whole_process([*command, "--out", str(work / "injected")]) for _ in range(3))
        yield f"| {name}, scan, mask, region and manifest written; best of 3 | {seconds:.1f} | {gigabytes:.2f} |"
    yield ""
    widths = np.linspace(5, 24, NODULES_INJECTED).round(1).tolist()
    edited = api.inject(ct, auto=NODULES_INJECTED, diameter_mm=widths, seed=SEED)
    yield from seam_lines(ct, edited)
    panels = []
    for nodule in edited.nodules:
        z, y, x = np.rint(ct.to_voxel(nodule.center_mm)).astype(int).tolist()
        caption = f"{nodule.attributes.diameter_mm:.0f} mm, texture {nodule.attributes.texture:.0f}"
        panels.append(
            figures.Slice(
                edited.ct.voxels[z], edited.mask.voxels[z] == nodule.label, caption, (y, x), figures.SYNTHETIC
            )
        )
    bare = [figures.Slice(p.hu, np.zeros(p.hu.shape, bool), "", p.center) for p in panels]
    rows = [panel for k in range(0, len(panels), 6) for row in (panels, bare) for panel in row[k : k + 6]]
    figures.ct_slices(rows, half=30, columns=6).savefig(out / "phantom-injected.png", bbox_inches="tight")
    yield ""
    yield "![twelve nodules put into LIDC-IDRI-0003, outlined and bare](phantom-injected.png)"


def page(real: Path, work: Path, out: Path, result: list[str]) -> Iterator[str]:
    """The lines of the page; adds the sentences of its result."""
    chest = read_scan(real / "lidc-scans" / "LIDC-IDRI-0003" / "ct.nii.gz").ct
    slab = read_scan(real / "lidc-scans" / "LIDC-IDRI-0001").ct
    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    yield f"Written by `make results-phantom` on {date.today().isoformat()}: {here}."
    yield ""
    yield "## Anatomy and noise"
    yield ""
    yield from phantom_lines(chest, out, result)
    yield ""
    yield from SHORTFALLS
    yield ""
    yield "## Lungs of real scans"
    yield ""
    lung_picture({"LIDC-IDRI-0003": chest, "LIDC-IDRI-0001": slab}, out)
    yield "![lungs and airways, outlined](phantom-lungs.png)"
    yield ""
    yield "## Rendered nodules beside real ones"
    yield ""
    yield "Contact sheets, HU and profiles by class, and how well a network can distinguish them: [rendering.md](rendering.md), written by `make results-rendering`."
    yield ""
    yield "## An injection"
    yield ""
    yield from injection_lines(real, work, out)


SHORTFALLS = [
    "Where the phantom falls short of a real chest:",
    "",
    "- vessels: between 20 and 30 mm from the wall they are denser than in the real scan (see the table); beyond the segments airways follow their arteries exactly;",
    "- bone and noise: less of the body is bone, and the noise in soft tissue is that of thin slices in most phantoms (see the table);",
    "- the heart has neither coronaries nor valves nor appendages; costal cartilage is inconspicuous; fissures are complete, as in few people;",
    "- the chest wall has one layer of muscles with plain sheets of fat, and too elliptical a skin; an axial slice shows about four ribs a side where a",
    "  real one shows five or six; the uppermost slices are plain: no thyroid, arms as stumps;",
    "- below the diaphragm there are liver, spleen, stomach and great vessels only; the model ends 242 mm above and below its middle;",
    "- there is no motion of breathing or heart, no metal, streaks or beam hardening, and no disease except emphysema, dependent density and the nodules.",
]


def main() -> None:
    """Measure everything, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    real = Path(os.environ["SYNTHORAX_REAL_DATA"])
    with tempfile.TemporaryDirectory() as name:
        result: list[str] = []
        lines = titled("The phantom beside a real chest", result, page(real, Path(name), out, result))
    with atomic_file(out / "phantom.md") as file:
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
