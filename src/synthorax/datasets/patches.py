"""Patches of a store's scans as training data for networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from synthorax.datasets.augmentation import Augmentation, Drawn
from synthorax.datasets.one_thread import in_one_thread
from synthorax.datasets.patch_cache import PatchesAndMasks, cached_patches
from synthorax.datasets.progress import with_progress
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.geometry import resample_like
from synthorax.nodule import Nodule
from synthorax.parallel import map_processes
from synthorax.patch import NETWORK_WINDOW_HU, PatchSpec
from synthorax.provenance import fingerprint
from synthorax.seeding import generator
from synthorax.volume import Volume

SAME_SPACING_MM = 1e-3
TIE = 1e-4
PATCHES_RECIPE = 4
"""Version of the recipe, part of the cache's key; raise it when the same request would give other patches."""


@dataclass(frozen=True)
class Place:
    """The place of a patch.

    Attributes:
        case_id: case of the scan.
        patient_id: patient of the scan.
        center_mm: centre (x, y, z), LPS.
        nodule: nodule at the centre; None for a patch without a nodule.
        label: class of the patch, from 0.
        scale: factor by which the patch's voxels are larger than those of the `PatchSpec` by which it is read.
    """

    case_id: str
    patient_id: str
    center_mm: tuple[float, float, float]
    nodule: Nodule | None
    label: int
    scale: float = 1.0


def extent_voxels(scan: Volume, size_mm: ArrayLike) -> NDArray[np.float64]:
    """Return the extent of a box along the world's axes, measured along the axes of a scan in voxels (z, y, x).

    Args:
        scan: geometry of the scan.
        size_mm: size (x, y, z) of the box.
    """
    extent: NDArray[np.float64] = np.abs(scan.direction.T) @ np.asarray(size_mm)
    return extent[::-1] / scan.spacing_mm


