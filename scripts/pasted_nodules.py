"""The control of in-painting figures: real nodules of training patients, pasted into the same sites.

If a measure differs between them and real nodules, it measures the pasting or the site. So that the texture is
that of the site's scan, a nodule comes from a scan with noise similar to that of the site's scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rendering_sites import Real
from synthorax.editing.learned import EDITED_DIAMETERS, EDITED_MARGIN_MM
from synthorax.errors import InputError
from synthorax.makers import Edit, Filled, Lineage, Role
from synthorax.metrics.counterparts import alike
from synthorax.provenance import fingerprint, patient_key
from synthorax.scanner import CONTEXT_MM, measure_scanner
from synthorax.seeding import generator
from synthorax.studies.pasting import pasted_share
from synthorax.volume import Volume

PASTED = "pasted"
LIKE_NOISE = 8
"""Number of nodules similar to the requested one, of the scans with the most similar noise, from which one is drawn."""


@dataclass(frozen=True, eq=False)
class Pasted:
    """A `makers.Method` that pastes real nodules of similar diameter and texture.

    Args:
        donors: nodules of training patients.
    """

    donors: Sequence[Real]
    name: str = PASTED
    heeds: frozenset[str] = frozenset({"diameter_mm", "texture"})
    roles: frozenset[Role] = frozenset({"injects"})

    @cached_property
    def lineage(self) -> Lineage:
        """The donors' patients. The donors count as its model, so that it runs in the process that has them."""
        donors = b"".join(real.hu.tobytes() for real in self.donors)
        return Lineage(self.name, fingerprint(donors), frozenset(patient_key(real.patient) for real in self.donors))

    @cached_property
    def noise_hu(self) -> NDArray[np.float64]:
        """Return the noise of the donors' scans, [n]."""
        return np.array([measure_scanner(Volume(real.hu, (1.0, 1.0, 1.0))).noise_hu for real in self.donors])

    def reach_mm(self, edit: Edit) -> tuple[float, float]:
        """Return the reach of a learned method without a fixed grid."""
        radius = EDITED_DIAMETERS * edit.diameter_mm + EDITED_MARGIN_MM
        return radius + CONTEXT_MM, radius

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Paste a nodule at the centre voxel of each patch of 1 mm voxels."""
        return [self._pasted(*one) for one in zip(patches, regions, edits, seeds, strict=True)]

    def _pasted(self, patch: Volume, region: NDArray[np.bool_], edit: Edit, seed: int) -> Filled:
        rows = np.flatnonzero(alike([edit.nodule], [real.attributes for real in self.donors])[0])
        if not len(rows):
            raise InputError(self.name, f"no real nodule like {edit.nodule.given()}", "one to paste")
        unlike = abs(np.log(self.noise_hu[rows] / measure_scanner(patch).noise_hu))
        real = self.donors[int(generator(seed, "donor").choice(rows[np.argsort(unlike, kind="stable")[:LIKE_NOISE]]))]
        share = pasted_share(real.mask, patch.spacing_mm)
        # Donors have an even number of voxels, and lie between the two in the middle.
        start = np.array(patch.shape) // 2 - np.array(real.hu.shape) // 2
        mine, theirs = _overlap(start, real.hu.shape, patch.shape)
        hu, mask = patch.voxels.astype(np.float32), np.zeros(patch.shape, bool)
        hu[theirs] += share[mine] * (real.hu[mine] - hu[theirs])
        mask[theirs] = real.outline[mine]
        return Filled(hu, mask & region, edit.nodule, outline=real.patient)


def _overlap(
    start: NDArray[np.int64], own: Sequence[int], other: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of an array that lies in another one, and the same part of the other."""
    mine, theirs = [], []
    for a, n, m in zip(start.tolist(), own, other, strict=True):
        low, high = max(a, 0), min(a + n, m)
        mine.append(slice(low - a, high - a))
        theirs.append(slice(low, high))
    return tuple(mine), tuple(theirs)
