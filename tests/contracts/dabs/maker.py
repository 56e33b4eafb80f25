"""A method that injects and erases, and judges patches by the density at their centre."""

import numpy as np

from synthorax.lineage import Lineage
from synthorax.makers import Filled
from synthorax.patch import PatchSpec
from synthorax.seeding import generator

LUNG_HU = -850.0


class Dabs:
    name = "dabs"
    lineage = Lineage("dabs")
    heeds = frozenset({"diameter_mm"})
    roles = frozenset({"injects", "erases", "judges"})
    spec = PatchSpec((16, 16, 16))

    def __init__(self, hu):
        self.hu = hu

    def reach_mm(self, edit):
        radius = edit.nodule.diameter_mm / 2 + 1
        return radius + 2, radius

    def fill_many(self, patches, regions, edits, seeds):
        return [self._fill(*each) for each in zip(patches, regions, edits, seeds, strict=True)]

    def judge(self, hu):
        return 1 / (1 + np.exp((self.hu - hu[:, 7:9, 7:9, 7:9].mean((1, 2, 3))) / 100))

    def _fill(self, patch, region, edit, seed):
        noise = generator(seed, "dabs").normal(0, 20, patch.shape)
        if edit.kind == "erase":
            return Filled(np.where(region, LUNG_HU + noise, patch.voxels).astype(np.float32), None, edit.nodule)
        mask = (PatchSpec(patch.shape, patch.spacing_mm).distances_mm() <= edit.nodule.diameter_mm / 2) & region
        return Filled(np.where(mask, self.hu + noise, patch.voxels).astype(np.float32), mask, edit.nodule)


def maker(options):
    return Dabs(options.hu)
