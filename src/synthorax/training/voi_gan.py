"""Updates of an in-painter of CT-SGAN and its critic: least-squares GAN, after a warm-up by reconstruction alone."""

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
from synthorax.training.trainable import Limit
from synthorax.training.voi_config import VoiSettings

WARM_UP_STAGE, ADVERSARIAL_STAGE = "warm-up", "adversarial"
"""Names of the stages: the in-painter alone, then both networks."""


def divergence_limit(config: VoiSettings) -> dict[str, Limit]:
    """Return the limit of the figure `reconstruction`: an error of half of the window of HU, in region and nodule.

    A sound training has a tenth to a quarter of it. One update of the critic can spoil both networks at once, as it did
    after 6,150 steps of an eraser; such a run goes on to learn a grid.
    """
    meaning = "the network's output is far from the scans (divergence)"
    remedy = "to go on with other noise and smaller steps: train --from this run, --set critic_learning_rate=1e-4"
    return {"reconstruction": Limit(meaning, high=1.0 + config.near_weight, remedy=remedy)}


def voi_stages(config: VoiSettings, batches: Callable[[int], Batches]) -> list[Stage]:
    """Return the stages of a training: the warm-up, then both networks; a stage without steps is left out.

    Args:
        config: settings.
        batches: returns the batches of a stage, given the number of steps before that stage.
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
    """Update the in-painter and, after the warm-up, the critic; return the figures to log.

    Args:
        model: the in-painter and its critic.
        made: output of the in-painter, with its gradient.
        real: the real patches, which stay unchanged outside the region.
        region: 1 in the edit region, 0 outside.
        beside: further channels that the critic sees with a patch.
        loss: the in-painter's loss without the adversarial term.
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
