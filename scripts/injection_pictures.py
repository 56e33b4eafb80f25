"""The pictures of CT-SGAN, appendix B: inputs and outputs of injector and eraser, and the nodules of LIDC-IDRI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.placement import Ball, Placement
from synthorax.annotations.clustering import cluster
from synthorax.annotations.lidc_draws import draw_lidc_diameters
from synthorax.annotations.lidc_table import readings_of_scan, scans_with_readings
from synthorax.editing.erase import Unwanted, erase_nodules
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.editing.learned import GridEdit, Learned
from synthorax.editing.plan import ball_around
from synthorax.errors import InputError
from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices, histograms
from synthorax.makers import Method
from synthorax.nodule import NoduleAttributes
from synthorax.region import Region
from synthorax.seeding import derive
from synthorax.volume import Volume

SHOWN_MM = (8.0, 12.0, 16.0)
"""Diameters of the added nodules that are shown."""
MASKED_HU = -1000
"""HU of the voxels that an injector does not see, in the picture."""
AROUND_MM = 45.0
"""Distance in mm around a nodule up to which a scan is shown."""
DRAWS = 2000
"""Number of scans drawn by the rule of `--auto lidc`."""


def injector_picture(method: Method, ct: Volume, seed: int, out: Path) -> list[float]:
    """Write figure B.1 for a whole scan: volumes of interest, what is hidden of them, with a nodule, and in the scan.

    Args:
        ct: HU, with its axes along LPS.

    Returns:
        The diameters that are shown.
    """
    placement = Placement(find_lungs(ct), [])
    panels: list[list[Slice]] = []
    shown = []
    for mm in SHOWN_MM:
        place = placement.find(mm, derive(seed, "place", int(mm)))
        with watched(method) as grids:
            edited = inject_nodules(ct, [Wanted(place, NoduleAttributes())], method, derive(seed, "nodule", int(mm)))
        shown.append(mm)
        grid, near = grids[-1], edited.regions[0]
        hidden = grid.made.hu != grid.seen
        hu = [grid.before.voxels, np.where(hidden, MASKED_HU, grid.seen), grid.made.hu]
        captions = [f"VOI, {mm:.0f} mm", "masked", "injected"]
        panels.append([*_middles(hu, captions), *_in_scan(ct, edited.ct, place, near, "pasted back")])
    _save(panels, out / "injection-injector.png")
    return shown


def eraser_picture(method: Method, nodules: Sequence[tuple[Volume, Region]], seed: int, out: Path, most: int) -> None:
    """Write figure B.2 for real nodules: volumes of interest, without their nodules, and in the scans.

    Args:
        nodules: HU of scans, with their axes along LPS, and the voxels of a nodule in each. Those that are wider than
            the eraser takes out are left out.
        most: nodules that are shown.
    """
    panels: list[list[Slice]] = []
    for i, (ct, own) in enumerate(nodules):
        place = ball_around(own, ct)
        if len(panels) == most:
            break
        with watched(method) as grids, suppress(InputError):
            made = erase_nodules(ct, [Unwanted(place, own)], method, derive(seed, "erased", i))
        if not grids:
            continue
        grid = grids[-1]
        captions = [f"VOI, {place.diameter_mm:.0f} mm", "erased"]
        vois = _middles([grid.before.voxels, grid.made.hu], captions)
        panels.append([*vois, *_in_scan(ct, made.ct, place, own, "pasted back")])
    _save(panels, out / "injection-eraser.png")


def radius_picture(out: Path, seed: int = 0) -> dict[str, list[float]]:
    """Write figure B.3: radii of LIDC-IDRI's nodules beside those that `--auto lidc` draws.

    Returns:
        Number, median and 95th percentile of the radii in mm, and nodules a scan in the mean, of both.
    """
    own = [
        [float(np.mean([reading.diameter_mm for reading in nodule.readings])) for nodule in cluster(readings)]
        for readings in map(readings_of_scan, map(int, scans_with_readings()))
    ]
    drawn = [draw_lidc_diameters(derive(seed, "scan", i)) for i in range(DRAWS)]
    groups: dict[str, Sequence[Sequence[float]]] = {"LIDC-IDRI": own, "--auto lidc": drawn}
    radii = {name: np.concatenate([np.asarray(mm) for mm in scans]) / 2 for name, scans in groups.items()}
    names = {"radius": "mm", "": "to 10 mm"}
    values = {name: np.column_stack([each, np.clip(each, 0, 10)]) for name, each in radii.items()}
    histograms(values, names, (REAL, SYNTHETIC), columns=2).savefig(out / "injection-radii.png", bbox_inches="tight")
    return {
        name: [len(each), *np.percentile(each, [50, 95]).round(2).tolist(), round(len(each) / len(groups[name]), 2)]
        for name, each in radii.items()
    }


@contextmanager
def watched(method: Method) -> Iterator[list[GridEdit]]:
    """Record the inputs and outputs of an in-painter on its own grid, edit by edit."""
    assert isinstance(method, Learned)
    grids: list[GridEdit] = []
    on_grid = method.on_grid

    def kept(*arguments: Any) -> GridEdit:
        grids.append(on_grid(*arguments))
        return grids[-1]

    method.__dict__["on_grid"] = kept
    try:
        yield grids
    finally:
        del method.__dict__["on_grid"]


def _middles(volumes: Sequence[NDArray], captions: Sequence[str]) -> list[Slice]:
    found = []
    for hu, caption in zip(volumes, captions, strict=True):
        z, y, x = (n // 2 for n in hu.shape)
        found.append(Slice(hu[z], np.zeros(hu.shape[1:], bool), caption, (y, x), REAL, max(y, x)))
    return found


def _in_scan(before: Volume, after: Volume, place: Ball, own: Region, caption: str) -> list[Slice]:
    """Return the slice of a scan around a place, before and after an edit, with the nodule's outline."""
    z, y, x = np.rint(before.to_voxel(place.center_mm)).astype(int).tolist()
    half = round(AROUND_MM / before.spacing_mm[2])
    mask = own.within((z, 0, 0), (1, *before.shape[1:]))[0]
    none = np.zeros(mask.shape, bool)
    return [
        Slice(before.voxels[z], none, "the scan", (y, x), REAL, half),
        Slice(after.voxels[z], mask, caption, (y, x), SYNTHETIC, half),
    ]


def _save(panels: Sequence[Sequence[Slice]], file: Path) -> None:
    shown = [panel for row in panels for panel in row]
    ct_slices(shown, half=32, columns=len(panels[0])).savefig(file, bbox_inches="tight")
