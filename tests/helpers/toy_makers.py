"""Makers without weights, used instead of trained systems."""

from dataclasses import dataclass, field

import numpy as np

from synthorax.errors import InputError
from synthorax.makers import Filled, Lineage, Samples, ScanStream, check_heeds
from synthorax.nodule import Nodule
from synthorax.patch import PatchSpec
from synthorax.seeding import derive, generator
from tests.helpers.balls import ball_mask
from tests.helpers.chests import small_chest

SPEC = PatchSpec((16, 16, 16))
KNOWN = frozenset(["0" * 12])
"""The key of a patient who is in no store of the tests."""


@dataclass(eq=False)
class Balls:
    """A generator of patches with masks: balls in noise, denser with the texture. It judges by the HU at the centre.

    Attributes:
        passing: share of the samples of each part that its selection keeps.
        parts: number of samples in a part.
    """

    name: str = "balls"
    spec: PatchSpec = SPEC
    heeds: frozenset = frozenset({"diameter_mm", "texture"})
    roles: frozenset = frozenset({"makes patches", "judges"})
    makes_empty: bool = True
    selects: bool = True
    passing: float = 1.0
    parts: int = 5
    lineage: Lineage = field(default_factory=lambda: Lineage("balls", "b" * 64, KNOWN))

    def sample(self, asked, seed, options=None):
        check_heeds(self, [one for each in asked for one in each])
        return self._parts(asked, seed)

    def select(self, asked, seed, options=None):
        for part in self.sample(asked, seed, options):
            yield part.rows(np.arange(int(self.passing * len(part))))

    def judge(self, hu):
        middle = tuple(slice(n // 3, n - n // 3) for n in hu.shape[1:])
        return 1 / (1 + np.exp(-hu[(slice(None), *middle)].mean((1, 2, 3)) / 100))

    def _parts(self, asked, seed):
        for start in range(0, len(asked), self.parts):
            yield self._part(asked[start : start + self.parts], start, seed)

    def _part(self, asked, start, seed):
        count = len(asked)
        hu = np.array([generator(seed, i).normal(-850, 30, self.spec.size) for i in range(start, start + count)])
        mask = np.zeros(hu.shape, np.uint8)
        nodules = []
        for i, each in enumerate(asked):
            for one in each:
                mask[i] = ball_mask(self.spec.size, one.diameter_mm or 6, self.spec.spacing_mm)
                hu[i][mask[i] > 0] += 300 * (one.texture or 3)
            nodules.append(tuple(Nodule("1", self.spec.middle_mm, one, 1) for one in each))
        index, details = np.arange(start, start + count), ({},) * count
        arrays = {"ct": hu.astype(np.int16), "mask": mask}
        return Samples(arrays, index, tuple(asked), tuple(nodules), details, self.spec, self.lineage, (), count)


@dataclass(frozen=True)
class Chests:
    """A maker of scans: small chests, each with other noise, made slice by slice.

    Attributes:
        depth: number of slices of each chest.
        stops_before: number of the scan before which it stops, like a process that is killed.
    """

    name: str = "chests"
    heeds: frozenset = frozenset()
    roles: frozenset = frozenset({"makes scans"})
    nodules_known: str = "all"
    depth: int = 40
    stops_before: int | None = None
    lineage: Lineage = field(default_factory=lambda: Lineage("chests", "c" * 64, KNOWN))

    def scan(self, index, seed, options=None):
        return ScanStream((self.depth, 72, 72), (6.0, 4.5, 4.5), self._slices(index, seed), {"number": index})

    def _slices(self, index, seed):
        if index == self.stops_before:
            raise KeyboardInterrupt
        chest = small_chest(derive(seed, index)).voxels
        for z in range(self.depth):
            yield chest[z % len(chest)][None]


@dataclass(frozen=True)
class Dots:
    """An injector of balls of 0 HU that have the requested diameter."""

    name: str = "dots"
    heeds: frozenset = frozenset({"diameter_mm"})
    roles: frozenset = frozenset({"injects"})
    lineage: Lineage = field(default_factory=lambda: Lineage("dots"))

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm

    def fill_many(self, patches, regions, edits, seeds):
        return [self._fill(*each) for each in zip(patches, regions, edits, strict=True)]

    def _fill(self, patch, region, edit):
        mask = ball_mask(patch.shape, edit.nodule.diameter_mm, patch.spacing_mm) & region
        return Filled(np.where(mask, np.float32(0), patch.voxels), mask, edit.nodule, "LIDC-IDRI-0001")


class DenseBalls:
    """Adds dense balls of the requested diameter; refuses diameters above `most_mm`."""

    name, lineage, heeds, roles = "balls", Lineage("balls"), frozenset({"texture"}), frozenset({"injects"})

    def __init__(self, most_mm=100.0):
        self.most_mm = most_mm

    def reach_mm(self, edit):
        if edit.diameter_mm > self.most_mm:
            raise InputError("diameter", "too much", "less")
        return 8.0, 8.0

    def fill_many(self, patches, regions, edits, seeds):
        made = []
        for patch, region, edit in zip(patches, regions, edits, strict=True):
            ball = (PatchSpec(patch.shape, patch.spacing_mm).distances_mm() <= edit.diameter_mm / 2) & region
            made.append(Filled(np.where(ball, 500, patch.voxels).astype(np.float32), ball, edit.nodule))
        return made


@dataclass(frozen=True)
class LungFiller:
    """An eraser that fills the nodule's voxels, or the ball of its diameter, with -850 HU."""

    name: str = "filler"
    heeds: frozenset = frozenset({"diameter_mm"})
    roles: frozenset = frozenset({"erases"})
    lineage: Lineage = field(default_factory=lambda: Lineage("filler"))

    def reach_mm(self, edit):
        return edit.nodule.diameter_mm, edit.nodule.diameter_mm / 2 + 6

    def fill_many(self, patches, regions, edits, seeds):
        return [self._fill(*each) for each in zip(patches, regions, edits, strict=True)]

    def _fill(self, patch, region, edit):
        ball = ball_mask(patch.shape, edit.nodule.diameter_mm + 2, patch.spacing_mm)
        gone = (ball if edit.mask is None else edit.mask) & region
        return Filled(np.where(gone, np.float32(-850), patch.voxels), None, edit.nodule)
