"""Injecting nodules at healthy sites with any method and several seeds, through the function of `synthorax inject`."""

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
from synthorax.region import Region
from synthorax.seeding import derive
from synthorax.volume import Volume

PaintedPatch = tuple[NDArray, NDArray, NDArray[np.bool_], NDArray[np.bool_], NDArray | None, NDArray[np.int64]]
"""HU before and after [z, y, x], region, mask, HU without the scan's noise or None, and the index of the place."""


@dataclass(frozen=True, eq=False)
class HealthySite:
    """A place without a nodule, and the nodule to be put there.

    Attributes:
        ct: the part of a scan around the place, HU.
        center_mm: the place (x, y, z), LPS.
        asked: requested attributes, with a diameter. The diversity of seeds is compared with that of real nodules of
            the same diameter and texture; requesting further attributes makes seeds more alike than those nodules.
        patient: patient of the scan.
        outline: voxels of `ct` that the nodule is to have; the method chooses them if not given.
    """

    ct: Volume
    center_mm: tuple[float, float, float]
    asked: NoduleAttributes
    patient: str
    outline: Region | None = None


@dataclass(frozen=True, eq=False)
class Painted:
    """Patches into which a method put nodules. The patches of one site differ only by their seed.

    A patch depends on its site and seed alone, not on the sites after it.

    Attributes:
        before, after: HU before and after the edit, [n, z, y, x].
        regions: edit regions, bool [n, z, y, x].
        masks: voxels of the nodules, bool [n, z, y, x].
        sites: index of each patch's site in `asked` and `patients`, int64 [n].
        seeds: seed of each patch, int64 [n].
        asked: attributes requested at each site.
        patients: patient of each site.
        spacing_mm: voxel size (z, y, x).
        bare: HU after an edit whose noise was not exchanged for the scan's, [n, z, y, x]; None without such an edit.
        refused: a sentence for each site and seed that the method refused.
        middles: index (z, y, x) of the place in each patch, int64 [n, 3]; by default the middle of the patch.

    Raises:
        InputError: arrays have different shapes, or a patch has an empty mask.
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
        """Patient of each patch, [n]."""
        return self.patients[self.sites]

    def around(self, values: NDArray, size: tuple[int, int, int]) -> NDArray:
        """Cut parts of another size around the places out of patches; a part that leaves its patch is moved inside.

        Args:
            values: an array [n, z, y, x], such as `after` or `masks`.
            size: voxels (z, y, x) of the parts. In a part that was not moved, the place has the index `size // 2`.
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
        """Return some of the patches."""
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
        """Attributes requested in each patch, [n]."""
        return [self.asked[i] for i in self.sites.tolist()]


def painted(
    method: Method,
    sites: Sequence[HealthySite],
    seeds: Sequence[int],
    size: tuple[int, int, int],
    *,
    bare: Method | None = None,
) -> Painted:
    """Put a nodule into each site with each seed.

    Args:
        method: injects nodules; it gets those of the requested attributes that it heeds.
        sites: the places.
        seeds: the seeds.
        size: voxels (z, y, x) of the patches to keep around the sites; it should exceed the edit region. A patch that
            would leave its scan is moved inside.
        bare: the same method without exchanging its noise for the scan's; None to leave `Painted.bare` empty.

    Raises:
        InputError: there is no site, a site has no diameter, the scans have different voxel sizes, a scan is smaller
            than the patches, or the method refuses all sites.
    """
    if not sites or any(site.asked.diameter_mm is None for site in sites):
        raise InputError(
            "sites", "none" if not sites else "one without a diameter", "one or more, each with a diameter"
        )
    if len(spacings := {site.ct.spacing_mm for site in sites}) > 1:
        several = f"scans with voxels of {' and '.join(map(str, sorted(spacings)))} mm"
        raise InputError("sites", several, "one voxel size")
    if small := [site.ct.shape for site in sites if np.less(site.ct.shape, size).any()]:
        raise InputError("sites", f"a scan of {small[0]} voxels", f"{size} or more, the size of the patches")
    # The site is part of the seed, so that the noise of two sites is independent too.
    jobs = [(site, derive(seed, "site", i)) for i, site in enumerate(sites) for seed in seeds]
    work = _Paint(method, bare, size)
    # A method with a model runs in this process, since its networks use all threads.
    found = list(map(work, jobs) if method.lineage.model_sha256 else map_processes(work, jobs, chunk=4))
    numbers = [(site, seed) for site in range(len(sites)) for seed in seeds]
    there = [(*number, one) for number, one in zip(numbers, found, strict=True) if not isinstance(one, str)]
    refused = [
        f"site {i}, seed {seed}: {one}" for (i, seed), one in zip(numbers, found, strict=True) if isinstance(one, str)
    ]
    if not there:
        raise InputError("sites", f"none at which {method.name} can put a nodule ({refused[0]})", "one or more")
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
    """A picklable function: a site and a seed to the patch, or to the reason for a refusal."""

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
        place = Ball(site.center_mm, site.asked.diameter_mm or 0.0)
        wanted = Wanted(place, NoduleAttributes(**heeded), True, outline=site.outline)
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
