"""The AC-WGAN-GP: its training step (sections 3.3 and 4.1.1), its samples, and their selection (section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.nn.conditions import completed, decoded, encoded
from synthorax.nodule import FACE_MARGIN_MM, NoduleAttributes
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.seeding import derive, generator
from synthorax.systems.ac_wgan.config import AcWganConfig
from synthorax.systems.ac_wgan.networks import Critic, Critique, CubeGenerator
from synthorax.tasks import made_masks
from synthorax.training.config import Precision
from synthorax.training.losses import (
    attribute_loss,
    class_loss,
    gradient_penalty,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from synthorax.training.replay import Replayed
from synthorax.training.system import System as TrainedSystem
from synthorax.training.trainable import FACTS, Limit, parts

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from matplotlib.figure import Figure

    from synthorax.makers import Lineage
    from synthorax.systems.ac_wgan.maker import AcWganMaker

CUBE_BATCH = 16
"""Cubes made at once; the last batch is padded, so a sample does not depend on its company."""
LEAST_CONFIDENCE = 0.9
LEAST_QUANTILE = 0.25
"""A sample is kept if its class is so probable, and its score at least that quantile of real positives' scores."""
CUBES_AT_ONCE = 64
"""Cubes in memory at once, a multiple of `CUBE_BATCH`."""
PREVIEW_MM = (5.0, 8.0, 12.0, 18.0)
SEGMENTER_STAGE = "segmenter"
"""Name of the stage of training in which the segmenter learns."""
OLD_FACTS = "real."
"""How the names of facts began in older files of weights."""


CUBE_ARRAYS = ("hu", "labels", "told", "judged", "scores", "confidence", "index", "attempt")
"""Fields of `GeneratedCubes` with one row a cube."""


