"""The way from noise to CT along a velocity, in steps of equal time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor

Solver = Literal["euler", "heun"]
Velocity = Callable[[Tensor, float], Tensor]
"""What is under way, and the time from 0 to 1, to the direction in which it moves."""


def integrated(velocity: Velocity, noise: Tensor, steps: int, solver: Solver = "euler") -> Tensor:
    """Follow a velocity from noise, at time 0, to time 1.

    Args:
        velocity: is asked once a step; by Heun's method twice, but for the last step.
        steps: of equal length in time, 1 or more.
        solver: `euler`, of first order, or `heun`, of second, which takes the mean of the velocities at both ends of
            a step.
    """
    made = noise
    for now, then in pairwise(i / steps for i in range(steps + 1)):
        along = velocity(made, now)
        ahead = made + (then - now) * along
        if solver == "heun" and then < 1:
            ahead = made + (then - now) / 2 * (along + velocity(ahead, then))
        made = ahead
    return made
