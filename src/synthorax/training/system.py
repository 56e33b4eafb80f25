"""What the hub, the loop and the verbs ask of a generative system."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from synthorax.errors import InputError
from synthorax.makers import Lineage, Maker
from synthorax.training.config import Precision
from synthorax.training.trainable import Trainable

Batches = Callable[[int], Any]
"""The global batch of a step, on the CPU; a function of the step alone."""


class System(Trainable):
    """A generative model: a `Trainable` that can be restored and sampled."""

    @classmethod
    @abstractmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> System:
        """The system that a run folder or a bundled model holds."""

    def maker(self, lineage: Lineage) -> Maker:
        """Return what the verbs and the studies make voxels with.

        Raises:
            InputError: a system that makes none.
        """
        raise InputError("model", f"one of {self.name}, which makes no voxels", "a model that makes samples")


@dataclass(frozen=True)
class Validation:
    """A figure of held-out data that decides which weights are kept beside the last ones.

    Each of several processes measures it on all held-out data, with its own BatchNorm statistics; the first one's
    figure counts.

    Attributes:
        measure: the figures, by name.
        every: steps.
        select: the figure that decides.
        larger_is_better: else smaller.
    """

    measure: Callable[[], dict[str, float]]
    every: int
    select: str
    larger_is_better: bool = False


@dataclass(frozen=True, eq=False)
class Training:
    """All that the loop needs to train.

    Attributes:
        steps: in all.
        data: what the run folder tells of the data: fingerprint, and patients of every split.
        log_every: steps between two lines of the log.
        precision: of the networks' arithmetic; the weights stay in 32 bits.
        validation: decides which weights are kept beside the last ones.
    """

    model: Trainable
    batches: Batches
    steps: int
    data: Mapping[str, Any] = field(default_factory=dict)
    log_every: int = 50
    precision: Precision = "32"
    validation: Validation | None = None
