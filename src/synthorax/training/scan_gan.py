"""Shared code of GANs of whole scans: recorded facts on the training scans, losses, conditions and sampling."""

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
"""Name of the network that generates the scans; the others are critics."""
USUAL_WIDTH_MM = 256.0
"""Width of a scan that the condition vector encodes as 0; twice this width is encoded as 1."""
LEAST_SCAN_DIVERSITY, WATCHED_FROM = 0.02, 0.05
"""Distance between two generated scans, as a share of the distance between two real ones, below which a run stops; and
the share of the steps after which the guard begins."""
PREVIEWED_SCANS = 3
"""Number of scans in a preview, each in three planes."""


@dataclass(frozen=True)
class ScanRequest:
    """A request for one generated scan.

    Attributes:
        seed: seed of the noise.
        index: number of the scan among those of the seed.
        row: index of the training scan whose spacing and nodules are the networks' condition.
        size: voxels (z, y, x).
        options: options of the system's `sampling` class; its `nodules`, if given, replace those of the training scan.
        precision: precision of the networks.
    """

    seed: int
    index: int
    row: int
    size: tuple[int, int, int]
    options: ScanOptions
    precision: Precision = "32"


class ScanFacts(NamedTuple):
    """Facts on the training scans that sampling needs.

    Attributes:
        spacing_mm: voxel spacing of each scan, [k, (z, y, x)].
        nodules: for each scan 1 if it has a nodule, -1 if it has none, 0 if unknown, [k].
        without: 1 if it is known that no scan has a nodule, else 0; NaN for `none`.
    """

    spacing_mm: Float[Tensor, "k 3"]
    nodules: Float[Tensor, " k"]
    without: Float[Tensor, ""]

    @classmethod
    def none(cls) -> ScanFacts:
        """Return the facts of no scan, for a model whose weights are loaded next."""
        return cls(torch.zeros(0, 3), torch.zeros(0), torch.tensor(float("nan")))

    @classmethod
    def of(cls, chests: Chests) -> ScanFacts:
        """Return the facts of decoded training scans."""
        has = [chests.nodules_left[case.case_id] for case in chests.cases]
        known = [case.annotated == "all" for case in chests.cases]
        nodules = [1.0 if n else -1.0 if sure else 0.0 for n, sure in zip(has, known, strict=True)]
        spacing = torch.tensor(chests.spacing_mm, dtype=torch.float32)
        return cls(spacing, torch.tensor(nodules), torch.tensor(float(chests.without_nodules)))


