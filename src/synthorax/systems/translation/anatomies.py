"""Label maps of phantoms or of a store's cases, from which sampled volumes are cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.placement import Ball
from synthorax.anatomy.tissue import tissue_classes
from synthorax.datasets.store import Store
from synthorax.editing.label_nodules import as_labelled, lungs_of_labels
from synthorax.editing.plan import ball_around
from synthorax.errors import InputError
from synthorax.geometry import orient
from synthorax.patch import PatchSpec
from synthorax.phantom.chest import make_chest
from synthorax.provenance import patient_key
from synthorax.seeding import derive, generator
from synthorax.volume import Volume

PER_CHEST = 8
"""Number of volumes that are cut from one phantom."""
PHANTOM_MM = 336.0
"""Width, depth and height of a phantom's label map in mm."""


@dataclass(frozen=True, eq=False)
class LabelledAnatomy:
    """A label map on its own grid, with its lungs and nodules.

    Attributes:
        labels: `TissueClass` of each voxel, uint8, with axes along LPS.
        lungs: the lungs in the label map.
        taken: balls around the nodules in the label map.
        about: entries for the manifest.
    """

    labels: Volume
    lungs: Lungs
    taken: tuple[Ball, ...]
    about: dict[str, str]


@runtime_checkable
class Anatomies(Protocol):
    """Gives the label map of each sample by its number.

    Attributes:
        patients: keys of all patients whose label maps may be given.
    """

    patients: frozenset[str]

    def __call__(self, index: int, seed: int) -> LabelledAnatomy:
        """Return the label map of a sample; it depends on the sample's number and the seed only."""
        ...


class Phantoms:
    """Label maps of procedural phantoms, a new phantom for every `PER_CHEST` samples.

    Args:
        spacing_mm: voxel spacing (z, y, x) of the sampled volumes.
        finest_mm: smallest voxel spacing of a phantom.
    """

    patients: frozenset[str] = frozenset()

    def __init__(self, spacing_mm: tuple[float, float, float], finest_mm: float) -> None:
        z, y, x = (max(s, finest_mm) for s in spacing_mm)
        self._spacing = z, y, x

    def __call__(self, index: int, seed: int) -> LabelledAnatomy:
        """Return the label map of the sample's phantom."""
        return _phantom(derive(seed, "anatomy", index // PER_CHEST), self._spacing)


@lru_cache(maxsize=1)
def _phantom(seed: int, spacing_mm: tuple[float, float, float]) -> LabelledAnatomy:
    z, y, x = (round(PHANTOM_MM / s) for s in spacing_mm)
    chest = make_chest(seed, shape=(z, y, x), spacing_mm=spacing_mm)
    labels = replace(chest.hu, voxels=tissue_classes(chest.tissues))
    return LabelledAnatomy(labels, lungs_of_labels(labels), (), {"anatomy": f"phantom of seed {seed}"})


class StoredMaps:
    """Label maps of a store's training cases, with their nodules.

    Args:
        store: a prepared store.
        spec: grid of the sampled volumes.

    Raises:
        InputError: no training case has a label map that is as large as a volume.
    """

    def __init__(self, store: Store, spec: PatchSpec) -> None:
        self._store = store
        known = [case for case in store.in_split("train") if case.has_tissue]
        self._cases = [case for case in known if _is_as_wide(case.grid(), spec)]
        if not self._cases:
            wanted = " x ".join(f"{mm:g}" for mm in spec.size_mm)
            found = f"{len(known)} training cases with label maps of tissues, none as large as {wanted} mm (z, y, x)"
            raise InputError(store.path, found, "a case as large as a volume, prepared with --tissue")
        self.patients = frozenset(patient_key(case.patient_id) for case in self._cases if not case.synthetic)
        self.patients |= frozenset(key for case in self._cases if case.lineage for key in case.lineage.patients)
        self._read = lru_cache(maxsize=1)(self._anatomy)

    def __call__(self, index: int, seed: int) -> LabelledAnatomy:
        """Return the label map of a case, drawn by the seed anew for every `PER_CHEST` samples."""
        return self._read(int(generator(seed, "anatomy", index // PER_CHEST).integers(len(self._cases))))

    def _anatomy(self, number: int) -> LabelledAnatomy:
        case = self._store.read(self._cases[number].case_id)
        assert case.tissue is not None
        labels = orient(replace(case.ct, voxels=case.tissue), "LPS")
        had = as_labelled(labels).regions
        taken = tuple(ball_around(region, labels) for region in had)
        return LabelledAnatomy(labels, lungs_of_labels(labels), taken, {"anatomy": f"case {case.case_id}"})


def _is_as_wide(grid: Volume, spec: PatchSpec) -> bool:
    """Return whether a case is as wide as a volume along each axis, up to half a voxel."""
    upright = orient(grid, "LPS")
    width = np.multiply(upright.shape, upright.spacing_mm)
    return bool((width + np.divide(spec.spacing_mm, 2) >= spec.size_mm).all())
