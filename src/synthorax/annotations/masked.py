"""Which masks are of one nodule, and which pieces of a mask are nodules at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from synthorax.region import Region, agreement

STRAY_VOXELS = 2
"""A piece of at most this many voxels is stray where its mask has a larger one."""
MOST_PIECES = 1000
"""A mask of more pieces than this is noise, or no mask of nodules."""
MOST_MASKS_NAMED = 6
"""Masks that a note names."""
SAME_NODULE = 0.5
"""Two masks are of one nodule if they share more than this part of the smaller: nodules that touch share little, and
readings of one nodule, or its core, lie within each other."""


@dataclass(frozen=True, eq=False)
class Masked:
    """A piece of a mask.

    Attributes:
        name: of the mask, such as that of a segment.
        source: which mask it is a piece of; pieces of one mask are never one nodule.
    """

    name: str
    source: int
    region: Region


@dataclass(frozen=True, eq=False)
class MaskedNodule:
    """A nodule with its voxels.

    Attributes:
        names: of the masks that it was read from.
        readings: number of those masks.
    """

    region: Region
    names: tuple[str, ...]
    readings: int = 1


def pieces(name: str, source: int, mask: Region) -> tuple[list[Masked], str]:
    """The connected pieces of a mask, each of which is a nodule; stray voxels are left out.

    Returns:
        The pieces in the order of their first voxels, and a note if there are several; no piece and the reason where
        the mask falls into more than `MOST_PIECES`.
    """
    labels, count = cc3d.connected_components(mask.mask, return_N=True)
    statistics = cc3d.statistics(labels)
    sizes = statistics["voxel_counts"][1:]
    kept = [i for i in range(count) if sizes[i] > STRAY_VOXELS or sizes[i] == sizes.max()]
    stray = count - len(kept)
    if len(kept) > 1 and sizes.max() <= STRAY_VOXELS:
        kept, stray = kept[:1], count - 1
    if len(kept) > MOST_PIECES:
        return [], f"{name} falls into {len(kept)} pieces, more than {MOST_PIECES}; it was left out"
    made = []
    for i in kept:
        box = statistics["bounding_boxes"][i + 1]
        z, y, x = (int(a + side.start) for a, side in zip(mask.corner, box, strict=True))
        made.append(Masked(name, source, Region((z, y, x), labels[box] == i + 1)))
    told = []
    if len(kept) > 1:
        told.append(f"it falls into {len(kept)} pieces, which are {len(kept)} nodules")
    if stray:
        told.append(f"{stray} stray pieces of one or two voxels were left out")
    return made, f"{name}: {'; '.join(told)}" if told else ""


def same_nodules(masked: Sequence[Masked]) -> tuple[list[MaskedNodule], list[str]]:
    """The nodules of masks, each once: masks that lie within each other are readings of one nodule.

    A nodule of several readings has the voxels that at least half of them mark.

    Returns:
        The nodules in the order of their first masks, and a note on each that was read several times.
    """
    if not masked:
        return [], []
    low = np.array([m.region.corner for m in masked])
    high = low + [m.region.shape for m in masked]
    sizes = [m.region.voxels for m in masked]
    group = list(range(len(masked)))
    for i in range(len(masked)):
        meet = np.flatnonzero(((low[:i] < high[i]) & (high[:i] > low[i])).all(1))
        for j in meet.tolist():
            if group[i] == group[j] or masked[i].source == masked[j].source:
                continue
            shared = masked[i].region.overlap(masked[j].region)
            if shared > SAME_NODULE * min(sizes[i], sizes[j]):
                old, new = sorted((group[i], group[j]), reverse=True)
                group = [new if g == old else g for g in group]
    members: dict[int, list[Masked]] = defaultdict(list)
    for number, mask in zip(group, masked, strict=True):
        members[number].append(mask)
    made, notes = [], []
    for readings in members.values():
        names = tuple(dict.fromkeys(m.name for m in readings))
        made.append(MaskedNodule(_half([m.region for m in readings]), names, len(readings)))
        if len(readings) > 1:
            notes.append(
                f"{len(readings)} masks overlap by more than half and are readings of one nodule "
                f"({named(names)}); its voxels are those of half of them or more"
            )
    return made, notes


def named(names: Sequence[str]) -> str:
    """Names of masks in a row, the first few if there are many."""
    return ", ".join(names[:MOST_MASKS_NAMED]) + ", ..." * (len(names) > MOST_MASKS_NAMED)


def _half(regions: Sequence[Region]) -> Region:
    """The voxels that at least half of the regions mark; of all of them, where no voxel is marked so often."""
    if len(regions) == 1:
        return regions[0]
    corner, counts = agreement(regions)
    agreed = counts * 2 >= len(regions)
    return Region.of(agreed if agreed.any() else counts > 0).moved(corner)
