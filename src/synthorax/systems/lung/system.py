"""LuNG: new nodule shapes from few (Kommrusch and Pouchet; LuNG's paper, section III)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from synthorax.errors import InputError
from synthorax.seeding import derive, generator
from synthorax.shapes.reconnection import ON_THRESHOLD, reconnect
from synthorax.systems.lung.base_set import base_set, check_seeds, learned_fields, repair_inverted, to_input
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.fit import FitData, fit_gradient, prepare_fit
from synthorax.systems.lung.networks import ShapeAutoencoder
from synthorax.training.system import Batches
from synthorax.training.system import System as TrainedSystem

if TYPE_CHECKING:
    from synthorax.makers import Lineage
    from synthorax.systems.lung.maker import LungMaker

LATENT_BATCH = 64
"""Latent vectors decoded at once; the last batch is padded, so that a sample does not depend on their number."""
MOMENTUM = 0.9
"""Nesterov's momentum of the fit."""


@dataclass(frozen=True, eq=False)
class GeneratedShapes:
    """Generated nodules after repair, and the facts about their repair.

    Attributes:
        latents: latent vectors, float32 [n, latent].
        fields: grey values from 0 to 1, float32 [n, z, y, x]; one connected nodule each if they were reconnected.
        inverted: whether the generator gave a dark nodule on a bright background, bool [n].
        n_components: pieces before reconnection, int [n]; 1 is "clean" (table II).
    """

    latents: NDArray[np.float32]
    fields: NDArray[np.float32]
    inverted: NDArray[np.bool_]
    n_components: NDArray[np.int64]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The nodules' voxels, bool [n, z, y, x]."""
        return self.fields >= ON_THRESHOLD

    def select(self, n: int) -> GeneratedShapes:
        """Return the first `n` nodules."""
        return GeneratedShapes(self.latents[:n], self.fields[:n], self.inverted[:n], self.n_components[:n])

    def details(self) -> list[dict[str, Any]]:
        """Return the entries of each nodule in a manifest."""
        return [
            {
                "latent": [round(float(v), 7) for v in latent],
                "pieces_before_reconnection": int(pieces),
                "inverted_by_network": bool(inverted),
            }
            for latent, pieces, inverted in zip(self.latents, self.n_components, self.inverted, strict=True)
        ]


