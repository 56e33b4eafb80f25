"""Batches of real patches in which synthetic patches replace a share of a class."""

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
    """A function of the step to `PatchDataset.batch`, with synthetic patches in the place of some real ones.

    Synthetic patches are flipped as the real ones are. Shifts and scaling are refused: they bring voxels beyond a
    patch's edge into it, which synthetic patches do not have, and a network would recognise them by that.

    Attributes:
        real: real patches and their augmentation.
        made: class to its synthetic patches, int16 HU [n, z, y, x] on the grid of `real`.
        share: mean share of synthetic patches among the patches of each of these classes, 0 to 1.
        size: number of patches of a batch.

    Raises:
        InputError: synthetic patches have another size, a class has none, the share is not from 0 to 1, or the
            augmentation shifts or scales.
    """

    real: PatchDataset
    made: Mapping[int, NDArray[np.int16]]
    share: float
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError("share", f"{self.share:g} of the patches synthetic", "0 to 1")
        if any(self.real.augmentation.margin(self.real.spec.size)):
            expected = "flips alone, since synthetic patches have no voxels beyond their edge"
            raise InputError("augmentation", "shifts or scales", expected)
        for label, cubes in self.made.items():
            if cubes.shape[1:] != self.real.spec.size or not len(cubes):
                expected = f"one or more of {self.real.spec.size} voxels, as the real ones"
                raise InputError(f"synthetic patches of class {label}", f"shape {cubes.shape}", expected)

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step; synthetic patches have an empty mask and the index -1."""
        return in_one_thread(self._mixed, self.real.batch(step, self.size), step)

    def _mixed(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Replace some patches of a batch by synthetic ones."""
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
