"""A scan after an edit, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from synthorax.geometry import turned_like, turned_region
from synthorax.makers import EditKind, Lineage
from synthorax.nodule import Nodule
from synthorax.region import Region
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class Edited:
    """A scan after an edit.

    Attributes:
        ct: HU; outside the region the very voxels of the scan.
        mask: uint8, a label for each nodule; where nodules overlap, the smaller one's. Nothing after an erasure.
        region: bool, where the scan may have been changed.
        nodules: the nodules put in, with the label, diameter and centre that their voxels have; `extra["visible"]` is
            "no" where a nodule does not stand out of the noise. After an erasure, the nodules taken out.
        lineage: whose data stands behind the edit.
        kind: whether nodules were put in or taken out.
        notes: what was done against an objection, or came out otherwise than it was asked for.
        regions: the voxels of label i, wherever other nodules overlap it, at index i - 1.
    """

    ct: Volume
    mask: Volume
    region: Volume
    nodules: tuple[Nodule, ...]
    lineage: Lineage
    kind: EditKind = "inject"
    notes: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()

    def turned_like(self, scan: Volume) -> Edited:
        """The same on the axes of a scan whose oriented voxels were edited."""
        return replace(
            self,
            ct=turned_like(self.ct, scan),
            mask=turned_like(self.mask, scan),
            region=turned_like(self.region, scan),
            regions=tuple(turned_region(region, self.ct, scan) for region in self.regions),
        )

    def hidden(self, label: int) -> bool:
        """Whether other nodules hide voxels of this one in `mask`."""
        own = self.regions[label - 1]
        box = tuple(slice(start, start + n) for start, n in zip(own.corner, own.shape, strict=True))
        return int((self.mask.voxels[box] == label).sum()) < own.voxels

    def noting(self, notes: Iterable[str]) -> Edited:
        """The same, with notes before its own."""
        return replace(self, notes=(*notes, *self.notes))


def by_nodule(told: Iterable[tuple[str, str]]) -> list[str]:
    """Notes, each once, with the nodules that it is about before it.

    Args:
        told: (note, nodule) pairs.

    >>> by_nodule([("no shape is so wide", "01"), ("no shape is so wide", "02")])
    ['nodules 01, 02: no shape is so wide']
    """
    about: dict[str, list[str]] = {}
    for note, nodule in told:
        about.setdefault(note, []).append(nodule)
    return [f"nodule{'s' * (len(of) > 1)} {', '.join(of)}: {note}" for note, of in about.items()]