class ScanGan(System):
    """A generator of whole scans and its critics.

    Facts: the fields of `ScanFacts`, by their names.

    Attributes:
        sampling: class of the options of sampling.

    Args:
        config: settings.
        networks: the generator, named `GENERATOR`, and the critics.
        seed: seed of all random draws.
        known: facts on the training scans.
    """

    config: ScanSettings
    sampling: ClassVar[type[ScanOptions]] = ScanOptions
    memory_format = torch.channels_last_3d

    def __init__(self, config: ScanSettings, networks: Mapping[str, nn.Module], seed: int, known: ScanFacts) -> None:
        decays = {GENERATOR: config.ema_decay}
        super().__init__(config, networks, seed=seed, decays=decays, facts=known._asdict())
        meaning = "the generator gives nearly the same scan for any noise (collapse)"
        self.limits = {
            "diversity": Limit(meaning, low=LEAST_SCAN_DIVERSITY, warm_up=round(WATCHED_FROM * config.steps))
        }

    @property
    def known(self) -> ScanFacts:
        """The facts on the training scans."""
        return ScanFacts(**self.facts)

    @property
    def sampler(self) -> nn.Module:
        """The network that generates scans outside training: the generator's moving average, if there is one."""
        return self.averages.get(GENERATOR, self.networks[GENERATOR])

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return an Adam optimiser for each network."""
        return {
            name: torch.optim.Adam(network.parameters(), lr=self._rate_of(name), betas=self.config.betas, fused=True)
            for name, network in self.networks.items()
        }

    def check(self, world: int) -> None:
        """Check that the batch can be divided among the processes.

        Raises:
            InputError: the batch size is not a multiple of the number of processes.
        """
        Share(0, world).rows(self.config.batch_size)

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step."""
        for name in self.optimizers:
            self.set_rate(name, self._rate_of(name) * self.config.rate(step))

    def _rate_of(self, name: str) -> float:
        return self.config.generator_learning_rate if name == GENERATOR else self.config.critic_learning_rate

    def condition(self, index: Tensor, nodules: bool | None = None) -> Float[Tensor, "b t"]:
        """Return the condition vectors of some training scans: logarithms of the widths, and nodules, as configured.

        Args:
            index: indices of the training scans, [b].
            nodules: replaces the nodules of the training scans, if given.
        """
        known, index = self.known, index.cpu()
        columns = []
        if "spacing" in self.config.conditions:
            widths = known.spacing_mm[index] * torch.tensor(self.config.size)
            columns.append(torch.log2(widths / USUAL_WIDTH_MM))
        if "nodules" in self.config.conditions:
            own = known.nodules[index] if nodules is None else torch.full((len(index),), 1.0 if nodules else -1.0)
            columns.append(own[:, None])
        return torch.cat([torch.zeros(len(index), 0), *columns], 1).to(self.device)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of a critic from its scores of real and of generated samples, by the objective."""
        if self.config.objective == "js":
            return jensen_shannon_discriminator_loss(real, fake)
        return wasserstein_critic_loss(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the loss of the generator from one critic's scores of generated samples, by the objective."""
        if self.config.objective == "js":
            return non_saturating_generator_loss(fake)
        return wasserstein_generator_loss(fake)

    def penalised(self, step: int) -> bool:
        """Return whether the critics' penalty is due at a step."""
        return bool(self.config.penalty) and step % self.config.penalty_every == 0

    def critic_gradients(
        self, name: str, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, *, penalised: bool
    ) -> dict[str, Tensor]:
        """Add up a critic's gradients; the penalty has its own backward pass, which halves the memory.

        Args:
            name: name of the critic.
            score: a function of samples that returns the critic's scores.
            real, fake: real and generated samples.
            penalised: whether the penalty is due.

        Returns:
            The critic's loss and, if it was due, the penalty, by name.
        """
        figures: dict[str, Tensor] = {}
        if penalised:
            penalty = r1_penalty(score, real)
            (self.config.penalty * self.config.penalty_every * penalty).backward()
            figures[f"penalty_{name}"] = penalty.detach()
        with self.autocast():
            of_real, of_fake = score(real), score(fake)
        loss = self.critic_loss(of_real, of_fake)
        loss.backward()
        return {f"critic_{name}": loss.detach(), **figures}

    def diversity(self, real: Tensor, fake: Tensor, other: Tensor) -> dict[str, Tensor]:
        """Return the figure `diversity`: distance between two generated batches, divided by that of real samples.

        Return no figure if the global batch has fewer than two samples.

        Args:
            real: real samples, [b, ...].
            fake, other: samples generated with two draws of noise, for the same conditions and positions, [b, ...].
        """
        if len(real) * self.share.world < 2:
            return {}
        apart = self.mean_of_all((fake - other).square().mean(0) / 2)
        spread = self.mean_of_all((real - self.mean_of_all(real.mean(0))).square().mean(0))
        return {"diversity": apart.sqrt().mean() / spread.sqrt().mean()}

    def row_of(self, seed: int, index: int, nodules: bool | None = None) -> int:
        """Return the index of a training scan, drawn by the seed, whose spacing a generated scan gets.

        Args:
            seed: seed of the draw.
            index: number of the scan among those of the seed.
            nodules: draw among the training scans known to have a nodule, or known to have none; among all if None.

        Raises:
            InputError: `nodules` is given but the model is not conditioned on nodules, or no training scan matches.
        """
        rows = torch.arange(len(self.known.nodules))
        if nodules is not None:
            if "nodules" not in self.config.conditions:
                raise InputError(
                    "nodules",
                    "requested from a model that is not conditioned on them",
                    "one trained with conditions=nodules",
                )
            rows = rows[self.known.nodules == (1.0 if nodules else -1.0)]
        if not len(rows):
            kind = "a nodule" if nodules else "no nodule" if nodules is False else "lungs"
            raise InputError("model", f"no training scan that is known to have {kind}", "a model trained on one")
        return int(rows[int(generator(seed, "like", index).integers(len(rows)))])

    def spacing_of(self, row: int, size: tuple[int, int, int]) -> tuple[float, float, float]:
        """Return the voxel spacing in mm (z, y, x) of a generated scan as wide as a training scan.

        Args:
            row: index of the training scan.
            size: voxels of the generated scan (z, y, x).
        """
        z, y, x = (self.known.spacing_mm[row].double().numpy() * self.config.size / size).round(4).tolist()
        return z, y, x

    @property
    def arithmetic(self) -> dict[str, Any]:
        """Settings besides the precision that must be equal to generate the same bits again."""
        return {}

    def size_of(self, options: ScanOptions) -> tuple[int, int, int]:
        """Return the number of voxels (z, y, x) of a scan that is generated with these options."""
        return self.config.size

    def like_scan(self, index: int, options: ScanOptions) -> int:
        """Return the number that draws the spacing of a scan: its own number, unless the options say otherwise."""
        return index

    @abstractmethod
    def slabs(self, request: ScanRequest) -> Iterator[NDArray[np.int16]]:
        """Generate a scan slab by slab, HU [n, y, x], beginning at the feet."""

    def to_int16(self, unit: Tensor) -> NDArray[np.int16]:
        """Return values within -1 to 1 as HU."""
        return self.config.window.to_int16(unit.float().cpu().numpy(), self.name)

    def maker(self, lineage: Lineage) -> ScanMaker:
        """Return the maker of scans for the verbs and the studies."""
        from synthorax.training.scan_maker import ScanMaker

        return ScanMaker(self, lineage)

    def preview(self) -> Figure | None:
        """Return a picture of scans generated from fixed noise, each in three planes."""
        from synthorax.figures import SYNTHETIC, chest_planes

        scans = []
        for index in range(PREVIEWED_SCANS):
            row = self.row_of(0, index)
            request = ScanRequest(0, index, row, self.config.size, self.sampling())
            hu = np.concatenate(list(self.slabs(request)))
            scans.append(Volume(hu, self.spacing_of(row, self.config.size)))
        captions = [f"generated, scan {index}" for index in range(PREVIEWED_SCANS)]
        return chest_planes(scans, SYNTHETIC, captions=captions, window_hu=self.config.window_hu)


def training_chests(
    config: ScanSettings, store: Store, erased_by: Method | None, seed: int, cache: Path | None
) -> tuple[Chests, dict[str, Any]]:
    """Return the scans of a store's training patients on the configured grid, and their description for `data.json`.

    Args:
        config: settings.
        store: store of cases.
        erased_by: method that first removes the nodules; None keeps them.
        seed: seed of that method.
        cache: folder for the decoded scans; None takes the user's cache folder.

    Raises:
        InputError: the store has no training case of the configured kind, or `erased_by` was trained on patients of
            the validation or test split.
    """
    if erased_by is not None:
        check_unseen(erased_by.lineage, store)
    cases = store.in_split("train")
    chests = read_chests(store, cases, config.grid, config.window_hu, erased_by=erased_by, seed=seed, cache=cache)
    makers = [] if erased_by is None else [erased_by.lineage]
    by = {} if erased_by is None else {"erased_by": erased_by.name}
    return chests, {"chests": len(chests), **by, **training_data(store, *makers)}
