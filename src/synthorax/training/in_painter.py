"""Shared code of in-painters that train against a critic: optimisers, learning rates, noise, and filling a patch."""

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
from synthorax.training.in_painter_config import ConditionedSettings, InPainterSettings
from synthorax.training.system import System
from synthorax.training.trainable import Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.training.conditioned_method import ConditionedMethod

IN_PAINTER, CRITIC = "in_painter", "critic"
"""Names of the two networks."""
PREVIEWED = 6
"""Number of training patches that the preview picture shows, real and filled."""


class FilledBatch(NamedTuple):
    """The output of an in-painter for a batch of patches, in single precision.

    Attributes:
        values: values within -1 to 1 for every voxel of the patches.
        mask: logits of each voxel belonging to the synthetic nodule; None if the network has no mask head.
    """

    values: Float[Tensor, "b 1 z y x"]
    mask: Float[Tensor, "b 1 z y x"] | None = None


class InPainter(System):
    """An in-painter and its critic.

    Attributes:
        shown: training patches for the preview, as one batch of the training data; None shows no preview.
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
        """Return an Adam optimiser for each network."""
        return {
            name: torch.optim.Adam(self.networks[name].parameters(), lr=rate, betas=self.config.betas, fused=True)
            for name, rate in self._rates().items()
        }

    def check(self, world: int) -> None:
        """Check that the batch can be divided among the processes.

        Raises:
            InputError: the batch size is not a multiple of the number of processes.
        """
        Share(0, world).rows(self.config.batch_size)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step of the whole training."""
        for name, rate in self._rates().items():
            self.set_rate(name, rate * self.config.rate(step))

    def uniform_noise(self, kind: str, step: int, like: Float[Tensor, "b 1 z y x"]) -> Float[Tensor, "b 1 z y x"]:
        """Return uniform noise within -1 to 1, one value for each voxel of a batch.

        Args:
            kind: name of the random stream.
            step: step of the stage.
            like: a batch of this process, whose shape the noise gets.
        """
        return 2 * self.drawn(kind, step, len(like) * self.share.world, *like.shape[1:], uniform=True) - 1

    @property
    def filling(self) -> nn.Module:
        """The network that fills patches outside training: the in-painter's moving average, if there is one."""
        return self.averages.get(IN_PAINTER, self.networks[IN_PAINTER])

    def _rates(self) -> dict[str, float]:
        return {IN_PAINTER: self.config.learning_rate, CRITIC: self.config.critic_learning_rate}


