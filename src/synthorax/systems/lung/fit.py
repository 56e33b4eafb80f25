"""Training the autoencoder without descending through it: arrange, regress, and fit one convex layer.

With the latent vectors given, three things remain, and none needs back-propagation:

* the feature network is regressed, layer by layer, to send each nodule to its place;
* the generator's hidden layers stay random, drawn wide enough that three latent numbers carry detail;
* its last layer, by far the largest, is a logistic regression of every voxel on the hidden neurons.
  That is convex, and all voxels share one bound of the Hessian: a pass over the data is one step
  preconditioned by it, with Nesterov's momentum; some 25 are enough.
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
"""Of the feature network's regressions, as a share of the mean squared length of its input."""
LEAST_PROBABILITY = 1e-4
"""Probability with which the fit starts at a voxel that no sample uses."""
MOST_REGRESSED = 4096
"""The regressions see at most so many samples, drawn at random."""
MOST_MORPHS = 4096
ROWS = 2048
"""Samples that go through the last layer at once; bounds the memory of a pass."""


class FitData(NamedTuple):
    """What the last layer is fitted to; every step sees all of it.

    Attributes:
        hidden: the last hidden layer's output [n, hidden], less its weighted mean.
        voxels: of the support, [n, v].
        weights: of each sample, [n].
        mean_hidden: [hidden].
        bias: log odds of the weighted mean sample, [v].
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
    """Set all layers but the last, and gather what that one is to learn.

    A nodule and its half-pixel shift share a place: the shift is there to make the features tolerant of
    fuzzy edges, and it thins small nodules so much that most of them no longer pass the analyzer.

    Args:
        whole: fields of the nodules [n, z, y, x].
        shifted: the first nodules again, shifted by half a pixel, [m, z, y, x].
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
    """The preconditioned gradient [v, hidden] of the weighted cross-entropy, and the mean squared error of a sample.

    Cross-entropy has its least where squared error has it, at the sample itself, but does not go flat
    where a voxel is wholly wrong.
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
    """Ridge regressions, a layer at a time, that end at the places [n, latent] of the nodules.

    A hidden neuron aims at a random direction of the latent space before its tanh; the latent layer
    then mends what the earlier ones bent.
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
    """The weights [out, in] of a ridge regression of target [n, out] on values [n, in], both of mean zero."""
    n, width = values.shape
    strength = ENCODER_RIDGE * values.square().sum() / n
    if width > n:
        inner = values @ values.T
        inner.diagonal().add_(strength)
        return (values.T @ torch.linalg.solve(inner, target)).T
    inner = values.T @ values
    inner.diagonal().add_(strength)
    return torch.linalg.solve(inner, values.T @ target).T
