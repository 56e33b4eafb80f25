"""Real nodules, and for each of them a place without a nodule in another patient's scan with like surroundings.

A nodule put where a lung is empty is told from a real one by the vessels and walls that it lacks. So the places are
those whose surroundings are as dense as the real nodule's are, shell by shell.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, maximum_filter, uniform_filter

from synthorax.datasets.store import Store
from synthorax.nodule import ORDINARY_KIND, Nodule, NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import axial_diameter_mm

SIZE = 22
"""Voxels of 1 mm of a patch along each axis."""
WIDEST_MM = 14.0
"""Nodules of a larger LUNA16 diameter are left out: cubes of 50 mm have no place for them."""
DENSE_HU = -500
"""Denser voxels of the surroundings are vessels and walls."""
GAP_MM, NEAR_MM, FAR_MM = 2, 5, 13
"""The surroundings are two shells, from the nodule's radius and 2 mm to that and 5 mm, and from there to 13 mm."""
CORE_HU, CORE_DENSE = (-980, -600), 0.15
"""A place has this mean HU within the nodule's radius, and at most this share of dense voxels."""
STEP = 2
"""Voxels between two places that are looked at."""
MOST_OF_CUBE = 4
"""Nodules put into one cube."""
GROUND_GLASS, SOLID = 2.0, 4.5
"""Mean rating of texture up to which a nodule is ground glass, and from which on it is solid."""
SPICULATED = 3.0
"""Of the 811 nodules up to `WIDEST_MM` 42 are rated 3 or more, but 23 are rated 3.5 or more."""
CORE_WEIGHT = 2.0
"""How much the share of dense voxels in the middle of a place counts beside those of the two shells."""

Kind = Literal["solid", "part-solid", "ground glass", "calcified"]


@dataclass(frozen=True, eq=False)
class Real:
    """A rated nodule of luna16-nodules.

    Attributes:
        hu: int16 [z, y, x], the cube of 1 mm voxels with the nodule in its middle.
        mask: bool [z, y, x].
    """

    patient: str
    split: str
    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    nodule: Nodule

    @cached_property
    def stated_mm(self) -> float:
        """The diameter that LUNA16 states."""
        return self.nodule.attributes.diameter_mm or 0.0

    @cached_property
    def chord_mm(self) -> float:
        """The longest chord of the mask within a slice, which is what a renderer takes a diameter for."""
        return axial_diameter_mm(np.argwhere(self.mask), (1.0, 1.0, 1.0))

    @cached_property
    def radius(self) -> int:
        """The radius in voxels of the ball of the mask's volume."""
        return max(round(float((3 * self.mask.sum() / (4 * np.pi)) ** (1 / 3))), 1)

    @property
    def attributes(self) -> NoduleAttributes:
        """The readers' ratings but that of subtlety; the diameter is the chord."""
        return replace(self.nodule.attributes, subtlety=None, diameter_mm=round(self.chord_mm, 2))

    @property
    def kind(self) -> Kind:
        """Its class by texture, or calcified."""
        a = self.nodule.attributes
        if a.calcification not in (None, ORDINARY_KIND["calcification"]):
            return "calcified"
        texture = a.texture or SOLID
        return "ground glass" if texture <= GROUND_GLASS else "part-solid" if texture < SOLID else "solid"

    @property
    def spiculated(self) -> bool:
        """Whether readers rate its spiculation as at least `SPICULATED` in the mean."""
        return (self.nodule.attributes.spiculation or 1) >= SPICULATED

    @property
    def patch(self) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """HU and mask [z, y, x] of `SIZE` voxels around the middle."""
        box = (slice(self.hu.shape[0] // 2 - SIZE // 2, self.hu.shape[0] // 2 + SIZE // 2),) * 3
        return self.hu[box], self.mask[box]


def real_nodules(store: Store) -> list[Real]:
    """The nodules of a store of cubes that have ratings, a mask and a diameter of at most `WIDEST_MM`."""
    found = []
    for split in store.splits:
        for entry in store.in_split(split):
            nodule = entry.nodules[0]
            known = nodule.attributes.texture is not None and nodule.attributes.diameter_mm
            if known and (nodule.attributes.diameter_mm or 0) <= WIDEST_MM:
                case = store.read(entry.case_id)
                if (region := case.region(nodule)) is not None:
                    mask = region.within((0, 0, 0), entry.shape)
                    found.append(Real(entry.patient_id, split, case.ct.voxels.astype(np.int16), mask, nodule))
    return found


@dataclass(frozen=True)
class Job:
    """A nodule to be made.

    Attributes:
        real: number of the real nodule whose attributes it gets.
        cube: number of the real nodule whose cube it is put into.
        center: index (z, y, x) in that cube.
    """

    real: int
    cube: int
    center: tuple[int, int, int]
    seed: int


def matched_jobs(reals: Sequence[Real], seed: int) -> list[Job]:
    """A place for each nodule, of the same split; nodules for which no place is left have none."""
    places = list(map_processes(_places, reals, chunk=16))
    jobs: list[Job] = []
    for split in dict.fromkeys(real.split for real in reals):
        rows = [i for i, real in enumerate(reals) if real.split == split]
        cube = np.concatenate([np.full(len(places[i].centers), i) for i in rows])
        centers = np.concatenate([places[i].centers for i in rows])
        dense = np.concatenate([places[i].dense for i in rows])
        means = np.concatenate([places[i].means for i in rows])
        patients = np.array([reals[i].patient for i in cube])
        free, often = np.ones(len(cube), bool), Counter[int]()
        for i in generator(seed, "order", split).permutation(rows).tolist():
            own = reals[i]
            core, near, far = _shells(dense, own.radius)
            mean = means[:, own.radius]
            fits = free & (patients != own.patient) & (core <= CORE_DENSE) & (mean > CORE_HU[0]) & (mean < CORE_HU[1])
            if not fits.any():
                continue
            _, own_near, own_far = _own_shells(own)
            unlike = abs(near - own_near) + abs(far - own_far) + CORE_WEIGHT * core
            best = int(np.where(fits, unlike, np.inf).argmin())
            at = int(cube[best])
            z, y, x = centers[best].tolist()
            jobs.append(Job(i, at, (z, y, x), derive(seed, "job", i)))
            free[best] = False
            often[at] += 1
            if often[at] >= MOST_OF_CUBE:
                free &= cube != at
    return sorted(jobs, key=lambda job: job.real)


@dataclass(frozen=True, eq=False)
class _Places:
    """Middles of patches without a nodule in one cube.

    Attributes:
        centers: [p, (z, y, x)].
        dense: number of dense voxels in the cube of half-width r about each, [p, r].
        means: mean HU in it, [p, r].
    """

    centers: NDArray[np.int64]
    dense: NDArray[np.float64]
    means: NDArray[np.float32]


def _places(real: Real) -> _Places:
    half, n = SIZE // 2, real.hu.shape[0]
    taken = maximum_filter(real.mask.view(np.uint8), SIZE)  # voxels -half to half - 1
    grid = np.arange(half, n - half + 1, STEP)
    centers = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), -1).reshape(-1, 3)
    centers = centers[taken[tuple(centers.T)] == 0]
    at = tuple(centers.T)
    dense, hu = (real.hu > DENSE_HU).astype(np.float32), real.hu.astype(np.float32)
    counts = [_sums(dense, r)[at] for r in range(FAR_MM + 1)]
    means = [_sums(hu, r)[at] / (2 * r + 1) ** 3 for r in range(FAR_MM + 1)]
    return _Places(centers, np.stack(counts, 1).astype(np.float64), np.stack(means, 1).astype(np.float32))


