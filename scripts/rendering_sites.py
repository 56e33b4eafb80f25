"""Real nodules, and for each of them a place without a nodule in another patient's scan with similar surroundings.

A network could recognise a nodule in empty lung by the missing vessels and walls. So the places are
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
from scipy.ndimage import binary_dilation, map_coordinates, maximum_filter, uniform_filter

from synthorax.annotations.lidc_table import LidcScan, read_lidc_scans
from synthorax.annotations.reading import Reading
from synthorax.datasets.store import Store
from synthorax.nodule import ORDINARY_KIND, RATINGS, Nodule, NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.region import agreement
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import axial_diameter_mm

SIZE = 22
"""Number of voxels, of 1 mm, of a patch along each axis."""
WIDEST_MM = 14.0
"""Nodules with a larger LUNA16 diameter are left out, because cubes of 50 mm have no space for them."""
DENSE_HU = -500
"""Denser voxels of the surroundings count as vessels and walls."""
GAP_MM, NEAR_MM, FAR_MM = 2, 5, 13
"""The surroundings are two shells, from the nodule's radius and 2 mm to that and 5 mm, and from there to 13 mm."""
CORE_HU, CORE_DENSE = (-980, -600), 0.15
"""A place has this mean HU within the nodule's radius, and at most this share of dense voxels."""
STEP = 2
"""Distance in voxels between two candidate places."""
MOST_OF_CUBE = 4
"""Largest number of nodules in one cube."""
GROUND_GLASS, SOLID = 2.0, 4.5
"""Mean rating of texture up to which a nodule is ground glass, and from which on it is solid."""
SPICULATED = 3.0
"""Of the 811 nodules up to `WIDEST_MM` 42 are rated 3 or more, but 23 are rated 3.5 or more."""
CORE_WEIGHT, WEIGHTS = 2.0, (1.0, 1.0, 0.01)
"""Weights of the share of dense voxels at the centre of a place, of those in the two shells, and of the HU of lung."""

MATCHED = tuple(name for name in RATINGS if name != "internal_structure")
"""Ratings of every reader in luna16-nodules, by which a nodule's readings in LIDC-IDRI's table are found."""
LEAST_MATCH = 0.7
"""Dice of the readers' outlines with the mask of a cube below which they are not known to lie at one place."""
NEAR_Z_MM = 3.0
"""A reading that ends farther above or below a nodule's centre belongs to another nodule."""

Kind = Literal["solid", "part-solid", "ground glass", "calcified"]


