"""Edits of the chests of a study: nodules put in at a free place, nodules taken out, and edits of healthy places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.morphology import distance_inside
from synthorax.anatomy.placement import Ball, Clearance, Placement
from synthorax.annotations.lidc_draws import draw_lidc_diameters
from synthorax.datasets.chest_grid import ChestRegion
from synthorax.datasets.places import HEALTHY_LUNG_HU
from synthorax.datasets.progress import with_progress
from synthorax.editing.erase import Unwanted, erase_nodules
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.errors import InputError
from synthorax.geometry import resized_box
from synthorax.makers import Method
from synthorax.seeding import derive, generator
from synthorax.studies.patch_makers import kept_patches
from synthorax.volume import Volume

EDIT_CLEARANCE = Clearance(wall_mm=1.0, vessel_mm=None, nodule_mm=5.0)
"""Distances that a nodule keeps from other things in a whole chest."""
LUNG_BLUR_MM = 1.5
"""Standard deviation of the Gaussian after which a voxel of a cube is taken for lung by its HU."""
SHAM_MM = 8.0
"""Diameter of the healthy ball that a sham edit replaces."""
CHESTS_A_FILE = 25
"""Chests that one file of a stopped study keeps."""
NO_CHEST = np.iinfo(np.int16).min
"""HU of all voxels of a chest that could not be made."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class ChestEdits:
    """The edits of a study.

    Attributes:
        injector: puts nodules in.
        eraser: takes tissue out; None where there is none.
        region: kind of the chests: whole ones, or cubes.
    """

    injector: Method
    eraser: Method | None
    region: ChestRegion

    def with_nodules(self, ct: Volume, diameters_mm: Sequence[float], seed: int) -> Volume:
        """Put nodules of some diameters into a chest, each where there is room; those without room are left out.

        Raises:
            InputError: no lung, or no nodule for which there is room.
        """
        lungs = find_lungs(ct) if self.region == "lungs" else None
        placement = Placement(lungs) if lungs is not None else None
        wanted, refused = [], None
        for i, mm in enumerate(diameters_mm):
            own = derive(seed, "place", i)
            try:
                if placement is not None:
                    wanted.append(Wanted(placement.find(mm, own, clearance=EDIT_CLEARANCE)))
                elif not wanted:  # a cube has room for one
                    wanted.append(Wanted(_free_place(ct, mm, own)))
            except InputError as error:
                refused = error
        if not wanted:
            raise refused or InputError("nodules", "none", "one or more")
        return inject_nodules(ct, wanted, self.injector, seed, lungs=lungs).ct

    def with_sham_edit(self, ct: Volume, seed: int) -> Volume:
        """Let the eraser replace healthy tissue at a free place.

        Raises:
            InputError: no eraser, or no free place.
        """
        if self.eraser is None:
            raise InputError("sham edit", "no eraser", "a model that erases")
        if self.region == "lungs":
            place = Placement(find_lungs(ct)).find(SHAM_MM, seed, clearance=EDIT_CLEARANCE)
        else:
            place = _free_place(ct, SHAM_MM, seed)
        return erase_nodules(ct, [Unwanted(place)], self.eraser, seed, force=True).ct


def lidc_diameters(seed: int, region: ChestRegion) -> tuple[float, ...]:
    """The diameters in mm of the nodules of a scan of LIDC-IDRI, drawn; of a cube the widest one alone."""
    drawn = draw_lidc_diameters(seed)
    return drawn if region == "lungs" else (max(drawn),)


def on_grid(ct: Volume, size: tuple[int, int, int]) -> NDArray[np.int16]:
    """The voxels of a chest on the grid of a classifier."""
    if ct.shape == size:
        return np.asarray(ct.voxels, np.int16)
    return np.asarray(resized_box(ct, (0, 0, 0), ct.shape, size).voxels, np.int16)


def kept_chests(
    folder: Path,
    name: str,
    key: str,
    items: Sequence[Item],
    make: Callable[[Item], NDArray[np.int16]],
    size: tuple[int, int, int],
) -> NDArray[np.int16]:
    """Chests on a grid, [n, z, y, x], one of each item; kept some at a time, so that a stopped study goes on.

    Args:
        folder: of the files.
        key: of everything that `make` depends on.
        make: gives a chest; where it raises an `InputError` the row is `NO_CHEST`.

    Raises:
        OutputError: a file cannot be written.
    """

    def one(item: Item) -> NDArray[np.int16]:
        try:
            return make(item)
        except InputError:
            return np.full(size, NO_CHEST, np.int16)

    def some_of(start: int) -> NDArray[np.int16]:
        part = items[start : start + CHESTS_A_FILE]
        return np.stack([one(item) for item in with_progress(part, name, len(part))])

    parts = [np.zeros((0, *size), np.int16)]
    for start in range(0, len(items), CHESTS_A_FILE):
        count = min(CHESTS_A_FILE, len(items) - start)
        file = folder / f"{name.replace(' ', '-')}-{key[:12]}-{start:05d}-{count}.npy"
        parts.append(kept_patches(file, partial(some_of, start)))
    return np.concatenate(parts)


def is_made(chests: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which rows [n] could be made."""
    return np.asarray((chests != NO_CHEST).any((1, 2, 3)))


def _free_place(ct: Volume, diameter_mm: float, seed: int) -> Ball:
    """A place in a cube that has as much lung around it as a nodule is wide, drawn evenly from all such places.

    Raises:
        InputError: none.
    """
    blur = [LUNG_BLUR_MM / s for s in ct.spacing_mm]
    hu = gaussian_filter(ct.voxels.astype(np.float32), blur)
    low, high = HEALTHY_LUNG_HU
    lung = np.pad((hu > low) & (hu < high), 1)  # the border of the cube is no lung
    room = distance_inside(lung, ct.spacing_mm)[1:-1, 1:-1, 1:-1]
    free = np.argwhere(room >= diameter_mm / 2)
    if not len(free):
        raise InputError("diameter", f"{diameter_mm:g} mm", f"at most {2 * float(room.max()):.3g} mm in this cube")
    at = free[int(generator(seed, "free place").integers(len(free)))]
    x, y, z = ct.to_world(at.astype(float)).tolist()
    return Ball((x, y, z), diameter_mm)
