"""The AC-WGAN-GP: its training step (sections 3.3 and 4.1.1), sampling, and the selection of samples (section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.errors import InputError
from synthorax.nn.conditions import completed, decoded, encoded
from synthorax.nn.modes import frozen
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
"""Cubes that the networks make at once; the last batch is padded, so that a sample does not depend on their number."""
LEAST_CONFIDENCE = 0.9
"""A selection keeps a sample if the critic gives its class more than this probability."""
LEAST_QUANTILE = 0.25
"""A selection keeps a sample if its score is at least this quantile of the scores of real nodules."""
CUBES_AT_ONCE = 64
"""Cubes in memory at once, a multiple of `CUBE_BATCH`."""
PREVIEW_MM = (5.0, 8.0, 12.0, 18.0)
"""Diameters in mm of the rows of a preview."""
SEGMENTER_STAGE = "segmenter"
"""Name of the training stage of the segmenter."""
OLD_FACTS = "real."
"""Prefix of the facts' names in older weights files."""

CUBE_ARRAYS = ("hu", "labels", "condition", "judged", "scores", "confidence", "index", "attempt")
"""Fields of `GeneratedCubes` that have one row for each cube."""


@dataclass(frozen=True, eq=False)
class GeneratedCubes:
    """Generated CT cubes with their conditions and the critic's judgement.

    Attributes:
        hu: int16 [n, z, y, x], HU.
        labels: requested class, int64 [n]: 1 with a nodule at the centre, 0 without one.
        asked: requested attributes, one object for each cube.
        condition: float32 [n, a], attributes that the generator was given, in their own units, nan where unknown.
        judged: float32 [n, a], attributes that the critic predicts, in their own units.
        scores: float32 [n], the critic's scores, higher for cubes that look real.
        confidence: the critic's probability of the requested class, float32 [n].
        index: int64 [n], number of each sample in its seed.
        attempt: int64 [n], number of the attempt that made the cube, 0 for the first.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.int64]
    asked: tuple[NoduleAttributes, ...]
    condition: NDArray[np.float32]
    judged: NDArray[np.float32]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32]
    index: NDArray[np.int64]
    attempt: NDArray[np.int64]

    def rows(self, rows: NDArray) -> GeneratedCubes:
        """Return the cubes of these rows, by an index or boolean array."""
        asked = tuple(self.asked[i] for i in np.arange(len(self.hu))[rows])
        arrays = {name: value[rows] for name, value in vars(self).items() if name in CUBE_ARRAYS}
        return GeneratedCubes(asked=asked, **arrays)

    @staticmethod
    def joined(groups: Sequence[GeneratedCubes]) -> GeneratedCubes:
        """Return several groups as one, in their order."""
        arrays = {name: np.concatenate([vars(group)[name] for group in groups]) for name in CUBE_ARRAYS}
        return GeneratedCubes(asked=tuple(a for group in groups for a in group.asked), **arrays)


class AcWgan(TrainedSystem):
    """Generator, critic and segmenter, with their training steps, sampling and the selection of samples.

    Attributes:
        facts: tensors saved with the weights: `attributes` [k, a] of the k training nodules, scaled as by
            `nn.conditions.encoded`, nan where unknown; `least_score`, the critic score that a selected sample reaches
            (the `LEAST_QUANTILE` of real nodules' scores), nan until training ends.
        real_positives: function that gives the training set's nodule patches in batches [b, 1, z, y, x] in -1 to 1,
            from which `least_score` is computed; None if the model is not in training.
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
        """Make a model with random weights.

        Args:
            seed: seed of the weights.
            real_attributes: attributes of the k training nodules, scaled as by `nn.conditions.encoded`; an attribute
                that is not requested is sampled from them.
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
            raise ValueError("the training nodules' attributes do not match the configuration's")
        return system

    def maker(self, lineage: Lineage) -> AcWganMaker:
        from synthorax.systems.ac_wgan.maker import AcWganMaker

        return AcWganMaker(self, lineage)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        facts = {key.replace(OLD_FACTS, FACTS, 1): t for key, t in weights.items() if key.startswith(OLD_FACTS)}
        super().load_weights({**weights, **facts})

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from another model's weights; a segmenter that the other model lacks starts from random weights."""
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
            parts_of = f"{world} processes with accumulate {self.config.accumulate}"
            raise InputError("batch size", str(n), f"2 or more, and a multiple of {each}, for {parts_of}")
        if self.segmenter is not None and made_masks.WINDOW_BATCH % world:
            divisor = f"a divisor of {made_masks.WINDOW_BATCH}, the segmenter's batch"
            raise InputError("processes", str(world), f"{divisor}; or `segmenter_steps=0`, for samples without masks")

    def prepare_training(self, fabric: Fabric) -> None:
        super().prepare_training(fabric)
        graphs = self.config.cuda_graphs
        self._of_critic = Replayed(self._critic_gradients, self._critic.parameters(), enabled=graphs)
        self._of_generator = Replayed(self._generator_gradients, self._generator.parameters(), enabled=graphs)

    def training_step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Train the segmenter in its stage, and otherwise generator and critic, for one step.

        Args:
            batch: in the segmenter's stage a batch of `made_masks.WindowBatches`; else a list, see `_gan_step`.
            step: number of the step in its stage, from 0.

        Returns:
            Losses and other figures of the step by name, one number each.
        """
        return self._segmenter_step(batch, step) if self.stage == SEGMENTER_STAGE else self._gan_step(batch, step)

    def _segmenter_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        assert self.segmenter is not None
        self.set_rate("segmenter", made_masks.segmenter_rate(step, self.config.segmenter_steps))
        with self.autocast():
            logits = self.segmenter(batch["ct"])
        loss = made_masks.segmenter_loss(logits.float(), batch["mask"])
        loss.backward()
        self.update("segmenter")
        return {"segmenter_loss": loss.detach()}

    def _gan_step(self, batch: Sequence[Mapping[str, Tensor]], step: int) -> dict[str, Tensor]:
        """Update the critic `n_critic` times, each with its own batch, and the generator once (figure 3.2).

        Args:
            batch: for each critic update ct [b, 1, z, y, x] in -1 to 1, label [b], attributes [b, a].
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
        condition = {name: batch[0][name] for name in ("label", "attributes")}
        noise = self.drawn("generator", step, len(condition["label"]) * self.share.world, self.config.drawn)
        found = self._of_generator({**condition, "noise": noise, "alpha": alpha})
        self.update("generator")
        diversity = self._diversity(batch[0]["ct"], fakes[0], found.pop("fake"))
        return {**figures, "diversity": diversity, **found}

    def _set_rates(self, step: int) -> None:
        """Set generator's and critic's learning rates for this step."""
        rates = {"generator": self.config.generator_learning_rate, "critic": self.config.critic_learning_rate}
        for name, rate in rates.items():
            self.set_rate(name, rate * self.config.rate(step))

    def _critic_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add up the critic's gradients (section 3.3.1); a backward pass for the penalty alone halves the memory.

        Args:
            batch: ct [b, 1, z, y, x], label [b], attributes [b, a], noise [b, n], epsilon [b], and alpha [b], which
                is the same number for all.

        Returns:
            Losses by name, and `fake`, the generated cubes [b, 1, z, y, x].
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
        """Add up the generator's gradients (section 3.3.2).

        Args:
            batch: label [b], attributes [b, a], noise [b, n], and alpha [b], which is the same number for all.

        Returns:
            Losses by name, and `fake`, the generated cubes [b, 1, z, y, x].
        """
        n_parts = self.config.accumulate
        sums: dict[str, Tensor] = {}
        fakes = []
        with frozen(self._critic):
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
        """Return how much generated cubes of one condition differ, as a share of how much real cubes do.

        0 means that the noise has no effect (collapse). Both fakes have the same conditions, since a generator that
        ignores its noise still makes different cubes for different conditions.

        Args:
            real: real cubes [b, 1, z, y, x].
            fake: generated cubes [b, 1, z, y, x].
            other: cubes [b, 1, z, y, x] generated from the same conditions as `fake`, and other noise.
        """
        apart = self.mean_of_all((fake - other).square().mean(0) / 2)
        spread = self.mean_of_all((real - self.mean_of_all(real.mean(0))).square().mean(0))
        return apart.sqrt().mean() / spread.sqrt().mean()

    @torch.no_grad()
    def conclude(self) -> None:
        """Set the score that a selected sample has to reach, from the critic's scores of the training nodules."""
        if self.real_positives is None:
            return
        scores = torch.cat([self.judge(cubes).score for cubes in self.real_positives()])
        self.facts["least_score"] = torch.quantile(scores, LEAST_QUANTILE)

    def preview(self) -> Figure:
        """Return a figure of middle slices of samples of seed 0, one row for each diameter of `PREVIEW_MM`."""
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
            n: number of cubes.
            seed: seed of noise and of attributes that are not requested.
            asked: attributes of all cubes, or a list that is repeated for one cube after the other. An attribute that
                is not requested is taken from a training nodule with similar attributes.
            positive: make cubes with a nodule; otherwise cubes without one, for which `asked` has no effect.

        Raises:
            InputError: a value of an attribute that cannot be encoded.
        """
        each = [asked] if isinstance(asked, NoduleAttributes) else list(asked)
        parts = [np.arange(start, min(start + CUBES_AT_ONCE, n)) for start in range(0, n, CUBES_AT_ONCE)]
        made = [self.made(part, seed, [each[i % len(each)] for i in part], positive) for part in parts]
        return GeneratedCubes.joined(made)

    @property
    def has_threshold(self) -> bool:
        """Whether the score that a selected sample has to reach is known; it is set when training ends."""
        return not bool(self.facts["least_score"].isnan())

    def passes(self, made: GeneratedCubes) -> NDArray[np.bool_]:
        """Return [n] whether the critic accepts each cube as real and of its class (section 4.2)."""
        passed: NDArray[np.bool_] = made.confidence > LEAST_CONFIDENCE
        return passed & (made.scores >= float(self.facts["least_score"]))

    def check_selects(self) -> None:
        """Check that this model can select samples.

        Raises:
            InputError: the model has no threshold for a selection, since its training has not ended.
        """
        if not self.has_threshold:
            raise InputError("model", "no threshold for a selection", "a model whose training has ended")

    def check_asked(self, asked: NoduleAttributes) -> None:
        """Check that a nodule of the asked diameter fits into a cube.

        Raises:
            InputError: the diameter is smaller than a voxel, or too large for a cube.
        """
        mm, low, high = asked.diameter_mm, max(self.config.spacing_mm), self.config.widest_mm
        if mm is not None and "diameter_mm" in self.config.attributes and not low <= mm <= high:
            width = high + 2 * FACE_MARGIN_MM
            expected = f"{low:g} to {high:g} mm, which fit into this model's cubes of {width:g} mm"
            raise InputError("diameter_mm", f"{mm:g} mm", expected)

    def doubts(self, asked: NoduleAttributes) -> tuple[str, ...]:
        """Return a note for each requested attribute outside the range of the training nodules."""
        known = decoded(self.facts["attributes"], self.config.attributes).numpy()
        found = []
        for name, column in zip(self.config.attributes, known.T, strict=True):
            value, column = getattr(asked, name), column[np.isfinite(column)]
            if value is not None and len(column) and not column.min() - 1e-3 <= value <= column.max() + 1e-3:
                span = f"{column.min():.1f} to {column.max():.1f}"
                found.append(f"{name} {value:g} is outside the training nodules' {span}; samples may look wrong")
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
        """Make the samples of a seed with these numbers.

        Args:
            index: number of each sample in the seed [n].
            seed: seed of noise and of attributes that are not requested.
            asked: attributes of each sample.
            positive: make cubes with a nodule; otherwise cubes without one, whose attributes are unknown to the
                generator, as in training.
            attempt: number of the attempt of a selection, 0 for the first; each has other noise.
            precision: arithmetic of the networks; during training, that of training.
        """
        keys = [(int(i), attempt) if attempt else (int(i),) for i in index]
        noise = np.array([generator(seed, "ac-wgan", *key).standard_normal(self.config.drawn) for key in keys])
        condition = encoded(asked if positive else [NoduleAttributes()] * len(index), self.config.attributes)
        if positive:
            numbers = [generator(seed, "ac-wgan attributes", *key) for key in keys]
            known = self.facts["attributes"]
            condition = torch.stack([completed(known, row, own) for row, own in zip(condition, numbers, strict=True)])
        whole = {
            "noise": torch.from_numpy(noise.astype(np.float32)),
            "label": torch.full((len(index),), POSITIVE if positive else NEGATIVE),
            "attributes": condition,
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
            hu=self.config.patch.to_int16(torch.cat(cubes)[keep, 0].numpy(), self.name),
            labels=whole["label"].numpy(),
            asked=tuple(asked),
            condition=decoded(condition, self.config.attributes).numpy(),
            judged=decoded(attributes, self.config.attributes).numpy(),
            scores=score.numpy(),
            confidence=confidence.numpy(),
            index=np.asarray(index),
            attempt=np.full(len(index), attempt),
        )

    @torch.no_grad()
    def judge(self, cubes: Float[Tensor, "n 1 z y x"]) -> Critique:
        """Return the critic's outputs for cubes in -1 to 1, computed in batches; the result is on the CPU."""
        found = [self._critic(part.to(self.device)) for part in cubes.split(CUBE_BATCH)]
        return Critique(*(torch.cat(values).float().cpu() for values in zip(*found, strict=True)))

    def _score(self, cubes: Tensor) -> Tensor:
        return self._critic(cubes).score

    @property
    def _generator(self) -> CubeGenerator:
        return cast(CubeGenerator, self.networks["generator"])

    @property
    def segmenter(self) -> nn.Module | None:
        """The network that segments generated nodules; None if the model has none."""
        return self.networks.get("segmenter")

    @property
    def _critic(self) -> Critic:
        return cast(Critic, self.networks["critic"])


System = AcWgan
