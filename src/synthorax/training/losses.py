"""Losses that the GANs of the five papers share. Each system's configuration has the weights between them.

Every loss is a mean over samples, so that its mean over equal parts of a batch equals the loss of the whole batch.
Losses with missing labels are means over the samples with a label; there the equality holds only if every part has the
same number of labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

NO_CLASS = -1
"""Label of a sample whose class is unknown."""

ScoreFunction = Callable[[Tensor], Tensor]
"""A critic: samples [b, ...] to scores [b] or maps of scores [b, ...]. Each sample's score must not depend on the other
samples."""


def wasserstein_critic_loss(real: Float[Tensor, "b ..."], fake: Float[Tensor, "c ..."]) -> Float[Tensor, ""]:
    """Return mean f(fake) - mean f(real), the negative of the estimated Wasserstein distance.

    Source: WGAN-GP; Cui's thesis, 3.3.1.

    Args:
        real, fake: the critic's scores f of real and of fake samples.
    """
    return fake.mean() - real.mean()


def wasserstein_generator_loss(fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Return -mean f(fake), from the critic's scores f of fake samples (Cui's thesis, 3.3.2)."""
    return -fake.mean()


def gradient_penalty(
    critic: ScoreFunction,
    real: Float[Tensor, "b ..."],
    fake: Float[Tensor, "b ..."],
    epsilon: Float[Tensor, " b"],
    mask: Float[Tensor, "b ..."] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean of (||gradient of f|| - 1)^2 at points between real and fake samples.

    Source: WGAN-GP, equation 3; Yang et al., equation 2. It is computed in single precision even under autocast,
    because squared norms overflow in half precision.

    Args:
        critic: the critic f.
        real, fake: samples; each pair of rows is joined by a line.
        epsilon: share of the real sample at the point on the line, uniform within 0 to 1, one for each sample.
        mask: multiplies the gradient before the norm is taken, for a critic whose fakes are real outside the mask, as
            in the in-painting program that Yang et al. build on; broadcasts over channels.
    """
    with torch.autocast(real.device.type, enabled=False):
        share = epsilon.view(-1, *[1] * (real.ndim - 1)).to(_precise(real))
        between = share * real.detach().to(share) + (1 - share) * fake.detach().to(share)
        gradient = _gradient(critic, between)
        if mask is not None:
            gradient = gradient * mask
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def r1_penalty(critic: ScoreFunction, real: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Return the mean of ||gradient of f||^2 at real samples (R1; Mescheder et al. 2018; CT-SGAN).

    The factor of one half that some authors write is left out.

    Args:
        critic: the critic f.
        real: real samples.
    """
    with torch.autocast(real.device.type, enabled=False):
        gradient = _gradient(critic, real.detach().to(_precise(real)))
        return gradient.flatten(1).square().sum(1).mean()


def least_squares_discriminator_loss(real: Float[Tensor, "b ..."], fake: Float[Tensor, "c ..."]) -> Float[Tensor, ""]:
    """Return half the sum of the mean squared differences of real scores from 1 and of fake scores from 0.

    Source: LSGAN; Hagvall Hörnstedt, 4.3.4-5.
    """
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator_loss(fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Return the mean squared difference of fake scores from 1 (LSGAN)."""
    return (fake - 1).square().mean()


def jensen_shannon_discriminator_loss(real: Float[Tensor, "b ..."], fake: Float[Tensor, "c ..."]) -> Float[Tensor, ""]:
    """Return the mean of -log D(real) plus that of -log(1 - D(fake)); the scores are logits of D (CT-SGAN, eq. 2)."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def non_saturating_generator_loss(fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Return the mean of -log D(fake); the scores are logits of D (Cui's thesis, 1.3.3)."""
    return functional.softplus(-fake).mean()


def class_loss(logits: Float[Tensor, "b n"], labels: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over samples whose class is known; 0 if no class is known.

    This is the auxiliary loss of Yang et al. (equation 3) and Cui's thesis (section 3.3).

    Args:
        logits: logits of n classes.
        labels: class of each sample; `NO_CLASS` if unknown.
    """
    total = functional.cross_entropy(logits, labels, ignore_index=NO_CLASS, reduction="sum")
    return total / (labels != NO_CLASS).sum().clamp_min(1)


def attribute_loss(guesses: Float[Tensor, "b a"], attributes: Float[Tensor, "b a"]) -> Float[Tensor, ""]:
    """Return the squared error: the mean over each attribute's known values, summed over attributes; 0 if all are NaN.

    Args:
        guesses: predicted attributes.
        attributes: true attributes; NaN if unknown.
    """
    known = ~attributes.isnan()
    squares = (guesses - attributes.nan_to_num(0)).square() * known
    return (squares.sum(0) / known.sum(0).clamp_min(1)).sum()


def l1_loss(made: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Return the mean absolute error over all voxels and samples.

    It is L_global of Yang et al. (equation 1), the reconstruction loss of Pix2Pix (Hagvall Hörnstedt, 4.3.4, weight
    100), and the cycle loss (weight 10) and the identity loss of CycleGAN (4.3.5), one for each direction.
    """
    return (made - target).abs().mean()


def masked_l1_loss(
    made: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."], mask: Float[Tensor, "b ..."]
) -> Float[Tensor, ""]:
    """Return the mean absolute error over each sample's masked voxels, then over samples; an empty mask counts as 0.

    It is L_masked of Yang et al. (equation 1): a small nodule counts as much as a large one.
    """
    errors = ((made - target).abs() * mask).flatten(1).sum(1)
    return (errors / mask.expand_as(made).flatten(1).sum(1).clamp_min(1e-6)).mean()


def _gradient(critic: ScoreFunction, samples: Tensor) -> Tensor:
    """Return the gradient of the sum of the scores by each sample; it can be differentiated again."""
    samples = samples.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(samples).sum(), samples, create_graph=True)
    return gradient


def _precise(samples: Tensor) -> torch.dtype:
    """Return single precision, or double precision if the samples have it."""
    return torch.promote_types(samples.dtype, torch.float32)