@dataclass(frozen=True, eq=False)
class Real:
    """A rated nodule of luna16-nodules.

    Attributes:
        hu: int16 [z, y, x], the cube of 1 mm voxels with the nodule in its middle.
        mask: bool [z, y, x], of all voxels that any reader outlined, or nearly so.
        asked_mm: longest chord within a slice of `outline`, on the voxels of the cube, as that of a rendered mask is
            measured. Where the outline is not known, the mean of the chords of the readers' outlines.
        outline: bool [z, y, x], of the reader whose outline has the median volume: a renderer's shapes are outlines
            of single readers.
        match: Dice of the voxels that any reader outlined, put where `outline` lies, with the mask.
    """

    patient: str
    split: str
    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    nodule: Nodule
    asked_mm: float
    outline: NDArray[np.bool_]
    match: float

    @cached_property
    def stated_mm(self) -> float:
        """The diameter that LUNA16 states."""
        return self.nodule.attributes.diameter_mm or 0.0

    @cached_property
    def chord_mm(self) -> float:
        """The longest chord of the mask within an axial slice."""
        return axial_diameter_mm(np.argwhere(self.mask), (1.0, 1.0, 1.0))

    @cached_property
    def radius(self) -> int:
        """The radius in voxels of the ball of the mask's volume."""
        return max(round(float((3 * self.mask.sum() / (4 * np.pi)) ** (1 / 3))), 1)

    @property
    def attributes(self) -> NoduleAttributes:
        """The readers' ratings except subtlety, and the diameter `asked_mm`."""
        return replace(self.nodule.attributes, subtlety=None, diameter_mm=round(self.asked_mm, 2))

    @property
    def kind(self) -> Kind:
        """The nodule's class by texture, or `calcified`."""
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
    def patch(self) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.bool_]]:
        """HU, mask and outline [z, y, x] of `SIZE` voxels around the middle."""
        box = (slice(self.hu.shape[0] // 2 - SIZE // 2, self.hu.shape[0] // 2 + SIZE // 2),) * 3
        return self.hu[box], self.mask[box], self.outline[box]

    @property
    def outlined(self) -> bool:
        """Whether the readers' outlines match the mask, so that HU within them can be measured."""
        return self.match >= LEAST_MATCH and bool(self.outline.any())


def real_nodules(store: Store) -> list[Real]:
    """Return the nodules of a store of cubes that have ratings, a mask and a diameter of at most `WIDEST_MM`."""
    found, scans = [], read_lidc_scans()
    for split in store.splits:
        for entry in store.in_split(split):
            nodule = entry.nodules[0]
            known = nodule.attributes.texture is not None and nodule.attributes.diameter_mm
            if known and (nodule.attributes.diameter_mm or 0) <= WIDEST_MM:
                case = store.read(entry.case_id)
                if (region := case.region(nodule)) is not None:
                    mask = region.within((0, 0, 0), entry.shape)
                    readings = readings_of(nodule, scans[nodule.extra["series_uid"]], mask)
                    chord = float(np.mean([_chord_mm(reading) for reading in readings]))
                    agreed, match = outline_of(readings, mask)
                    if match >= LEAST_MATCH:
                        chord = axial_diameter_mm(np.argwhere(agreed), (1.0, 1.0, 1.0))
                    hu = case.ct.voxels.astype(np.int16)
                    found.append(Real(entry.patient_id, split, hu, mask, nodule, chord, agreed, match))
    return found


def readings_of(nodule: Nodule, scan: LidcScan, mask: NDArray[np.bool_]) -> list[Reading]:
    """Return the readings of a nodule: those at its height whose ratings equal those of one of its readers.

    If there are more of these than readers, those with chords most similar to that of the mask.
    """
    rated = set(zip(*(nodule.ratings[name] for name in MATCHED), strict=True))
    found = []
    for reading in scan.readings:
        slices = [contour.slice_index for contour in reading.contours]
        low, high = (
            reading.scan.first_slice_z_mm + reading.scan.slice_spacing_mm * k for k in (min(slices), max(slices))
        )
        near = low - NEAR_Z_MM <= nodule.center_mm[2] <= high + NEAR_Z_MM
        if near and tuple(reading.ratings[name] for name in MATCHED) in rated:
            found.append(reading)
    own = axial_diameter_mm(np.argwhere(mask), (1.0, 1.0, 1.0))
    readers = len(nodule.ratings[MATCHED[0]])
    return sorted(found, key=lambda reading: abs(np.log(_chord_mm(reading) / own)))[:readers]


def outline_of(readings: Sequence[Reading], mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], float]:
    """Return a reader's outline in a cube, and the Dice of the union of the readers' outlines with the mask.

    The reader is the one whose outline has the median volume, of two the smaller. The table does not tell where a scan
    lies along x and y, so the middle of all that the readers outlined is put into the middle of the mask.
    """
    corner, counts = agreement([reading.region for reading in readings])
    spacing = np.array(readings[0].scan.voxel_mm)[:, None, None, None]
    index = np.indices(mask.shape) - np.argwhere(mask).mean(0)[:, None, None, None]
    at = index / spacing + np.argwhere(counts).mean(0)[:, None, None, None]
    one = sorted(readings, key=lambda reading: reading.region.voxels)[(len(readings) - 1) // 2]
    found, union = (
        map_coordinates(each.astype(np.float32), at, order=1, mode="grid-constant") >= 0.5
        for each in (one.region.within(corner, counts.shape), counts > 0)
    )
    return found, float(2 * (union & mask).sum() / max(union.sum() + mask.sum(), 1))


def _chord_mm(reading: Reading) -> float:
    return axial_diameter_mm(reading.region.indices(), reading.scan.voxel_mm)


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
    """Return a place for each nodule, of the same split; a nodule for which no place is left has none."""
    places = list(map_processes(_places, reals, chunk=16))
    jobs: list[Job] = []
    for split in dict.fromkeys(real.split for real in reals):
        rows = [i for i, real in enumerate(reals) if real.split == split]
        cube = np.concatenate([np.full(len(places[i].centers), i) for i in rows])
        centers = np.concatenate([places[i].centers for i in rows])
        dense = np.concatenate([places[i].dense for i in rows])
        lung = np.concatenate([places[i].lung for i in rows])
        means = np.concatenate([places[i].means for i in rows])
        patients = np.array([reals[i].patient for i in cube])
        free, often = np.ones(len(cube), bool), Counter[int]()
        for i in generator(seed, "order", split).permutation(rows).tolist():
            own = reals[i]
            core, mean = dense[:, own.radius] / (2 * own.radius + 1) ** 3, means[:, own.radius]
            fits = free & (patients != own.patient) & (core <= CORE_DENSE) & (mean > CORE_HU[0]) & (mean < CORE_HU[1])
            if not fits.any():
                continue
            around = zip(_shells(dense, lung, own.radius), _own_shells(own), WEIGHTS, strict=True)
            unlike = CORE_WEIGHT * core + sum(weight * abs(theirs - ours) for theirs, ours, weight in around)
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
    """Centres of patches without a nodule in one cube.

    Attributes:
        centers: [p, (z, y, x)].
        dense: number of dense voxels in the cube of half-width r about each, [p, r].
        lung: sum of the HU in it, of which dense voxels have `DENSE_HU`, [p, r].
        means: mean HU in it, [p, r].
    """

    centers: NDArray[np.int64]
    dense: NDArray[np.float64]
    lung: NDArray[np.float64]
    means: NDArray[np.float32]


def _places(real: Real) -> _Places:
    half, n = SIZE // 2, real.hu.shape[0]
    taken = maximum_filter(real.mask.view(np.uint8), SIZE)  # voxels -half to half - 1
    grid = np.arange(half, n - half + 1, STEP)
    centers = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), -1).reshape(-1, 3)
    centers = centers[taken[tuple(centers.T)] == 0]
    at = tuple(centers.T)
    dense, hu = (real.hu > DENSE_HU).astype(np.float32), real.hu.astype(np.float32)
    counts, lung, means = (
        np.stack([_sums(values, r)[at] for r in range(FAR_MM + 1)], 1)
        for values in (dense, hu.clip(None, DENSE_HU), hu)
    )
    voxels = (2 * np.arange(FAR_MM + 1) + 1) ** 3
    return _Places(centers, counts.astype(np.float64), lung.astype(np.float64), (means / voxels).astype(np.float32))


