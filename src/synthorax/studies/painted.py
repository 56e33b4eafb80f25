"""Nodules put into healthy sites of scans by any method and several seeds, along the way of `synthorax inject`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.placement import Ball
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.errors import InputError
from synthorax.makers import Method
from synthorax.metrics.appearance import Nodules
from synthorax.nodule import NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.seeding import derive
from synthorax.volume import Volume

PaintedPatch = tuple[NDArray, NDArray, NDArray[np.bool_], NDArray[np.bool_], NDArray | None, NDArray[np.int64]]
"""HU before and after [z, y, x], region, mask, HU without the scan's noise or None, and the index of the place."""


@dataclass(frozen=True, eq=False)
class HealthySite:
    """A place without a nodule, and the nodule that is to be put there.

    Attributes:
        ct: HU of the part of a scan around the place.
        center_mm: (x, y, z), LPS.
        asked: attributes; the diameter is given. Seeds are compared with real nodules that share the diameter and the
            texture alone, so whatever else is asked for makes the seeds of a site more alike than these are.
        patient: whose scan it is.
    """

    ct: Volume
    center_mm: tuple[float, float, float]
    asked: NoduleAttributes
    patient: str


@dataclass(frozen=True, eq=False)
class Painted:
    """Patches into which nodules were put; the patches of one site differ by their seed alone.

    Site i of a seed is painted alike whichever sites come after it.

    Attributes:
        before, after: HU [n, z, y, x].
        regions: bool [n, z, y, x], the voxels that might change.
        masks: bool [n, z, y, x], the nodules' voxels.
        sites: number of each patch's site, int64 [n].
        seeds: int64 [n].
        asked: attributes that were asked for at each site; `sites` counts in it.
        patients: of each site.
        spacing_mm: voxel size (z, y, x).
        bare: as `after`, without the scan's noise put back in; None where the method cannot leave it out.
        refused: why there is no patch of a site and seed, a sentence each.
        middles: index (z, y, x) of the place in each patch, int64 [n, 3]; the middle of the patch if not given.

    Raises:
        InputError: arrays of different shapes, or a patch without a voxel of its nodule.
    """

    before: NDArray
    after: NDArray
    regions: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    sites: NDArray[np.int64]
    seeds: NDArray[np.int64]
    asked: Sequence[NoduleAttributes]
    patients: NDArray[np.str_]
    spacing_mm: tuple[float, float, float]
    bare: NDArray | None = None
    refused: tuple[str, ...] = ()
    middles: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        arrays = [self.before, self.after, self.regions, self.masks, *([] if self.bare is None else [self.bare])]
        rows = {len(self.before), len(self.sites), len(self.seeds)}
        if len({array.shape for array in arrays}) != 1 or len(rows) != 1:
            found = f"arrays {[array.shape for array in arrays]}, {len(self.sites)} sites, {len(self.seeds)} seeds"
            raise InputError("painted patches", found, "one shape [n, z, y, x] and a site and a seed for each patch")
        Nodules(self.after, self.masks, self.spacing_mm)

    @property
    def owners(self) -> NDArray[np.str_]:
        """The patient of each patch, [n]."""
        return self.patients[self.sites]

    def around(self, values: NDArray, size: tuple[int, int, int]) -> NDArray:
        """The parts of patches [n, z, y, x] around the places, of another size; moved inside where they reach beyond.

        Args:
            values: such as `after` or `masks`.
            size: voxels (z, y, x), the index of the place is the half of each, rounded down.
        """
        shape = np.array(values.shape[1:])
        middles = np.tile(shape // 2, (len(values), 1)) if self.middles is None else self.middles
        starts = np.clip(middles - np.array(size) // 2, 0, shape - size)
        return np.stack(
            [
                each[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
                for each, start in zip(values, starts.tolist(), strict=True)
            ]
        )

    def rows(self, rows: NDArray[np.int64]) -> Painted:
        """Some of the patches."""
        return replace(
            self,
            before=self.before[rows],
            after=self.after[rows],
            regions=self.regions[rows],
            masks=self.masks[rows],
            sites=self.sites[rows],
            seeds=self.seeds[rows],
            bare=None if self.bare is None else self.bare[rows],
            middles=None if self.middles is None else self.middles[rows],
        )

    @property
    def wanted(self) -> list[NoduleAttributes]:
        """What was asked for in each patch, [n]."""
        return [self.asked[i] for i in self.sites.tolist()]


def painted(
    method: Method,
    sites: Sequence[HealthySite],
    seeds: Sequence[int],
    size: tuple[int, int, int],
    *,
    bare: Method | None = None,
) -> Painted:
    """Put a nodule into each site by each seed; what the method refuses is told in `refused`.

    Args:
        method: injects nodules; it is told the attributes that it heeds.
        size: voxels (z, y, x) of the patches that are kept around the sites; a patch that would reach beyond its scan
            is moved inside. It should hold the edit region, with voxels around it.
        bare: the same method without the scan's noise put back in.

    Raises:
        InputError: no site, scans of different spacing, a scan smaller than the patches, or no site where the method
            puts a nodule.
    """
    if not sites or any(site.asked.diameter_mm is None for site in sites):
        raise InputError(
            "sites", "none" if not sites else "one without a diameter", "one or more, each with a diameter"
        )
    if len(spacings := {site.ct.spacing_mm for site in sites}) > 1:
        raise InputError("sites", f"scans with voxels of {' and '.join(map(str, sorted(spacings)))} mm", "one size")
    if small := [site.ct.shape for site in sites if np.less(site.ct.shape, size).any()]:
        raise InputError("sites", f"a scan of {small[0]} voxels", f"{size} or more, the size of the patches")
    # Seeds of two sites are as independent as those of one.
    jobs = [(site, derive(seed, "site", i)) for i, site in enumerate(sites) for seed in seeds]
    work = _Paint(method, bare, size)
    # A method with a model computes in this process, whose threads it uses.
    found = list(map(work, jobs) if method.lineage.model_sha256 else map_processes(work, jobs, chunk=4))
    numbers = [(site, seed) for site in range(len(sites)) for seed in seeds]
    there = [(*number, one) for number, one in zip(numbers, found, strict=True) if not isinstance(one, str)]
    refused = [
        f"site {i}, seed {seed}: {one}" for (i, seed), one in zip(numbers, found, strict=True) if isinstance(one, str)
    ]
    if not there:
        raise InputError("sites", f"none at which {method.name} puts a nodule ({refused[0]})", "one or more")
    before, after, regions, masks, without, middles = zip(*(one for _, _, one in there), strict=True)
    return Painted(
        before=np.stack(before),
        after=np.stack(after),
        regions=np.stack(regions),
        masks=np.stack(masks),
        sites=np.array([site for site, _, _ in there], np.int64),
        seeds=np.array([seed for _, seed, _ in there], np.int64),
        asked=[site.asked for site in sites],
        patients=np.array([site.patient for site in sites]),
        spacing_mm=sites[0].ct.spacing_mm,
        bare=None if bare is None else np.stack(without),
        refused=tuple(refused),
        middles=np.stack(middles),
    )


@dataclass(frozen=True)
class _Paint:
    """A picklable function of a site and a seed to the patch, or to why there is none."""

    method: Method
    bare: Method | None
    size: tuple[int, int, int]

    def __call__(self, job: tuple[HealthySite, int]) -> PaintedPatch | str:
        try:
            return self._painted(*job)
        except InputError as error:
            return str(error)

    def _painted(self, site: HealthySite, seed: int) -> PaintedPatch:
        heeded = {name: value for name, value in site.asked.given().items() if name in self.method.heeds}
        wanted = Wanted(Ball(site.center_mm, site.asked.diameter_mm or 0.0), NoduleAttributes(**heeded), True)
        middle = np.rint(site.ct.to_voxel(site.center_mm)).astype(int)
        start = np.clip(middle - np.array(self.size) // 2, 0, np.subtract(site.ct.shape, self.size))
        box = tuple(slice(a, a + n) for a, n in zip(start.tolist(), self.size, strict=True))
        edited = inject_nodules(site.ct, [wanted], self.method, seed)
        without = None
        if self.bare is not None:
            without = inject_nodules(site.ct, [wanted], self.bare, seed).ct.voxels[box]
        before, after, region, mask = (
            volume.voxels[box] for volume in (site.ct, edited.ct, edited.region, edited.mask)
        )
        return before, after, region > 0, mask > 0, without, middle - start
