"""Detection of nodules in a whole scan by a classifier of patches, on a coarse grid over the lungs, then finer ones."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from synthorax.geometry import orient, resample_to_spacing
from synthorax.patch import PatchSpec
from synthorax.tasks.classification import SCORED_AT_ONCE, Classification
from synthorax.volume import Volume

COARSE_MM = 8.0
"""Distance between the windows of the coarse grid."""
FINER = (2, 4)
"""Rounds of refinement around the best windows, each with the coarse distance divided by this."""
MOST_COARSE = 60
"""Most windows that a round refines."""
APART_MM = 6.0
"""Of marks nearer to each other than this, the best one is kept."""
MOST_MARKS = 60
"""Most marks of a scan. LUNA16 evaluates up to a mean of eight false positives per scan, so few scans need more."""
SETTINGS = (COARSE_MM, FINER, MOST_COARSE, APART_MM, MOST_MARKS)
"""The settings of the search, kept with saved marks to recognise marks of other settings."""


def find_nodules(task: Classification, ct: Volume, lungs: Volume) -> NDArray[np.float64]:
    """Find nodules in a scan with a detector.

    Args:
        task: the detector; its class 1 is a nodule in the middle of a patch.
        ct: HU [z, y, x], in any orientation.
        lungs: mask in which windows are centred, bool, on any voxels.

    Returns:
        Marks [c, (x, y, z, score)], the best first, with LPS millimetres and the log of the odds as score.
    """
    spec = task.config.patch
    scan = resample_to_spacing(orient(ct), spec.spacing_mm)
    windows = _Windows(task, scan, spec)
    steps = np.maximum(np.rint(COARSE_MM / np.array(spec.spacing_mm)), 1).astype(int)
    grid = np.stack(
        np.meshgrid(*(np.arange(s // 2, n, s) for n, s in zip(scan.shape, steps, strict=True)), indexing="ij")
    )
    places = grid.reshape(3, -1).T
    at = np.rint(lungs.to_voxel(scan.to_world(places))).astype(int)
    inside = ((at >= 0) & (at < lungs.shape)).all(1)
    places = places[inside][lungs.voxels[tuple(at[inside].T)]]
    places, scores = _apart(places, windows(places), spec, MOST_COARSE)
    for part in FINER:
        step = np.maximum(steps // part, 1)
        around = (places[:, None] + np.array(list(product((-1, 0, 1), repeat=3))) * step).clip(
            0, np.array(scan.shape) - 1
        )
        found = windows(around.reshape(-1, 3)).reshape(around.shape[:2])
        best = found.argmax(1)
        places, scores = _apart(around[np.arange(len(places)), best], found.max(1), spec, MOST_COARSE)
    return np.column_stack([scan.to_world(windows.middles(places)), scores])[:MOST_MARKS]


class _Windows:
    """The windows of a scan, scored in batches."""

    def __init__(self, task: Classification, scan: Volume, spec: PatchSpec) -> None:
        self._task, self._spec = task, spec
        before = [n // 2 for n in spec.size]
        padded = np.pad(scan.voxels, [(b, n - b) for b, n in zip(before, spec.size, strict=True)], mode="edge")
        self._cut = sliding_window_view(padded, spec.size)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the log of the odds of a nodule in the middle of each window, [n]."""
        scores = [np.zeros(0)]
        for part in np.array_split(places, -(-len(places) // SCORED_AT_ONCE) or 1):
            hu = torch.from_numpy(self._cut[tuple(part.T)].astype(np.float32))
            logits = self._task.logits(self._spec.to_unit(hu)[:, None]) if len(part) else torch.zeros(0, 2)
            scores.append((logits[:, 1] - logits[:, 0]).numpy().astype(np.float64))
        return np.concatenate(scores)

    def middles(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the voxel indices of the windows' middles, which lie between voxels for windows of even size."""
        size = np.array(self._spec.size)
        middles: NDArray[np.float64] = places + (size - 1) / 2 - size // 2
        return middles


def _apart(
    places: NDArray[np.int64], scores: NDArray[np.float64], spec: PatchSpec, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most `most` places, the best first, none within `APART_MM` of a better one."""
    kept: list[int] = []
    points = places * np.array(spec.spacing_mm)
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) == most:
            break
        if not kept or np.square(points[kept] - points[i]).sum(1).min() >= APART_MM**2:
            kept.append(int(i))
    return places[kept], scores[kept]
