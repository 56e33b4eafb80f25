"""What the loop and the hub ask of a system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class System(ABC):
    """A generative model: its configuration, its networks, and one training step.

    Attributes:
        name: what users call it.
        config: frozen; with the weights it is the whole model.
        networks: by name; their tensors are what `weights.safetensors` holds.
        trained: the same networks as a training step calls them: placed and wrapped by Fabric.
        optimizers: by name; like `trained` empty until `prepare_training`.
    """

    name: ClassVar[str]

    def __init__(self, config: BaseModel, networks: Mapping[str, nn.Module]) -> None:
        self.config = config
        self.networks: dict[str, nn.Module] = dict(networks)
        self.trained: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.backward: Callable[[Tensor], Any] = Tensor.backward

    @classmethod
    @abstractmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> System:
        """The system that a run folder or a bundled model holds."""

    @abstractmethod
    def make_optimizers(self) -> dict[str, Optimizer]:
        """Fresh optimisers by name."""

    @abstractmethod
    def training_step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Update the networks by one batch; returns the figures to log, each a scalar."""

    def prepare_training(self, fabric: Fabric) -> None:
        """Place networks and optimisers on Fabric's devices and hand the backward pass to it."""
        self.optimizers = dict(self.make_optimizers())
        self.trained = {name: fabric.setup_module(network) for name, network in self.networks.items()}
        for name, optimizer in self.optimizers.items():
            self.optimizers[name] = cast(Optimizer, fabric.setup_optimizers(optimizer))
        self.backward = fabric.backward

    def weights(self) -> dict[str, Tensor]:
        """Every tensor of the networks, on the CPU, named `network.tensor`."""
        return {
            f"{name}.{key}": tensor.detach().cpu().contiguous()
            for name, network in self.networks.items()
            for key, tensor in network.state_dict().items()
        }

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Set the networks' tensors from what `weights` returned."""
        for name, network in self.networks.items():
            prefix = name + "."
            network.load_state_dict({k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)})
