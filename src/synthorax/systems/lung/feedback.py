"""Training in rounds, with accepted generated nodules fed back into the training set (LuNG's paper, III-E)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from synthorax.seeding import derive, generator
from synthorax.systems.lung.base_set import base_set, check_seeds, learned_fields, to_input, to_occupancy
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.system import GeneratedShapes, Lung

Select = Callable[[GeneratedShapes, int], NDArray[np.bool_]]
"""Function of generated nodules and a seed that tells which nodules the analyzer accepts, bool [n]."""


@dataclass(frozen=True)
class Feedback:
    """The feedback of accepted nodules into the training set.

    Attributes:
        reflections: random reflections of each accepted nodule that are added; 0 adds the nodule itself.
        trade: train two networks, each on the accepted nodules of the other.
        rounds: number of rounds, from the first, that are followed by feedback.
        generated: nodules that are generated for each feedback.
        reconnected: reconnect generated nodules (table II) or not (table I).
    """

    reflections: int = 0
    trade: bool = False
    rounds: int = 2
    generated: int = 400
    reconnected: bool = True


def train_in_rounds(
    config: LungConfig,
    seeds: NDArray[np.float32],
    seed: int,
    fabric: Fabric,
    feedback: Feedback | None = None,
    select: Select | None = None,
) -> Lung:
    """Train a model in rounds and return it, without a run folder.

    With Adam, the rounds are those of the configuration; after the last feedback they use the base set alone, as in
    figure 5. The fit starts anew in every round, so that it has one round after each feedback and no further round,
    which would undo the feedback.

    Args:
        config: configuration of the model.
        seeds: occupancy of the seed nodules, [n, z, y, x].
        seed: seed of weights, batches and feedback.
        fabric: device and precision.
        feedback: None for none.
        select: chooses accepted nodules; needed for feedback.
    """
    check_seeds(seeds, config.grid, "seed nodules")
    base = learned_fields(base_set(seeds, reflected=config.reflected), config)
    seeds_of = [seed, derive(seed, "other network")] if feedback and feedback.trade else [seed]
    networks = [Lung.for_training(config, seeds, own) for own in seeds_of]
    systems, batches = [system for system, _ in networks], [data for _, data in networks]
    for system in systems:
        system.prepare_training(fabric)
    fitted = config.method == "fit"
    with_feedback = feedback.rounds if feedback else 0
    turns = 1 + with_feedback if fitted else config.rounds
    for turn in range(turns):
        first = 0 if fitted else turn * systems[0].steps_per_round
        for system, data in zip(systems, batches, strict=True):
            for step in range(first, first + system.steps_per_round):
                batch: Any = fabric.to_device(data(step))
                system.training_step(batch, step)
        if not feedback or not select or turn > with_feedback or turn == turns - 1:
            continue
        more: list[NDArray[np.float32] | None] = [None] * len(systems)
        if turn < with_feedback:
            made = [_accepted(system, feedback, select, seed, turn) for system in systems]
            more = [*made[1:], *made[:1]]
        batches = [s.batches(base, own, m) for s, own, m in zip(systems, seeds_of, more, strict=True)]
    return systems[0]


def _accepted(system: Lung, feedback: Feedback, select: Select, seed: int, turn: int) -> NDArray[np.float32]:
    """Return the accepted nodules of a network for the training set, grey values [m, z, y, x]."""
    own = derive(seed, "feedback", turn)
    made = system.sample(feedback.generated, own, reconnected=feedback.reconnected)
    fields = learned_fields(to_input(to_occupancy(made.fields[select(made, own)])), system.config)
    if not feedback.reflections:
        return fields
    signs = np.array([[1 - 2 * (code >> axis & 1) for axis in range(3)] for code in range(8)])
    reflected = []
    for i, field in enumerate(fields):
        for z, y, x in signs[generator(own, "reflections", i).permutation(8)[: feedback.reflections]]:
            reflected.append(field[::z, ::y, ::x])
    return np.stack(reflected) if reflected else fields
