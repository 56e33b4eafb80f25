"""Edits of a study's chests: nodules injected at free places, nodules erased, and sham edits of healthy places."""

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
"""Distances that an injected nodule keeps from walls, vessels and other nodules in a whole chest."""
LUNG_BLUR_MM = 1.5
"""Standard deviation in mm of the Gaussian blur of a cube; voxels are classed as lung by their HU after it."""
SHAM_MM = 8.0
"""Diameter in mm of the healthy ball that a sham edit replaces."""
CHESTS_A_FILE = 25
"""Chests kept in one file; a study that is stopped loses at most this many."""
NO_CHEST = np.iinfo(np.int16).min
"""Value of every voxel of a chest that could not be made."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class ChestEdits:
    """The edits of a study's chests.

    Attributes:
        injector: puts nodules in.
        eraser: replaces nodules, or healthy tissue in a sham edit; None for a study without an eraser.
        region: `lungs` if the chests are whole, `cube` if they are cubes.
    """

    injector: Method
    eraser: Method | None
    region: ChestRegion

    def with_nodules(self, ct: Volume, diameters_mm: Sequence[float], seed: int) -> Volume:
        """Put nodules of given diameters into a chest at free places; nodules for which there is no room are left out.

        A cube gets at most one nodule.

        Raises:
            InputError: no lungs are found, or there is room for none of the nodules.
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
            raise refused or InputError("nodules", "no diameter", "one or more")
        return inject_nodules(ct, wanted, self.injector, seed, lungs=lungs).ct

    def with_sham_edit(self, ct: Volume, seed: int) -> Volume:
        """Let the eraser replace a ball of `SHAM_MM` of healthy tissue at a free place.

        Raises:
            InputError: the study has no eraser, or the chest has no free place.
        """
        if self.eraser is None:
            raise InputError("sham edit", "no eraser", "a model that erases")
        if self.region == "lungs":
            place = Placement(find_lungs(ct)).find(SHAM_MM, seed, clearance=EDIT_CLEARANCE)
        else:
            place = _free_place(ct, SHAM_MM, seed)
        return erase_nodules(ct, [Unwanted(place)], self.eraser, seed, force=True).ct


def lidc_diameters(seed: int, region: ChestRegion) -> tuple[float, ...]:
    """Draw the diameters in mm of the nodules of one LIDC-IDRI scan; for a cube, return only the largest."""
    drawn = draw_lidc_diameters(seed)
    return drawn if region == "lungs" else (max(drawn),)


def on_grid(ct: Volume, size: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return the voxels of a chest resampled to the size (z, y, x) of a classifier's input, int16 HU."""
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
    """Make one chest from each item, int16 HU [n, z, y, x], and keep them in files, so that a stopped study resumes.

    Args:
        folder: folder of the files.
        name: name of the chests in the progress bar and in the file names.
        key: hash of everything that `make` depends on.
        items: arguments of `make`.
        make: makes a chest of `size`; if it raises an `InputError`, all voxels of the row are `NO_CHEST`.
        size: voxels (z, y, x) of a chest.

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
    """Return which chests could be made, bool [n]: those with a voxel other than `NO_CHEST`."""
    return np.asarray((chests != NO_CHEST).any((1, 2, 3)))


def _free_place(ct: Volume, diameter_mm: float, seed: int) -> Ball:
    """Draw a place in a cube around which a ball of the given diameter is lung, uniformly among all such voxels.

    Raises:
        InputError: the cube has no such place.
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
