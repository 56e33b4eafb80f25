"""What GANs of whole scans have alike: what they know of the training scans, their losses, and how they are sampled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.datasets.chests import Chests, read_chests
from synthorax.datasets.lineage import check_unseen, training_data
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Lineage, Method
from synthorax.seeding import generator
from synthorax.training.config import Precision
from synthorax.training.losses import (
    jensen_shannon_discriminator_loss,
    non_saturating_generator_loss,
    r1_penalty,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from synthorax.training.scan_config import ScanOptions, ScanSettings
from synthorax.training.system import System
from synthorax.training.trainable import Limit, Share
from synthorax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.training.scan_maker import ScanMaker

GENERATOR = "generator"
"""Name of the network that makes the scans; the others are critics."""
USUAL_WIDTH_MM = 256.0
"""A scan of this width is told as 0, one of twice the width as 1."""
LEAST_SCAN_DIVERSITY, WATCHED_FROM = 0.02, 0.05
"""Distance of two made scans, as a share of that of two real ones, below which a run stops; and the share of its steps
after which it is looked at."""
PREVIEWED_SCANS = 3
"""Scans that a preview shows, each in three planes."""


@dataclass(frozen=True)
class ScanRequest:
    """A scan that is to be made.

    Attributes:
        seed, index: the scan's number in its seed.
        row: the training scan that has the spacing and the nodules which the networks are told.
        size: voxels (z, y, x).
        precision: of the networks.
        options: of the system's own class; nodules that they ask for are told in the place of that scan's.
    """

    seed: int
    index: int
    row: int
    size: tuple[int, int, int]
    options: ScanOptions
    precision: Precision = "32"


class ScanFacts(NamedTuple):
    """What is known of the training scans.

    Attributes:
        spacing_mm: of their voxels, [k, (z, y, x)].
        nodules: 1 with a nodule, -1 without one, 0 where it is not known, [k].
        without: 1 if it is known that none has a nodule, else 0.
    """

    spacing_mm: Float[Tensor, "k 3"]
    nodules: Float[Tensor, " k"]
    without: Float[Tensor, ""]

    @classmethod
    def none(cls) -> ScanFacts:
        """Of no scan."""
        return cls(torch.zeros(0, 3), torch.zeros(0), torch.tensor(float("nan")))

    @classmethod
    def of(cls, chests: Chests) -> ScanFacts:
        """The facts of chests."""
        has = [chests.nodules_left[case.case_id] for case in chests.cases]
        known = [case.annotated == "all" for case in chests.cases]
        nodules = [1.0 if n else -1.0 if sure else 0.0 for n, sure in zip(has, known, strict=True)]
        spacing = torch.tensor(chests.spacing_mm, dtype=torch.float32)
        return cls(spacing, torch.tensor(nodules), torch.tensor(float(chests.without_nodules)))


class ScanGan(System):
    """A generator of whole scans and its critics.

    Facts: those of `ScanFacts`, by their names.

    Attributes:
        sampling: class of the options of sampling.
    """

    config: ScanSettings
    sampling: ClassVar[type[ScanOptions]] = ScanOptions
    memory_format = torch.channels_last_3d

    def __init__(self, config: ScanSettings, networks: Mapping[str, nn.Module], seed: int, known: ScanFacts) -> None:
        decays = {GENERATOR: config.ema_decay}
        super().__init__(config, networks, seed=seed, decays=decays, facts=known._asdict())
        meaning = "the generator makes nearly the same scan whatever its noise (collapse)"
        self.limits = {
            "diversity": Limit(meaning, low=LEAST_SCAN_DIVERSITY, warm_up=round(WATCHED_FROM * config.steps))
        }

    @property
    def known(self) -> ScanFacts:
        """What is known of the training scans."""
        return ScanFacts(**self.facts)

    @property
    def sampler(self) -> nn.Module:
        """The network that makes scans: the running mean of the generator, if there is one."""
        return self.averages.get(GENERATOR, self.networks[GENERATOR])

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam for each network."""
        return {
            name: torch.optim.Adam(network.parameters(), lr=self._rate_of(name), betas=self.config.betas, fused=True)
            for name, network in self.networks.items()
        }

    def check(self, world: int) -> None:
        """Refuse a batch that the processes cannot share."""
        Share(0, world).rows(self.config.batch_size)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step."""
        for name in self.optimizers:
            self.set_rate(name, self._rate_of(name) * self.config.rate(step))

    def _rate_of(self, name: str) -> float:
        return self.config.generator_learning_rate if name == GENERATOR else self.config.critic_learning_rate

    def told(self, index: Tensor, nodules: bool | None = None) -> Float[Tensor, "b t"]:
        """What the networks are told of scans like training scans: the widths by their logarithm, and the nodules.

        Args:
            index: [b], of the training scans.
            nodules: told in the place of theirs.
        """
        known, index = self.known, index.cpu()
        columns = []
        if "spacing" in self.config.told:
            widths = known.spacing_mm[index] * torch.tensor(self.config.size)
            columns.append(torch.log2(widths / USUAL_WIDTH_MM))
        if "nodules" in self.config.told:
            own = known.nodules[index] if nodules is None else torch.full((len(index),), 1.0 if nodules else -1.0)
            columns.append(own[:, None])
        return torch.cat([torch.zeros(len(index), 0), *columns], 1).to(self.device)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What a critic minimises: the scores of real and of made samples by the objective."""
        if self.config.objective == "js":
            return jensen_shannon_discriminator_loss(real, fake)
        return wasserstein_critic_loss(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """What the generator minimises for one critic."""
        if self.config.objective == "js":
            return non_saturating_generator_loss(fake)
        return wasserstein_generator_loss(fake)

    def update_critic(
        self, name: str, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, step: int
    ) -> dict[str, Tensor]:
        """An update of a critic; the penalty goes backwards by itself, which halves the memory.

        Args:
            score: samples to scores, by the critic of that name.
        """
        figures: dict[str, Tensor] = {}
        if step % self.config.penalty_every == 0 and self.config.penalty:
            penalty = r1_penalty(score, real)
            (self.config.penalty * self.config.penalty_every * penalty).backward()
            figures[f"penalty_{name}"] = penalty.detach()
        with self.autocast():
            of_real, of_fake = score(real), score(fake)
        loss = self.critic_loss(of_real, of_fake)
        loss.backward()
        self.update(name)
        return {f"critic_{name}": loss.detach(), **figures}

    def diversity(self, real: Tensor, fake: Tensor, other: Tensor) -> dict[str, Tensor]:
        """How far two made batches of one request are apart, of the distance of two real samples; nothing of one.

        Args:
            real, fake, other: [b, ...]; `fake` and `other` of the same places and conditions.
        """
        if len(real) * self.share.world < 2:
            return {}
        apart = self.mean_of_all((fake - other).square().mean(0) / 2)
        spread = self.mean_of_all((real - self.mean_of_all(real.mean(0))).square().mean(0))
        return {"diversity": apart.sqrt().mean() / spread.sqrt().mean()}

    def row_of(self, seed: int, index: int, nodules: bool | None = None) -> int:
        """The training scan whose spacing a sample has; of those with nodules or without, where that is asked for.

        Raises:
            InputError: nodules of a model that is not told of them, or no training scan of the kind.
        """
        rows = torch.arange(len(self.known.nodules))
        if nodules is not None:
            if "nodules" not in self.config.told:
                raise InputError(
                    "nodules", "asked of a model that was not told of them", "one trained with told=nodules"
                )
            rows = rows[self.known.nodules == (1.0 if nodules else -1.0)]
        if not len(rows):
            kind = "a nodule" if nodules else "no nodule" if nodules is False else "lungs"
            raise InputError("model", f"no training scan that is known to have {kind}", "a model that has seen one")
        return int(rows[int(generator(seed, "like", index).integers(len(rows)))])

    def spacing_of(self, row: int, size: tuple[int, int, int]) -> tuple[float, float, float]:
        """The spacing (z, y, x) of a sample as large as a training scan, in so many voxels."""
        z, y, x = (self.known.spacing_mm[row].double().numpy() * self.config.size / size).round(4).tolist()
        return z, y, x

    @property
    def arithmetic(self) -> dict[str, Any]:
        """What has to be the same to make the same bits again, beside the precision."""
        return {}

    def size_of(self, options: ScanOptions) -> tuple[int, int, int]:
        """Voxels (z, y, x) of a scan that is made with some options."""
        return self.config.size

    def like_scan(self, index: int, options: ScanOptions) -> int:
        """The number of the scan whose spacing a scan has: its own, unless options say otherwise."""
        return index

    @abstractmethod
    def slabs(self, request: ScanRequest) -> Iterator[NDArray[np.int16]]:
        """Make a scan slab by slab, HU [n, y, x], from the feet up."""

    def to_int16(self, unit: Tensor) -> NDArray[np.int16]:
        """HU of values from -1 to 1."""
        return self.config.window.to_int16(unit.float().cpu().numpy())

    def maker(self, lineage: Lineage) -> ScanMaker:
        """Return what the verbs and the studies make scans with."""
        from synthorax.training.scan_maker import ScanMaker

        return ScanMaker(self, lineage)

    def preview(self) -> Figure | None:
        """Scans of fixed noise in three planes."""
        from synthorax.figures import SYNTHETIC, chest_planes

        scans = []
        for index in range(PREVIEWED_SCANS):
            row = self.row_of(0, index)
            request = ScanRequest(0, index, row, self.config.size, self.sampling())
            hu = np.concatenate(list(self.slabs(request)))
            scans.append(Volume(hu, self.spacing_of(row, self.config.size)))
        return chest_planes(scans, SYNTHETIC, window_hu=self.config.window_hu)


def training_chests(
    config: ScanSettings, store: Store, erased_by: Method | None, seed: int, cache: Path | None
) -> tuple[Chests, dict[str, Any]]:
    """Return the chests of a store's training patients, and what the run folder tells of them.

    Args:
        erased_by: takes their nodules out first.
        cache: folder for the decoded scans.

    Raises:
        InputError: a store without cases of the kind that the configuration asks for, or a maker that erases and
            knows held-out patients.
    """
    if erased_by is not None:
        check_unseen(erased_by.lineage, store)
    cases = store.in_split("train")
    chests = read_chests(store, cases, config.grid, config.window_hu, erased_by=erased_by, seed=seed, cache=cache)
    makers = [] if erased_by is None else [erased_by.lineage]
    by = {} if erased_by is None else {"erased_by": erased_by.name}
    return chests, {"chests": len(chests), **by, **training_data(store, *makers)}
