"""Real nodules taken out of scans by any method, along the way of `synthorax erase`."""

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
        ct: HU.
        own: the nodule's voxels in `ct`.
        patient: whose scan it is.
        case_id: of the case of a store, if it is from one.
    """

    ct: Volume
    own: Region
    patient: str
    case_id: str = ""

    @property
    def ball(self) -> Ball:
        """The ball about the mean of its voxels that is as wide as they are."""
        return ball_around(self.own, self.ct)


@dataclass(frozen=True, eq=False)
class ErasedNodule:
    """A scan, or a part of it, out of which a method took its nodule.

    Attributes:
        site: the nodule and its scan as they were.
        number: of the site among those that were asked for.
        after: HU of the scan without it [z, y, x].
        region: bool [z, y, x], where the scan might change.
        is_doubted: whether `synthorax erase` asks for `--force` there, as it sees no nodule.
    """

    site: NoduleSite
    number: int
    after: Volume
    region: NDArray[np.bool_]
    is_doubted: bool


@dataclass(frozen=True, eq=False)
class Erasures:
    """What a method made of some nodules.

    Attributes:
        made: those that it took out.
        refused: why it did not take out others, a sentence each.
    """

    made: tuple[ErasedNodule, ...]
    refused: tuple[str, ...]

    @property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each nodule that was taken out, [n]."""
        return np.array([one.site.patient for one in self.made])

    @property
    def diameters_mm(self) -> NDArray[np.float64]:
        """The diameter of each, [n]."""
        return np.array([one.site.ball.diameter_mm for one in self.made])


def nodule_sites(store: Store, split: Split) -> list[NoduleSite]:
    """The outlined nodules of a split of a store, each in its case.

    Raises:
        InputError: none, or no such split.
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


def erased(method: Method, sites: Sequence[NoduleSite], seed: int, *, told: bool) -> Erasures:
    """Take the nodule of each site out; what the method refuses is told in `refused`.

    Args:
        method: erases.
        told: the method is told the nodules' voxels, and not their places and diameters alone.

    Raises:
        InputError: no site, or none whose nodule the method takes out.
    """
    if not sites:
        raise InputError("nodules", "none", "one or more, to be taken out")
    work, jobs = _Erase(method, told), [(site, i, derive(seed, "site", i)) for i, site in enumerate(sites)]
    # A method with a model computes in this process, whose threads it uses.
    found = list(map(work, jobs) if method.lineage.model_sha256 else map_processes(work, jobs, chunk=4))
    made = tuple(one for one in found if isinstance(one, ErasedNodule))
    refused = tuple(f"nodule {i}: {one}" for i, one in enumerate(found) if isinstance(one, str))
    if not made:
        raise InputError("nodules", f"none that {method.name} takes out ({refused[0]})", "one or more")
    return Erasures(made, refused)


@dataclass(frozen=True)
class _Erase:
    """A picklable function: a site, its number and a seed to what the method made of it, or to why it made nothing."""

    method: Method
    told: bool

    def __call__(self, job: tuple[NoduleSite, int, int]) -> ErasedNodule | str:
        site, number, seed = job
        unwanted = [Unwanted(site.ball, site.own if self.told else None)]
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