def moved_inside(scan: Volume, spec: PatchSpec, at_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move places so that their patches lie inside a scan, along the axes on which the scan has room for a patch.

    Args:
        scan: geometry of the scan.
        spec: size of the patches.
        at_mm: places (x, y, z), LPS, [n, 3].
    """
    needed = extent_voxels(scan, spec.size_mm[::-1])
    start = scan.to_voxel(at_mm) - (needed - 1) / 2
    moved = _inside(start, needed, np.array(scan.shape))
    beyond = (abs(moved - start) > TIE).any(1, keepdims=True)
    return np.where(beyond, scan.to_world(moved + (needed - 1) / 2), at_mm)


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Patches at places of a store's scans, decoded once into a cache.

    `dataset[i]` is the patch of place i without augmentation, for validation and tests. `dataset.batch(step, size)` is
    augmented and has the classes in equal shares; it is a function of the seed and the step.

    Attributes:
        places: the places.
        labels: class of each place, int64 [n].

    Args:
        store: the store.
        places: the places.
        spec: grid and HU window of a patch whose place has the scale 1.
        augmentation: augmentation of batches.
        seed: seed of batches.
        cache: folder for decoded patches; by default the user's cache folder. If it cannot be written, patches stay in
            memory.
        workers: number of processes; by default one for each core.

    Raises:
        InputError: there are no places, or a place lies outside its scan.

    >>> import synthorax as sx
    >>> from synthorax.datasets.places import nodule_places
    >>> store = sx.open_store("store")
    >>> patches = sx.PatchDataset(store, nodule_places(store.in_split("train")), sx.PatchSpec(size=(16, 16, 16)))
    >>> patches.places[0].nodule.attributes.diameter_mm
    4.5
    >>> patches[0]["ct"].shape
    torch.Size([1, 16, 16, 16])
    >>> batch = patches.batch(step=0, size=8)
    >>> batch["ct"].shape, batch["mask"].shape, batch["label"].tolist()
    (torch.Size([8, 1, 16, 16, 16]), torch.Size([8, 1, 16, 16, 16]), [1, 1, 1, 1, 1, 1, 1, 1])
    """

    def __init__(
        self,
        store: Store,
        places: Sequence[Place],
        spec: PatchSpec,
        *,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
        seed: int = 0,
        cache: Path | None = None,
        workers: int | None = None,
    ) -> None:
        if not places:
            raise InputError(store.path, "no nodule or place of the requested classes", "one or more")
        self.places = tuple(places)
        self.spec = spec
        self.augmentation = augmentation
        self.seed = seed
        self.labels = np.array([place.label for place in places], np.int64)
        self._members = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        self._voxels, self._masks = _cached(store, self.places, spec, augmentation.margin(spec.size), cache, workers)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def padded(self) -> PatchSpec:
        """Grid of a patch with the margin that its augmentation needs."""
        z, y, x = (n + 2 * m for n, m in zip(self.spec.size, self.augmentation.margin(self.spec.size), strict=True))
        return replace(self.spec, size=(z, y, x))

    def with_margin(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return the patches of some places without augmentation, on the grid `padded`, HU [n, z, y, x]."""
        found: NDArray[np.int16] = self._voxels[rows]
        return found

    def masks_with_margin(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the masks of some places' nodules, on the grid `padded`, bool [n, z, y, x]."""
        return self._masks[rows] > 0

    def with_seed(self, seed: int) -> PatchDataset:
        """Return the same patches with another seed of batches."""
        other = copy(self)
        other.seed = seed
        return other

    def flipped(self, flip: bool, turn: bool = False) -> PatchDataset:
        """Return the same patches with flips and turns of batches switched on or off."""
        other = copy(self)
        other.augmentation = replace(self.augmentation, flip=flip, turn=turn)
        return other

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in in_one_thread(self._cut, np.array([index]), None).items()}

    def rows(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the patches of several places without augmentation; for the entries see `batch`."""
        return in_one_thread(self._cut, np.asarray(indices), None)

    def batch(self, step: int, size: int) -> dict[str, Tensor]:
        """Return a batch for a training step: augmented patches, drawn at random from each class in turn.

        Returns:
            ct: float32 [b, 1, z, y, x] from -1 to 1; mask: float32 [b, 1, z, y, x], the place's own nodule;
            label: int64 [b]; index: index of the place, int64 [b].
        """
        rng = generator(self.seed, "batch", step)
        turn = (step * size + np.arange(size)) % len(self._members)
        rows = np.array([self._members[k][rng.integers(len(self._members[k]))] for k in turn])
        return in_one_thread(self._cut, rows, rng)

    def _cut(self, rows: NDArray[np.int64], rng: np.random.Generator | None) -> dict[str, Tensor]:
        augmentation = Augmentation(flip=False) if rng is None else self.augmentation
        return self._augmented(rows, augmentation.draw(rng or np.random.default_rng(0), len(rows)), rng)

    def _augmented(self, rows: NDArray[np.int64], drawn: Drawn, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Return the entries of a batch, with the drawn augmentations applied.

        Args:
            rows: indices of the places.
            drawn: augmentation of each.
            rng: random numbers for further draws of a subclass; None for patches without augmentation.
        """
        hu = drawn.apply(self._voxels[rows], self.spec.size)
        mask = torch.from_numpy(drawn.apply_nearest(self._masks[rows], self.spec.size))
        return {
            "ct": self.spec.to_unit(hu)[:, None],
            "mask": mask.float()[:, None],
            "label": torch.from_numpy(self.labels[rows]),
            "index": torch.from_numpy(rows),
        }


def read_patch(
    store: Store, place: Place, spec: PatchSpec, margin: tuple[int, int, int] = (0, 0, 0)
) -> tuple[Volume, NDArray[np.uint8]]:
    """Read the patch of a place, and the mask of the place's own nodule.

    If the scan has the patch's voxel size, the patch is cut along its voxels; otherwise it is interpolated. A patch
    that would leave the scan is moved inside along the axes on which it fits. Along the others, the scan's edge voxels
    are repeated.

    Args:
        store: the store.
        place: the place.
        spec: grid of a patch whose place has the scale 1.
        margin: voxels (z, y, x) to read around the patch.

    Returns:
        HU along LPS axes, and the mask, uint8 [z, y, x].

    Raises:
        InputError: the place lies outside its scan.
    """
    entry, spec = store[place.case_id], spec.magnified(place.scale)
    scan = entry.grid()
    if not scan.holds(scan.to_voxel(place.center_mm)):
        raise InputError(
            f"{store.path}, case {place.case_id}", f"a place at {place.center_mm} mm", "a place in the scan"
        )
    grid = patch_grid(scan, place.center_mm, spec, margin)
    if _has_grid_of(scan, spec):
        start = np.rint(scan.to_voxel(grid.origin_mm)).astype(int)
        stop = start + np.array(grid.shape)
        return _box(store, place, scan, start, stop), _own(store, place, start, stop)
    corners = scan.to_voxel([grid.to_world(c) for c in product(*[(0, n - 1) for n in grid.shape])])
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1
    ct = _box(store, place, scan, low, high)
    own = replace(ct, voxels=_own(store, place, low, high))
    return resample_like(ct, grid), resample_like(own, grid, nearest=True, fill=0).voxels


def patch_grid(
    scan: Volume, center_mm: Sequence[float], spec: PatchSpec, margin: tuple[int, int, int] = (0, 0, 0)
) -> Volume:
    """Return the geometry of the patch that `read_patch` reads around a place; its voxels are 0 and take no memory.

    Args:
        scan: geometry of the scan.
        center_mm: the place (x, y, z), LPS.
        spec: grid of the patch.
        margin: voxels (z, y, x) to read around the patch.
    """
    center, size, length = scan.to_voxel(center_mm), np.array(spec.size), np.array(scan.shape)
    shape = size + 2 * np.array(margin)
    zeros = np.broadcast_to(np.int16(0), shape.tolist())
    if _has_grid_of(scan, spec):
        start = np.floor(center - size / 2 + 1 + TIE)  # round half up, also if rounded millimetres are slightly off
        x, y, z = scan.to_world(_inside(start, size, length) - margin).tolist()
        return Volume(zeros, scan.spacing_mm, (x, y, z), scan.direction)
    # Move the centre along the scan's own axes, so that the patch's extent along them stays inside.
    needed = extent_voxels(scan, spec.size_mm[::-1])
    center = _inside(center - (needed - 1) / 2, needed, length) + (needed - 1) / 2
    x, y, z = (scan.to_world(center) - ((shape - 1) / 2 * spec.spacing_mm)[::-1]).tolist()
    return Volume(zeros, spec.spacing_mm, (x, y, z))


def _has_grid_of(scan: Volume, spec: PatchSpec) -> bool:
    """Return whether a scan has the patch's voxel size and axes, so that nothing is interpolated."""
    upright = np.allclose(scan.direction, np.eye(3), atol=1e-4)
    return upright and np.allclose(scan.spacing_mm, spec.spacing_mm, atol=SAME_SPACING_MM)


def _inside(start: NDArray[np.float64], size: NDArray, shape: NDArray[np.int64]) -> NDArray[np.float64]:
    """Move the start of a box so that the box lies in a scan, along the axes on which it fits."""
    room = shape - size
    return np.where(room >= 0, np.clip(start, 0, np.maximum(room, 0)), start)


def _box(store: Store, place: Place, scan: Volume, low: NDArray[np.int64], high: NDArray[np.int64]) -> Volume:
    """Read the voxels from index `low` up to `high`, which overlap the scan; beyond it, its edge is repeated."""
    end = np.array(scan.shape)
    inside = np.array([np.clip(low, 0, end - 1), np.clip(high, 1, end)])
    box = store.read_box(place.case_id, inside[0], inside[1] - inside[0])
    beyond = [(max(a, 0), max(b, 0)) for a, b in zip(inside[0] - low, high - inside[1], strict=True)]
    x, y, z = scan.to_world(low).tolist()
    return replace(box, voxels=np.pad(box.voxels, beyond, mode="edge"), origin_mm=(x, y, z))


def _own(store: Store, place: Place, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read the mask of the place's own nodule from index `low` up to `high`, uint8 [z, y, x]."""
    if place.nodule is None or not place.nodule.label:
        return np.zeros(high - low, np.uint8)
    return store.region(place.case_id, place.nodule.label).within(low.tolist(), (high - low).tolist()).view(np.uint8)


@dataclass(frozen=True)
class _Read:
    """A picklable function: a place to its patch and mask."""

    store: Store
    spec: PatchSpec
    margin: tuple[int, int, int]

    def __call__(self, place: Place) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        ct, mask = read_patch(self.store, place, self.spec, self.margin)
        return ct.voxels, mask


def _cached(
    store: Store,
    places: Sequence[Place],
    spec: PatchSpec,
    margin: tuple[int, int, int],
    cache: Path | None,
    workers: int | None,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return patches with margins, int16 HU and uint8 masks [n, z, y, x]; from the cache if it has them."""
    request = [PATCHES_RECIPE, store.fingerprint, asdict(replace(spec, window_hu=NETWORK_WINDOW_HU)), margin]
    where: list[tuple[object, ...]] = [(p.case_id, p.center_mm, p.nodule.label if p.nodule else 0) for p in places]
    if any(place.scale != 1 for place in places):
        where.append(tuple(place.scale for place in places))
    key = fingerprint(json.dumps([request, where]).encode())[:16]
    z, y, x = (n + 2 * m for n, m in zip(spec.size, margin, strict=True))
    shape = (len(places), z, y, x)

    def read_all() -> PatchesAndMasks:
        voxels, masks = np.empty(shape, np.int16), np.empty(shape, np.uint8)
        read = map_processes(_Read(store, spec, margin), places, workers=workers, chunk=32)
        for i, (ct, mask) in enumerate(with_progress(read, "patches", len(places))):
            voxels[i], masks[i] = ct, mask
        return voxels, masks

    return cached_patches(cache, f"patches-{key}", shape, read_all)
