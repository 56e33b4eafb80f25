"""Patches of a store's scans, as a network sees them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from synthorax.datasets.augmentation import Augmentation, Drawn
from synthorax.datasets.one_thread import in_one_thread
from synthorax.datasets.progress import with_progress
from synthorax.datasets.store import Store
from synthorax.errors import InputError, OutputError
from synthorax.geometry import resample_like
from synthorax.io.atomic import atomic_file
from synthorax.nodule import Nodule
from synthorax.parallel import map_processes
from synthorax.patch import NETWORK_WINDOW_HU, PatchSpec
from synthorax.provenance import fingerprint
from synthorax.seeding import generator
from synthorax.volume import Volume

SAME_SPACING_MM = 1e-3
TIE = 1e-4
PATCHES_RECIPE = 4
"""Raised whenever the same request would give other patches, so that no old cache is read."""


@dataclass(frozen=True)
class Place:
    """Where a patch is cut.

    Attributes:
        center_mm: (x, y, z), LPS.
        nodule: at its centre; None for a patch without one.
        label: its class, from 0.
        scale: voxels of the patch are this many times as large as those of the `PatchSpec` by which it is read.
    """

    case_id: str
    patient_id: str
    center_mm: tuple[float, float, float]
    nodule: Nodule | None
    label: int
    scale: float = 1.0


def extent_voxels(scan: Volume, size_mm: ArrayLike) -> NDArray[np.float64]:
    """How far a box along the world's axes reaches along the axes of a scan, in voxels (z, y, x).

    Args:
        size_mm: of the box, (x, y, z).
    """
    extent: NDArray[np.float64] = np.abs(scan.direction.T) @ np.asarray(size_mm)
    return extent[::-1] / scan.spacing_mm


def moved_inside(scan: Volume, spec: PatchSpec, at_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places [n, 3], those moved whose patches would reach beyond a scan along an axis where it has room for them."""
    needed = extent_voxels(scan, spec.size_mm[::-1])
    start = scan.to_voxel(at_mm) - (needed - 1) / 2
    moved = _inside(start, needed, np.array(scan.shape))
    beyond = (abs(moved - start) > TIE).any(1, keepdims=True)
    return np.where(beyond, scan.to_world(moved + (needed - 1) / 2), at_mm)


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Patches of a store's places, decoded once into a cache.

    `dataset[i]` is place i as it is, for validation and tests. `dataset.batch(step, size)` is augmented and
    has as many of each class; it is a function of the seed and the step.

    Attributes:
        places: in order.
        labels: their classes, int64 [n].

    Args:
        cache: folder for decoded patches, the user's cache folder if not given; what cannot be written stays in
            memory.

    Raises:
        InputError: no places, or one outside its scan.

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
            raise InputError(store.path, "no nodule or place of the classes asked for", "one or more")
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
        """The grid of a patch with the margin that its augmentation may show."""
        z, y, x = (n + 2 * m for n, m in zip(self.spec.size, self.augmentation.margin(self.spec.size), strict=True))
        return replace(self.spec, size=(z, y, x))

    def with_margin(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """HU [n, z, y, x] of some places as they are, on the grid `padded`."""
        found: NDArray[np.int16] = self._voxels[rows]
        return found

    def masks_with_margin(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The nodules [n, z, y, x] of some places, on the grid `padded`."""
        return self._masks[rows] > 0

    def with_seed(self, seed: int) -> PatchDataset:
        """The same patches, drawn and augmented by another seed."""
        other = copy(self)
        other.seed = seed
        return other

    def flipped(self, flip: bool, turn: bool = False) -> PatchDataset:
        """The same patches, in training flipped and turned or not."""
        other = copy(self)
        other.augmentation = replace(self.augmentation, flip=flip, turn=turn)
        return other

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in in_one_thread(self._cut, np.array([index]), None).items()}

    def rows(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Several places as they are."""
        return in_one_thread(self._cut, np.asarray(indices), None)

    def batch(self, step: int, size: int) -> dict[str, Tensor]:
        """Patches for a step of training: classes in turn, members at random, augmented.

        Returns:
            ct: float32 [b, 1, z, y, x] from -1 to 1; mask: float32 [b, 1, z, y, x], the place's own nodule;
            label: int64 [b]; index: int64 [b], of the place.
        """
        rng = generator(self.seed, "batch", step)
        turn = (step * size + np.arange(size)) % len(self._members)
        rows = np.array([self._members[k][rng.integers(len(self._members[k]))] for k in turn])
        return in_one_thread(self._cut, rows, rng)

    def _cut(self, rows: NDArray[np.int64], rng: np.random.Generator | None) -> dict[str, Tensor]:
        augmentation = Augmentation(flip=False) if rng is None else self.augmentation
        return self._augmented(rows, augmentation.draw(rng or np.random.default_rng(0), len(rows)), rng)

    def _augmented(self, rows: NDArray[np.int64], drawn: Drawn, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """What a batch holds of some places, after what was drawn for each of them.

        Args:
            rng: of whatever else is drawn for a batch; None for places as they are.
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
    """The patch of a place: HU along LPS axes, and the voxels of the place's own nodule.

    Where the scan has the patch's spacing it is cut along its voxels; otherwise it is interpolated. A patch that
    reaches beyond the scan is moved inside where it fits, and shows the scan's edge voxels beyond it where not.

    Args:
        spec: of a patch whose place has the scale 1.
        margin: voxels around the patch that are read too.

    Raises:
        InputError: a place outside its scan.
    """
    entry, spec = store[place.case_id], spec.magnified(place.scale)
    scan = entry.grid()
    if not scan.holds(scan.to_voxel(place.center_mm)):
        raise InputError(f"{store.path}, case {place.case_id}", f"a place at {place.center_mm} mm", "one in the scan")
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
    """The geometry of the patch that `read_patch` reads around a place; its voxels are 0 and take no memory.

    Args:
        scan: the geometry of the scan.
        center_mm: (x, y, z) in the scan.
        margin: voxels around a patch that are read too.
    """
    center, size, length = scan.to_voxel(center_mm), np.array(spec.size), np.array(scan.shape)
    shape = size + 2 * np.array(margin)
    zeros = np.broadcast_to(np.int16(0), shape.tolist())
    if _has_grid_of(scan, spec):
        start = np.floor(center - size / 2 + 1 + TIE)  # half-way goes up, whatever the rounding of mm
        x, y, z = scan.to_world(_inside(start, size, length) - margin).tolist()
        return Volume(zeros, scan.spacing_mm, (x, y, z), scan.direction)
    # The centre, moved along the scan's own axes, so that the patch's extent along them stays inside.
    needed = extent_voxels(scan, spec.size_mm[::-1])
    center = _inside(center - (needed - 1) / 2, needed, length) + (needed - 1) / 2
    x, y, z = (scan.to_world(center) - ((shape - 1) / 2 * spec.spacing_mm)[::-1]).tolist()
    return Volume(zeros, spec.spacing_mm, (x, y, z))


def _has_grid_of(scan: Volume, spec: PatchSpec) -> bool:
    """Whether patches are cut along a scan's voxels, and nothing is interpolated."""
    upright = np.allclose(scan.direction, np.eye(3), atol=1e-4)
    return upright and np.allclose(scan.spacing_mm, spec.spacing_mm, atol=SAME_SPACING_MM)


def _inside(start: NDArray[np.float64], size: NDArray, shape: NDArray[np.int64]) -> NDArray[np.float64]:
    """The start of a box of a size, moved so that the box lies in a scan, along the axes where it fits."""
    room = shape - size
    return np.where(room >= 0, np.clip(start, 0, np.maximum(room, 0)), start)


def _box(store: Store, place: Place, scan: Volume, low: NDArray[np.int64], high: NDArray[np.int64]) -> Volume:
    """HU of the voxels from `low` up to `high`, which meet the scan; beyond it its edge goes on."""
    end = np.array(scan.shape)
    inside = np.array([np.clip(low, 0, end - 1), np.clip(high, 1, end)])
    box = store.read_box(place.case_id, inside[0], inside[1] - inside[0])
    beyond = [(max(a, 0), max(b, 0)) for a, b in zip(inside[0] - low, high - inside[1], strict=True)]
    x, y, z = scan.to_world(low).tolist()
    return replace(box, voxels=np.pad(box.voxels, beyond, mode="edge"), origin_mm=(x, y, z))


def _own(store: Store, place: Place, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The voxels of the place's own nodule from `low` up to `high`, as 1."""
    if place.nodule is None or not place.nodule.label:
        return np.zeros(high - low, np.uint8)
    return store.region(place.case_id, place.nodule.label).within(low.tolist(), (high - low).tolist()).view(np.uint8)


@dataclass(frozen=True)
class _Read:
    """A picklable function: a place to its patch."""

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
    """Patches with their margins, int16 HU and uint8 masks [n, z, y, x], from the cache if they are there."""
    z, y, x = (n + 2 * m for n, m in zip(spec.size, margin, strict=True))
    folder = cache or platformdirs.user_cache_path("synthorax")
    request = [PATCHES_RECIPE, store.fingerprint, asdict(replace(spec, window_hu=NETWORK_WINDOW_HU)), margin]
    where: list[tuple[object, ...]] = [(p.case_id, p.center_mm, p.nodule.label if p.nodule else 0) for p in places]
    if any(place.scale != 1 for place in places):
        where.append(tuple(place.scale for place in places))
    key = fingerprint(json.dumps([request, where]).encode())[:16]
    files = [folder / f"patches-{key}-{name}.npy" for name in ("ct", "mask")]
    try:
        found = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        if all(array.shape == (len(places), z, y, x) for array in found):
            return found[0], found[1]
    except (OSError, ValueError, EOFError):
        pass
    voxels = np.empty((len(places), z, y, x), np.int16)
    masks = np.empty((len(places), z, y, x), np.uint8)
    read = map_processes(_Read(store, spec, margin), places, workers=workers, chunk=32)
    for i, (ct, mask) in enumerate(with_progress(read, "patches", len(places))):
        voxels[i], masks[i] = ct, mask
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, array in ((files[0], voxels), (files[1], masks)):
            with atomic_file(file) as temporary, open(temporary, "wb") as stream:
                np.lib.format.write_array(stream, array)
    except (OSError, OutputError):
        return voxels, masks
    return np.load(files[0], mmap_mode="r"), np.load(files[1], mmap_mode="r")
