"""Splitting masks into nodules, and merging masks of the same nodule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from synthorax.errors import InputError
from synthorax.region import Region, agreement
from synthorax.screen import first_of

STRAY_VOXELS = 2
"""A piece of at most this many voxels is stray if its mask has a larger piece."""
MOST_PIECES = 1000
"""Most pieces of a mask; a mask with more is noise, or not a mask of nodules."""
SAME_NODULE_MM = 5.0
"""Pieces of a mask that are at most this far apart, in mm, are one nodule; readers leave such gaps."""
MOST_MASKS_NAMED = 6
"""Most masks that a note names."""
SAME_NODULE = 0.5
"""Two masks show one nodule if they share more than this part of the smaller one's voxels. Nodules that touch share
few voxels; two readings of one nodule, or a nodule and its core, share most."""


@dataclass(frozen=True, eq=False)
class Masked:
    """A connected piece of a mask.

    Attributes:
        name: name of the mask, such as a segment's.
        source: number of the mask; two pieces of one mask are never one nodule.
        region: voxels of the piece.
    """

    name: str
    source: int
    region: Region


@dataclass(frozen=True, eq=False)
class MaskedNodule:
    """A nodule with its voxels.

    Attributes:
        region: voxels of the nodule.
        names: names of the masks that show it.
        readings: number of those masks.
    """

    region: Region
    names: tuple[str, ...]
    readings: int = 1


def pieces(name: str, source: int, mask: Region) -> tuple[list[Masked], str]:
    """Split a mask into its connected pieces, each of which is a nodule; stray voxels are left out.

    Args:
        name: name of the mask, for notes.
        source: number of the mask.
        mask: its voxels.

    Returns:
        The pieces in the order of their first voxels, and a note on several pieces or stray voxels; or no piece and the
        reason, if the mask has more than `MOST_PIECES`.
    """
    labels, count = cc3d.connected_components(mask.mask, return_N=True)
    statistics = cc3d.statistics(labels)
    sizes = statistics["voxel_counts"][1:]
    kept = [i for i in range(count) if sizes[i] > STRAY_VOXELS or sizes[i] == sizes.max()]
    stray = count - len(kept)
    if len(kept) > 1 and sizes.max() <= STRAY_VOXELS:
        kept, stray = kept[:1], count - 1
    if len(kept) > MOST_PIECES:
        return [], f"{name} has {len(kept)} separate pieces, more than {MOST_PIECES}; it was left out"
    made = []
    for i in kept:
        box = statistics["bounding_boxes"][i + 1]
        z, y, x = (int(a + side.start) for a, side in zip(mask.corner, box, strict=True))
        made.append(Masked(name, source, Region((z, y, x), labels[box] == i + 1)))
    notes = []
    if len(kept) > 1:
        notes.append(f"its {len(kept)} separate pieces are taken as {len(kept)} nodules")
    if stray:
        notes.append(f"{stray} stray pieces of one or two voxels were left out")
    return made, f"{name}: {'; '.join(notes)}" if notes else ""


def separate_nodules(name: object, mask: Region, spacing_mm: Sequence[float]) -> list[Region]:
    """Split a mask into its nodules: pieces that are more than `SAME_NODULE_MM` apart.

    A mask of one nodule is returned as it is, stray voxels included; of several nodules stray voxels are left out.

    Args:
        name: the mask, for the error.
        mask: its voxels, not empty.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: the mask has more than `MOST_PIECES` pieces.
    """
    parts, reason = pieces("the mask", 0, mask)
    if not parts:
        raise InputError(name, reason, "a mask of nodules")
    nodules = joined_when_near([part.region for part in parts], mask, spacing_mm)
    return nodules if len(nodules) > 1 else [mask]


def joined_when_near(every: Sequence[Region], mask: Region, spacing_mm: Sequence[float]) -> list[Region]:
    """Join pieces of a mask that are at most `SAME_NODULE_MM` apart, and stray voxels as near, which are one nodule.

    Args:
        every: the pieces.
        mask: the whole mask.
        spacing_mm: voxel size (z, y, x).
    """
    if len(every) == 1:
        return list(every)
    trees = [cKDTree(piece.indices() * spacing_mm) for piece in every]
    near = np.array([[a.count_neighbors(b, SAME_NODULE_MM) > 0 for b in trees] for a in trees])
    count, group_of = connected_components(near, directed=False)
    marked = mask.indices()
    away_mm = np.array([tree.query(marked * spacing_mm)[0] for tree in trees])
    joined = []
    for group in range(count):
        own = marked[away_mm[group_of == group].min(0) <= SAME_NODULE_MM]  # stray voxels near the pieces too
        voxels = np.zeros(mask.shape, bool)
        voxels[tuple((own - mask.corner).T)] = True
        joined.append(Region(mask.corner, voxels))
    return joined


def note_on_nodules(name: str, nodules: Sequence[Region]) -> tuple[str, ...]:
    """Return a note on a mask that `separate_nodules` splits into several nodules; none for a mask of one nodule."""
    if len(nodules) == 1:
        return ()
    return (f"{name}: {len(nodules)} pieces more than {SAME_NODULE_MM:g} mm apart are taken as {len(nodules)} nodules",)


def same_nodules(masked: Sequence[Masked]) -> tuple[list[MaskedNodule], list[str]]:
    """Merge masks of the same nodule, which overlap by more than `SAME_NODULE`.

    A nodule with several masks has the voxels that at least half of them mark.

    Args:
        masked: pieces of all masks of a scan.

    Returns:
        The nodules in the order of their first masks, and a note on each nodule with several masks.
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
                f"{len(readings)} masks overlap by more than half and are taken as readings of one nodule "
                f"({named(names)}); its voxels are those that at least half of the masks mark"
            )
    return made, notes


def named(names: Sequence[str]) -> str:
    """Return the first names in a row, with `...` if there are more."""
    return first_of(names, MOST_MASKS_NAMED)


def _half(regions: Sequence[Region]) -> Region:
    """Return the voxels that at least half of the regions mark; if there are none, all voxels that any region marks."""
    if len(regions) == 1:
        return regions[0]
    corner, counts = agreement(regions)
    agreed = counts * 2 >= len(regions)
    return Region.of(agreed if agreed.any() else counts > 0).moved(corner)
