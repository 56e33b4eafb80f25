"""The losses of in-painters, put together from `training.losses`: those of papers/2 (equations 1 to 5) and papers/5.

The paper prints the WGAN-GP of whole patches: the critics see all that the in-painter made, and the penalty counts the
whole gradient. The in-painting program that it builds on (Yu et al. 2018) shows the critics composites, which are real
outside the edit, and counts the gradient inside it alone. `as_printed` chooses the former. Sums over both critics weigh
them alike.
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
    """Return L_masked + lambda1 * L_global (equation 1), summed over both stages.

    Args:
        global_weight: lambda1, which the paper does not give.
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
    """Return the fakes that the critics judge: the second stage's, whose gradient goes on into the first."""
    return made.refined if as_printed else pasted(made.refined, patches, region)


def critics_loss(real: Verdicts, fake: Verdicts) -> Float[Tensor, ""]:
    """Return the negative of what the critics estimate of the Wasserstein distance (equation 2 without penalty)."""
    return torch.stack([wasserstein_critic_loss(a.score, b.score) for a, b in zip(real, fake, strict=True)]).sum()


def adversarial_loss(fake: Verdicts) -> Float[Tensor, ""]:
    """Return what the in-painter is to make small: the negative of both critics' scores of its fakes."""
    return torch.stack([wasserstein_generator_loss(verdict.score) for verdict in fake]).sum()


def domain_loss(verdicts: Verdicts, labels: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return L_cls of both critics (equation 3), the mean over samples whose label is not `losses.NO_CLASS`.

    Raises:
        ValueError: critics without an auxiliary classifier.
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
    """Return the gradient penalties of both critics (equation 2), each between real and fake samples that it sees.

    Args:
        fake: what `shown_to_critics` returned.
        crop: `LocalCrop.around` the regions.
        epsilon: the share of the real sample, uniform within 0 to 1; one a sample, the same for both critics.
        maps: the condition, for critics that depend on it.
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
    """Return the L1 loss in the region, plus that in and near the nodule (Jin et al. 2018, which papers/5 builds on).

    Args:
        mask: 1 in the nodule, 0 outside; an empty one has the first part alone.
        dilation: voxels around the nodule that count as near.
        weight: alpha, of the second part.
    """
    near, width = mask, 2 * dilation + 1
    for axis in range(3):  # one after the other they cost a fifth of a cube's
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = width, dilation
        near = functional.max_pool3d(near, kernel, stride=1, padding=padding)
    near = near * region
    return masked_l1_loss(made, patches, region) + weight * masked_l1_loss(made, patches, near)
