"""Segmentation of the nodule in a patch."""

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
"""Added to numerator and denominator of soft Dice, so that it has a gradient in patches without a nodule."""


class Segmentation(Task):
    """A segmenter of the nodule in the middle of a patch."""

    name = "segmentation"

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return cross-entropy plus soft Dice loss.

        Hagvall Hörnstedt has Dice alone, which starts slowly for small nodules.

        If the batch has `counted` [b, 1, z, y, x], voxels where it is 0 do not count in either loss.
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
        """Return the nodules' voxels, bool [n, z, y, x], in patches [n, 1, z, y, x] within -1 to 1."""
        found: NDArray[np.bool_] = (self.logits(patches).argmax(1) == 1).numpy()
        return found

    def validate(self, patches: PatchDataset) -> dict[str, float]:
        """Return the mean Dice over patches."""
        whole = all_of(patches)
        truth = whole["mask"][:, 0].numpy() > 0
        return {"val_dice": float(dice(self.masks(whole["ct"]), truth).mean())}
