"""Figures that stop a run: those that are not finite, and those that are out of their bounds for long."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from synthorax.errors import TrainingError
from synthorax.training.trainable import Limit, Trainable


def finite(figures: Mapping[str, Tensor | float], step: int) -> dict[str, float]:
    """The figures as numbers.

    Raises:
        TrainingError: one of them is none.
    """
    numbers = {name: float(value) for name, value in figures.items()}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} is {value}; the last good state is kept")
    return numbers


def sound(model: Trainable, step: int) -> None:
    """See that a model is worth keeping: an update may spoil weights before any figure shows it.

    Raises:
        TrainingError: weights are no longer finite.
    """
    for name, network in (*model.networks.items(), *model.averages.items()):
        if not all(bool(weights.isfinite().all()) for weights in network.parameters()):
            raise TrainingError(f"step {step}: the {name}'s weights are not finite; the last good state is kept")


class Guards:
    """Looks at every line of the log.

    Args:
        beyond: the run's counts, which go on where they stopped.
    """

    def __init__(self, limits: Mapping[str, Limit], beyond: dict[str, int] | None = None) -> None:
        self._limits = limits
        self._beyond = {} if beyond is None else beyond
        for name in limits:
            self._beyond.setdefault(name, 0)

    @property
    def content(self) -> bool:
        """Whether the last line had every figure within its limits; if not, the model is not worth keeping."""
        return not any(self._beyond.values())

    def check(self, figures: Mapping[str, float], step: int) -> None:
        """Count how long each figure has been out of its bounds since its warm-up.

        Raises:
            TrainingError: one of them for too many lines of the log; says what it means and what can be done.
        """
        for name, limit in self._limits.items():
            if name not in figures or step <= limit.warm_up:
                continue
            value = figures[name]
            self._beyond[name] = 0 if limit.low <= value <= limit.high else self._beyond[name] + 1
            if self._beyond[name] >= limit.records:
                bound = f"below {limit.low:g}" if value < limit.low else f"above {limit.high:g}"
                remedy = f"; {limit.remedy}" if limit.remedy else ""
                raise TrainingError(
                    f"step {step}: {limit.meaning}: {name} is {value:.4g}, {bound} for {limit.records} lines of the "
                    f"log; the state before is kept{remedy}"
                )
