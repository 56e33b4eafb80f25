"""Erasing real nodules from their scans with any method, through the same function as `synthorax erase`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.placement import Ball
from synthorax.datasets.case import SPLITS, Split
from synthorax.datasets.store import Store
from synthorax.editing.erase import Unwanted, erase_nodules
from synthorax.editing.plan import ball_around
from synthorax.errors import InputError
from synthorax.makers import Method
from synthorax.parallel import map_processes
from synthorax.region import Region
from synthorax.seeding import derive
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class NoduleSite:
    """A real nodule in its scan, or in a part of it.

    Attributes:
        ct: the scan or the part of it, HU.
        own: the nodule's voxels in `ct`.
        patient: patient of the scan.
        case_id: case of the store; empty if it does not come from a store.
    """

    ct: Volume
    own: Region
    patient: str
    case_id: str = ""

    @property
    def ball(self) -> Ball:
        """Ball around the centroid of the nodule's voxels, with their width as its diameter."""
        return ball_around(self.own, self.ct)


@dataclass(frozen=True, eq=False)
class ErasedNodule:
    """A scan, or a part of it, from which a method erased a nodule.

    Attributes:
        site: the nodule and its scan before the edit.
        number: index of the site among those given.
        after: the scan after the edit, HU [z, y, x].
        region: the edit region, bool [z, y, x].
        is_doubted: whether `synthorax erase` finds no nodule at the place and would require `--force`.
    """

    site: NoduleSite
    number: int
    after: Volume
    region: NDArray[np.bool_]
    is_doubted: bool


@dataclass(frozen=True, eq=False)
class Erasures:
    """The nodules that a method erased, and those that it refused.

    Attributes:
        made: the erased nodules.
        refused: a sentence with the reason for each refused nodule.
    """

    made: tuple[ErasedNodule, ...]
    refused: tuple[str, ...]

    @property
    def patients(self) -> NDArray[np.str_]:
        """Patient of each erased nodule, [n]."""
        return np.array([one.site.patient for one in self.made])

    @property
    def diameters_mm(self) -> NDArray[np.float64]:
        """Diameter in mm of each erased nodule, [n]."""
        return np.array([one.site.ball.diameter_mm for one in self.made])


def nodule_sites(store: Store, split: Split) -> list[NoduleSite]:
    """Return the outlined nodules of a split of a store, each in its case.

    Raises:
        InputError: the split has no outlined nodule, or is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise InputError("split", repr(split), " or ".join(SPLITS))
    found = []
    for entry in store.in_split(split):
        case = store.read(entry.case_id)
        outlined = [region for nodule in case.nodules if (region := case.region(nodule)) is not None]
        found += [NoduleSite(case.ct, region, entry.patient_id, entry.case_id) for region in outlined]
    if not found:
        raise InputError(store.path, f"no outlined nodule among its {split} patients", "one or more")
    return found


def erased(method: Method, sites: Sequence[NoduleSite], seed: int, *, with_masks: bool) -> Erasures:
    """Erase the nodule of each site.

    Args:
        method: erases nodules.
        sites: the nodules.
        seed: seed of the edits.
        with_masks: whether the method gets the nodules' masks, or only their places and diameters.

    Raises:
        InputError: there is no site, or the method refuses all nodules.
    """
    if not sites:
        raise InputError("nodules", "no nodule to erase", "one or more")
    work, jobs = _Erase(method, with_masks), [(site, i, derive(seed, "site", i)) for i, site in enumerate(sites)]
    # A method with a model runs in this process, since its networks use all threads.
    found = list(map(work, jobs) if method.lineage.model_sha256 else map_processes(work, jobs, chunk=4))
    made = tuple(one for one in found if isinstance(one, ErasedNodule))
    refused = tuple(f"nodule {i}: {one}" for i, one in enumerate(found) if isinstance(one, str))
    if not made:
        raise InputError("nodules", f"none that {method.name} can erase ({refused[0]})", "one or more")
    return Erasures(made, refused)


@dataclass(frozen=True)
class _Erase:
    """A picklable function: a site, its number and a seed to the erased nodule, or to the reason for a refusal."""

    method: Method
    with_masks: bool

    def __call__(self, job: tuple[NoduleSite, int, int]) -> ErasedNodule | str:
        site, number, seed = job
        unwanted = [Unwanted(site.ball, site.own if self.with_masks else None)]
        try:
            try:
                made, is_doubted = erase_nodules(site.ct, unwanted, self.method, seed), False
            except InputError as doubt:
                if doubt.args[0] != "place":
                    raise
                made, is_doubted = erase_nodules(site.ct, unwanted, self.method, seed, force=True), True
        except InputError as error:
            return str(error)
        return ErasedNodule(site, number, made.ct, made.region.voxels, is_doubted)
