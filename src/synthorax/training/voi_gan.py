"""Updates of an in-painter of papers/5 and its critic: least squares, after a warm-up by reconstruction alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from synthorax.nn.inpainter import pasted
from synthorax.nn.modes import frozen
from synthorax.training.in_painter import CRITIC, IN_PAINTER, InPainter
from synthorax.training.losses import least_squares_discriminator_loss, least_squares_generator_loss
from synthorax.training.system import Batches, Stage
from synthorax.training.voi_config import VoiSettings

WARM_UP_STAGE, ADVERSARIAL_STAGE = "warm-up", "adversarial"
"""Names of the stages: the in-painter alone, then both networks."""


def voi_stages(config: VoiSettings, batches: Callable[[int], Batches]) -> list[Stage]:
    """Return the stages of a training.

    Args:
        batches: those of a stage that begins after some steps of the whole training.
    """
    alone = Stage(WARM_UP_STAGE, config.warm_up_steps, batches(0), frozenset({IN_PAINTER}))
    both = Stage(ADVERSARIAL_STAGE, config.steps - alone.steps, batches(alone.steps))
    return [stage for stage in (alone, both) if stage.steps]


def update_voi_gan(
    model: InPainter,
    made: Float[Tensor, "b 1 z y x"],
    real: Float[Tensor, "b 1 z y x"],
    region: Float[Tensor, "b 1 z y x"],
    beside: Float[Tensor, "b m z y x"],
    loss: Float[Tensor, ""],
) -> dict[str, Tensor]:
    """Update the critic, unless the warm-up goes on, and the in-painter; return the figures.

    Args:
        made: what the in-painter made, with its gradient.
        real: what is there, which the in-painter keeps outside the region.
        beside: what the critic sees beside a patch.
        loss: all of the in-painter's loss but the critic's judgement.
    """
    figures: dict[str, Tensor] = {}
    if model.stage == ADVERSARIAL_STAGE:
        critic = model.networks[CRITIC]
        fake = pasted(made, real, region)
        with model.autocast():
            of_real = critic(torch.cat([real, beside], 1))
            of_fake = critic(torch.cat([fake.detach(), beside], 1))
        figures["critic"] = least_squares_discriminator_loss(of_real, of_fake)
        figures["critic"].backward()
        model.update(CRITIC)
        with frozen(critic):
            with model.autocast():
                judged = critic(torch.cat([fake, beside], 1))
            figures["adversarial"] = least_squares_generator_loss(judged)
            (loss + figures["adversarial"]).backward()
    else:
        loss.backward()
    model.update(IN_PAINTER)
    return {name: value.detach() for name, value in figures.items()}