def _sums(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Return the sum over the cube of half-width `radius` around each voxel; voxels beyond the border are mirrored."""
    width = 2 * radius + 1
    sums: NDArray[np.float32] = uniform_filter(values, width) * width**3
    return sums


def _radii(radius: int) -> tuple[int, int, int]:
    """Return the half-widths that bound the two shells around a nodule."""
    return min(radius + GAP_MM, FAR_MM - 2), min(radius + NEAR_MM, FAR_MM - 1), FAR_MM


def _shells(dense: NDArray[np.float64], lung: NDArray[np.float64], radius: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return the shares of dense voxels in the two shells, and the HU of lung in both together, each [p]."""
    gap, near, far = _radii(radius)

    def mean(sums: NDArray[np.float64], inner: int, outer: int) -> NDArray[np.float64]:
        means: NDArray[np.float64] = (sums[:, outer] - sums[:, inner]) / ((2 * outer + 1) ** 3 - (2 * inner + 1) ** 3)
        return means

    return mean(dense, gap, near), mean(dense, near, far), mean(lung, gap, far)


def _own_shells(real: Real) -> tuple[float, float, float]:
    """Return the same for a real nodule's surroundings; its own voxels and a margin of 2 mm do not count."""
    outside = ~binary_dilation(real.mask, iterations=GAP_MM)
    middle = real.hu.shape[0] // 2
    gap, near, far = _radii(real.radius)

    def mean(values: NDArray, inner: int, outer: int) -> float:
        shell = np.zeros(real.hu.shape, bool)
        shell[(slice(middle - outer, middle + outer + 1),) * 3] = True
        shell[(slice(middle - inner, middle + inner + 1),) * 3] = False
        inside = shell & outside
        return float(values[inside].mean()) if inside.any() else float(values[shell].mean())

    dense = real.hu > DENSE_HU
    return mean(dense, gap, near), mean(dense, near, far), mean(real.hu.clip(None, DENSE_HU), gap, far)


def write_jobs(
    folder: Path,
    reals: Sequence[Real],
    jobs: Sequence[Job],
    outlines: Sequence[str],
    attributes: Sequence[NoduleAttributes],
    *,
    own_shapes: bool = False,
) -> None:
    """Write the jobs that `rendering_made.py` reads.

    Args:
        outlines: patients whose outlines may be used.
        attributes: attributes of each job's nodule.
        own_shapes: whether every nodule gets the shape of its real twin's outline.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cubes = sorted({job.cube for job in jobs})
    numbers = {cube: k for k, cube in enumerate(cubes)}
    arrays = {"cubes": np.stack([reals[cube].hu for cube in cubes])}
    if own_shapes:
        arrays["shapes"] = np.stack([reals[job.real].outline for job in jobs])
    np.savez_compressed(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    rows = [
        {"cube": numbers[job.cube], "center": job.center, "attributes": one.given(), "seed": job.seed}
        for job, one in zip(jobs, attributes, strict=True)
    ]
    (folder / "jobs.json").write_text(json.dumps({"size": SIZE, "outlines": list(outlines), "jobs": rows}))
