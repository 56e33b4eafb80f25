"""Training the autoencoder without back-propagation: arrange the latent vectors, regress, and fit one convex layer.

The latent vector of each nodule is chosen first (`arrangement`). Then:

* the feature network is regressed, layer by layer, to map each nodule to its latent vector;
* the generator's hidden layers stay random, with a gain large enough for three latent numbers to give detail;
* the generator's last layer, by far the largest, is a logistic regression of each voxel on the hidden neurons. It is
  convex, and all voxels share one bound of the Hessian. A pass over the data is one step preconditioned by this bound,
  with Nesterov's momentum; about 25 passes are enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.seeding import generator
from synthorax.systems.lung.arrangement import arrange
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.morphs import morph, neighbour_pairs
from synthorax.systems.lung.networks import ShapeAutoencoder

ENCODER_RIDGE = 1e-3
"""Ridge of the feature network's regressions, as a share of the mean squared length of their input."""
LEAST_PROBABILITY = 1e-4
"""Initial probability of a voxel that no sample uses."""
MOST_REGRESSED = 4096
"""Most samples of the regressions, drawn at random."""
MOST_MORPHS = 4096
"""Most shapes between neighbours, drawn at random."""
ROWS = 2048
"""Samples that go through the last layer at once, to limit the memory of a pass."""


class FitData(NamedTuple):
    """The data to which the last layer is fitted; every step uses all of them.

    Attributes:
        hidden: output of the last hidden layer minus its weighted mean, [n, hidden].
        voxels: targets at the voxels of the support, [n, v].
        weights: weights of the samples, [n].
        mean_hidden: weighted mean of the last hidden layer's output, [hidden].
        bias: log odds of the weighted mean of the targets, [v].
        preconditioner: inverse of the bound of the Hessian, [hidden, hidden].
    """

    hidden: Float[Tensor, "n hidden"]
    voxels: Float[Tensor, "n v"]
    weights: Float[Tensor, " n"]
    mean_hidden: Float[Tensor, " hidden"]
    bias: Float[Tensor, " v"]
    preconditioner: Float[Tensor, "hidden hidden"]


@torch.no_grad()
def prepare_fit(
    autoencoder: ShapeAutoencoder,
    config: LungConfig,
    whole: NDArray[np.float32],
    shifted: NDArray[np.float32],
    seed: int,
) -> FitData:
    """Set all layers but the last, and return the data to which the last layer is fitted.

    A nodule and its half-pixel shift have the same latent vector. The shift makes the features tolerant of fuzzy edges;
    as a nodule of its own it would be too thin, since it thins small nodules so much that most fail the analyzer.

    Args:
        autoencoder: to train.
        config: configuration of the model.
        whole: fields of the nodules, [n, z, y, x].
        shifted: fields of the first m nodules shifted by half a pixel, [m, z, y, x].
        seed: seed of the arrangement and of random choices.
    """
    places = arrange(whole, config.latent_size, config.spacing_mm, seed)
    places = np.concatenate([places, places[: len(shifted)]])
    voxels = autoencoder.select(np.concatenate([whole, shifted]))
    _regress_features(autoencoder.features, voxels, torch.from_numpy(places).to(voxels.device), seed)
    latents = autoencoder.features(voxels)
    weights = voxels.new_ones(len(voxels))
    weights[len(whole) :] = config.shifted_weight
    if config.morph_weight:
        found = latents[: len(whole)].cpu().numpy()
        pairs = neighbour_pairs(found)
        if len(pairs) > MOST_MORPHS:
            pairs = pairs[generator(seed, "morphs").permutation(len(pairs))[:MOST_MORPHS]]
        between = morph(whole, pairs, config.spacing_mm, config.morph_thickening_mm, config.field_edge_mm)
        latents = torch.cat([latents, torch.from_numpy(found[pairs].mean(1)).to(latents)])
        voxels = torch.cat([voxels, autoencoder.select(between)])
        weights = torch.cat([weights, weights.new_full((len(pairs),), config.morph_weight)])
    hidden = autoencoder.generator[:-2](latents)
    share = (weights / weights.sum())[:, None]
    mean_hidden = (share * hidden).sum(0)
    bias = torch.logit((share * voxels).sum(0), eps=LEAST_PROBABILITY)
    hidden = hidden - mean_hidden
    scaled = (hidden * weights[:, None].sqrt()).double()
    bound = scaled.T @ scaled / 4
    bound.diagonal().add_(config.ridge)
    autoencoder.output.weight.zero_()
    autoencoder.output.bias.copy_(bias)
    return FitData(hidden, voxels, weights, mean_hidden, bias, torch.linalg.inv(bound).float())


@torch.no_grad()
def fit_gradient(layer: nn.Linear, data: FitData, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the preconditioned gradient [v, hidden] of the weighted cross-entropy, and the mean squared error.

    Cross-entropy has the same minimum as the squared error, but its gradient does not vanish at a wholly wrong voxel.
    """
    gradient = ridge * layer.weight
    error = torch.zeros((), device=gradient.device)
    for hidden, voxels, weights in zip(
        data.hidden.split(ROWS), data.voxels.split(ROWS), data.weights.split(ROWS), strict=True
    ):
        residual = torch.addmm(data.bias, hidden, layer.weight.T).sigmoid_().sub_(voxels)
        error += (residual.square().sum(1) * weights).sum()
        gradient.addmm_(residual.mul_(weights[:, None]).T, hidden)
    return gradient @ data.preconditioner, error / data.weights.sum()


def _regress_features(features: nn.Sequential, voxels: Float[Tensor, "n v"], places: Tensor, seed: int) -> None:
    """Set the feature network by ridge regressions, layer by layer, so that it maps voxels to the places [n, latent].

    The target of a hidden neuron, before its tanh, is a random direction of the latent space. The latent layer then
    corrects the distortions of the earlier layers.
    """
    order = generator(seed, "regression").permutation(len(voxels))
    chosen = torch.from_numpy(order[:MOST_REGRESSED]).to(voxels.device)
    goal = torch.atanh(places[chosen])
    values = voxels[chosen].double()
    directions = torch.Generator().manual_seed(seed)
    linear = [layer for layer in features if isinstance(layer, nn.Linear)]
    for layer in linear:
        target = goal
        if layer is not linear[-1]:
            mixing = torch.randn(goal.shape[1], layer.out_features, generator=directions, dtype=torch.double).to(goal)
            target = (goal - goal.mean(0)) / goal.std(0) @ (mixing / mixing.norm(dim=0)) / 2
        mean = values.mean(0)
        weight = _ridge(values - mean, target - target.mean(0))
        layer.weight.copy_(weight)
        layer.bias.copy_(target.mean(0) - weight @ mean)
        values = torch.tanh(values @ weight.T + (target.mean(0) - weight @ mean))


def _ridge(values: Tensor, target: Tensor) -> Tensor:
    """Return the weights [out, in] of a ridge regression of target [n, out] on values [n, in], both of mean zero."""
    n, width = values.shape
    strength = ENCODER_RIDGE * values.square().sum() / n
    if width > n:
        inner = values @ values.T
        inner.diagonal().add_(strength)
        return (values.T @ torch.linalg.solve(inner, target)).T
    inner = values.T @ values
    inner.diagonal().add_(strength)
    return torch.linalg.solve(inner, values.T @ target).T
