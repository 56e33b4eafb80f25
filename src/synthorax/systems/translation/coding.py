"""Encodes label maps as input of the networks, smooths label maps, and correlates noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from synthorax.anatomy.tissue import TissueClass
from synthorax.systems.translation.config import LABEL_CLASSES, TranslationConfig

THESIS_CODES = (0, 0, 1, 2, 3, 4, 5)
"""The thesis' code of each class of `TissueClass`, in order; it counts the air around the patient as other tissue."""
THESIS_SCALE = 3.0
"""The thesis' networks get code / `THESIS_SCALE` - 1 (section 4.3.3)."""
MASK_NOISE = 0.05
"""Largest value of the uniform noise that is added to masks (section 4.3.1)."""


def coded(
    tissue: UInt8[Tensor, "b ..."], config: TranslationConfig, noise: Float[Tensor, "b ..."] | None = None
) -> Float[Tensor, "b c ..."]:
    """Return label maps encoded as input of a configuration's networks.

    Args:
        tissue: `TissueClass` of each voxel.
        config: settings, whose `inputs` and `channels` decide on the encoding.
        noise: noise within 0 to 1; needed for the inputs `mask-noise` only.
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


def correlated(noise: Float[Tensor, "b n d y x"], correlation: float) -> Float[Tensor, "b n d y x"]:
    """Return white noise smoothed to a correlation of neighbouring voxels, with the same variance.

    Each axis of several voxels is convolved with (a, 1, a), normalised, and mirrored at its ends.

    Args:
        noise: white noise.
        correlation: correlation of two neighbouring voxels along an axis, from 0 to less than 1 / sqrt(2).
    """
    if not correlation:
        return noise
    side = (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
    for axis in range(-3, 0):
        if (size := noise.shape[axis]) < 2:
            continue
        order = torch.arange(-1, size + 1, device=noise.device).abs()
        order[-1] = size - 2
        padded = noise.index_select(axis, order)
        before, after = padded.narrow(axis, 0, size), padded.narrow(axis, 2, size)
        noise = (noise + side * (before + after)) / math.sqrt(1 + 2 * side**2)
    return noise


def cleaned(tissue: UInt8[Tensor, "b z y x"]) -> UInt8[Tensor, "b z y x"]:
    """Return label maps smoothed by the most frequent class in 3 x 3 x 3 voxels; nodules keep exactly their voxels.

    Maps of one or two slices are smoothed within each slice.
    """
    shares = functional.one_hot(tissue.long(), LABEL_CLASSES).movedim(-1, 1).float()
    width = (3 if tissue.shape[1] >= 3 else 1, 3, 3)
    padding = [n // 2 for n in width]
    around = functional.avg_pool3d(shares, width, stride=1, padding=padding, count_include_pad=False)
    found = (around + 1e-3 * shares).argmax(1).to(torch.uint8)  # a tie leaves the voxel as it is
    nodule = tissue == TissueClass.NODULE
    found = torch.where(found == TissueClass.NODULE, tissue, found)
    return torch.where(nodule, tissue, found)
