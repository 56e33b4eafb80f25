"""Guards that stop a run: a figure or weight is not finite, or a figure stays out of its bounds for too long."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from synthorax.errors import TrainingError
from synthorax.training.trainable import Limit, Trainable


def finite(figures: Mapping[str, Tensor | float], step: int) -> dict[str, float]:
    """Return the figures as Python floats.

    Raises:
        TrainingError: a figure is NaN or infinite.
    """
    numbers = {name: float(value) for name, value in figures.items()}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} is {value}")
    return numbers


def sound(model: Trainable, step: int) -> None:
    """Check before a save that all weights are finite; an update may spoil them before any figure shows it.

    Raises:
        TrainingError: a weight is NaN or infinite.
    """
    for name, network in (*model.networks.items(), *model.averages.items()):
        if not all(bool(weights.isfinite().all()) for weights in network.parameters()):
            raise TrainingError(f"step {step}: the {name}'s weights are not finite")


class Guards:
    """Checks the figures of every line of the log against their limits.

    Args:
        limits: limits by the names of their figures.
        beyond: for each figure, for how many lines in a row it has been out of bounds, as an earlier call of the run
            left it; changed in place.
    """

    def __init__(self, limits: Mapping[str, Limit], beyond: dict[str, int] | None = None) -> None:
        self._limits = limits
        self._beyond = {} if beyond is None else beyond
        for name in limits:
            self._beyond.setdefault(name, 0)

    @property
    def content(self) -> bool:
        """Whether every figure of the last line was within its limits; if not, the loop does not save the model."""
        return not any(self._beyond.values())

    def check(self, figures: Mapping[str, float], step: int) -> None:
        """Count for how many lines in a row each figure has been out of its bounds since its warm-up.

        Raises:
            TrainingError: a figure was out of bounds for `Limit.records` lines; the message says what that means and
                what the user can do.
        """
        for name, limit in self._limits.items():
            if name not in figures or step <= limit.warm_up:
                continue
            value = figures[name]
            self._beyond[name] = 0 if limit.low <= value <= limit.high else self._beyond[name] + 1
            if self._beyond[name] >= limit.records:
                bound = f"below {limit.low:g}" if value < limit.low else f"above {limit.high:g}"
                found = f"{name} is {value:.4g}, {bound} for {limit.records} lines of the log"
                remedy = (limit.remedy,) if limit.remedy else ()
                raise TrainingError(f"step {step}: {limit.meaning}: {found}", *remedy)