class Lung(TrainedSystem):
    """The shape autoencoder with its training and its generation of shapes."""

    name = "lung"
    config: LungConfig

    def __init__(self, config: LungConfig, support: Tensor, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "lung weights"))
            super().__init__(config, {"autoencoder": ShapeAutoencoder(config, support)}, seed=seed)

    @classmethod
    def for_training(cls, config: LungConfig, seeds: NDArray[np.float32], seed: int) -> tuple[Lung, Batches]:
        """Return a fresh model and the batches of its base set.

        Args:
            config: configuration of the model.
            seeds: occupancy of the seed nodules, [n, z, y, x] on the configuration's grid.
            seed: seed of weights and batches.

        Raises:
            InputError: the seeds are not on the grid, have values outside 0 to 1, or one is empty.
        """
        check_seeds(seeds, config.grid, "seed nodules")
        base = learned_fields(base_set(seeds, reflected=config.reflected), config)
        used = base.any(0).ravel() if config.support == "base" else np.ones(math.prod(config.grid), bool)
        system = cls(config, torch.from_numpy(np.flatnonzero(used)), seed)
        if config.method == "fit":
            system._autoencoder.widen(config.detail)
        elif config.initialisation == "data":
            system._autoencoder.initialise_from(system._autoencoder.select(base))
        return system, system.batches(base, seed)

    def batches(self, base: NDArray[np.float32], seed: int, more: NDArray[np.float32] | None = None) -> Batches:
        """Return the batches of a round of training; for the fit, set all layers but the last.

        Args:
            base: the base set [n, z, y, x], each sample followed by its shifted variant.
            seed: seed of the batches.
            more: grey values of further nodules to train on, [m, z, y, x] (feedback, section III-E).
        """
        extra = base[:0] if more is None else more
        if self.config.method == "fit":
            whole = np.concatenate([base[::2], extra])
            data = prepare_fit(self._autoencoder, self.config, whole, base[1::2], seed)
            return lambda step: data
        voxels = self._autoencoder.select(np.concatenate([base, extra]))
        return TrainingData(voxels, min(self.config.batch_size, len(voxels)), seed)

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Lung:
        own, support = LungConfig.model_validate(config), weights["autoencoder.support"]
        if not len(support) or support[0] < 0 or support[-1] >= math.prod(own.grid) or (support.diff() <= 0).any():
            raise ValueError("a support with voxels outside the grid")
        system = cls(own, support)
        system.load_weights(weights)
        return system

    def maker(self, lineage: Lineage) -> LungMaker:
        from synthorax.systems.lung.maker import LungMaker

        return LungMaker(self, lineage)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        if self.config.method == "fit":
            return {"nesterov": torch.optim.SGD([self._autoencoder.output.weight], 1.0, MOMENTUM, nesterov=True)}
        parameters = self.networks["autoencoder"].parameters()
        return {"adam": torch.optim.Adam(parameters, lr=self.config.learning_rate, fused=True)}

    def training_step(self, batch: Float[Tensor, "b v"] | FitData, step: int) -> dict[str, Tensor]:
        """Train on one mini-batch, or do one pass of the fit; `mse` is 1000 times the squared error per voxel."""
        position = step % self.steps_per_round
        if position == 0:
            for optimizer in self.optimizers.values():
                optimizer.state.clear()
        error = self._fit_step(batch) if isinstance(batch, FitData) else self._adam_step(batch, position)
        return {"mse": 1000 * error / math.prod(self.config.grid)}

    def _adam_step(self, batch: Float[Tensor, "b v"], position: int) -> Tensor:
        """A step of Adam on the summed squared error (section III-B); returns the mean squared error of a sample."""
        self.set_rate("adam", self.learning_rate(position))
        output = self._autoencoder(batch)
        loss = (output - batch).square().sum()
        (loss * self.share.world).backward()  # gradients are averaged over processes; the loss is a sum
        self.update("adam")
        return loss.detach() / len(batch)

    def _fit_step(self, data: FitData) -> Tensor:
        """A pass over all samples; returns the samples' weighted mean squared error before the pass."""
        layer = self._autoencoder.output
        layer.weight.grad, error = fit_gradient(layer, data, self.config.ridge)
        self.optimizers["nesterov"].step()
        with torch.no_grad():
            layer.bias.copy_(data.bias - layer.weight @ data.mean_hidden)
        return error

    @property
    def steps_per_round(self) -> int:
        """Steps of a round, after which the optimiser and the schedule of the learning rate start anew."""
        return self.config.iterations // self.config.rounds

    def learning_rate(self, position: int) -> float:
        """Return the learning rate at a step within a round."""
        if self.config.schedule == "constant":
            return self.config.learning_rate
        warm_up = min(50, 1 + self.steps_per_round // 20)
        rise = min(1.0, (position + 1) / warm_up)
        return self.config.learning_rate * rise * (1 + math.cos(math.pi * position / self.steps_per_round)) / 2

    @torch.no_grad()
    def encode(self, occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latent vectors [n, latent] of nodules, occupancy [n, z, y, x].

        Raises:
            InputError: the nodules are not on the model's grid, have values outside 0 to 1, or one is empty.
        """
        check_seeds(occupancy, self.config.grid, "nodules to encode")
        fields = torch.from_numpy(self.target(occupancy)).to(self.device)
        return self._autoencoder.encode(fields).cpu().numpy()

    def target(self, occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's targets for nodules, occupancy [n, z, y, x]."""
        return learned_fields(to_input(occupancy), self.config)

    def draw_latents(self, n: int, seed: int, start: int = 0) -> NDArray[np.float32]:
        """Return the latent vectors [n, latent] of samples `start` to `start + n` of a seed, uniform from -1 to 1."""
        size = self.config.latent_size
        vectors = [generator(seed, "lung latent", i).uniform(-1, 1, size) for i in range(start, start + n)]
        return np.array(vectors, np.float32).reshape(n, size)

    def sample(self, n: int, seed: int, start: int = 0, *, reconnected: bool = True) -> GeneratedShapes:
        """Generate `n` nodules from latent vectors that are drawn uniformly (section III-B)."""
        return self.generate(self.draw_latents(n, seed, start), reconnected=reconnected)

    def walk(self, first: NDArray[np.float32], last: NDArray[np.float32], steps: int) -> GeneratedShapes:
        """Generate nodules at even steps on the line between two nodules' latent vectors, ends included (figure 8).

        Args:
            first, last: occupancy [z, y, x].
            steps: number of nodules, 2 or more.
        """
        return self.generate(self.walk_latents(first, last, steps))

    def walk_latents(self, first: NDArray[np.float32], last: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        """Return the latent vectors [steps, latent] of `walk`.

        Raises:
            InputError: `steps` is below 2.
        """
        if steps < 2:
            raise InputError("walk", f"{steps} steps", "at least 2 steps, the two ends")
        ends = self.encode(np.stack([first, last]))
        share = np.linspace(0, 1, steps, dtype=np.float32)[:, None]
        return ends[:1] * (1 - share) + ends[1:] * share

    def near(self, occupancy: NDArray[np.float32], n: int, radius: float, seed: int) -> GeneratedShapes:
        """Generate `n` nodules similar to a given one: latent vectors within `radius` of its own on every axis.

        They are uniform in the part of that box that lies in the latent cube.

        Args:
            occupancy: occupancy of the given nodule, [z, y, x].
            n: number of nodules.
            radius: above 0 and at most 2, the width of the latent cube.
            seed: seed of the latent vectors.

        Raises:
            InputError: the radius is out of range.
        """
        low, high = self.box_near(occupancy, radius)
        return self.generate(within(low, high, self.draw_latents(n, seed)))

    def box_near(
        self, occupancy: NDArray[np.float32], radius: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the lowest and the highest latent vector [1, latent] within a radius of that of a nodule [z, y, x].

        Raises:
            InputError: the radius is not above 0 and at most 2, the width of the latent space.
        """
        if not 0 < radius <= 2:
            raise InputError("radius", f"{radius:g}", "more than 0 and at most 2, the width of the latent space")
        centre = self.encode(occupancy[None])
        return np.maximum(centre - radius, -1), np.minimum(centre + radius, 1)

    def generate(self, latents: NDArray[np.float32], *, reconnected: bool = True) -> GeneratedShapes:
        """Generate nodules from latent vectors [n, latent], with inverted fields repaired and pieces reconnected."""
        raw, inverted = repair_inverted(self.decode(latents))
        whole = reconnect(raw)
        return GeneratedShapes(latents, whole.fields if reconnected else raw, inverted, whole.n_components)

    @torch.no_grad()
    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the generator network's raw fields [n, z, y, x] for latent vectors [n, latent]."""
        padding = -len(latents) % LATENT_BATCH
        padded = torch.from_numpy(np.pad(latents, ((0, padding), (0, 0)))).to(self.device)
        fields = [self._autoencoder.decode(batch) for batch in padded.split(LATENT_BATCH)]
        if not fields:
            return np.zeros((0, *self.config.grid), np.float32)
        return torch.cat(fields)[: len(latents)].cpu().numpy()

    @property
    def _autoencoder(self) -> ShapeAutoencoder:
        return cast(ShapeAutoencoder, self.networks["autoencoder"])


System = Lung


def within(low: NDArray[np.float32], high: NDArray[np.float32], latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map latent vectors [n, latent] of the whole cube linearly into a box of it."""
    moved: NDArray[np.float32] = (low + (high - low) * (1 + latents) / 2).astype(np.float32, copy=False)
    return moved


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The base set in memory, and the batch of each step.

    Attributes:
        voxels: voxels of the support, float32 [samples, v].
        batch_size: samples of a batch.
        seed: seed of the order of samples.
    """

    voxels: Tensor
    batch_size: int
    seed: int

    def __call__(self, step: int) -> Float[Tensor, "b v"]:
        """Return the batch of a step, a slice of the epoch's permutation of the samples."""
        epoch, position = divmod(step, len(self.voxels) // self.batch_size)
        order = generator(self.seed, "lung epoch", epoch).permutation(len(self.voxels))
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        return self.voxels[torch.from_numpy(chosen)]