def _sums(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """The sum over the cube of half-width `radius` about each voxel; beyond the border its mirror image goes on."""
    width = 2 * radius + 1
    sums: NDArray[np.float32] = uniform_filter(values, width) * width**3
    return sums


def _shells(dense: NDArray[np.float64], radius: int) -> tuple[NDArray, NDArray, NDArray]:
    """Shares of dense voxels in the middle and in the two shells, each [p]."""
    gap, near = min(radius + GAP_MM, FAR_MM - 1), min(radius + NEAR_MM, FAR_MM - 1)

    def share(inner: int, outer: int) -> NDArray[np.float64]:
        voxels = (2 * outer + 1) ** 3 - (2 * inner + 1) ** 3
        shares: NDArray[np.float64] = (dense[:, outer] - dense[:, inner]) / max(voxels, 1)
        return shares

    return dense[:, radius] / (2 * radius + 1) ** 3, share(gap, near), share(near, FAR_MM)


def _own_shells(real: Real) -> tuple[float, float, float]:
    """The same of a real nodule's surroundings; its own voxels, and 2 mm around them, count neither way."""
    outside = ~binary_dilation(real.mask, iterations=GAP_MM)
    dense = (real.hu > DENSE_HU) & outside
    middle = real.hu.shape[0] // 2
    gap, near = min(real.radius + GAP_MM, FAR_MM - 1), min(real.radius + NEAR_MM, FAR_MM - 1)

    def count(values: NDArray[np.bool_], radius: int) -> int:
        return int(values[(slice(middle - radius, middle + radius + 1),) * 3].sum())

    def share(inner: int, outer: int) -> float:
        return (count(dense, outer) - count(dense, inner)) / max(count(outside, outer) - count(outside, inner), 1)

    return 0.0, share(gap, near), share(near, FAR_MM)


def write_jobs(folder: Path, reals: Sequence[Real], jobs: Sequence[Job], outlines: Sequence[str]) -> None:
    """Write what `rendering_made.py` reads.

    Args:
        outlines: patients whose outlines may be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "cubes.npz", cubes=np.stack([real.hu for real in reals]))
    rows = [
        {"cube": job.cube, "center": job.center, "attributes": reals[job.real].attributes.given(), "seed": job.seed}
        for job in jobs
    ]
    (folder / "jobs.json").write_text(json.dumps({"size": SIZE, "outlines": list(outlines), "jobs": rows}))