class ConditionedInPainter(InPainter):
    """An in-painter that adds a nodule, conditioned on its attributes and possibly on its outline.

    Facts: `attributes` [n, a], the encoded attributes of the training nodules; NaN if unknown.

    Attributes:
        heeds: attributes that the network is conditioned on in addition to the diameter and those of `config.shown`.

    Args:
        config: settings.
        in_painter: the network that fills.
        critic: the network that judges.
        seed: seed of all random draws.
        attributes: encoded attributes of the training nodules, [n, a]; None gives an empty table, as when weights are
            to be loaded.
    """

    heeds: ClassVar[frozenset[str]] = frozenset()
    config: ConditionedSettings

    def __init__(
        self,
        config: ConditionedSettings,
        in_painter: nn.Module,
        critic: nn.Module,
        seed: int,
        attributes: Tensor | None,
    ) -> None:
        known = torch.zeros(0, len(config.shown)) if attributes is None else attributes
        super().__init__(config, in_painter, critic, seed, {"attributes": known})

    @abstractmethod
    def condition(self, wanted: NoduleAttributes, attributes: Float[Tensor, "1 a"]) -> Float[Tensor, "1 k"]:
        """Return the condition vector of a nodule.

        Args:
            wanted: the requested attributes, and the known attributes of the nodule whose outline is used.
            attributes: the same, encoded, and completed from a training nodule.
        """

    @abstractmethod
    def make(
        self,
        network: nn.Module,
        patches: Float[Tensor, "b 1 z y x"],
        region: Float[Tensor, "b 1 z y x"],
        noise: Float[Tensor, "b 1 z y x"],
        condition: Float[Tensor, "b k"],
        outline: Float[Tensor, "b 1 z y x"] | None,
    ) -> FilledBatch:
        """Return the output of the in-painter, or of its moving average, for a batch of patches.

        Args:
            network: the in-painter or its moving average.
            patches: values within -1 to 1.
            region: 1 in voxels to fill, 0 elsewhere.
            noise: noise within -1 to 1.
            condition: condition vectors.
            outline: 1 inside the nodule's outline, 0 elsewhere; None for a network without outlines.
        """

    def maker(self, lineage: Lineage) -> ConditionedMethod:
        """Return the editing method; its outlines come from the patients that the network was trained on."""
        from synthorax.training.conditioned_method import ConditionedMethod

        return ConditionedMethod(self, lineage)

    def editor(self, lineage: Lineage, options: Options) -> ConditionedMethod:
        """Return the editing method with the source of outlines that the options name."""
        from synthorax.training.conditioned_method import ConditionedMethod

        return ConditionedMethod(self, lineage, getattr(options, "shapes", None))

    @torch.no_grad()
    def filled(
        self,
        patch: Float[Tensor, "1 1 z y x"],
        region: Float[Tensor, "1 1 z y x"],
        condition: Float[Tensor, "1 k"],
        noise: Float[Tensor, "1 1 z y x"],
        outline: Float[Tensor, "1 1 z y x"] | None = None,
        precision: Precision = "32",
    ) -> tuple[Float[Tensor, "z y x"], NDArray[np.bool_] | None]:
        """Fill the region of one patch.

        Args:
            patch: values within -1 to 1.
            region: 1 in voxels to fill, 0 elsewhere.
            condition: condition vector.
            noise: noise within -1 to 1.
            outline: 1 inside the nodule's outline, 0 elsewhere; None for a network without outlines.
            precision: precision of the network's arithmetic.

        Returns:
            The whole patch within -1 to 1, and the nodule's mask if the network has a mask head, else None.
        """
        patch, region, condition, noise = (each.to(self.device) for each in (patch, region, condition, noise))
        with self.autocast(precision):
            made = self.make(
                self.filling, patch, region, noise, condition, None if outline is None else outline.to(self.device)
            )
        whole = pasted(made.values.clip(-1, 1), patch, region)[0, 0].cpu()
        mask = None if made.mask is None else ((made.mask > 0) & (region > 0))[0, 0].cpu().numpy()
        return whole, mask

    def previewed(self, variants: Sequence[tuple[str, Tensor, Tensor | None]]) -> Figure | None:
        """Return a picture of the middle slices of `shown`: one row of real patches, then two rows for each variant.

        The two rows of a variant are filled with two draws of noise. Return None if there are no patches to show.

        Args:
            variants: name, condition vectors [b, k] and outlines [b, 1, z, y, x] (or None) of each variant.
        """
        if self.shown is None:
            return None
        from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices

        ct, region = self.shown["ct"], self.shown["region"]
        random = torch.Generator().manual_seed(derive(self.seed, "preview"))
        noises = [2 * torch.rand(ct.shape, generator=random) - 1 for _ in range(2)]
        rows = [[(row[0], "real", REAL) for row in ct]]
        for name, condition, outline in variants:
            outlines = [None] * len(ct) if outline is None else outline.split(1)
            for noise in noises:
                parts = zip(*(each.split(1) for each in (ct, region, condition, noise)), outlines, strict=True)
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
    """Return the binary cross-entropy of a mask head: the mean over each sample's region, then over samples.

    Only samples whose mask is known count; without any the loss is 0. A small nodule counts as much as a large one.

    Args:
        logits: output of the mask head.
        mask: 1 in the nodule, 0 outside.
        known: 1 if the sample's mask is known, else 0.
        region: 1 in the edit region, 0 outside.
    """
    each = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none") * region
    means = each.flatten(1).sum(1) / region.flatten(1).sum(1).clamp_min(1)
    return (means * known).sum() / known.sum().clamp_min(1)
