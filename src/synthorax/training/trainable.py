"""What the loop trains, a generative system or a task's network, and what both have from it."""

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
from synthorax.nn.small_grids import SmallGridsInSingle
from synthorax.seeding import derive, generator
from synthorax.training.config import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Share:
    """Which rows of a global batch a process has; one process has them all.

    What is drawn for a batch is drawn for all of it, so that any number of processes train the same; but BatchNorm
    takes its statistics of a process's own rows, and those that the first process ran up are saved.
    """

    rank: int = 0
    world: int = 1

    def rows(self, n: int) -> slice:
        """Of `n` rows those of this process.

        Raises:
            InputError: not as many for each process.
        """
        if n % self.world:
            raise InputError("batch size", str(n), f"a multiple of {self.world}, the number of processes")
        each = n // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def of(self, batch: Any) -> Any:
        """This process's part of a batch: tensors [b, ...] in mappings and lists; other things are everybody's."""
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
    """Where a figure of training may not stay; the loop stops a run whose figure does.

    Attributes:
        meaning: what is wrong when the figure lies below `low` or above `high`, for the error.
        low, high: bounds of the figure.
        records: consecutive lines of the log with the figure out of bounds that stop the run.
        warm_up: steps of the whole training up to which the figure is not looked at.
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
        name: what users call it.
        limits: guards, by the figure they look at.
        memory_format: of the networks' weights and inputs; those of 2D convolutions are `channels_last` where it is
            `channels_last_3d`.
        config: frozen; with the weights it is the whole model.
        seed: of weights, noise and whatever else is drawn.
        networks: by name; their tensors, those of `averages` and the `facts` are what `weights.safetensors` holds.
        averages: exponential moving averages of some networks.
        facts: what using the model needs to know of its training and no network learned, such as a threshold; on the
            CPU, saved with the weights, NaN where not known.
        memory: what only the next training step needs to know of the ones before, such as a pool of past samples; in
            `state.pt` alone. Every process of a training has to hold the same.
        optimizers: by name; empty until `prepare_training`.
        stage: name of the stage that training is in; empty before training.
        begun: steps of the whole training before this stage.
        learning: names of the networks that learn in this stage.
        share: of the global batch.
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
        """A model with fresh networks.

        Args:
            decays: of the moving averages, by the network's name; 0 keeps none.
            facts: all that the model will ever have, by name; not known yet if NaN.
        """
        self.config = config
        self.seed = seed
        self.networks: dict[str, nn.Module] = dict(networks)
        if self.memory_format != torch.contiguous_format:
            for network in self.networks.values():  # now, as the layout decides how sums are rounded, in sampling too
                lay_out_channels_last(network)
        self.decays = {name: decay for name, decay in (decays or {}).items() if decay}
        self.averages = {name: deepcopy(self.networks[name]).requires_grad_(False) for name in self.decays}
        self.facts = {name: fact.clone() for name, fact in (facts or {}).items()}
        self.memory: dict[str, Tensor] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.stage, self.begun = "", 0
        self.learning: Set[str] = self.networks.keys()
        self.share = Share()
        self._fabric: Fabric | None = None

    @abstractmethod
    def make_optimizers(self) -> dict[str, Optimizer]:
        """Fresh optimisers by name."""

    @abstractmethod
    def training_step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Update the networks by this process's part of a batch; returns the figures to log, each a scalar.

        Args:
            batch: of `self.stage`, on the device.
            step: its number within the stage; noise of two stages has to be `drawn` under two names.
        """

    def check(self, world: int) -> None:
        """Refuse what this number of processes cannot train, before anything is written.

        Raises:
            InputError: a batch that cannot be shared, or whatever else will not do.
        """
        return

    def preview(self) -> Figure | None:
        """A picture of what it makes of fixed noise, to look at while it trains."""
        return None

    def conclude(self) -> None:
        """Whatever is to be found out from the last weights before they are saved; a function of them alone."""
        return

    def prepare_training(self, fabric: Fabric) -> None:
        """Place networks on Fabric's device and make the optimisers."""
        self._fabric = fabric
        self.share = Share(fabric.global_rank, fabric.world_size)
        self.move(fabric.device)
        self.optimizers = self.make_optimizers()

    def enter(self, stage: str, trains: Set[str] | None = None, begun: int = 0) -> None:
        """Begin a stage or go on in it; a stage that was stopped is entered again, so nothing may be learned here.

        Args:
            trains: names of the networks that learn; None: all.
            begun: steps of the whole training before the stage.

        Raises:
            KeyError: a network that the model does not have.
        """
        self.stage, self.learning = stage, self.networks.keys() if trains is None else trains
        self.begun = begun
        if unknown := self.learning - self.networks.keys():
            raise KeyError(f"networks of stage {stage}: {', '.join(sorted(unknown))}")
        for name, network in self.networks.items():
            network.requires_grad_(name in self.learning)

    def move(self, device: torch.device) -> None:
        """Place networks and averages."""
        for network in (*self.networks.values(), *self.averages.values()):
            network.to(device)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(next(iter(self.networks.values())).parameters()).device

    @contextmanager
    def autocast(self, precision: Precision = "32") -> Iterator[None]:
        """A context in which networks run in the precision that training was begun with.

        Args:
            precision: of a model that is not trained here.
        """
        if self._fabric is not None:
            cast: AbstractContextManager[Any] = self._fabric.autocast()
        else:
            cast = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")
        with cast, SmallGridsInSingle():
            yield

    def drawn(self, kind: str, step: int, *shape: int, uniform: bool = False) -> Tensor:
        """Noise of a step, on the device: standard normal, or uniform in 0 to 1; this process's rows of it.

        Args:
            shape: of the global batch, rows first.
        """
        random = generator(self.seed, kind, step)
        values = random.random(shape, np.float32) if uniform else random.standard_normal(shape, np.float32)
        return torch.from_numpy(values[self.share.rows(shape[0])]).to(self.device)

    def mean_of_all(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.share.world == 1:
            return values
        assert self._fabric is not None
        mean = self._fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """The rows [b, ...] of the global batch, in its order, of which each process has its part."""
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
        """A step of an optimiser by the gradients that are there, their mean over all processes; then they are none.

        Args:
            most_gradient: a mean gradient of a greater norm is scaled down to it.

        Processes average gradients here and not inside wrapped networks, because critics with a gradient penalty
        go through a network several times, and backwards twice, before one update.
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
        """Move the averages of the networks that learn towards them."""
        for name in [name for name in self.averages if name in self.learning]:
            average = self.averages[name]
            theirs, ours = self.networks[name].state_dict(), average.state_dict()
            floating = [key for key, tensor in ours.items() if tensor.is_floating_point()]
            torch._foreach_lerp_([ours[k] for k in floating], [theirs[k] for k in floating], 1 - self.decays[name])

    def weights(self) -> dict[str, Tensor]:
        """Every tensor of the networks and averages, on the CPU, named `network.tensor`, and the facts."""
        weights = {
            f"{name}.{key}": tensor.detach().cpu().contiguous()
            for name, network in self._stored()
            for key, tensor in network.state_dict().items()
        }
        return weights | {FACTS + name: fact.contiguous() for name, fact in self.facts.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Set networks and facts from what `weights` returned; missing averages start from their networks.

        Raises:
            RuntimeError: tensors of other networks, or other facts.
        """
        for name, network in self._stored():
            own = {k.removeprefix(name + "."): t for k, t in weights.items() if k.startswith(name + ".")}
            if name.endswith(AVERAGE) and not own:
                own = self.networks[name.removesuffix(AVERAGE)].state_dict()
            network.load_state_dict(own)
        facts = {k.removeprefix(FACTS): t.clone() for k, t in weights.items() if k.startswith(FACTS)}
        if facts.keys() != self.facts.keys():
            raise RuntimeError(f"facts {', '.join(facts) or 'none'} in place of {', '.join(self.facts) or 'none'}")
        self.facts = facts

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take what another model's networks have learned, to go on from; the facts stay this model's own.

        Raises:
            RuntimeError: tensors of other networks.
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
"""The layout of weights with so many axes."""
AVERAGE = "_average"
FACTS = "facts."
"""How the names of facts begin in a file of weights."""


def parts(batch: Mapping[str, Tensor], count: int) -> Iterator[dict[str, Tensor]]:
    """A batch in so many parts of equal size, whose gradients are gathered one after the other.

    Raises:
        InputError: not as many rows for each.
    """
    size = len(next(iter(batch.values())))
    if size % count:
        raise InputError("batch size", str(size), f"a multiple of {count}, the parts it is to be taken in")
    for start in range(0, size, size // count):
        yield {name: tensor[start : start + size // count] for name, tensor in batch.items()}


def step_seed(seed: int, step: int, rank: int) -> int:
    """Of PyTorch's own random numbers in a step, such as dropout's."""
    return derive(seed, "step", step, rank)
