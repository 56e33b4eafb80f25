"""The class-aware in-painter: its training step (papers/2, section 2.2), and the fillings that it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.critics import InPaintingCritic
from synthorax.nn.inpainter import InPainted, InPaintingNet, pasted
from synthorax.nn.local_crop import LocalCrop
from synthorax.seeding import derive
from synthorax.systems.class_aware.config import ClassAwareConfig
from synthorax.training.config import Precision
from synthorax.training.diversity import SeedDiversity
from synthorax.training.inpainting import (
    adversarial_loss,
    critics_loss,
    critics_penalty,
    domain_loss,
    reconstruction_loss,
    shown_to_critics,
)
from synthorax.training.system import System as TrainedSystem
from synthorax.training.trainable import FACTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.makers import Lineage
    from synthorax.systems.class_aware.method import ClassAwareMethod

BENIGN, MALIGNANT = 1, 2
"""Classes of real patches; 0 is a patch that was made (section 2.2)."""
MADE_CLASS = 0
CLASSES_STAGE = "classes"
"""Name of the stage in which the classifiers learn and classes are flipped; before it only gaps are filled."""
FILL_STAGE = "fill"
PREVIEWED = 6
"""Training patches that the preview fills, with either class and two seeds."""


class ClassAware(TrainedSystem):
    """In-painter and critics.

    Attributes:
        shown: training patches for the preview, as the batches have them.
        seed_diversity: logs how far two fills by two draws of noise are apart; None for a network that is told
            outlines, which bring the variety.

    Facts: `attributes` [n, a], what is known of the training nodules, encoded; NaN where it is not.

    Args:
        attributes: [n, a], of the training nodules; without them, as where weights are loaded, an empty table.
    """

    name = "class-aware"
    memory_format = torch.channels_last_3d

    def __init__(self, config: ClassAwareConfig, seed: int = 0, attributes: Tensor | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            in_painter = InPaintingNet(
                config.conditions,
                maps=1 if config.outlines else 0,
                width=config.width,
                dilations=config.dilations,
                masks=not config.outlines,
                fold=config.fold,
            )
            critic = InPaintingCritic(
                config.size, width=config.critic_width, classes=3, maps=1 if config.critics_told else 0
            )
        known = torch.zeros(0, len(config.shown)) if attributes is None else attributes
        super().__init__(
            config,
            {"in_painter": in_painter, "critic": critic},
            seed=seed,
            decays={"in_painter": config.ema_decay},
            facts={"attributes": known},
        )
        self.config: ClassAwareConfig = config
        self.shown: Mapping[str, Tensor] | None = None
        self.seed_diversity: SeedDiversity | None = None

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ClassAware:
        model = cls(ClassAwareConfig.model_validate(dict(config)), attributes=weights[FACTS + "attributes"])
        model.load_weights(weights)
        return model

    def maker(self, lineage: Lineage) -> ClassAwareMethod:
        from synthorax.systems.class_aware.method import ClassAwareMethod

        return ClassAwareMethod(self, lineage)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            name: torch.optim.Adam(self.networks[name].parameters(), lr=rate, betas=self.config.betas, fused=True)
            for name, rate in self._rates().items()
        }

    def check(self, world: int) -> None:
        if self.config.batch_size % world:
            raise InputError("batch size", str(self.config.batch_size), f"a multiple of {world}, the processes")

    def training_step(self, batch: Sequence[Mapping[str, Tensor]], step: int) -> dict[str, Tensor]:
        """`n_critic` updates of the critics, each by its own batch, and one of the in-painter by the last.

        Args:
            batch: for each critic update ct [b, 1, z, y, x] within -1 to 1, region [b, 1, z, y, x], label [b] (BENIGN
                or MALIGNANT), told [b, k] with its own class first, outline [b, 1, z, y, x] for a network that is told
                outlines, and mask [b, 1, z, y, x] with mask_known [b].
        """
        whole = step + (self.config.plain_steps if self.stage == CLASSES_STAGE else 0)
        for name, rate in self._rates().items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate * self.config.rate(whole)
        figures: dict[str, Tensor] = {}
        for turn, real in enumerate(batch):
            figures |= self._critic_update(real, f"{self.stage} critic {turn}", step)
        return figures | self._in_painter_update(batch[-1], step)

    def _critic_update(self, real: Mapping[str, Tensor], kind: str, step: int) -> dict[str, Tensor]:
        """An update of both critics by equation 2, and by equation 3 once the classifiers are in."""
        config, critic = self.config, self._critic
        ct, region, label = real["ct"], real["region"], real["label"]
        told, _ = self._told(real["told"], label)
        noise = self._noise(kind, step, ct)
        with torch.no_grad(), self.autocast():
            made = self._in_painter(ct, region, noise, told, real.get("outline"))
        fake = shown_to_critics(_single(made), ct, region, as_printed=config.as_printed)
        crop, asked, own = LocalCrop.around(region), self._shown_class(told), self._shown_class(real["told"])
        rows = slice(math.ceil(config.penalty_share * len(ct)))
        epsilon = self.drawn(f"{kind} penalty", step, len(ct) * self.share.world, uniform=True)
        with self.autocast():
            penalty = critics_penalty(
                critic,
                ct[rows],
                fake[rows],
                region[rows],
                LocalCrop.around(region[rows]),
                epsilon[rows],
                None if own is None else own[rows],
                as_printed=config.as_printed,
            )
        (config.penalty * penalty).backward()
        with self.autocast():
            of_real, of_fake = critic(ct, crop, own), critic(fake, crop, asked)
        wasserstein = critics_loss(of_real, of_fake)
        loss, figures = wasserstein, {"wasserstein": -wasserstein.detach(), "penalty": penalty.detach()}
        if self.stage == CLASSES_STAGE:
            of_class = domain_loss(of_real, label) + domain_loss(of_fake, torch.full_like(label, MADE_CLASS))
            loss = loss + config.class_weight * of_class
            figures["class_critic"] = of_class.detach()
        loss.backward()
        self.update("critic")
        return figures

    def _in_painter_update(self, real: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """An update of the in-painter by equations 1, 2 and 4 in one sum; flipped rows have no equation 1."""
        config = self.config
        ct, region = real["ct"], real["region"]
        told, wanted = self._told(real["told"], real["label"])
        noise = self._noise(f"{self.stage} in-painter", step, ct)
        own = (wanted == real["label"]).nonzero()[:, 0]
        self._critic.requires_grad_(False)
        try:
            with self.autocast():
                made = _single(self._in_painter(ct, region, noise, told, real.get("outline")))
            fake = shown_to_critics(made, ct, region, as_printed=config.as_printed)
            with self.autocast():
                judged = self._critic(fake, LocalCrop.around(region), self._shown_class(told))
            adversarial = adversarial_loss(judged)
            reconstruction = reconstruction_loss(
                _each(made, lambda part: part[own]), ct[own], region[own], global_weight=config.global_weight
            )
            loss = config.reconstruction * reconstruction + config.adversarial * adversarial
            figures = {"adversarial": adversarial, "reconstruction": reconstruction}
            if self.stage == CLASSES_STAGE:
                figures["class_in_painter"] = domain_loss(judged, wanted)
                loss = loss + config.adversarial * config.in_painter_class_weight * figures["class_in_painter"]
            if made.mask is not None:
                figures["mask"] = _mask_loss(made.mask[own], real["mask"][own], real["mask_known"][own], region[own])
                loss = loss + config.mask_weight * figures["mask"]
            loss.backward()
        finally:
            self._critic.requires_grad_(True)
        if self.seed_diversity is not None:
            other = self._noise(f"{self.stage} other seed", step, ct)
            with torch.no_grad(), self.autocast():
                again = _single(self._in_painter(ct, region, other, told, real.get("outline")))
            figures["diversity"] = self.mean_of_all(self.seed_diversity(made.refined, again.refined, region))
        self.update("in_painter")
        return {name: value.detach() for name, value in figures.items()}

    def _told(
        self, told: Float[Tensor, "b k"], label: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b k"], Int[Tensor, " b"]]:
        """The conditions with the classes to be made, and these; in the last stage the first rows are flipped."""
        n = self.config.flipped_rows // self.share.world if self.stage == CLASSES_STAGE else 0
        if not n:
            return told, label
        flips = torch.ones_like(told)
        flips[:n, 0] = -1
        return told * flips, torch.where(flips[:, 0] < 0, BENIGN + MALIGNANT - label, label)

    def _shown_class(self, told: Float[Tensor, "b k"]) -> Tensor | None:
        """The class of each sample [b, 1, 1, 1, 1], for critics that are told."""
        return told[:, :1, None, None, None] if self.config.critics_told else None

    def _noise(self, kind: str, step: int, like: Tensor) -> Tensor:
        """Uniform noise within -1 to 1 for each voxel of a batch (section 2.1)."""
        return 2 * self.drawn(kind, step, len(like) * self.share.world, *like.shape[1:], uniform=True) - 1

    def _rates(self) -> dict[str, float]:
        return {"in_painter": self.config.learning_rate, "critic": self.config.critic_learning_rate}

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
        network = cast(InPaintingNet, self.averages.get("in_painter", self._in_painter))
        inputs = [each.to(self.device) for each in (patch, region, noise, told)]
        with self.autocast(precision):
            made = _single(network(*inputs, None if outline is None else outline.to(self.device)))
        whole = pasted(made.refined, inputs[0], inputs[1])[0, 0].cpu()
        mask = None if made.mask is None else (made.mask[0, 0] > 0).cpu().numpy() & (region[0, 0].numpy() > 0)
        return whole, mask

    def preview(self) -> Figure | None:
        """Middle slices of training patches: real, as benign with two seeds, and as malignant with the same seeds."""
        if self.shown is None:
            return None
        from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices

        batch = self.shown
        ct, region, told = (batch[name][:PREVIEWED] for name in ("ct", "region", "told"))
        outline = batch["outline"][:PREVIEWED].split(1) if self.config.outlines else [None] * len(ct)
        z, y, x = (n // 2 for n in ct.shape[2:])
        none = np.zeros(ct.shape[2:], bool)
        rows = [[(row[0], "real", REAL) for row in ct]]
        random = torch.Generator().manual_seed(derive(self.seed, "preview"))
        noises = [2 * torch.rand(ct.shape, generator=random) - 1 for _ in range(2)]
        for value, name in ((-1.0, "benign"), (1.0, "malignant")):
            for noise in noises:
                own = torch.cat([torch.full_like(told[:, :1], value), told[:, 1:]], 1)
                parts = zip(*(each.split(1) for each in (ct, region, own, noise)), outline, strict=True)
                rows.append([(self.filled(*part)[0], name, SYNTHETIC) for part in parts])
        panels = [
            Slice(self.config.patch.to_hu(cube.numpy())[z], none[z], name, (y, x), colour)
            for row in rows
            for cube, name, colour in row
        ]
        return ct_slices(panels, half=max(y, x), columns=len(ct))

    @property
    def _in_painter(self) -> InPaintingNet:
        return cast(InPaintingNet, self.networks["in_painter"])

    @property
    def _critic(self) -> InPaintingCritic:
        return cast(InPaintingCritic, self.networks["critic"])


System = ClassAware


def _each(made: InPainted, change: Callable[[Tensor], Tensor]) -> InPainted:
    """What was made, each part of it changed."""
    return InPainted(change(made.coarse), change(made.refined), None if made.mask is None else change(made.mask))


def _single(made: InPainted) -> InPainted:
    """The same in single precision."""
    return _each(made, Tensor.float)


def _mask_loss(logits: Tensor, mask: Tensor, known: Tensor, region: Tensor) -> Tensor:
    """Binary cross-entropy in the region, of the samples whose mask is known."""
    each = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    counted = known.float()[:, None, None, None, None] * region
    return (each * counted).sum() / counted.sum().clamp_min(1)
