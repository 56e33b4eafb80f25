#!/usr/bin/env python3
"""Add nodules to cubes of CT with the `synthorax` that Python imports, so that two versions can be compared.

    PYTHONPATH=CHECKOUT/src python scripts/rendering_made.py JOBS OUT.npz

JOBS is a folder from `rendering_sites.write_jobs`. OUT has `hu` int16 and `mask` bool [n, z, y, x] around each
nodule, `visible` bool [n] as reported by the version, and `notes`, its notes on each nodule as one text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.placement import Ball
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.makers import Method
from synthorax.nodule import NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.rendering.config import Options
from synthorax.rendering.maker import maker
from synthorax.volume import Volume

Job = tuple[Mapping[str, Any], NDArray[np.int16], NDArray[np.bool_] | None]
"""A row of the jobs, its cube, and the mask whose shape its nodule gets, if one is given."""


@dataclass(frozen=True)
class Made:
    """A picklable function of a job."""

    method: Method
    size: int

    def __call__(self, job: Job) -> tuple[NDArray[np.int16], NDArray[np.bool_], bool, str]:
        """Return HU and mask of the patch, whether the nodule is reported as visible, and the notes on it."""
        row, cube, shape = job
        z, y, x = row["center"]
        spacing = (1.0, 1.0, 1.0)
        method = self.method if shape is None else maker(Options(shapes=Volume(shape, spacing)))
        asked = {name: value for name, value in row["attributes"].items() if name in method.heeds}
        place = Ball((x, y, z), row["attributes"]["diameter_mm"])
        wanted = Wanted(place, NoduleAttributes(**asked), True)
        edited = inject_nodules(Volume(cube, spacing), [wanted], method, row["seed"])
        half = self.size // 2
        box = tuple(slice(c - half, c + half) for c in (z, y, x))
        seen = edited.nodules[0].extra["visible"] == "yes"
        return edited.ct.voxels[box].astype(np.int16), edited.mask.voxels[box] > 0, seen, "\n".join(edited.notes)


def main() -> None:
    """Make all nodules."""
    folder, out = map(Path, sys.argv[1:])
    given = json.loads((folder / "jobs.json").read_text())
    arrays = np.load(folder / "arrays.npz")
    cubes, shapes = arrays["cubes"], arrays["shapes"] if "shapes" in arrays else [None] * len(given["jobs"])
    method = maker(Options(patients=frozenset(given["outlines"])))
    jobs: list[Job] = [(row, cubes[row["cube"]], shape) for row, shape in zip(given["jobs"], shapes, strict=True)]
    hu, masks, visible, notes = zip(*map_processes(Made(method, given["size"]), jobs, chunk=8), strict=True)
    np.savez_compressed(
        out, hu=np.stack(hu), mask=np.stack(masks), visible=np.array(visible), notes=np.array(notes, dtype=str)
    )


if __name__ == "__main__":
    main()
