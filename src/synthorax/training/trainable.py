"""The base class of what the loop trains: a generative system or a task's network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

from synthorax.errors import InputError
from synthorax.nn.cpu_convolutions import CpuConvolutions
from synthorax.seeding import derive, generator
from synthorax.training.config import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Share:
    """The rows of a global batch that belong to a process; a single process has all rows.

    Random numbers are drawn for the whole global batch, so that the result does not depend on the number of processes.
    BatchNorm is the exception: each process uses the statistics of its own rows, and the running statistics of the
    first process are saved.

    Attributes:
        rank: number of the process, from 0.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    def rows(self, n: int) -> slice:
        """Return the rows of this process, of `n` rows of the global batch.

        Raises:
            InputError: `n` is not a multiple of the number of processes.
        """
        if n % self.world:
            raise InputError("batch size", str(n), f"a multiple of {self.world}, the number of processes")
        each = n // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def of(self, batch: Any) -> Any:
        """Return this process's part of a batch.

        Args:
            batch: tensors [b, ...], possibly nested in mappings and lists; values of other types are not divided.
        """
        if self.world == 1:
            return batch
        if isinstance(batch, Tensor):
            return batch[self.rows(len(batch))]
        if isinstance(batch, Mapping):
            return {name: self.of(value) for name, value in batch.items()}
        if isinstance(batch, list):
            return [self.of(value) for value in batch]
        return batch


@dataclass(frozen=True)
class Limit:
    """Bounds of a figure of training; the loop stops a run whose figure stays out of bounds.

    Attributes:
        meaning: what is wrong when the figure is out of bounds, for the error.
        low, high: bounds of the figure.
        records: number of consecutive lines of the log with the figure out of bounds after which the run is stopped.
        warm_up: number of steps at the beginning of the whole training in which the figure is ignored.
        remedy: what the user can do, for the end of the error.
    """

    meaning: str
    low: float = -np.inf
    high: float = np.inf
    records: int = 10
    warm_up: int = 0
    remedy: str = ""


