"""Grouping readers' outlines into nodules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from synthorax.annotations.reading import AnnotatedScan, Reading
from synthorax.nodule import RATINGS, NoduleAttributes, agreed_ratings
from synthorax.region import Region, agreement

READERS = 4
"""Readers of every LIDC scan."""


@dataclass(frozen=True, eq=False)
class AnnotatedNodule:
    """The readings of one nodule, at most one of each reader."""

    readings: tuple[Reading, ...]

    @property
    def scan(self) -> AnnotatedScan:
        return self.readings[0].scan

    @cached_property
    def agreement(self) -> tuple[tuple[int, int, int], NDArray[np.uint16]]:
        """Index (z, y, x) of a box's first voxel, and how many readers marked each voxel of the box, [z, y, x]."""
        return agreement([reading.region for reading in self.readings])

    def consensus(self, readers: int) -> Region:
        """Return the voxels that at least `readers` readers marked; there may be none."""
        corner, counts = self.agreement
        return Region(corner, counts >= readers)

    @cached_property
    def attributes(self) -> NoduleAttributes:
        """Diameter and ratings: the mean over the readings, or of a kind the most frequent one."""
        agreed = agreed_ratings({name: [reading.ratings[name] for reading in self.readings] for name in RATINGS})
        return NoduleAttributes(diameter_mm=float(np.mean([r.diameter_mm for r in self.readings])), **agreed)


def cluster(readings: Sequence[Reading]) -> list[AnnotatedNodule]:
    """Group the readings of one scan into nodules.

    Two readings are linked if they overlap or their outlines come within a slice thickness of each other. Links are
    followed from the strongest overlap to the widest gap. A link is skipped if it would put two readings of one reader
    into one nodule.

    Args:
        readings: readings of one scan.

    Returns:
        The nodules in the order of their first reading.
    """
    links = []
    for i, first in enumerate(readings):
        for j, second in enumerate(readings[:i]):
            if first.reader != second.reader and (gap := _gap(first, second)) <= first.scan.slice_thickness_mm:
                links.append((gap, j, i))
    group = list(range(len(readings)))
    for _, j, i in sorted(links):
        ours, theirs = ([k for k in range(len(readings)) if group[k] == group[m]] for m in (j, i))
        readers = {readings[k].reader for k in ours}
        if group[j] != group[i] and not readers & {readings[k].reader for k in theirs}:
            for k in theirs:
                group[k] = group[j]
    members: dict[int, list[Reading]] = {}
    for label, reading in zip(group, readings, strict=True):
        members.setdefault(label, []).append(reading)
    return [AnnotatedNodule(tuple(sorted(m, key=lambda r: r.reader))) for m in members.values()]


def _gap(first: Reading, second: Reading) -> float:
    """Return the distance between two outlines in mm, or minus the Dice overlap if the readings overlap."""
    if shared := first.region.overlap(second.region):
        return -2.0 * shared / (first.region.mask.sum() + second.region.mask.sum())
    reach = first.scan.slice_thickness_mm
    low, high = (
        np.max([r.outline_mm.min(0) for r in (first, second)], 0),
        np.min([r.outline_mm.max(0) for r in (first, second)], 0),
    )
    if (low - high > reach).any():
        return np.inf
    return float(cKDTree(first.outline_mm).query(second.outline_mm)[0].min())