@dataclass(frozen=True, eq=False)
class GeneratedCubes:
    """Cubes of CT out of the generator.

    Attributes:
        hu: int16 [n, z, y, x].
        labels: int64 [n], the class asked for; 1 has a nodule in the middle.
        asked: the nodules' attributes as they were asked for.
        told: float32 [n, a], what the generator was told, in the attributes' own units; nan where nothing.
        judged: float32 [n, a], what the critic's heads make of them, in the attributes' own units.
        scores: float32 [n], the critic's.
        confidence: float32 [n], probability of the class asked for.
        index: int64 [n], of the sample in its seed.
        attempt: int64 [n], how often it was made anew before it was selected.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.int64]
    asked: tuple[NoduleAttributes, ...]
    told: NDArray[np.float32]
    judged: NDArray[np.float32]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32]
    index: NDArray[np.int64]
    attempt: NDArray[np.int64]

    def rows(self, rows: NDArray) -> GeneratedCubes:
        """Some of them."""
        asked = tuple(self.asked[i] for i in np.arange(len(self.hu))[rows])
        arrays = {name: value[rows] for name, value in vars(self).items() if name in CUBE_ARRAYS}
        return GeneratedCubes(asked=asked, **arrays)

    @staticmethod
    def joined(groups: Sequence[GeneratedCubes]) -> GeneratedCubes:
        """Several groups as one."""
        arrays = {name: np.concatenate([vars(group)[name] for group in groups]) for name in CUBE_ARRAYS}
        return GeneratedCubes(asked=tuple(a for group in groups for a in group.asked), **arrays)


class AcWgan(TrainedSystem):
    """Generator and critic with their training and everything they can make.

    Attributes:
        facts: `attributes` [k, a] of the training nodules, as `nn.conditions.encoded` scales them, nan where not known;
            `least_score`, a quantile of their scores by the critic, which a selected sample reaches, nan until
            training ends.
        real_positives: batches of the training set's positives, for the selection; only where it is trained.
    """

    name = "ac-wgan"
    config: AcWganConfig
    memory_format = torch.channels_last_3d
    limits = {  # noqa: RUF012  (a constant mapping)
        "diversity": Limit("the generator makes nearly the same cube whatever its noise (collapse)", low=0.02),
        "penalty": Limit("the critic's gradient is far from 1", high=100.0),
    }

    def __init__(
        self, config: AcWganConfig, seed: int = 0, *, real_attributes: Float[Tensor, "k a"] | None = None
    ) -> None:
        """A fresh model.

        Args:
            real_attributes: of the nodules that it will learn from, by which samples are told what is not asked for.
        """
        if real_attributes is None:
            real_attributes = torch.zeros(0, len(config.attributes))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "ac-wgan weights"))
            networks: dict[str, nn.Module] = {"generator": CubeGenerator(config), "critic": Critic(config)}
            if config.segmenter_steps:
                torch.manual_seed(derive(seed, "segmenter weights"))
                networks["segmenter"] = made_masks.new_segmenter()
        facts = {"attributes": real_attributes, "least_score": torch.tensor(float("nan"))}
        super().__init__(config, networks, seed=seed, decays={"generator": config.ema_decay}, facts=facts)
        self.real_positives: Callable[[], Iterator[Tensor]] | None = None

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> AcWgan:
        system = cls(AcWganConfig.model_validate(config))
        system.load_weights(weights)
        if system.facts["attributes"].shape[1:] != (len(system.config.attributes),):
            raise ValueError("attributes of real nodules that the model is not told of")
        return system

    def maker(self, lineage: Lineage) -> AcWganMaker:
        from synthorax.systems.ac_wgan.maker import AcWganMaker

        return AcWganMaker(self, lineage)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        facts = {key.replace(OLD_FACTS, FACTS, 1): t for key, t in weights.items() if key.startswith(OLD_FACTS)}
        super().load_weights({**weights, **facts})

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take what another model's networks have learned; a segmenter that it does not have starts afresh."""
        own = {key: tensor for key, tensor in self.weights().items() if key.startswith("segmenter.")}
        super().start_from({**own, **weights})

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        rates = {"generator": self.config.generator_learning_rate, "critic": self.config.critic_learning_rate}
        optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(self.networks[name].parameters(), lr=rate, betas=self.config.betas, fused=True)
            for name, rate in rates.items()
        }
        if self.segmenter is not None:
            optimizers["segmenter"] = made_masks.new_optimizer(self.segmenter)
        return optimizers

    def check(self, world: int) -> None:
        n, each = self.config.batch_size, world * self.config.accumulate
        if n % each or n < 2:
            parts_of = f"{world} processes in {self.config.accumulate} parts"
            raise InputError("batch size", str(n), f"2 or more, and a multiple of {each}, for {parts_of}")
        if self.segmenter is not None and made_masks.WINDOW_BATCH % world:
            shared = f"a number that the segmenter's batch of {made_masks.WINDOW_BATCH} windows can be shared by"
            raise InputError("processes", str(world), f"{shared}; or segmenter_steps=0, which makes no masks")

    def prepare_training(self, fabric: Fabric) -> None:
        super().prepare_training(fabric)
        graphs = self.config.cuda_graphs
        self._of_critic = Replayed(self._critic_gradients, self._critic.parameters(), enabled=graphs)
        self._of_generator = Replayed(self._generator_gradients, self._generator.parameters(), enabled=graphs)

    def training_step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """An update of the segmenter in its stage, else one of the GAN.

        Args:
            batch: of the segmenter what `made_masks.WindowBatches` gives; of the GAN a list, see `_gan_step`.
        """
        return self._segmenter_step(batch, step) if self.stage == SEGMENTER_STAGE else self._gan_step(batch, step)

    def _segmenter_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        assert self.segmenter is not None
        for group in self.optimizers["segmenter"].param_groups:
            group["lr"] = made_masks.segmenter_rate(step, self.config.segmenter_steps)
        with self.autocast():
            logits = self.segmenter(batch["ct"])
        loss = made_masks.segmenter_loss(logits.float(), batch["mask"])
        loss.backward()
        self.update("segmenter")
        return {"segmenter_loss": loss.detach()}

    def _gan_step(self, batch: Sequence[Mapping[str, Tensor]], step: int) -> dict[str, Tensor]:
        """`n_critic` updates of the critic, each by its own batch, and one of the generator (figure 3.2).

        Args:
            batch: for each critic update ct [b, 1, z, y, x] within -1 to 1, label [b], attributes [b, a].
        """
        self._set_rates(step)
        alpha = torch.full((len(batch[0]["label"]),), self.config.alpha(step), device=self.device)
        figures: dict[str, Tensor] = {}
        fakes: list[Tensor] = []
        for turn, real in enumerate(batch):
            n = len(real["ct"]) * self.share.world
            drawn = {
                "noise": self.drawn(f"critic {turn}", step, n, self.config.drawn),
                "epsilon": self.drawn(f"penalty {turn}", step, n, uniform=True),
            }
            figures = self._of_critic({**real, **drawn, "alpha": alpha})
            self.update("critic")
            fakes.append(figures.pop("fake"))
        told = {name: batch[0][name] for name in ("label", "attributes")}
        noise = self.drawn("generator", step, len(told["label"]) * self.share.world, self.config.drawn)
        found = self._of_generator({**told, "noise": noise, "alpha": alpha})
        self.update("generator")
        diversity = self._diversity(batch[0]["ct"], fakes[0], found.pop("fake"))
        return {**figures, "diversity": diversity, **found}

    def _set_rates(self, step: int) -> None:
        """Set the learning rates of a step of the GAN."""
        rates = {"generator": self.config.generator_learning_rate, "critic": self.config.critic_learning_rate}
        for name, rate in rates.items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = rate * self.config.rate(step)

    def _critic_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Equations of section 3.3.1; the penalty goes backwards by itself, which halves the memory.

        Args:
            batch: what an update learns from, with noise [b, n], epsilon [b], and alpha [b], the same for all.

        Returns:
            Figures, and the fakes [b, 1, z, y, x].
        """
        n_parts = self.config.accumulate
        sums: dict[str, Tensor] = {}
        fakes = []
        for part in parts(batch, n_parts):
            real, label, attributes, alpha = part["ct"], part["label"], part["attributes"], part["alpha"][0]
            with torch.no_grad(), self.autocast():
                fake = self._generator(part["noise"], label, attributes).float()
            rows = slice(math.ceil(self.config.penalty_share * len(real)))
            with self.autocast():
                penalty = gradient_penalty(self._score, real[rows], fake[rows], part["epsilon"][rows])
            (self.config.penalty * penalty / n_parts).backward()
            with self.autocast():
                of_real, of_fake = self._critic(real), self._critic(fake)
            wasserstein = wasserstein_critic_loss(of_real.score.float(), of_fake.score.float())
            auxiliary = {
                "class_real": class_loss(of_real.classes.float(), label),
                "class_fake": class_loss(of_fake.classes.float(), label),
                "attributes_real": attribute_loss(of_real.attributes.float(), attributes),
                "attributes_fake": attribute_loss(of_fake.attributes.float(), attributes),
            }
            learned = [loss for name, loss in auxiliary.items() if self.config.judges_fakes or name.endswith("real")]
            ((wasserstein + self.config.critic_alpha * alpha * sum(learned)) / n_parts).backward()
            fakes.append(fake)
            found = {"wasserstein": -wasserstein, "penalty": penalty, **auxiliary}
            sums = {name: sums.get(name, 0) + value.detach() / n_parts for name, value in found.items()}
        return {**sums, "fake": torch.cat(fakes)}

    def _generator_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Equations of section 3.3.2.

        Args:
            batch: label [b], attributes [b, a], noise [b, n], and alpha [b], the same for all.

        Returns:
            Figures, and the fakes [b, 1, z, y, x].
        """
        n_parts = self.config.accumulate
        sums: dict[str, Tensor] = {}
        fakes = []
        with _frozen(self._critic):
            for part in parts(batch, n_parts):
                with self.autocast():
                    fake = self._generator(part["noise"], part["label"], part["attributes"])
                    judged = self._critic(fake)
                loss = wasserstein_generator_loss(judged.score.float())
                of_class = class_loss(judged.classes.float(), part["label"])
                of_attributes = attribute_loss(judged.attributes.float(), part["attributes"])
                ((loss + part["alpha"][0] * (of_class + of_attributes)) / n_parts).backward()
                fakes.append(fake.detach().float())
                found = {"generator": loss, "class_generator": of_class, "attributes_generator": of_attributes}
                sums = {name: sums.get(name, 0) + value.detach() / n_parts for name, value in found.items()}
        return {**sums, "fake": torch.cat(fakes)}

    def _diversity(self, real: Tensor, fake: Tensor, other: Tensor) -> Tensor:
        """How far two fakes of one condition are apart, of the distance of two real cubes; 0 if noise says nothing.

        Across conditions fakes differ even if the generator heeds its condition alone.

        Args:
            real, fake, other: [b, 1, z, y, x] of the same generator; `fake` and `other` of the same conditions.
        """
        apart = self.mean_of_all((fake - other).square().mean(0) / 2)
        spread = self.mean_of_all((real - self.mean_of_all(real.mean(0))).square().mean(0))
        return apart.sqrt().mean() / spread.sqrt().mean()

    @torch.no_grad()
    def conclude(self) -> None:
        """Set what a selected sample has to reach, by the training set's positives."""
        if self.real_positives is None:
            return
        scores = torch.cat([self.judge(cubes).score for cubes in self.real_positives()])
        self.facts["least_score"] = torch.quantile(scores, LEAST_QUANTILE)

    def preview(self) -> Figure:
        """Middle slices of fixed noise, a row a diameter."""
        from synthorax.figures import SYNTHETIC, Slice, ct_slices

        columns = 8
        shown = [mm for mm in PREVIEW_MM if mm <= self.config.widest_mm]
        asked = [NoduleAttributes(diameter_mm=mm) for mm in shown for _ in range(columns)]
        hu = self.sample(len(asked), 0, asked).hu
        none = np.zeros(hu.shape[2:], bool)
        z, y, x = (n // 2 for n in hu.shape[1:])
        captions = [f"{a.diameter_mm:g} mm" if "diameter_mm" in self.config.attributes else "" for a in asked]
        panels = [Slice(cube[z], none, text, (y, x), SYNTHETIC) for cube, text in zip(hu, captions, strict=True)]
        return ct_slices(panels, half=max(y, x), columns=columns)

    def sample(
        self,
        n: int,
        seed: int,
        asked: Sequence[NoduleAttributes] | NoduleAttributes = NoduleAttributes(),  # noqa: B008  (frozen)
        *,
        positive: bool = True,
    ) -> GeneratedCubes:
        """Make `n` cubes of a class. Sample i of a seed is the same whatever `n` is.

        Args:
            asked: attributes of all, or of one after the other; a nodule is told the others as a similar training
                nodule has them.

        Raises:
            InputError: attributes that do not fit.
        """
        each = [asked] if isinstance(asked, NoduleAttributes) else list(asked)
        parts = [np.arange(start, min(start + CUBES_AT_ONCE, n)) for start in range(0, n, CUBES_AT_ONCE)]
        made = [self.made(part, seed, [each[i % len(each)] for i in part], positive) for part in parts]
        return GeneratedCubes.joined(made)

    @property
    def has_threshold(self) -> bool:
        """Whether training has come to its end, which sets the score that a selected sample reaches."""
        return not bool(self.facts["least_score"].isnan())

    def passes(self, made: GeneratedCubes) -> NDArray[np.bool_]:
        """Whether each sample is taken for real and for its class by the critic (section 4.2), [n]."""
        passed: NDArray[np.bool_] = made.confidence > LEAST_CONFIDENCE
        return passed & (made.scores >= float(self.facts["least_score"]))

    def check_selects(self) -> None:
        """Refuse to select samples by a threshold that training has not set.

        Raises:
            InputError: it has not come to its end.
        """
        if not self.has_threshold:
            raise InputError("model", "no threshold for a selection", "one whose training came to its end")

    def check_asked(self, asked: NoduleAttributes) -> None:
        """Refuse attributes that the model cannot make.

        Raises:
            InputError: a diameter narrower than a voxel or wider than the cubes show whole; other values are refused
                where they are encoded.
        """
        mm, low, high = asked.diameter_mm, max(self.config.spacing_mm), self.config.widest_mm
        if mm is not None and "diameter_mm" in self.config.attributes and not low <= mm <= high:
            width = high + 2 * FACE_MARGIN_MM
            expected = f"{low:g} to {high:g} mm, which this model's cubes of {width:g} mm show whole"
            raise InputError("diameter_mm", f"{mm:g} mm", expected)

    def doubts(self, asked: NoduleAttributes) -> tuple[str, ...]:
        """What was asked for beyond all that the model has learned from."""
        known = decoded(self.facts["attributes"], self.config.attributes).numpy()
        found = []
        for name, column in zip(self.config.attributes, known.T, strict=True):
            value, column = getattr(asked, name), column[np.isfinite(column)]
            if value is not None and len(column) and not column.min() - 1e-3 <= value <= column.max() + 1e-3:
                found.append(f"{name} {value:g}: the model learned from {column.min():.1f} to {column.max():.1f}")
        return tuple(found)

    @torch.no_grad()
    def made(
        self,
        index: NDArray[np.int64],
        seed: int,
        asked: Sequence[NoduleAttributes],
        positive: bool,
        attempt: int = 0,
        precision: Precision = "32",
    ) -> GeneratedCubes:
        """Make the samples of a seed with these numbers; a negative one is told nothing, as in training.

        Args:
            asked: attributes of each of them.
            precision: of the networks; while the model is trained it is that of training.
        """
        keys = [(int(i), attempt) if attempt else (int(i),) for i in index]
        noise = np.array([generator(seed, "ac-wgan", *key).standard_normal(self.config.drawn) for key in keys])
        told = encoded(asked if positive else [NoduleAttributes()] * len(index), self.config.attributes)
        if positive:
            numbers = [generator(seed, "ac-wgan attributes", *key) for key in keys]
            known = self.facts["attributes"]
            told = torch.stack([completed(known, row, own) for row, own in zip(told, numbers, strict=True)])
        whole = {
            "noise": torch.from_numpy(noise.astype(np.float32)),
            "label": torch.full((len(index),), POSITIVE if positive else NEGATIVE),
            "attributes": told,
        }
        padding = -len(index) % CUBE_BATCH
        padded = {name: torch.cat([t, t[:1].expand(padding, *t.shape[1:])]) for name, t in whole.items()}
        network = cast(CubeGenerator, self.averages.get("generator", self._generator))
        cubes, judged = [], []
        for part in parts(padded, len(padded["noise"]) // CUBE_BATCH):
            inputs = [part[name].to(self.device) for name in ("noise", "label", "attributes")]
            with self.autocast(precision):
                made = network(*inputs).float()
                judgement = self._critic(made)
            cubes.append(made.cpu())
            judged.append(Critique(*(value.float().cpu() for value in judgement)))
        keep = slice(len(index))
        score, classes, attributes = (torch.cat(values)[keep] for values in zip(*judged, strict=True))
        confidence = classes.softmax(1).gather(1, whole["label"][:, None])[:, 0]
        return GeneratedCubes(
            hu=self._to_hu(torch.cat(cubes)[keep, 0]),
            labels=whole["label"].numpy(),
            asked=tuple(asked),
            told=decoded(told, self.config.attributes).numpy(),
            judged=decoded(attributes, self.config.attributes).numpy(),
            scores=score.numpy(),
            confidence=confidence.numpy(),
            index=np.asarray(index),
            attempt=np.full(len(index), attempt),
        )

    @torch.no_grad()
    def judge(self, cubes: Float[Tensor, "n 1 z y x"]) -> Critique:
        """What the critic says of cubes within -1 to 1, batch by batch, on the CPU."""
        found = [self._critic(part.to(self.device)) for part in cubes.split(CUBE_BATCH)]
        return Critique(*(torch.cat(values).float().cpu() for values in zip(*found, strict=True)))

    def _to_hu(self, unit: Float[Tensor, "n z y x"]) -> NDArray[np.int16]:
        low, high = self.config.window_hu
        return ((unit + 1) * ((high - low) / 2) + low).round().numpy().astype(np.int16)

    def _score(self, cubes: Tensor) -> Tensor:
        return self._critic(cubes).score

    @property
    def _generator(self) -> CubeGenerator:
        return cast(CubeGenerator, self.networks["generator"])

    @property
    def segmenter(self) -> nn.Module | None:
        """The network that gives made nodules their masks; None where none was trained."""
        return self.networks.get("segmenter")

    @property
    def _critic(self) -> Critic:
        return cast(Critic, self.networks["critic"])


System = AcWgan


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Gradients go through the network, not into it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
