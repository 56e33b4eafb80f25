"""Integrates a velocity from noise to CT, in steps of equal time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor

Solver = Literal["euler", "heun"]
Velocity = Callable[[Tensor, float], Tensor]
"""A function of the present values and the time, from 0 to 1, that returns their velocity."""


def integrated(velocity: Velocity, noise: Tensor, steps: int, solver: Solver = "euler") -> Tensor:
    """Integrate a velocity from noise, at time 0, to time 1, and return the result.

    Args:
        velocity: the velocity; evaluated once in each step, with `heun` twice in each step except the last.
        noise: values at time 0.
        steps: number of steps, 1 or more, of equal length in time.
        solver: `euler`, of first order, or `heun`, of second order, which uses the mean of the velocities at both ends
            of a step.
    """
    made = noise
    for now, then in pairwise(i / steps for i in range(steps + 1)):
        along = velocity(made, now)
        ahead = made + (then - now) * along
        if solver == "heun" and then < 1:
            ahead = made + (then - now) / 2 * (along + velocity(ahead, then))
        made = ahead
    return made
