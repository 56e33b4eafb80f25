"""Batches drawn from one pool of real and synthetic patches of all classes, all equally probable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.one_thread import in_one_thread
from synthorax.datasets.patches import PatchDataset
from synthorax.errors import InputError
from synthorax.seeding import generator


class PooledBatches:
    """A function of the step to a batch in which classes have the proportions of the pool.

    Every patch of the pool is drawn once before any is drawn again. Synthetic patches are augmented like real ones.

    Args:
        real: real patches with their augmentation and seed.
        size: number of patches of a batch.
        made: class to its synthetic patches, int16 HU [n, z, y, x] on the grid `real.padded`.
        repeats: class to the number of times that each of its real patches is in the pool; 1 by default.
        weighted: whether rows have weights that give all classes the same total weight.

    Raises:
        InputError: synthetic patches have another size.
    """

    def __init__(
        self,
        real: PatchDataset,
        size: int,
        *,
        made: Mapping[int, NDArray[np.int16]] | None = None,
        repeats: Mapping[int, int] | None = None,
        weighted: bool = False,
    ) -> None:
        own, wanted = made or {}, real.padded.size
        for label, patches in own.items():
            if patches.shape[1:] != wanted:
                found, expected = f"{patches.shape[1:]} voxels", f"{wanted}, as the real ones with their margin"
                raise InputError(f"synthetic patches of class {label}", found, expected)
        times = [(repeats or {}).get(int(label), 1) for label in real.labels]
        n_made = [len(patches) for patches in own.values()]
        self._real, self._size = real, size
        self._made = np.concatenate([np.zeros((0, *wanted), np.int16), *own.values()])
        self._rows = np.concatenate([np.repeat(np.arange(len(real)), times), len(real) + np.arange(sum(n_made))])
        self._labels = np.concatenate([real.labels, np.repeat(np.array(list(own), np.int64), n_made)])
        labels = self._labels[self._rows]
        shares = np.bincount(labels) / len(labels)
        self._weights = 1 / (shares * np.count_nonzero(shares)).clip(1e-9) if weighted else None

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return the batch of a step.

        Returns:
            ct: float32 [b, 1, z, y, x] from -1 to 1; label: int64 [b]; weight: float32 [b], if weighted.
        """
        return in_one_thread(self._drawn, step)

    def _drawn(self, step: int) -> dict[str, Tensor]:
        real = self._real
        turn, place = np.divmod(step * self._size + np.arange(self._size), len(self))
        rows = np.concatenate([self._turn(k)[place[turn == k]] for k in range(turn[0], turn[-1] + 1)])
        is_real = rows < len(real)
        hu = np.empty((len(rows), *real.padded.size), np.int16)
        hu[is_real] = real.with_margin(rows[is_real])
        hu[~is_real] = self._made[rows[~is_real] - len(real)]
        drawn = real.augmentation.draw(generator(real.seed, "pooled", step), len(rows))
        label = self._labels[rows]
        batch = {"ct": real.spec.to_unit(drawn.apply(hu, real.spec.size))[:, None], "label": torch.from_numpy(label)}
        if self._weights is not None:
            batch["weight"] = torch.from_numpy(self._weights[label].astype(np.float32))
        return batch

    def _turn(self, number: int) -> NDArray[np.int64]:
        """Return the rows of the pool in the order in which they are drawn in a turn."""
        return self._rows[generator(self._real.seed, "turn", number).permutation(len(self))]
