"""Patches to nodules' voxels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from synthorax.datasets.patches import PatchDataset
from synthorax.shapes.overlap import dice
from synthorax.tasks.classification import Task, all_of

DICE_SMOOTHING = 1.0
"""Voxels added to both sides of Dice's fraction, so that it has a gradient where there is no nodule."""


class Segmentation(Task):
    """A segmenter of the nodule in the middle of a patch."""

    name = "segmentation"

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy and soft Dice (papers/4 has Dice alone, which starts slowly where nodules are small).

        Where the batch has `counted` [b, 1, z, y, x], voxels of 0 count in neither.
        """
        mask = batch["mask"][:, 0]
        each, inside = functional.cross_entropy(logits, mask.long(), reduction="none"), logits.softmax(1)[:, 1]
        entropy = each.mean()
        if "counted" in batch:
            known = batch["counted"][:, 0]
            entropy, inside = (each * known).sum() / known.sum().clamp(min=1), inside * known
        both = (inside * mask).sum((1, 2, 3))
        soft = (2 * both + DICE_SMOOTHING) / (inside.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + DICE_SMOOTHING)
        return entropy + (1 - soft).mean()

    def masks(self, patches: Tensor) -> NDArray[np.bool_]:
        """The nodules' voxels, [n, z, y, x]."""
        found: NDArray[np.bool_] = (self.logits(patches).argmax(1) == 1).numpy()
        return found

    def validate(self, patches: PatchDataset) -> dict[str, float]:
        """The mean Dice of a patch."""
        whole = all_of(patches)
        truth = whole["mask"][:, 0].numpy() > 0
        return {"val_dice": float(dice(self.masks(whole["ct"]), truth).mean())}
