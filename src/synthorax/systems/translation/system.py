"""Pix2Pix and CycleGAN between label maps and CT: their training step (Hagvall Hörnstedt, sections 4.3.4 and 4.3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from synthorax.errors import InputError
from synthorax.nn.modes import evaluating, frozen
from synthorax.seeding import derive, generator
from synthorax.systems.translation.coding import coded, correlated
from synthorax.systems.translation.config import LABEL_CLASSES, TranslationConfig
from synthorax.systems.translation.networks import (
    End,
    LocalCritic,
    LocalPainter,
    ThesisCritic,
    ThesisResNet,
    ThesisUNet,
)
from synthorax.systems.translation.pool import exchanged
from synthorax.systems.translation.templates import Templates
from synthorax.training.losses import (
    l1_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
)
from synthorax.training.system import System as TrainedSystem
from synthorax.training.trainable import Limit, Share, parts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.makers import Lineage
    from synthorax.systems.translation.maker import TranslationPainter

PAINTER, READER, CT_CRITIC, LABEL_CRITIC = "painter", "reader", "ct_critic", "label_critic"
"""Names of the networks: label map to CT, CT to label map, and the critics of CT and of label maps. Pix2Pix has only
the painter and the critic of CT."""
CT_POOL, LABEL_POOL = "ct_pool", "label_pool"
"""Names in `memory` of the pools of painted CT and of label maps read from CT, of earlier steps."""
LEAST_SPREAD, SPREAD_WARM_UP = 0.05, 0.05
"""Standard deviation of painted windows, as a share of that of real ones, below which the painter counts as collapsed;
and the share of the steps after which the guard begins."""
SHOWN_SEEDS = 2
"""Number of draws of noise in a preview."""


class Translation(TrainedSystem):
    """A painter from label maps to CT, for CycleGAN also a reader from CT to label maps, and their critics.

    Attributes:
        facts: `classes` [7], the share of each tissue class in the training label maps; `templates` and `template_mm`,
            shapes of training nodules (see `templates.py`).
        shown: windows for the preview, as one batch of the training data; None shows no preview.
    """

    name = "translation"
    config: TranslationConfig

    def __init__(
        self,
        config: TranslationConfig,
        seed: int = 0,
        classes: Tensor | None = None,
        templates: Templates | None = None,
    ) -> None:
        """Make a model with newly initialised networks.

        Args:
            config: settings.
            seed: seed of all random draws.
            classes: share of each tissue class in the training label maps; unknown if None.
            templates: shapes of training nodules; none if None.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "translation weights"))
            networks = _networks(config)
        classes = torch.full((LABEL_CLASSES,), float("nan")) if classes is None else classes
        facts = {"classes": classes, **(templates or Templates.none()).tensors()}
        super().__init__(config, networks, seed=seed, decays={PAINTER: config.ema_decay}, facts=facts)
        meaning = "the painter gives nearly the same value to every voxel (collapse)"
        warm_up = round(SPREAD_WARM_UP * config.steps)
        remedy = "start again with another seed, or with more windows in a batch"
        self.limits = {"spread": Limit(meaning, low=LEAST_SPREAD, warm_up=warm_up, remedy=remedy)}
        self.shown: Mapping[str, Tensor] | None = None

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Translation:
        model = cls(TranslationConfig.model_validate(dict(config)))
        model.load_weights(weights)
        if model.facts["classes"].shape != (LABEL_CLASSES,):
            raise ValueError("shares of other classes than those of label maps")
        model.templates.check()
        return model

    @property
    def templates(self) -> Templates:
        """The shapes of training nodules."""
        return Templates.of_tensors(self.facts)

    def maker(self, lineage: Lineage) -> TranslationPainter:
        from synthorax.systems.translation.maker import TranslationPainter

        return TranslationPainter(self, lineage)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            name: torch.optim.Adam(
                [weight for network in own for weight in self.networks[network].parameters()],
                lr=self.config.learning_rate,
                betas=self.config.betas,
                fused=True,
            )
            for name, own in self._sides().items()
        }

    def check(self, world: int) -> None:
        own = Share(0, world).rows(self.config.batch_size)
        if (own.stop - own.start) % self.config.parts:
            found = f"{self.config.parts} parts of {own.stop - own.start} windows a process"
            raise InputError("parts", found, "a divisor of a process's windows")

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Update painter and reader, then the critics with the windows that those two gave.

        Args:
            batch: `tissue`, `TissueClass` of each voxel, uint8 [b, d, y, x], and `ct` [b, 1, d, y, x] within -1 to 1;
                d is the depth of the windows, or the number of slices that are the input for one slice. For Pix2Pix
                both show the same place.
            step: step of the training.
        """
        config = self.config
        for name in self.optimizers:
            self.set_rate(name, config.rate(step) * config.learning_rate)
        rows = {"tissue": batch["tissue"], "ct": batch["ct"], **self._noise(batch["tissue"], step)}
        cyclic = config.model == "cyclegan"
        with frozen(*(self.networks[name] for name in self._sides()["critics"])):
            made: list[dict[str, Tensor]] = []
            figures: dict[str, Tensor] = {}
            for part in parts(rows, config.parts):
                losses, painted = self._cycle(part) if cyclic else self._paired(part)
                (torch.stack(list(losses.values())).sum() / config.parts).backward()
                made.append({name: tensor.detach() for name, tensor in painted.items()})
                for name, loss in losses.items():
                    figures[name] = figures.get(name, 0) + loss.detach() / config.parts
            self.update("painters")
        painted = {name: torch.cat([one[name] for one in made]) for name in made[0]}
        figures["spread"] = painted["fake_ct"].std() / painted["real_ct"].std().clamp_min(1e-3)
        if cyclic and config.pool:
            random = generator(self.seed, "pool", step)
            for name, pool in (("fake_ct", CT_POOL), ("fake_labels", LABEL_POOL)):
                seen = exchanged(self.memory, pool, self.rows_of_all(painted[name]), config.pool, random)
                painted[name] = self.share.of(seen)
        figures |= self._critics_update(painted)
        return {name: value.detach() for name, value in figures.items()}

    def _cycle(self, part: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return CycleGAN's weighted losses of painter and reader, and the windows for the critics, both by name."""
        config = self.config
        labels, ct = coded(part["tissue"], config, part.get("mask_noise")), part["ct"]
        fake_ct = self.painted(self._of(PAINTER), labels, part.get("noise"))
        fake_labels = self._read(ct)
        back_labels = self._reader(fake_ct)
        back_ct = self.painted(self._of(PAINTER), fake_labels, part.get("other_noise"))
        real_ct, real_labels = self._middle(ct), self._middle(labels)
        seen_labels = self._middle(fake_labels)
        losses = {
            "adversarial_ct": config.adversarial * least_squares_generator_loss(self._judged(CT_CRITIC, fake_ct)),
            "adversarial_labels": config.adversarial
            * least_squares_generator_loss(self._judged(LABEL_CRITIC, seen_labels)),
            "cycle_labels": config.cycle * l1_loss(back_labels, real_labels),
            "cycle_ct": config.cycle * l1_loss(back_ct, real_ct),
        }
        seen = {"real_ct": real_ct, "fake_ct": fake_ct, "real_labels": real_labels, "fake_labels": seen_labels}
        return losses, seen

    def _paired(self, part: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return Pix2Pix's weighted losses of the painter, and the windows for the critic, both by name."""
        config = self.config
        labels, ct = coded(part["tissue"], config, part.get("mask_noise")), self._middle(part["ct"])
        fake = self.painted(self._of(PAINTER), labels, part.get("noise"))
        shown = labels.flatten(1, 2) if config.by_slices else labels
        judged = self._judged(CT_CRITIC, torch.cat([shown, fake], 1))
        losses = {
            "adversarial_ct": config.adversarial * least_squares_generator_loss(judged),
            "reconstruction": config.reconstruction * l1_loss(self._means(fake), self._means(ct)),
        }
        return losses, {"real_ct": ct, "fake_ct": fake, "shown": shown}

    def _critics_update(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Update the critics, in as many parts as the painters, and return their losses by name."""
        figures: dict[str, Tensor] = {}
        for part in parts(seen, self.config.parts):
            pairs = {CT_CRITIC: (part["real_ct"], part["fake_ct"])}
            if self.config.model == "pix2pix":
                pairs = {name: tuple(torch.cat([part["shown"], ct], 1) for ct in pair) for name, pair in pairs.items()}  # type: ignore[misc]
            else:
                pairs[LABEL_CRITIC] = part["real_labels"], part["fake_labels"]
            for name, (real, fake) in pairs.items():
                loss = least_squares_discriminator_loss(self._judged(name, real), self._judged(name, fake))
                (loss / self.config.parts).backward()
                figures[name] = figures.get(name, 0) + loss.detach() / self.config.parts
        self.update("critics")
        return figures

    def painted(
        self, network: nn.Module, labels: Float[Tensor, "b c d y x"], noise: Float[Tensor, "b n d y x"] | None
    ) -> Tensor:
        """Return the CT that a painter gives for encoded label maps, [b, 1, y, x] or [b, 1, z, y, x].

        Args:
            network: the painter or its moving average.
            labels: encoded label maps.
            noise: white noise, which `noise_correlation` smooths; None if not configured.
        """
        shown = labels
        if noise is not None:
            shown = torch.cat([labels, correlated(noise, self.config.noise_correlation)], 1)
        with self.autocast():
            made: Tensor = network(shown.flatten(1, 2) if self.config.by_slices else shown)
        return made.float()

    def _read(self, ct: Float[Tensor, "b 1 d y x"]) -> Float[Tensor, "b c d y x"]:
        """Return the encoded label maps that the reader gives for CT, slice by slice if it works on slices."""
        if not self.config.by_slices:
            return self._reader(ct)
        slices = ct.movedim(2, 1).flatten(0, 1)
        return self._reader(slices).unflatten(0, ct.shape[:1] + ct.shape[2:3]).movedim(1, 2)

    def _reader(self, ct: Tensor) -> Tensor:
        with self.autocast():
            return cast(Tensor, self._of(READER)(ct)).float()

    def _judged(self, critic: str, windows: Tensor) -> Tensor:
        with self.autocast():
            return cast(Tensor, self._of(critic)(windows)).float()

    def _middle(self, windows: Float[Tensor, "b c d y x"]) -> Tensor:
        """Return the slice that is painted, [b, c, y, x], or the whole window if the networks work on volumes."""
        return windows[:, :, self.config.slices // 2] if self.config.by_slices else windows

    def _means(self, ct: Tensor) -> Tensor:
        """Return means over `pooled` voxels along each axis, between which the reconstruction loss is taken."""
        if self.config.pooled == 1:
            return ct
        pool = functional.avg_pool2d if self.config.by_slices else functional.avg_pool3d
        return pool(ct, self.config.pooled, stride=1)

    def _noise(self, tissue: UInt8[Tensor, "b d y x"], step: int) -> dict[str, Tensor]:
        """Return the random numbers of a step by name."""
        config, shape = self.config, (len(tissue) * self.share.world, *tissue.shape[1:])
        found = {}
        if config.noise:
            twice = ("other_noise",) if config.model == "cyclegan" else ()
            for name in ("noise", *twice):
                found[name] = self.drawn(name, step, shape[0], config.noise, *shape[1:])
        if config.inputs == "mask-noise":
            found["mask_noise"] = self.drawn("mask noise", step, *shape, uniform=True)
        return found

    def _sides(self) -> dict[str, list[str]]:
        """Return the names of the networks of each optimiser."""
        painters = [name for name in (PAINTER, READER) if name in self.networks]
        return {"painters": painters, "critics": [name for name in self.networks if name not in painters]}

    def _of(self, name: str) -> nn.Module:
        return self.networks[name]

    @property
    def best_painter(self) -> nn.Module:
        """The moving average of the painter, or the painter if there is none."""
        return self.averages.get(PAINTER, self.networks[PAINTER])

    def preview(self) -> Figure | None:
        """Return a picture of label maps, real CT, and the painter's CT for the maps with two draws of noise."""
        if self.shown is None:
            return None
        from synthorax.figures import tissue_slices

        config, painter = self.config, self.best_painter
        maps, ct = self.shown["tissue"], self.shown["ct"]
        middle = maps.shape[1] // 2
        rows = {"real": [config.patch.to_hu(one[0, middle]).numpy() for one in ct]}
        with torch.no_grad(), evaluating(painter):
            for seed in range(SHOWN_SEEDS if config.noise else 1):
                random = torch.Generator().manual_seed(seed)
                made = []
                for one in maps.split(1):
                    noise = torch.randn((1, config.noise, *one.shape[1:]), generator=random) if config.noise else None
                    mask = torch.rand(one.shape, generator=random)
                    labels = coded(one, config, mask).to(self.device)
                    ct_made = self.painted(painter, labels, None if noise is None else noise.to(self.device))[0, 0]
                    made.append(config.patch.to_hu(ct_made if config.by_slices else ct_made[middle]).cpu().numpy())
                rows[f"painted, seed {seed}"] = made
        shown = [one[middle].numpy() for one in maps]
        return tissue_slices(shown, rows, captions=[f"window {i}" for i in range(len(shown))])


def _networks(config: TranslationConfig) -> dict[str, nn.Module]:
    """Return new networks of a configuration by name."""
    axes = 2 if config.by_slices else 3
    seen = config.channels * (config.slices if config.by_slices else 1)
    cyclic = config.model == "cyclegan"
    label_end: End = "classes" if config.channels > 1 else "tanh"
    networks: dict[str, nn.Module] = {PAINTER: _painter(config, axes, seen + _noise_channels(config), 1, "tanh")}
    judged = 1 if cyclic else seen + 1
    if cyclic:
        networks[READER] = _painter(config, axes, 1, config.channels, label_end)
    networks[CT_CRITIC] = _critic(config, axes, judged, config.critic_contrast)
    if cyclic:
        networks[LABEL_CRITIC] = _critic(config, axes, config.channels)
    return networks


def _noise_channels(config: TranslationConfig) -> int:
    return config.noise * (config.slices if config.by_slices else 1)


def _painter(config: TranslationConfig, axes: int, channels: int, outputs: int, end: End) -> nn.Module:
    if not config.as_published:
        end = "linear" if end == "tanh" else end
        return LocalPainter(
            axes, channels, outputs, width=config.width, blocks=config.blocks, end=end, fold=config.fold
        )
    if config.model == "pix2pix":
        width = 2 * config.width  # 64, where CycleGAN's has 32
        return ThesisUNet(
            axes, channels, outputs, width=width, levels=config.levels, end=end, checkpoints=config.checkpoints
        )
    return ThesisResNet(
        axes,
        channels,
        outputs,
        width=config.width,
        blocks=config.blocks,
        end=end,
        checkpoints=config.checkpoints,
    )


def _critic(config: TranslationConfig, axes: int, channels: int, contrast: float = 1.0) -> nn.Module:
    if not config.as_published:
        return LocalCritic(axes, channels, width=config.critic_width, contrast=contrast)
    norm = "instance" if config.model == "cyclegan" else "batch"
    return ThesisCritic(axes, channels, width=config.critic_width, norm=norm)  # type: ignore[arg-type]


System = Translation
