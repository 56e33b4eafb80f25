"""Batches of real patches in which some of a class are made ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.one_thread import in_one_thread
from synthorax.datasets.patches import PatchDataset
from synthorax.errors import InputError
from synthorax.seeding import generator


@dataclass(frozen=True, eq=False)
class MixedBatches:
    """A function of the step, as the loop takes it: `PatchDataset.batch` with made cubes in the place of some.

    Made cubes are flipped as the real ones are.

    Attributes:
        real: patches and their augmentation.
        made: by class, int16 HU [n, z, y, x] on the voxels of `real`.
        share: of each such class's patches, how many are made ones in the mean, 0 to 1.
        size: of a batch.

    Raises:
        InputError: cubes of another size, none of a class, a share beyond 0 to 1, or patches that are moved or scaled:
            made cubes have nothing beyond their edge to be seen then, by which a network would know them.
    """

    real: PatchDataset
    made: Mapping[int, NDArray[np.int16]]
    share: float
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError("share", f"{self.share:g} of the patches made", "0 to 1")
        if any(self.real.augmentation.margin(self.real.spec.size)):
            raise InputError("augmentation", "shifts or scales", "flips alone, as made cubes end at their edge")
        for label, cubes in self.made.items():
            if cubes.shape[1:] != self.real.spec.size or not len(cubes):
                expected = f"one or more of {self.real.spec.size} voxels, as the real ones"
                raise InputError(f"made cubes of class {label}", f"shape {cubes.shape}", expected)

    def __call__(self, step: int) -> dict[str, Tensor]:
        """The batch of a step; made patches have an empty mask and the index -1."""
        return in_one_thread(self._mixed, self.real.batch(step, self.size), step)

    def _mixed(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """A batch of real patches with made ones in the place of some."""
        random = generator(self.real.seed, "made", step)
        chosen = random.random(self.size) < self.share
        for label, cubes in self.made.items():
            rows = np.flatnonzero(chosen & (batch["label"].numpy() == label))
            drawn = self.real.augmentation.draw(random, len(rows))
            hu = drawn.apply(cubes[random.integers(len(cubes), size=len(rows))], self.real.spec.size)
            where = torch.from_numpy(rows)
            batch["ct"][where] = self.real.spec.to_unit(hu)[:, None]
            batch["mask"][where], batch["index"][where] = 0, -1
        return batch
