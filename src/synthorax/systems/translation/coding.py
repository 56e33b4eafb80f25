"""Label maps as networks see them, and back."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from synthorax.anatomy.tissue import TissueClass
from synthorax.systems.translation.config import LABEL_CLASSES, TranslationConfig

THESIS_CODES = (0, 0, 1, 2, 3, 4, 5)
"""The thesis' code of each class, in the order of `TissueClass`: there the air around the patient is other tissue."""
THESIS_SCALE = 3.0
"""A code divided by this, less 1, is what its networks see (section 4.3.3)."""
MASK_NOISE = 0.05
"""The uniform noise that is added to masks goes up to this (section 4.3.1)."""


def coded(
    tissue: UInt8[Tensor, "b ..."], config: TranslationConfig, noise: Float[Tensor, "b ..."] | None = None
) -> Float[Tensor, "b c ..."]:
    """Label maps as the networks of a configuration see them.

    Args:
        tissue: of `TissueClass`.
        noise: from 0 to 1, for masks that noise is added to.
    """
    if config.inputs != "labels":
        shown = (tissue == TissueClass.NODULE).float()
        if config.inputs == "mask-noise":
            assert noise is not None
            shown = shown + MASK_NOISE * noise
        return (2 * shown - 1).clamp(-1, 1)[:, None]
    if config.channels == 1:
        codes = torch.tensor(THESIS_CODES, device=tissue.device)[tissue.long()]
        return (codes / THESIS_SCALE - 1)[:, None]
    return functional.one_hot(tissue.long(), LABEL_CLASSES).movedim(-1, 1).float()


def cleaned(tissue: UInt8[Tensor, "b z y x"]) -> UInt8[Tensor, "b z y x"]:
    """The most frequent class of each voxel and its neighbours, in its slice and across; nodules stay to the voxel."""
    shares = functional.one_hot(tissue.long(), LABEL_CLASSES).movedim(-1, 1).float()
    around = functional.avg_pool3d(shares, 3, stride=1, padding=1, count_include_pad=False)
    found = (around + 1e-3 * shares).argmax(1).to(torch.uint8)  # a tie leaves the voxel as it is
    nodule = tissue == TissueClass.NODULE
    found = torch.where(found == TissueClass.NODULE, tissue, found)
    return torch.where(nodule, tissue, found)
