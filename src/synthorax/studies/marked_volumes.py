"""Volumes with the masks of their nodules, and the windows cut from them on which a segmenter is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.one_thread import in_one_thread
from synthorax.datasets.patches import PatchDataset, read_patch
from synthorax.datasets.places import negative_places, outlined_places
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.patch import PatchSpec
from synthorax.seeding import generator
from synthorax.studies.segmentation_config import SegmenterConfig

ELSE, NODULE, UNCOUNTED = 0, 1, 2
"""Marks of a voxel: no nodule, a nodule, or a voxel that does not count in the loss."""
EMPTY_A_CASE = 2
"""Number of test volumes without a nodule for each whole scan."""
WINDOW_TRIES = 64
"""Number of voxels drawn to find one outside the nodules; if none is, a window may lie around a nodule's voxel."""


@dataclass(frozen=True, eq=False)
class MarkedVolumes:
    """Volumes of one size with marked voxels.

    Attributes:
        hu: HU, int16 [n, z, y, x].
        marks: `NODULE`, `UNCOUNTED` or `ELSE`, uint8 [n, z, y, x].
        patients: patient of each volume, [n].
    """

    hu: NDArray[np.int16]
    marks: NDArray[np.uint8]
    patients: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.hu)

    def rows(self, rows: slice | NDArray) -> MarkedVolumes:
        """Return some of the volumes."""
        return MarkedVolumes(self.hu[rows], self.marks[rows], self.patients[rows])


def nodule_volumes(
    store: Store, cases: Sequence[CaseEntry], spec: PatchSpec, *, cache: Path | None = None
) -> MarkedVolumes:
    """Return a volume around each outlined nodule, with every outlined nodule of its scan marked.

    Raises:
        InputError: the cases have no outlined nodule.
    """
    places = outlined_places(cases)
    if not places:
        raise InputError(store.path, f"{len(cases)} cases without an outlined nodule", "nodules with masks")
    patches = PatchDataset(store, places, spec, augmentation=Augmentation(flip=False), cache=cache)
    rows = np.arange(len(places))
    marks = patches.masks_with_margin(rows).astype(np.uint8)
    for own, place in zip(marks, places, strict=True):
        assert place.nodule is not None
        for other in store[place.case_id].nodules:
            if other.label and other.label != place.nodule.label:
                # `read_patch` marks only a place's own nodule, so each other nodule is read on the same grid.
                own |= read_patch(store, replace(place, nodule=other), spec)[1]
    return MarkedVolumes(patches.with_margin(rows), marks, np.array([place.patient_id for place in places]))


def empty_volumes(
    store: Store, cases: Sequence[CaseEntry], spec: PatchSpec, *, cache: Path | None = None
) -> MarkedVolumes | None:
    """Return volumes of the same scans without a nodule; None if the scans have no place for one."""
    places = negative_places(store, cases, spec, EMPTY_A_CASE * len(cases), 0, cache=cache)
    if not places:
        return None
    patches = PatchDataset(store, places, spec, augmentation=Augmentation(flip=False), cache=cache)
    hu = patches.with_margin(np.arange(len(places)))
    return MarkedVolumes(hu, np.zeros(hu.shape, np.uint8), np.array([place.patient_id for place in places]))


@dataclass(frozen=True, eq=False)
class WindowsOfVolumes:
    """A function of the step to a batch of windows cut from volumes.

    All volumes are equally probable. A window may reach beyond its volume, which is then mirrored: a cube with its
    nodule in the middle has no room for a window without the nodule.

    Attributes:
        parts: sets of volumes, drawn from as one set.
        config: size of the windows, batch size and augmentation.
        seed: seed of the draws.
    """

    parts: Sequence[MarkedVolumes]
    config: SegmenterConfig
    seed: int

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return ct, float32 [b, 1, z, y, x] from -1 to 1; mask and counted, float32 [b, 1, z, y, x] of 0 and 1."""
        return in_one_thread(self._of, generator(self.seed, "windows", step))

    def _of(self, random: np.random.Generator) -> dict[str, Tensor]:
        config, ends = self.config, np.cumsum([len(part) for part in self.parts])
        cut = []
        for number in random.integers(ends[-1], size=config.batch_size).tolist():
            k = int(np.searchsorted(ends, number, side="right"))
            part, row = self.parts[k], number - int(ends[k] - len(self.parts[k]))
            hu, marks = part.hu[row], part.marks[row]
            box = _mirrored(self._start(marks, random), config.size, marks.shape)
            cut.append((hu[np.ix_(*box)], marks[np.ix_(*box)]))
        drawn = Augmentation(flip=config.flip, turn=config.turn).draw(random, len(cut))
        hu_of, marks_of = (np.stack(values) for values in zip(*cut, strict=True))
        turned = torch.from_numpy(drawn.apply_nearest(marks_of, config.size))[:, None]
        ct = config.patch.to_unit(drawn.apply(hu_of, config.size))[:, None]
        return {"ct": ct, "mask": (turned == NODULE).float(), "counted": (turned != UNCOUNTED).float()}

    def _start(self, marks: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.int64]:
        """Draw the first voxel of a window: near a nodule's voxel for a share of the windows, else around another."""
        inside = np.argwhere(marks == NODULE) if random.random() < self.config.at_nodules else np.zeros((0, 3))
        if len(inside):
            far = self.config.offset_voxels
            at = inside[random.integers(len(inside))] + random.integers(-far, far + 1, 3)
        else:
            for _ in range(WINDOW_TRIES):
                at = random.integers(0, marks.shape)
                if marks[tuple(at)] == ELSE:
                    break
        start: NDArray[np.int64] = np.clip(at, 0, np.array(marks.shape) - 1) - np.array(self.config.size) // 2
        return start


def _mirrored(start: NDArray[np.int64], size: Sequence[int], shape: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the indices of a window along each axis, mirrored at the first and the last voxel of the volume."""
    box = []
    for a, k, n in zip(start.tolist(), size, shape, strict=True):
        index = np.abs(np.arange(a, a + k))
        box.append((n - 1) - np.abs((n - 1) - index))
    return box
