"""Losses of in-painters, composed from `training.losses`: those of Yang et al. (equations 1 to 5) and of CT-SGAN.

Yang et al. print the WGAN-GP of whole patches: the critics see the in-painter's whole output, and the penalty uses the
whole gradient. The in-painting program that Yang et al. build on (Yu et al. 2018) shows the critics composites, which
are real outside the edit region, and uses the gradient inside that region only. `as_printed` chooses the printed form.
Sums over the local and the global critic weight both equally.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from synthorax.nn.critics import InPaintingCritic, PatchCritic, Verdicts
from synthorax.nn.inpainter import InPainted, pasted
from synthorax.nn.local_crop import LocalCrop
from synthorax.training.losses import (
    class_loss,
    gradient_penalty,
    l1_loss,
    masked_l1_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)


def reconstruction_loss(
    made: InPainted,
    patches: Float[Tensor, "b 1 z y x"],
    region: Float[Tensor, "b 1 z y x"],
    *,
    global_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Return L_masked + lambda1 * L_global (equation 1), summed over the coarse and the refined output.

    Args:
        made: output of the in-painter.
        patches: the real patches.
        region: 1 in the edit region, 0 outside.
        global_weight: lambda1, which Yang et al. do not give.
    """
    stages = (made.coarse, made.refined)
    losses = [masked_l1_loss(one, patches, region) + global_weight * l1_loss(one, patches) for one in stages]
    return torch.stack(losses).sum()


def shown_to_critics(
    made: InPainted,
    patches: Float[Tensor, "b 1 z y x"],
    region: Float[Tensor, "b 1 z y x"],
    *,
    as_printed: bool = False,
) -> Float[Tensor, "b 1 z y x"]:
    """Return the fake patches that the critics judge, made from the refined output.

    The gradient flows through the refined stage into the coarse stage.

    Args:
        made: output of the in-painter.
        patches: the real patches.
        region: 1 in the edit region, 0 outside.
        as_printed: return the whole output; else paste it into the real patch, inside the region only.
    """
    return made.refined if as_printed else pasted(made.refined, patches, region)


def critics_loss(real: Verdicts, fake: Verdicts) -> Float[Tensor, ""]:
    """Return the negative of both critics' estimates of the Wasserstein distance (equation 2 without the penalty)."""
    return torch.stack([wasserstein_critic_loss(a.score, b.score) for a, b in zip(real, fake, strict=True)]).sum()


def adversarial_loss(fake: Verdicts) -> Float[Tensor, ""]:
    """Return the adversarial loss of the in-painter: the negative sum of both critics' mean scores of its fakes."""
    return torch.stack([wasserstein_generator_loss(verdict.score) for verdict in fake]).sum()


def domain_loss(verdicts: Verdicts, labels: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the sum of both critics' class losses L_cls (equation 3), each a mean over samples with a known class.

    Args:
        verdicts: output of both critics.
        labels: class of each sample; `losses.NO_CLASS` if unknown.

    Raises:
        ValueError: a critic has no auxiliary classifier.
    """
    losses = []
    for verdict in verdicts:
        if verdict.classes is None:
            raise ValueError("critics without an auxiliary classifier have no class loss")
        losses.append(class_loss(verdict.classes, labels))
    return torch.stack(losses).sum()


def critics_penalty(
    critic: InPaintingCritic,
    real: Float[Tensor, "b 1 z y x"],
    fake: Float[Tensor, "b 1 z y x"],
    region: Float[Tensor, "b 1 z y x"],
    crop: LocalCrop,
    epsilon: Float[Tensor, " b"],
    maps: Float[Tensor, "b m 1 1 1"] | None = None,
    *,
    as_printed: bool = False,
) -> Float[Tensor, ""]:
    """Return the sum of both critics' gradient penalties (equation 2), on lines between real and fake samples.

    Args:
        critic: the local and the global critic.
        real: the real patches.
        fake: the output of `shown_to_critics`.
        region: 1 in the edit region, 0 outside.
        crop: crop of the local critic, from `LocalCrop.around` the regions.
        epsilon: share of the real sample on the line, uniform within 0 to 1, one for each sample and the same for both
            critics.
        maps: condition of each sample, for critics that are conditioned.
        as_printed: use the whole gradient; else only the gradient inside the region.
    """

    def penalty(judge: PatchCritic, real: Tensor, fake: Tensor, region: Tensor) -> Tensor:
        mask = None if as_printed else region
        return gradient_penalty(lambda between: judge(between, maps).score, real, fake, epsilon, mask)

    return penalty(critic.local, crop(real), crop(fake), crop(region)) + penalty(critic.whole, real, fake, region)


def multi_mask_loss(
    made: Float[Tensor, "b 1 z y x"],
    patches: Float[Tensor, "b 1 z y x"],
    region: Float[Tensor, "b 1 z y x"],
    mask: Float[Tensor, "b 1 z y x"],
    *,
    dilation: int,
    weight: float,
) -> Float[Tensor, ""]:
    """Return the L1 loss in the region plus alpha times the L1 loss in and near the nodule.

    This is the multi-mask loss of Jin et al. 2018, which CT-SGAN builds on.

    Args:
        made: output of the in-painter.
        patches: the real patches.
        region: 1 in the edit region, 0 outside.
        mask: 1 in the nodule, 0 outside; an empty mask leaves the first term alone.
        dilation: voxels by which the mask is dilated to include the nodule's surroundings.
        weight: alpha.
    """
    near, width = mask, 2 * dilation + 1
    for axis in range(3):  # three 1D poolings take a fifth of the time of one with a cubic kernel
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = width, dilation
        near = functional.max_pool3d(near, kernel, stride=1, padding=padding)
    near = near * region
    return masked_l1_loss(made, patches, region) + weight * masked_l1_loss(made, patches, near)
