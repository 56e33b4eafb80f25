"""Healthy patches of a store, each before and after a method put a nodule into it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.anatomy.placement import Ball
from synthorax.datasets.augmentation import Augmentation, Drawn
from synthorax.datasets.edits import BallRule, EditPatches, as_wide_as_the_nodule, healthy_places
from synthorax.datasets.patch_cache import PatchesAndMasks, cached_patches
from synthorax.datasets.patches import Place, extent_voxels, patch_grid
from synthorax.datasets.progress import tell, with_progress
from synthorax.datasets.store import CaseEntry, Store
from synthorax.editing.inject import Wanted, inject_nodules
from synthorax.errors import InputError
from synthorax.geometry import resample_like
from synthorax.makers import Edit, Method
from synthorax.nodule import NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.patch import PatchSpec, ScaledPatch
from synthorax.provenance import fingerprint, making_key
from synthorax.seeding import derive, generator

INJECTED_RECIPE = 1
"""Version of the recipe, part of the cache's key; raise it when the same request would give other patches."""
PutInSite = tuple[Place, NoduleAttributes, int]
"""A healthy place, the requested nodule, and the seed of the edit."""


class InjectedPatches(EditPatches):
    """Patches at healthy places, before and after a nodule was put into their middle.

    Items and batches have the entries of `EditPatches`, with the injected nodule's mask in `mask`, and the entry
    `injected`, float32 [b, 1, z, y, x] from -1 to 1: the patch with the nodule. Other arguments are those of
    `EditPatches`.

    Args:
        injected: patches with nodules and with the margin of the augmentation, int16 HU [n, z, y, x].
        put_in: masks of the injected nodules, uint8 [n, z, y, x].
    """

    def __init__(
        self,
        store: Store,
        places: Sequence[Place],
        spec: PatchSpec,
        diameters_mm: Sequence[float],
        injected: NDArray[np.int16],
        put_in: NDArray[np.uint8],
        *,
        ball_mm: BallRule = as_wide_as_the_nodule,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
        seed: int = 0,
        cache: Path | None = None,
    ) -> None:
        super().__init__(
            store, places, spec, diameters_mm, ball_mm=ball_mm, augmentation=augmentation, seed=seed, cache=cache
        )
        self._injected, self._put_in = injected, put_in

    def _augmented(self, rows: NDArray[np.int64], drawn: Drawn, rng: np.random.Generator | None) -> dict[str, Tensor]:
        hu = drawn.apply(self._injected[rows], self.spec.size)
        mask = torch.from_numpy(drawn.apply_nearest(self._put_in[rows], self.spec.size))
        made = super()._augmented(rows, drawn, rng)
        return made | {"injected": self.spec.to_unit(hu)[:, None], "mask": mask.float()[:, None]}


def injected_patches(
    store: Store,
    cases: Iterable[CaseEntry],
    spec: PatchSpec | ScaledPatch,
    method: Method,
    *,
    healthy: int,
    ball_mm: BallRule = as_wide_as_the_nodule,
    augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
    seed: int = 0,
    cache: Path | None = None,
) -> InjectedPatches:
    """Return healthy patches of some cases, each before and after a method put a nodule into it.

    The nodules have the diameters and attributes of the cases' own nodules. They are put in on the scans' voxels, as
    `inject` does. A line on the screen gives the number of nodules that the method refused.

    Args:
        store: the store.
        cases: the cases.
        spec: grid and window of the patches, fixed or growing with the nodule.
        method: injects nodules; it gets those of the attributes that it heeds.
        healthy: largest number of patches; if there are more healthy places, this number of them is drawn.
        ball_mm, augmentation, cache: see `edit_patches`.
        seed: seed of places, nodules and batches.

    Raises:
        InputError: the cases have no nodule of known diameter, there is no healthy place, or the method refuses all.
    """
    cases = list(cases)
    known = [nodule.attributes for case in cases for nodule in case.nodules if nodule.attributes.diameter_mm]
    if not known:
        raise InputError(store.path, "no nodule of known diameter", "nodules whose diameters can be used")
    alike: dict[float, list[NoduleAttributes]] = {}
    for one in known:
        heeded = {name: value for name, value in one.given().items() if name in method.heeds}
        alike.setdefault(float(one.diameter_mm or 0), []).append(NoduleAttributes(**heeded))
    margin = augmentation.margin(spec.size)
    every = [float(one.diameter_mm or 0) for one in known]
    found = healthy_places(store, cases, spec, every, healthy, seed, margin=margin, cache=cache)
    random = generator(seed, "nodules of healthy places")
    found = [found[i] for i in sorted(random.permutation(len(found))[:healthy].tolist())]
    sites: list[PutInSite] = [
        (place, alike[mm][int(random.integers(len(alike[mm])))], derive(seed, "put in", i))
        for i, (place, mm) in enumerate(found)
    ]
    base = spec.finest if isinstance(spec, ScaledPatch) else spec
    diameters = [mm for _, mm in found]
    hu, masks = put_into_sites(store, sites, diameters, base, margin, method, cache)
    kept = np.flatnonzero(masks.any((1, 2, 3))).tolist()
    tell(f"{method.name} put nodules into {len(kept)} healthy patches and refused {len(sites) - len(kept)} others")
    if not kept:
        raise InputError(store.path, f"no healthy place at which {method.name} can put a nodule", "one or more")
    return InjectedPatches(
        store,
        [sites[i][0] for i in kept],
        base,
        [diameters[i] for i in kept],
        hu if len(kept) == len(hu) else hu[kept],
        masks if len(kept) == len(hu) else masks[kept],
        ball_mm=ball_mm,
        augmentation=augmentation,
        seed=seed,
        cache=cache,
    )


