"""What the hub, the loop and the verbs ask of a generative system."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from synthorax.errors import InputError
from synthorax.makers import Lineage, Maker, Options
from synthorax.training.config import Precision
from synthorax.training.trainable import Trainable

Batches = Callable[[int], Any]
"""The global batch of a step of a stage, on the CPU; a function of the step alone."""


class System(Trainable):
    """A generative model: a `Trainable` that can be restored and sampled."""

    @classmethod
    @abstractmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> System:
        """Return the system that a run folder or a bundled model holds."""

    def maker(self, lineage: Lineage) -> Maker:
        """Return what the verbs and the studies make voxels with.

        Raises:
            InputError: a system that makes none.
        """
        raise InputError("model", f"one of {self.name}, which makes no voxels", "a model that makes samples")

    def editor(self, lineage: Lineage, options: Options) -> Maker:
        """Return what edits scans with some options: the maker, which heeds none unless a system says otherwise."""
        return self.maker(lineage)


@dataclass(frozen=True)
class Validation:
    """A figure of held-out data that decides which weights are kept beside the last ones.

    It is measured in the last stage. Each of several processes measures it on all held-out data, with its own
    BatchNorm statistics; the first one's figure counts.

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
class Stage:
    """A part of a training: some networks learn from batches of one kind for a number of steps.

    Attributes:
        name: `training_step` finds it as `self.stage`.
        steps: of this stage. Each stage counts its own steps, from 0.
        batches: of a step of this stage.
        trains: names of the networks that learn; the others and their averages stay as they are. None: all learn.
    """

    name: str
    steps: int
    batches: Batches
    trains: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class Training:
    """All that the loop needs to train.

    Attributes:
        stages: one after the other. The last one gets the steps that a run may get more of, so a system puts the
            networks that profit from longer training last.
        data: what the run folder tells of the data: fingerprint, and patients of every split.
        log_every: steps between two lines of the log.
        precision: of the networks' arithmetic; the weights stay in 32 bits.
        validation: decides which weights are kept beside the last ones.
    """

    model: Trainable
    stages: Sequence[Stage]
    data: Mapping[str, Any] = field(default_factory=dict)
    log_every: int = 50
    precision: Precision = "32"
    validation: Validation | None = None

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[Stage, int]:
        """Return the stage that a step of the whole training belongs to, and the step's number within that stage.

        Raises:
            IndexError: the training has no such step.
        """
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError("a step beyond the last stage")

    def batch(self, step: int) -> Any:
        """Return the global batch of a step of the whole training, on the CPU."""
        stage, within = self.at(step)
        return stage.batches(within)

    def going_on(self, done: Mapping[str, int]) -> Training:
        """Return the training of a run that has steps behind it: a stage that is over keeps the steps that it had.

        The last stage gets what that leaves of all steps. Where stages are shares of a number of steps, more steps
        would else make stages longer that are over.

        Args:
            done: steps of each stage that are done, by name.
        """
        stages = list(self.stages)
        latest = max((i for i, stage in enumerate(stages) if done.get(stage.name)), default=0)
        kept = [replace(stage, steps=done.get(stage.name, 0)) for stage in stages[:latest]]
        left = sum(stage.steps for stage in stages[:latest]) - sum(stage.steps for stage in kept)
        stages = [*kept, *stages[latest:]]
        stages[-1] = replace(stages[-1], steps=max(stages[-1].steps + left, 0))
        return replace(self, stages=stages)

    def done(self, step: int) -> dict[str, int]:
        """Return how many steps of each stage, in their order, are done after `step` steps of the whole training."""
        done: dict[str, int] = {}
        for stage in self.stages:
            done[stage.name] = min(max(step, 0), stage.steps)
            step -= stage.steps
        return done
