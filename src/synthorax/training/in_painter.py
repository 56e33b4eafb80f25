"""What in-painters that learn against a critic have alike: optimisers, learning rates, noise, and fills of a patch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from synthorax.makers import Lineage, Options
from synthorax.nn.inpainter import pasted
from synthorax.nodule import NoduleAttributes
from synthorax.seeding import derive
from synthorax.training.config import Precision
from synthorax.training.in_painter_config import InPainterSettings, ToldSettings
from synthorax.training.system import System
from synthorax.training.trainable import Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.training.told_method import ToldMethod

IN_PAINTER, CRITIC = "in_painter", "critic"
"""Names of the networks."""
PREVIEWED = 6
"""Training patches that a preview fills."""


class FilledBatch(NamedTuple):
    """What a network made of patches, in single precision.

    Attributes:
        values: within -1 to 1, all over the patches.
        mask: logits of the voxels of the nodule that was made; None from a network without that head.
    """

    values: Float[Tensor, "b 1 z y x"]
    mask: Float[Tensor, "b 1 z y x"] | None = None


class InPainter(System):
    """An in-painter and its critic.

    Attributes:
        shown: training patches for the preview, as the batches have them.
    """

    memory_format = torch.channels_last_3d
    config: InPainterSettings

    def __init__(
        self,
        config: InPainterSettings,
        in_painter: nn.Module,
        critic: nn.Module,
        seed: int,
        facts: Mapping[str, Tensor] | None = None,
    ) -> None:
        networks = {IN_PAINTER: in_painter, CRITIC: critic}
        super().__init__(config, networks, seed=seed, decays={IN_PAINTER: config.ema_decay}, facts=facts)
        self.shown: Mapping[str, Tensor] | None = None

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam for each network."""
        return {
            name: torch.optim.Adam(self.networks[name].parameters(), lr=rate, betas=self.config.betas, fused=True)
            for name, rate in self._rates().items()
        }

    def check(self, world: int) -> None:
        """Refuse a batch that the processes cannot share."""
        Share(0, world).rows(self.config.batch_size)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step of the whole training."""
        for name, rate in self._rates().items():
            self.set_rate(name, rate * self.config.rate(step))

    def uniform_noise(self, kind: str, step: int, like: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b 1 z y x"]:
        """Noise within -1 to 1 for each voxel of a batch."""
        return 2 * self.drawn(kind, step, len(like) * self.share.world, *like.shape[1:], uniform=True) - 1

    @property
    def filling(self) -> nn.Module:
        """The network that fills: the running mean of the in-painter, if there is one."""
        return self.averages.get(IN_PAINTER, self.networks[IN_PAINTER])

    def _rates(self) -> dict[str, float]:
        return {IN_PAINTER: self.config.learning_rate, CRITIC: self.config.critic_learning_rate}


class ToldInPainter(InPainter):
    """An in-painter that puts a nodule in, told its attributes and perhaps its outline.

    Attributes:
        heeds: attributes that it is told beside the diameter and those of `config.shown`.

    Facts: `attributes` [n, a], what is known of the training nodules, encoded; NaN where it is not.

    Args:
        attributes: [n, a], of the training nodules; without them, as where weights are loaded, an empty table.
    """

    heeds: ClassVar[frozenset[str]] = frozenset()
    config: ToldSettings

    def __init__(
        self, config: ToldSettings, in_painter: nn.Module, critic: nn.Module, seed: int, attributes: Tensor | None
    ) -> None:
        known = torch.zeros(0, len(config.shown)) if attributes is None else attributes
        super().__init__(config, in_painter, critic, seed, {"attributes": known})

    @abstractmethod
    def condition(self, wanted: NoduleAttributes, attributes: Float[Tensor, "1 a"]) -> Float[Tensor, "1 k"]:
        """Return the condition by which a nodule is made.

        Args:
            wanted: what was asked for, and what is known of the nodule whose shape it has.
            attributes: the same, encoded, and completed from a training nodule.
        """

    @abstractmethod
    def make(
        self,
        network: nn.Module,
        patches: Float[Tensor, "b 1 z y x"],
        region: Float[Tensor, "b 1 z y x"],
        noise: Float[Tensor, "b 1 z y x"],
        told: Float[Tensor, "b k"],
        outline: Float[Tensor, "b 1 z y x"] | None,
    ) -> FilledBatch:
        """Return what the in-painter, or its running mean, makes of patches."""

    def maker(self, lineage: Lineage) -> ToldMethod:
        """Return the method; its shapes are outlines of the patients whom the network learned from."""
        from synthorax.training.told_method import ToldMethod

        return ToldMethod(self, lineage)

    def editor(self, lineage: Lineage, options: Options) -> ToldMethod:
        """Return the method that takes its shapes from where the options say."""
        from synthorax.training.told_method import ToldMethod

        return ToldMethod(self, lineage, getattr(options, "shapes", None))

    @torch.no_grad()
    def filled(
        self,
        patch: Float[Tensor, "1 1 z y x"],
        region: Float[Tensor, "1 1 z y x"],
        told: Float[Tensor, "1 k"],
        noise: Float[Tensor, "1 1 z y x"],
        outline: Float[Tensor, "1 1 z y x"] | None = None,
        precision: Precision = "32",
    ) -> tuple[Float[Tensor, "z y x"], NDArray[np.bool_] | None]:
        """Fill a patch; returns it within -1 to 1, and the mask of a network with that head, [z, y, x]."""
        patch, region, told, noise = (each.to(self.device) for each in (patch, region, told, noise))
        with self.autocast(precision):
            made = self.make(
                self.filling, patch, region, noise, told, None if outline is None else outline.to(self.device)
            )
        whole = pasted(made.values.clip(-1, 1), patch, region)[0, 0].cpu()
        mask = None if made.mask is None else ((made.mask > 0) & (region > 0))[0, 0].cpu().numpy()
        return whole, mask

    def previewed(self, variants: Sequence[tuple[str, Tensor, Tensor | None]]) -> Figure | None:
        """Middle slices of the shown patches: a row as they are, and for each variant two rows by two seeds.

        Args:
            variants: name, conditions [b, k] and outlines [b, 1, z, y, x] of each.
        """
        if self.shown is None:
            return None
        from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices

        ct, region = self.shown["ct"], self.shown["region"]
        random = torch.Generator().manual_seed(derive(self.seed, "preview"))
        noises = [2 * torch.rand(ct.shape, generator=random) - 1 for _ in range(2)]
        rows = [[(row[0], "real", REAL) for row in ct]]
        for name, told, outline in variants:
            outlines = [None] * len(ct) if outline is None else outline.split(1)
            for noise in noises:
                parts = zip(*(each.split(1) for each in (ct, region, told, noise)), outlines, strict=True)
                rows.append([(self.filled(*part)[0], name, SYNTHETIC) for part in parts])
        z, y, x = (n // 2 for n in ct.shape[2:])
        panels = [
            Slice(self.config.patch.to_hu(cube.numpy())[z], np.zeros(ct.shape[3:], bool), name, (y, x), colour)
            for row in rows
            for cube, name, colour in row
        ]
        return ct_slices(panels, half=max(y, x), columns=len(ct))


def mask_loss(
    logits: Float[Tensor, "b 1 z y x"],
    mask: Float[Tensor, "b 1 z y x"],
    known: Float[Tensor, " b"],
    region: Float[Tensor, "b 1 z y x"],
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy, the mean over each region and over samples whose mask is known (1 in `known`).

    A small nodule counts as much as a large one; without a known mask the loss is 0.
    """
    each = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none") * region
    means = each.flatten(1).sum(1) / region.flatten(1).sum(1).clamp_min(1)
    return (means * known).sum() / known.sum().clamp_min(1)