@dataclass(frozen=True)
class _PutIn:
    """A picklable function: a site and a diameter to the patch with its nodule and to the nodule's mask.

    It returns None if the method refuses.
    """

    store: Store
    spec: PatchSpec
    margin: tuple[int, int, int]
    method: Method

    def __call__(self, job: tuple[PutInSite, float]) -> tuple[NDArray[np.int16], NDArray[np.uint8]] | None:
        (place, attributes, seed), diameter = job
        scan = self.store[place.case_id].grid()
        wanted = Wanted(Ball(place.center_mm, diameter), attributes, anywhere=True)
        view = self.spec.magnified(place.scale)
        grid = patch_grid(scan, place.center_mm, view, self.margin)
        try:
            reach = max(self.method.reach_mm(Edit("inject", wanted.condition)))
            wide = np.maximum(np.multiply(grid.shape, view.spacing_mm)[::-1], 2 * reach)
            center, half = scan.to_voxel(place.center_mm), extent_voxels(scan, wide) / 2
            low = np.clip(np.floor(center - half).astype(int), 0, np.subtract(scan.shape, 1))
            high = np.clip(np.ceil(center + half).astype(int) + 2, low + 1, scan.shape)
            edited = inject_nodules(self.store.read_box(place.case_id, low, high - low), [wanted], self.method, seed)
        except InputError:
            return None
        mask = resample_like(edited.mask, grid, nearest=True, fill=0).voxels
        return resample_like(edited.ct, grid).voxels, (mask > 0).astype(np.uint8)


def put_into_sites(
    store: Store,
    sites: Sequence[PutInSite],
    diameters_mm: Sequence[float],
    spec: PatchSpec,
    margin: tuple[int, int, int],
    method: Method,
    cache: Path | None,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Put nodules into healthy sites, on the voxels of the scans, or read the patches from the cache.

    Args:
        store: the store.
        sites: places of the store's scans, each with the attributes that the method heeds and a seed.
        diameters_mm: diameter of each nodule, [n].
        spec: grid of a patch whose place has the scale 1.
        margin: voxels (z, y, x) to keep around a patch.
        method: injects nodules.
        cache: folder of the cache; None for the user's cache folder.

    Returns:
        The patches, int16 HU, and the nodules' masks, uint8, both [n, z, y, x]. The mask of a site that the method
        refuses is empty.
    """
    request = [
        INJECTED_RECIPE,
        store.fingerprint,
        asdict(spec),
        margin,
        making_key(method),
        list(diameters_mm),
    ]
    where = [(p.case_id, p.center_mm, p.scale, attributes.given(), seed) for p, attributes, seed in sites]
    key = fingerprint(json.dumps([request, where]).encode())[:16]
    z, y, x = (n + 2 * m for n, m in zip(spec.size, margin, strict=True))
    shape = (len(sites), z, y, x)

    def put_in() -> PatchesAndMasks:
        voxels, masks = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
        work, jobs = _PutIn(store, spec, margin, method), list(zip(sites, diameters_mm, strict=True))
        # A method with a model runs in this process, since its networks use all threads.
        made = map(work, jobs) if method.lineage.model_sha256 else map_processes(work, jobs, chunk=8)
        for i, one in enumerate(with_progress(made, "nodules put in", len(jobs))):
            if one is not None:
                voxels[i], masks[i] = one
        return voxels, masks

    return cached_patches(cache, f"injected-{key}", shape, put_in)
