"""The losses that the GANs of the five papers share. Weights between them are a configuration's business.

Every loss is a mean over samples, so that the mean over the equal parts of a batch is that of the whole. Where
labels may be missing it is a mean over those present, and parts count alike only if as many are present in each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

NO_CLASS = -1
"""The label of a sample whose class is not known."""

ScoreFunction = Callable[[Tensor], Tensor]
"""Samples [b, ...] to scores [b] or maps of scores [b, ...]; a sample's must not depend on the others."""


def wasserstein_critic_loss(real: Float[Tensor, "b ..."], fake: Float[Tensor, "c ..."]) -> Float[Tensor, ""]:
    """f(fake) - f(real), of which the negative estimates the Wasserstein distance (WGAN-GP; papers/3, 3.3.1)."""
    return fake.mean() - real.mean()


def wasserstein_generator_loss(fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """-f(fake) (papers/3, 3.3.2)."""
    return -fake.mean()


def gradient_penalty(
    critic: ScoreFunction,
    real: Float[Tensor, "b ..."],
    fake: Float[Tensor, "b ..."],
    epsilon: Float[Tensor, " b"],
    mask: Float[Tensor, "b ..."] | None = None,
) -> Float[Tensor, ""]:
    """(||gradient of f|| - 1)^2 on the line between real and fake samples (WGAN-GP, equation 3; papers/2, equation 2).

    It is computed in single precision whatever the autocast around it, as norms squared overflow in half.

    Args:
        epsilon: the share of the real sample, uniform within 0 to 1; one a sample.
        mask: multiplies the gradient before its norm, for a critic whose fakes are real outside it, as the
            in-painting program that papers/2 builds on has it; broadcasts over channels.
    """
    with torch.autocast(real.device.type, enabled=False):
        share = epsilon.view(-1, *[1] * (real.ndim - 1)).to(_precise(real))
        between = share * real.detach().to(share) + (1 - share) * fake.detach().to(share)
        gradient = _gradient(critic, between)
        if mask is not None:
            gradient = gradient * mask
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def r1_penalty(critic: ScoreFunction, real: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """||gradient of f at real samples||^2, without the half some write (Mescheder et al. 2018; papers/5)."""
    with torch.autocast(real.device.type, enabled=False):
        gradient = _gradient(critic, real.detach().to(_precise(real)))
        return gradient.flatten(1).square().sum(1).mean()


def least_squares_discriminator_loss(real: Float[Tensor, "b ..."], fake: Float[Tensor, "c ..."]) -> Float[Tensor, ""]:
    """Half the squared distances of real scores from 1 and fake ones from 0 (LSGAN; papers/4, 4.3.4-5)."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator_loss(fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """The squared distance of fake scores from 1."""
    return (fake - 1).square().mean()


def jensen_shannon_discriminator_loss(real: Float[Tensor, "b ..."], fake: Float[Tensor, "c ..."]) -> Float[Tensor, ""]:
    """-log D(real) - log(1 - D(fake)), scores being logits of D (papers/5, equation 2)."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def non_saturating_generator_loss(fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """-log D(fake), the scores being logits of D (papers/3, 1.3.3)."""
    return functional.softplus(-fake).mean()


def class_loss(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Cross-entropy, the mean over samples whose class is known; 0 if there is none.

    The auxiliary loss of papers/2 (equation 3) and papers/3 (section 3.3).
    """
    total = functional.cross_entropy(logits, labels, ignore_index=NO_CLASS, reduction="sum")
    return total / (labels != NO_CLASS).sum().clamp_min(1)


def attribute_loss(guesses: Float[Tensor, "b a"], attributes: Float[Tensor, "b a"]) -> Float[Tensor, ""]:
    """Squared error, the mean over each attribute's known (not nan) values, summed over attributes; 0 if none is."""
    known = ~attributes.isnan()
    squares = (guesses - attributes.nan_to_num(0)).square() * known
    return (squares.sum(0) / known.sum(0).clamp_min(1)).sum()


def l1_loss(made: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Absolute error, the mean over everything.

    L_global of papers/2 (equation 1), the reconstruction of Pix2Pix (papers/4, 4.3.4, weight 100), and both the cycle
    (weight 10) and the identity loss of CycleGAN (4.3.5), one for each direction.
    """
    return (made - target).abs().mean()


def masked_l1_loss(
    made: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."], mask: Float[Tensor, "b ..."]
) -> Float[Tensor, ""]:
    """Absolute error, the mean over a sample's masked voxels, then over samples; 0 for a sample with an empty mask.

    L_masked of papers/2 (equation 1): a small nodule counts as much as a large one.
    """
    errors = ((made - target).abs() * mask).flatten(1).sum(1)
    return (errors / mask.expand_as(made).flatten(1).sum(1).clamp_min(1e-6)).mean()


def _gradient(critic: ScoreFunction, samples: Tensor) -> Tensor:
    """The gradient of every sample's summed score, itself differentiable."""
    samples = samples.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(samples).sum(), samples, create_graph=True)
    return gradient


def _precise(samples: Tensor) -> torch.dtype:
    """Single precision, or double where samples have it."""
    return torch.promote_types(samples.dtype, torch.float32)
