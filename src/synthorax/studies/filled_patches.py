"""Any injector as a generator of patches: it puts nodules into the middle of real patches without a nodule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.patches import PatchDataset
from synthorax.errors import InputError
from synthorax.makers import (
    Asked,
    Edit,
    Filled,
    Generator,
    Lineage,
    Method,
    Options,
    Role,
    Samples,
    check_filled,
    check_heeds,
    fill,
)
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.parallel import map_processes
from synthorax.provenance import patient_key
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

PART = 512
"""Number of samples in memory at once."""
TOGETHER = 16
"""Number of patches that a method with a model fills at a time."""
FillJob = tuple[NDArray[np.float32], NoduleAttributes, int]
"""A background, HU [z, y, x], the requested nodule, and the seed of the edit."""


class FilledPatches(Generator):
    """A generator of patches that wraps a method that injects.

    `lineage.outlines` of its samples has the patients of the backgrounds too, besides those of the method.

    Args:
        method: puts a nodule into a background; it may change every voxel.
        backgrounds: patches; each sample's background is drawn from those without a nodule.

    Raises:
        InputError: there is no patch without a nodule.
    """

    def __init__(self, method: Method, backgrounds: PatchDataset) -> None:
        free = [i for i, place in enumerate(backgrounds.places) if place.nodule is None]
        if not free:
            expected = "scans whose nodules are all known, or larger patches, with places that have none"
            raise InputError("backgrounds", "no training patch without a nodule", expected)
        self._method, self._backgrounds, self._free = method, backgrounds, np.array(free)
        patients = {patient_key(backgrounds.places[i].patient_id) for i in free}
        self.name, self.heeds = method.name, method.heeds | {"diameter_mm"}
        self.lineage: Lineage = method.lineage.with_outlines(method.lineage.outlines | patients)
        self.roles: frozenset[Role] = frozenset({"makes patches"})
        self.spec = backgrounds.spec
        self.options = getattr(method, "options", None)

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Put each requested nodule into a background of its own; sample i depends only on `seed`, `asked[i]` and i.

        Args:
            asked: one nodule, with a diameter, for each sample.
            seed: seed of the samples.
            options: must be None, since the method was made with its options.

        Raises:
            InputError: a sample has no nodule or several, a nodule has no diameter or attributes that the method does
                not heed, or options are given.
        """
        if wrong := [len(one) for one in asked if len(one) != 1]:
            raise InputError("nodules", f"{wrong[0]} in one patch", f"one, which {self.name} puts into the patch")
        if any(one.diameter_mm is None for (one,) in asked):
            raise InputError("diameter", "none", f"a diameter of each nodule, which {self.name} needs")
        if options is not None:
            raise InputError("options", type(options).__name__, f"none: {self.name} was already made with its options")
        check_heeds(self, [one for (one,) in asked])
        return self._parts([one for (one,) in asked], seed)

    def _parts(self, nodules: Sequence[NoduleAttributes], seed: int) -> Iterator[Samples]:
        rows = generator(seed, "backgrounds").choice(self._free, len(nodules))
        for start in range(0, len(nodules), PART):
            index = np.arange(start, min(start + PART, len(nodules)))
            hu = self._backgrounds.spec.to_hu(self._backgrounds.rows(rows[index].tolist())["ct"][:, 0]).numpy()
            part = nodules[start : start + PART]
            jobs = [(hu[k], one, derive(seed, "rendered", start + k)) for k, one in enumerate(part)]
            filled = filled_all(self._method, self.spec.spacing_mm, jobs)
            yield self._samples(index, part, [_done(one) for one in filled])

    def _samples(
        self, index: NDArray[np.int64], nodules: Sequence[NoduleAttributes], filled: Sequence[Filled]
    ) -> Samples:
        masks = [np.zeros(self.spec.size, bool) if one.mask is None else one.mask for one in filled]
        return Samples(
            {
                "ct": np.stack([np.rint(one.hu).astype(np.int16) for one in filled]),
                "mask": np.stack(masks).astype(np.uint8),
            },
            index,
            tuple((one,) for one in nodules),
            tuple((self._nodule(*each),) for each in zip(filled, masks, strict=True)),
            tuple({"outline": patient_key(one.outline)} if one.outline else {} for one in filled),
            self.spec,
            self.lineage,
            tuple(dict.fromkeys(note for one in filled for note in one.notes)),
            len(index),
        )

    def _nodule(self, filled: Filled, mask: NDArray[np.bool_]) -> Nodule:
        """Return a sample's nodule. Its diameter is measured on its mask, or is the requested one if that is empty."""
        attributes, known_from = filled.attributes, "asked"
        if mask.any():
            width = axial_diameter_mm(np.argwhere(mask), self.spec.spacing_mm)
            attributes, known_from = replace(attributes, diameter_mm=width), "measured"
        return Nodule("1", self.spec.middle_mm, attributes, 1 if mask.any() else 0, extra={"diameter_is": known_from})


def _done(one: Filled | InputError) -> Filled:
    if isinstance(one, InputError):
        raise one
    return one


def filled_all(
    method: Method, spacing_mm: tuple[float, float, float], jobs: Sequence[FillJob]
) -> list[Filled | InputError]:
    """Put a nodule into the middle of each background; the method may change every voxel.

    A method without a model runs in several processes. A method with a model runs in this process, since its networks
    use all threads.

    Returns:
        The filled patch of each background, or the error with which the method refused it.
    """
    single = _Fill(method, spacing_mm)
    if not method.lineage.model_sha256:
        return list(map_processes(single, jobs))
    found: list[Filled | InputError] = []
    for start in range(0, len(jobs), TOGETHER):
        part = jobs[start : start + TOGETHER]
        patches = [Volume(hu, spacing_mm) for hu, _, _ in part]
        regions = [np.ones(patch.shape, bool) for patch in patches]
        edits = [Edit("inject", nodule) for _, nodule, _ in part]
        try:
            filled = method.fill_many(patches, regions, edits, [seed for _, _, seed in part])
            for patch, edit, one in zip(patches, edits, filled, strict=True):
                check_filled(method, patch, edit, one)
        except InputError:
            found += map(single, part)
        else:
            found += filled
    return found


@dataclass(frozen=True)
class _Fill:
    """A picklable function: a background, the requested nodule and a seed to the filled patch, or to the error."""

    method: Method
    spacing_mm: tuple[float, float, float]

    def __call__(self, job: FillJob) -> Filled | InputError:
        hu, nodule, seed = job
        patch = Volume(hu, self.spacing_mm)
        try:
            return fill(self.method, patch, np.ones(patch.shape, bool), Edit("inject", nodule), seed)
        except InputError as error:
            return error
