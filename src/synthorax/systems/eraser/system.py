"""The eraser: its training step, and its output for a VOI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from synthorax.makers import Lineage
from synthorax.nn.critics import ScoreMapCritic
from synthorax.nn.unet import PatchUNet
from synthorax.seeding import derive
from synthorax.systems.eraser.config import EraserConfig
from synthorax.training.config import Precision
from synthorax.training.in_painter import IN_PAINTER, PREVIEWED, InPainter
from synthorax.training.inpainting import multi_mask_loss
from synthorax.training.voi_gan import divergence_limit, update_voi_gan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.systems.eraser.method import EraserMethod

FADED = 0.25
"""Outer part of the ball's radius over which the change fades out, so that no visible edge remains."""


class Eraser(InPainter):
    """A U-Net that removes the nodule from a VOI, and its critic.

    Args:
        config: settings.
        seed: seed of all random draws.
    """

    name = "eraser"
    config: EraserConfig

    def __init__(self, config: EraserConfig, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            in_painter = PatchUNet(2 if config.told_masks else 1, 0, 1, config.widths, fold=config.fold)
            critic = ScoreMapCritic(2, config.critic_widths)
        super().__init__(config, in_painter, critic, seed)
        self.limits = divergence_limit(config)
        inwards = 1 - 2 * config.patch.distances_mm() / config.ball_mm(0.0, config.patch)
        share = np.clip(inwards / FADED, 0, 1)
        self._fade = torch.from_numpy((share**2 * (3 - 2 * share)).astype(np.float32))[None, None]

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Eraser:
        model = cls(EraserConfig.model_validate(dict(config)))
        model.load_weights(weights)
        return model

    def maker(self, lineage: Lineage) -> EraserMethod:
        from synthorax.systems.eraser.method import EraserMethod

        return EraserMethod(self, lineage)

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Update the eraser and, after the warm-up, the critic.

        Args:
            batch: `ct`, the healthy VOIs, and `injected`, the same VOIs with nodules, [b, 1, z, y, x] within -1 to 1;
                `region` and `mask` of the nodules, [b, 1, z, y, x].
            step: step of the stage.
        """
        config = self.config
        self.set_rates(self.begun + step)
        ct, region, mask = batch["ct"], batch["region"], batch["mask"]
        has_mask = self.drawn(f"{self.stage} told", step, len(ct) * self.share.world, uniform=True) < config.told_masks
        with self.autocast():
            made = self.make(self.networks[IN_PAINTER], batch["injected"], mask * has_mask[:, None, None, None, None])
        reconstruction = multi_mask_loss(made, ct, region, mask, dilation=config.near_voxels, weight=config.near_weight)
        figures = update_voi_gan(self, made, ct, region, region, config.reconstruction * reconstruction)
        return {"reconstruction": reconstruction.detach(), **figures}

    def make(
        self, network: nn.Module, patches: Float[Tensor, "b 1 z y x"], masks: Float[Tensor, "b 1 z y x"]
    ) -> Float[Tensor, "b 1 z y x"]:
        """Return VOIs after the network's change, which fades out towards the border of the ball.

        Args:
            network: the eraser or its moving average.
            patches: VOIs within -1 to 1.
            masks: 1 in nodules whose mask the network gets, 0 elsewhere.
        """
        change = network(torch.cat([patches, masks], 1) if self.config.told_masks else patches)
        made: Tensor = patches + self._fade.to(change) * change
        return made

    @torch.no_grad()
    def erased(
        self, patch: Float[Tensor, "1 1 z y x"], mask: Float[Tensor, "1 1 z y x"], precision: Precision = "32"
    ) -> Float[Tensor, "z y x"]:
        """Return a VOI without its nodule, within -1 to 1.

        Args:
            patch: VOI within -1 to 1.
            mask: 1 in the nodule; 0 everywhere if the mask is unknown.
            precision: precision of the network's arithmetic.
        """
        with self.autocast(precision):
            made = self.make(self.filling, patch.to(self.device), mask.to(self.device))
        return made.clip(-1, 1)[0, 0].cpu()

    def preview(self) -> Figure | None:
        """Return middle slices of training VOIs: healthy, with a nodule, and erased, without and with its mask."""
        if self.shown is None:
            return None
        from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices

        shown = {name: values[:PREVIEWED] for name, values in self.shown.items()}
        parts = list(zip(shown["injected"].split(1), shown["mask"].split(1), strict=True))
        rows = [
            [(one[0], "healthy", REAL) for one in shown["ct"]],
            [(one[0], "with nodule", SYNTHETIC) for one in shown["injected"]],
            [(self.erased(one, torch.zeros_like(mask)), "erased", SYNTHETIC) for one, mask in parts],
        ]
        if self.config.told_masks:
            rows.append([(self.erased(one, mask), "erased, mask", SYNTHETIC) for one, mask in parts])
        z, y, x = (n // 2 for n in self.config.size)
        none = np.zeros(self.config.size[1:], bool)
        panels = [
            Slice(self.config.patch.to_hu(cube.numpy())[z], none, name, (y, x), colour)
            for row in rows
            for cube, name, colour in row
        ]
        return ct_slices(panels, half=max(y, x), columns=len(parts))


System = Eraser
