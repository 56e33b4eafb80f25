"""The type of a scan after an edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from synthorax.geometry import turned_like, turned_region
from synthorax.makers import EditKind, Lineage
from synthorax.nodule import Nodule
from synthorax.region import Region
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class Edited:
    """A scan after an edit.

    Attributes:
        ct: HU; voxels outside the region are those of the scan.
        mask: one label for each nodule, the smaller label in overlaps, uint8; after an erasure those of the nodules
            that stay.
        region: the edit region, bool.
        nodules: the injected nodules, with label, diameter and centre measured on their voxels; `extra["visible"]` is
            "no" for a nodule that does not stand out from the noise. After an erasure, the erased nodules.
        lineage: the patients whose data was used for the edit.
        kind: whether nodules were injected or erased.
        notes: sentences about doubts that were overruled, and about results that differ from the request.
        regions: mask of each label, overlaps included; label i has index i - 1.
        about: the request, as a manifest records it.
        known: facts about the nodules that the scan had before, such as ratings, with their labels in `mask`.
        gone: ids of the nodules of the scan's mask that an erasure removed.
    """

    ct: Volume
    mask: Volume
    region: Volume
    nodules: tuple[Nodule, ...]
    lineage: Lineage
    kind: EditKind = "inject"
    notes: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    known: tuple[Nodule, ...] = ()
    gone: tuple[str, ...] = ()

    def turned_like(self, scan: Volume) -> Edited:
        """Return the edited scan on the axes of the scan whose reoriented voxels were edited."""
        return replace(
            self,
            ct=turned_like(self.ct, scan),
            mask=turned_like(self.mask, scan),
            region=turned_like(self.region, scan),
            regions=tuple(turned_region(region, self.ct, scan) for region in self.regions),
        )

    def hidden(self, label: int) -> bool:
        """Return whether other nodules hide voxels of the nodule with a label in `mask`."""
        own = self.regions[label - 1]
        return int((self.mask.voxels[own.box] == label).sum()) < own.voxels

    def noting(self, notes: Iterable[str]) -> Edited:
        """Return the edited scan with notes added before its own."""
        return replace(self, notes=(*notes, *self.notes))


def by_nodule(notes: Iterable[tuple[str, str]]) -> list[str]:
    """Return each note once, after the nodules that it is about.

    Args:
        notes: pairs of a note and a nodule's id.

    >>> by_nodule([("no shape is this wide", "01"), ("no shape is this wide", "02")])
    ['nodules 01, 02: no shape is this wide']
    """
    about: dict[str, list[str]] = {}
    for note, nodule in notes:
        about.setdefault(note, []).append(nodule)
    return [f"nodule{'s' * (len(of) > 1)} {', '.join(of)}: {note}" for note, of in about.items()]