class Trainable(ABC):
    """Networks, optimisers and one training step.

    Attributes:
        name: the model's name for users.
        limits: limits of figures, by the figures' names.
        memory_format: memory format of the networks' weights and inputs; with `channels_last_3d`, 2D convolutions use
            `channels_last`.
        config: frozen settings; together with the weights they are the whole model.
        seed: seed of the initial weights, the noise and all other random draws.
        networks: networks by name; `weights.safetensors` holds their tensors, those of `averages`, and the `facts`.
        averages: exponential moving averages of some networks, by the networks' names.
        facts: values from the training that using the model needs, in addition to the networks, such as a threshold;
            on the CPU, saved with the weights, NaN if unknown.
        memory: values that only the next training step needs from the steps before, such as a pool of past samples;
            saved in `state.pt` only. It must be equal in all processes.
        optimizers: optimisers by name; empty until `prepare_training`.
        stage: name of the present stage of the training; empty before training.
        begun: number of steps of the whole training before this stage.
        learning: names of the networks that are trained in this stage.
        share: this process's share of the global batch.
    """

    name: ClassVar[str]
    limits: Mapping[str, Limit] = MappingProxyType({})
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format

    def __init__(
        self,
        config: BaseModel,
        networks: Mapping[str, nn.Module],
        *,
        seed: int = 0,
        decays: Mapping[str, float] | None = None,
        facts: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Make a model.

        Args:
            config: frozen settings.
            networks: newly initialised networks by name.
            seed: seed of all random draws.
            decays: decays of the moving averages, by the networks' names; 0 keeps no average.
            facts: all facts that the model will ever have, by name; NaN if not yet known.
        """
        self.config = config
        self.seed = seed
        self.networks: dict[str, nn.Module] = dict(networks)
        if self.memory_format != torch.contiguous_format:
            for network in self.networks.values():  # already here: the layout affects the rounding, in sampling too
                lay_out_channels_last(network)
        self.decays = {name: decay for name, decay in (decays or {}).items() if decay}
        self.averages = {name: deepcopy(self.networks[name]).requires_grad_(False) for name in self.decays}
        self.facts = {name: fact.clone() for name, fact in (facts or {}).items()}
        self.memory: dict[str, Tensor] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.stage, self.begun = "", 0
        self.learning: Set[str] = frozenset(self.networks)
        self.share = Share()
        self._fabric: Fabric | None = None

    @abstractmethod
    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return new optimisers by name."""

    @abstractmethod
    def training_step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Update the networks with this process's part of a batch, and return the figures to log, each a scalar.

        Args:
            batch: batch of the stage `self.stage`, on the device.
            step: number of the step within the stage. Two stages must pass different names to `drawn`, or they get
                the same noise.
        """

    def check(self, world: int) -> None:
        """Check, before anything is written, that this number of processes can train the model.

        Args:
            world: number of processes.

        Raises:
            InputError: the batch cannot be divided among the processes, or another setting does not allow it.
        """
        return

    def preview(self) -> Figure | None:
        """Return a picture of the model's output for fixed noise, to watch the training; None if it has none."""
        return None

    def conclude(self) -> None:
        """Compute facts from the present weights before they are saved; the facts must depend on the weights alone."""
        return

    def prepare_training(self, fabric: Fabric) -> None:
        """Move the networks to Fabric's device and make the optimisers."""
        self._fabric = fabric
        self.share = Share(fabric.global_rank, fabric.world_size)
        self.move(fabric.device)
        self.optimizers = self.make_optimizers()

    def enter(self, stage: str, trains: Set[str] | None = None, begun: int = 0) -> None:
        """Begin or resume a stage; a resumed stage is entered again, so an override must not change any weights.

        Args:
            stage: name of the stage.
            trains: names of the networks that are trained; None trains all.
            begun: number of steps of the whole training before the stage.

        Raises:
            KeyError: the model has no network of a name in `trains`.
        """
        self.stage, self.learning = stage, frozenset(self.networks if trains is None else trains)
        self.begun = begun
        if unknown := self.learning - self.networks.keys():
            raise KeyError(f"networks of stage {stage}: {', '.join(sorted(unknown))}")
        for name, network in self.networks.items():
            network.requires_grad_(name in self.learning)

    def move(self, device: torch.device) -> None:
        """Move the networks and averages to a device."""
        for network in (*self.networks.values(), *self.averages.values()):
            network.to(device)

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(next(iter(self.networks.values())).parameters()).device

    @contextmanager
    def autocast(self, precision: Precision = "32") -> Iterator[None]:
        """Return a context in which networks run in the precision of the training.

        Args:
            precision: precision of a model that is not being trained; in training Fabric's precision counts.
        """
        if self._fabric is not None:
            cast: AbstractContextManager[Any] = self._fabric.autocast()
        else:
            cast = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")
        with cast, CpuConvolutions():
            yield

    def drawn(self, kind: str, step: int, *shape: int, uniform: bool = False) -> Tensor:
        """Return this process's rows of the noise of a step, on the device.

        Args:
            kind: name of the random stream.
            step: step of the stage.
            shape: shape of the noise of the global batch, rows first.
            uniform: draw uniformly within 0 to 1; else from the standard normal distribution.
        """
        random = generator(self.seed, kind, step)
        values = random.random(shape, np.float32) if uniform else random.standard_normal(shape, np.float32)
        return torch.from_numpy(values[self.share.rows(shape[0])]).to(self.device)

    def mean_of_all(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        if self.share.world == 1:
            return values
        assert self._fabric is not None
        mean = self._fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """Return the rows [b, ...] of the global batch in its order, gathered from all processes."""
        if self.share.world == 1:
            return rows
        assert self._fabric is not None
        gathered = self._fabric.all_gather(rows)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def set_rate(self, name: str, rate: float) -> None:
        """Set the learning rate of an optimiser."""
        for group in self.optimizers[name].param_groups:
            group["lr"] = rate

    def update(self, name: str, most_gradient: float | None = None) -> None:
        """Average the present gradients over all processes, take a step of an optimiser, and clear the gradients.

        Gradients are averaged here and not inside wrapped networks, because critics with a gradient penalty run a
        network several times, and backwards twice, before one update.

        Args:
            name: name of the optimiser.
            most_gradient: largest norm of the averaged gradient; a larger one is scaled down to it.
        """
        optimizer = self.optimizers[name]
        if self.share.world > 1:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            mean = self.mean_of_all(flat)
            for gradient, own in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(own.view_as(gradient))
        if most_gradient is not None:
            learned = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(learned, most_gradient)
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def update_averages(self) -> None:
        """Update the moving averages of the networks that are trained in this stage."""
        for name in [name for name in self.averages if name in self.learning]:
            average = self.averages[name]
            theirs, ours = self.networks[name].state_dict(), average.state_dict()
            floating = [key for key, tensor in ours.items() if tensor.is_floating_point()]
            torch._foreach_lerp_([ours[k] for k in floating], [theirs[k] for k in floating], 1 - self.decays[name])

    def weights(self) -> dict[str, Tensor]:
        """Return all tensors of the networks and averages, named `network.tensor`, and the facts, on the CPU."""
        weights = {
            f"{name}.{key}": tensor.detach().cpu().contiguous()
            for name, network in self._stored()
            for key, tensor in network.state_dict().items()
        }
        return weights | {FACTS + name: fact.contiguous() for name, fact in self.facts.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the tensors that `weights` returned; a missing average is set to its network.

        Raises:
            RuntimeError: the tensors belong to other networks, or the facts have other names.
        """
        for name, network in self._stored():
            own = {k.removeprefix(name + "."): t for k, t in weights.items() if k.startswith(name + ".")}
            if name.endswith(AVERAGE) and not own:
                own = self.networks[name.removesuffix(AVERAGE)].state_dict()
            network.load_state_dict(own)
        facts = {k.removeprefix(FACTS): t.clone() for k, t in weights.items() if k.startswith(FACTS)}
        if facts.keys() != self.facts.keys():
            raise RuntimeError(f"found facts {', '.join(facts) or 'none'}; expected {', '.join(self.facts) or 'none'}")
        self.facts = facts

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load the networks of another model as the start of a training; this model keeps its own facts.

        Raises:
            RuntimeError: the tensors belong to other networks.
        """
        self.load_weights({**weights, **{FACTS + name: fact for name, fact in self.facts.items()}})

    def _stored(self) -> Iterator[tuple[str, nn.Module]]:
        yield from self.networks.items()
        for name, average in self.averages.items():
            yield name + AVERAGE, average


def lay_out_channels_last(network: nn.Module) -> None:
    """Lay out the weights of a network's 2D and 3D convolutions with the channels last."""
    for weight in network.parameters():
        if weight.dim() in CHANNELS_LAST:
            weight.data = weight.data.to(memory_format=CHANNELS_LAST[weight.dim()])


CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory format of a weight by its number of axes."""
AVERAGE = "_average"
FACTS = "facts."
"""Prefix of the facts' names in a weights file."""


def parts(batch: Mapping[str, Tensor], count: int) -> Iterator[dict[str, Tensor]]:
    """Divide a batch into parts of equal size, for an update that accumulates the gradients of one part after another.

    Raises:
        InputError: the batch size is not a multiple of the number of parts.
    """
    size = len(next(iter(batch.values())))
    if size % count:
        raise InputError("batch size", str(size), f"a multiple of {count}, the number of parts of a batch")
    for start in range(0, size, size // count):
        yield {name: tensor[start : start + size // count] for name, tensor in batch.items()}


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of PyTorch's own random numbers in a step, such as those of dropout."""
    return derive(seed, "step", step, rank)
