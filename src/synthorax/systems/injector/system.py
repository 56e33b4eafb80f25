"""The injector: its training step, and the filling of VOIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.nn.conditions import with_given
from synthorax.nn.critics import ScoreMapCritic
from synthorax.nn.inpainter import pasted
from synthorax.nn.unet import PatchUNet
from synthorax.nodule import NoduleAttributes
from synthorax.seeding import derive
from synthorax.systems.injector.config import InjectorConfig
from synthorax.training.in_painter import ConditionedInPainter, FilledBatch, mask_loss
from synthorax.training.inpainting import multi_mask_loss
from synthorax.training.trainable import FACTS
from synthorax.training.voi_gan import divergence_limit, update_voi_gan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Injector(ConditionedInPainter):
    """A U-Net that fills the erased ball of a VOI, and its critic.

    Args:
        config: settings.
        seed: seed of all random draws.
        attributes: encoded attributes of the training nodules, see `ConditionedInPainter`.
    """

    name = "injector"
    config: InjectorConfig

    def __init__(self, config: InjectorConfig, seed: int = 0, attributes: Tensor | None = None) -> None:
        seen, outputs = (4, 1) if config.outlines else (1, 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            in_painter = PatchUNet(seen, config.conditions, outputs, config.widths, fold=config.fold)
            critic = ScoreMapCritic(3 if config.outlines else 2, config.critic_widths)
        super().__init__(config, in_painter, critic, seed, attributes)
        self.limits = divergence_limit(config)

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Injector:
        model = cls(InjectorConfig.model_validate(dict(config)), attributes=weights[FACTS + "attributes"])
        model.load_weights(weights)
        return model

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Update the injector and, after the warm-up, the critic.

        Args:
            batch: `ct` [b, 1, z, y, x] within -1 to 1, `region` and `mask` [b, 1, z, y, x], `condition` [b, k],
                `mask_known` [b], and for a network with outlines `outline` [b, 1, z, y, x].
            step: step of the stage.
        """
        config = self.config
        self.set_rates(self.begun + step)
        ct, region, outline = batch["ct"], batch["region"], batch.get("outline")
        noise = self.uniform_noise(self.stage, step, ct)
        with self.autocast():
            made = self.make(self.networks["in_painter"], ct, region, noise, batch["condition"], outline)
        reconstruction = multi_mask_loss(
            made.values, ct, region, batch["mask"], dilation=config.near_voxels, weight=config.near_weight
        )
        loss, figures = config.reconstruction * reconstruction, {"reconstruction": reconstruction.detach()}
        if made.mask is not None:
            of_mask = mask_loss(made.mask, batch["mask"], batch["mask_known"].float(), region)
            loss, figures["mask"] = loss + config.mask_weight * of_mask, of_mask.detach()
        beside = region if outline is None else torch.cat([region, outline], 1)
        return figures | update_voi_gan(self, made.values, ct, region, beside, loss)

    def condition(self, wanted: NoduleAttributes, attributes: Float[Tensor, "1 a"]) -> Float[Tensor, "1 k"]:
        return with_given(attributes)

    def make(
        self,
        network: nn.Module,
        patches: Float[Tensor, "b 1 z y x"],
        region: Float[Tensor, "b 1 z y x"],
        noise: Float[Tensor, "b 1 z y x"],
        condition: Float[Tensor, "b k"],
        outline: Float[Tensor, "b 1 z y x"] | None,
    ) -> FilledBatch:
        seen = pasted(torch.zeros_like(patches), patches, region)
        if outline is not None:
            seen = torch.cat([seen, region, noise * region, outline], 1)
        made = network(seen, condition)
        return FilledBatch(made[:, :1], made[:, 1:] if made.shape[1] > 1 else None)

    def preview(self) -> Figure | None:
        """Return middle slices of training VOIs: real, and filled with their own and with the next VOI's outline."""
        if self.shown is None:
            return None
        condition, outline = self.shown["condition"], self.shown.get("outline")
        variants = [("own outline" if self.config.outlines else "filled", condition, outline)]
        if outline is not None:
            variants.append(("another's", condition, outline.roll(1, 0)))
        return self.previewed(variants)


System = Injector
