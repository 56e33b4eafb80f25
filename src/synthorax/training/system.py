"""The interface of a generative system, and the description of its training, for the hub, the loop and the verbs."""

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
"""A function of a stage's step that returns the global batch, on the CPU; it depends on the step alone."""


class System(Trainable):
    """A generative model: a `Trainable` that can be restored from its weights and sampled."""

    @classmethod
    @abstractmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> System:
        """Return the system of a run folder or bundled model.

        Args:
            config: content of its configuration.
            weights: tensors of its weights file.
        """

    def maker(self, lineage: Lineage) -> Maker:
        """Return the maker that generates or edits voxels for the verbs and the studies.

        Args:
            lineage: the patients whose data the model was trained on, and its ancestors.

        Raises:
            InputError: the system makes no voxels.
        """
        raise InputError("model", f"one of {self.name}, which makes no voxels", "a model that makes samples")

    def editor(self, lineage: Lineage, options: Options) -> Maker:
        """Return the maker that edits scans with these options; by default `maker`, which ignores the options."""
        return self.maker(lineage)


@dataclass(frozen=True)
class Validation:
    """A measurement on held-out data that selects the best weights, which are kept in addition to the last ones.

    All commands use the best weights, `best.safetensors`, if a run folder has them. Training is resumed from the last.
    It is taken in the last stage only. Each process takes it on all held-out data, with its own BatchNorm statistics;
    the first process's figures count.

    Attributes:
        measure: returns the figures by name.
        every: steps between two measurements.
        select: name of the figure that selects.
        larger_is_better: whether a larger figure is better, or a smaller one.
    """

    measure: Callable[[], dict[str, float]]
    every: int
    select: str
    larger_is_better: bool = False


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of a training, in which some networks are trained on batches of one kind for a number of steps.

    Attributes:
        name: name of the stage, which `training_step` reads from `self.stage`.
        steps: number of steps of this stage. Each stage counts its own steps from 0.
        batches: returns the batch of a step of this stage.
        trains: names of the networks that are trained; the others and their moving averages do not change. None trains
            all.
    """

    name: str
    steps: int
    batches: Batches
    trains: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class Training:
    """Everything that the loop needs to train a model.

    Attributes:
        model: the model.
        stages: stages in their order. Steps that are added to a run go to the last stage, so a system should put the
            networks that profit from longer training last.
        data: description of the data for the run folder: fingerprint, and the patients of every split.
        log_every: steps between two lines of the log.
        precision: precision of the networks' arithmetic; the weights stay in 32 bits.
        validation: selects the best weights, which are kept in addition to the last ones; None keeps only the last.
    """

    model: Trainable
    stages: Sequence[Stage]
    data: Mapping[str, Any] = field(default_factory=dict)
    log_every: int = 50
    precision: Precision = "32"
    validation: Validation | None = None

    @property
    def steps(self) -> int:
        """Number of steps of all stages together."""
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
        """Return the training for a run that is resumed: each finished stage keeps the number of steps that it had.

        The last stage gets the rest of all steps. Otherwise, if stages are shares of the total, adding steps would
        lengthen stages that are already finished.

        Args:
            done: number of steps done in each stage, by the stage's name.
        """
        stages = list(self.stages)
        latest = max((i for i, stage in enumerate(stages) if done.get(stage.name)), default=0)
        kept = [replace(stage, steps=done.get(stage.name, 0)) for stage in stages[:latest]]
        left = sum(stage.steps for stage in stages[:latest]) - sum(stage.steps for stage in kept)
        stages = [*kept, *stages[latest:]]
        stages[-1] = replace(stages[-1], steps=max(stages[-1].steps + left, 0))
        return replace(self, stages=stages)

    def done(self, step: int) -> dict[str, int]:
        """Return the number of steps done in each stage, by name and in order, after `step` steps of the training."""
        done: dict[str, int] = {}
        for stage in self.stages:
            done[stage.name] = min(max(step, 0), stage.steps)
            step -= stage.steps
        return done
