"""The class-aware in-painter: its training step (Yang et al., section 2.2) and its filling of patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.nn.critics import InPaintingCritic
from synthorax.nn.inpainter import InPainted, InPaintingNet
from synthorax.nn.local_crop import LocalCrop
from synthorax.nn.modes import frozen
from synthorax.nodule import MALIGNANT_FROM, NoduleAttributes
from synthorax.seeding import derive
from synthorax.systems.class_aware.conditions import conditions_of
from synthorax.systems.class_aware.config import ClassAwareConfig, spread_rows
from synthorax.training.in_painter import CRITIC, IN_PAINTER, ConditionedInPainter, FilledBatch, mask_loss
from synthorax.training.inpainting import (
    adversarial_loss,
    critics_loss,
    critics_penalty,
    domain_loss,
    reconstruction_loss,
    shown_to_critics,
)
from synthorax.training.trainable import FACTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.training.diversity import SeedDiversity

BENIGN, MALIGNANT = 1, 2
"""Classes of real patches (section 2.2)."""
MADE_CLASS = 0
"""Class of generated patches."""
CLASSES_STAGE = "classes"
"""Name of the later stage of training, in which the classifiers are trained and classes are flipped."""
FILL_STAGE = "fill"
"""Name of the first stage of training, in which patches are filled as their own class."""


class ClassAware(ConditionedInPainter):
    """The in-painter and its critics.

    Attributes:
        seed_diversity: measures the difference between fills with two draws of noise, for the log; None for a network
            with outlines, which already vary.

    Args:
        config: configuration of the networks and their training.
        seed: seed of weights and noise.
        attributes: see `ConditionedInPainter`.
    """

    name = "class-aware"
    heeds = frozenset({"malignancy"})
    config: ClassAwareConfig

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
        super().__init__(config, in_painter, critic, seed, attributes)
        self.seed_diversity: SeedDiversity | None = None

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ClassAware:
        model = cls(ClassAwareConfig.model_validate(dict(config)), attributes=weights[FACTS + "attributes"])
        model.load_weights(weights)
        return model

    def check(self, world: int) -> None:
        super().check(world)
        for what, count in (("flipped", self.config.flipped_rows), ("penalised", self.config.penalty_rows)):
            if count % world:
                found = f"{self.config.batch_size}, {count} rows of which are {what}"
                raise InputError("batch size", found, f"a size whose {what} rows {world} processes can share evenly")

    def training_step(self, batch: Sequence[Mapping[str, Tensor]], step: int) -> dict[str, Tensor]:
        """Do `n_critic` updates of the critics, each on its own batch, and one update of the in-painter on the last.

        Args:
            batch: for each critic update `ct` [b, 1, z, y, x] within -1 to 1, `region` [b, 1, z, y, x], `label` [b]
                (`BENIGN` or `MALIGNANT`), `condition` [b, k] with the nodule's own class first, `outline`
                [b, 1, z, y, x] for a network with outlines, `mask` [b, 1, z, y, x], and `mask_known` [b].
            step: number of the step.
        """
        self.set_rates(self.begun + step)
        figures: dict[str, Tensor] = {}
        for turn, real in enumerate(batch):
            figures |= self._critic_update(real, f"{self.stage} critic {turn}", step)
        return figures | self._in_painter_update(batch[-1], step)

    def _critic_update(self, real: Mapping[str, Tensor], kind: str, step: int) -> dict[str, Tensor]:
        """An update of both critics by equation 2, and by equation 3 in the later stage."""
        config, critic = self.config, self._critic
        ct, region, label = real["ct"], real["region"], real["label"]
        condition, _ = self._with_flips(real["condition"], label)
        noise = self.uniform_noise(kind, step, ct)
        with torch.no_grad(), self.autocast():
            made = self._in_painter(ct, region, noise, condition, real.get("outline"))
        fake = shown_to_critics(_single(made), ct, region, as_printed=config.as_printed)
        crop, asked, own = LocalCrop.around(region), self._shown_class(condition), self._shown_class(real["condition"])
        rows = self._rows(config.penalty_rows)
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
        self.update(CRITIC)
        return figures

    def _in_painter_update(self, real: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """An update of the in-painter by the sum of equations 1, 2 and 4; equation 1 does not count flipped rows."""
        config = self.config
        ct, region = real["ct"], real["region"]
        condition, wanted = self._with_flips(real["condition"], real["label"])
        noise = self.uniform_noise(f"{self.stage} in-painter", step, ct)
        own = (wanted == real["label"]).nonzero()[:, 0]
        with frozen(self._critic):
            with self.autocast():
                made = _single(self._in_painter(ct, region, noise, condition, real.get("outline")))
            fake = shown_to_critics(made, ct, region, as_printed=config.as_printed)
            with self.autocast():
                judged = self._critic(fake, LocalCrop.around(region), self._shown_class(condition))
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
                figures["mask"] = mask_loss(
                    made.mask[own], real["mask"][own], real["mask_known"][own].float(), region[own]
                )
                loss = loss + config.mask_weight * figures["mask"]
            loss.backward()
        if self.seed_diversity is not None:
            other = self.uniform_noise(f"{self.stage} other seed", step, ct)
            with torch.no_grad(), self.autocast():
                again = _single(self._in_painter(ct, region, other, condition, real.get("outline")))
            figures["diversity"] = self.mean_of_all(self.seed_diversity(made.refined, again.refined, region))
        self.update(IN_PAINTER)
        return {name: value.detach() for name, value in figures.items()}

    def _with_flips(
        self, condition: Float[Tensor, "b k"], label: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b k"], Int[Tensor, " b"]]:
        """Return conditions with the classes to generate, and these classes; the later stage flips some rows."""
        flips = torch.ones_like(condition)
        if self.stage == CLASSES_STAGE:
            flips[self._rows(self.config.flipped_rows), 0] = -1
        return condition * flips, torch.where(flips[:, 0] < 0, BENIGN + MALIGNANT - label, label)

    def _rows(self, count: int) -> Bool[Tensor, " b"]:
        """Return whether each row of this process is among the `count` chosen rows of the batch (`spread_rows`)."""
        size = self.config.batch_size
        return torch.from_numpy(spread_rows(count, size)[self.share.rows(size)]).to(self.device)

    def _shown_class(self, condition: Float[Tensor, "b k"]) -> Tensor | None:
        """Return the class of each sample, [b, 1, 1, 1, 1], for critics that depend on it; otherwise None."""
        return condition[:, :1, None, None, None] if self.config.critics_told else None

    def condition(self, wanted: NoduleAttributes, attributes: Float[Tensor, "1 a"]) -> Float[Tensor, "1 k"]:
        malignant = 1.0 if (wanted.malignancy or 0) >= MALIGNANT_FROM else -1.0
        return conditions_of(torch.tensor([malignant]), attributes)

    def make(
        self,
        network: nn.Module,
        patches: Float[Tensor, "b 1 z y x"],
        region: Float[Tensor, "b 1 z y x"],
        noise: Float[Tensor, "b 1 z y x"],
        condition: Float[Tensor, "b k"],
        outline: Float[Tensor, "b 1 z y x"] | None,
    ) -> FilledBatch:
        made = _single(network(patches, region, noise, condition, outline))
        return FilledBatch(made.refined, made.mask)

    def preview(self) -> Figure | None:
        """Draw middle slices of training patches: real, filled as benign with two seeds, and as malignant with both."""
        if self.shown is None:
            return None
        condition, outline = self.shown["condition"], self.shown.get("outline")
        variants = []
        for value, name in ((-1.0, "benign"), (1.0, "malignant")):
            variants.append((name, torch.cat([torch.full_like(condition[:, :1], value), condition[:, 1:]], 1), outline))
        return self.previewed(variants)

    @property
    def _in_painter(self) -> InPaintingNet:
        return cast(InPaintingNet, self.networks[IN_PAINTER])

    @property
    def _critic(self) -> InPaintingCritic:
        return cast(InPaintingCritic, self.networks[CRITIC])


System = ClassAware


def _each(made: InPainted, change: Callable[[Tensor], Tensor]) -> InPainted:
    """Return the output with a function applied to each part."""
    return InPainted(change(made.coarse), change(made.refined), None if made.mask is None else change(made.mask))


def _single(made: InPainted) -> InPainted:
    """Return the output in float32."""
    return _each(made, Tensor.float)
