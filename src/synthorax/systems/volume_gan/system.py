"""The vanilla 3D GAN: its training step, and the generation of scans in one piece, which may be resized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.one_thread import in_one_thread
from synthorax.geometry import resized_box
from synthorax.nn.modes import evaluating, frozen
from synthorax.seeding import derive, generator
from synthorax.systems.volume_gan.config import VolumeGanConfig, VolumeGanOptions
from synthorax.systems.volume_gan.networks import VolumeCritic, VolumeGenerator
from synthorax.training.scan_config import ScanOptions
from synthorax.training.scan_gan import GENERATOR, ScanFacts, ScanGan, ScanRequest
from synthorax.volume import Volume

VOLUMES = "volumes"
"""Name of the critic."""


class VolumeGan(ScanGan):
    """The generator of whole scans and its critic.

    Args:
        config: settings.
        seed: seed of all random draws.
        known: facts on the training scans; None makes an empty model, whose weights and facts are loaded next.
    """

    name = "volume-gan"
    config: VolumeGanConfig
    sampling = VolumeGanOptions

    def __init__(self, config: VolumeGanConfig, seed: int = 0, known: ScanFacts | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            networks = {GENERATOR: VolumeGenerator(config), VOLUMES: VolumeCritic(config)}
        super().__init__(config, networks, seed, known or ScanFacts.none())

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> VolumeGan:
        model = cls(VolumeGanConfig.model_validate(dict(config)))
        model.load_weights(weights)
        return model

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Update the critic, then the generator.

        Args:
            batch: `ct` [b, 1, z, y, x] within -1 to 1, and `index` [b] of the training scans.
            step: step of the training.
        """
        self.set_rates(step)
        real, condition, n = batch["ct"], self.condition(batch["index"]), len(batch["index"]) * self.share.world
        made, critic = cast(VolumeGenerator, self.networks[GENERATOR]), cast(VolumeCritic, self.networks[VOLUMES])
        with torch.no_grad(), self.autocast():
            fake = made(self.drawn("critic", step, n, self.config.noise), condition)
        penalised = self.penalised(step)
        figures = self.critic_gradients(
            VOLUMES, lambda scans: critic(scans, condition), real, fake, penalised=penalised
        )
        self.update(VOLUMES)
        with frozen(critic):
            with self.autocast():
                again = made(self.drawn("generator", step, n, self.config.noise), condition)
                score = critic(again, condition)
            loss = self.generator_loss(score)
            loss.backward()
        self.update(GENERATOR)
        return {**figures, "generator": loss.detach(), **self.diversity(real, fake, again.detach())}

    def size_of(self, options: ScanOptions) -> tuple[int, int, int]:
        edge = options.edge if isinstance(options, VolumeGanOptions) else None
        return (edge, edge, edge) if edge else self.config.size

    def slabs(self, request: ScanRequest) -> Iterator[NDArray[np.int16]]:
        """Generate a scan in one piece, HU [z, y, x]; it is wholly in memory, and a single thread computes it."""
        yield in_one_thread(self._scan, request)

    @torch.no_grad()
    def _scan(self, request: ScanRequest) -> NDArray[np.int16]:
        """Return a scan in HU [z, y, x], resized if another size is requested."""
        made = self.sampler
        random = generator(request.seed, "volume-gan", request.index)
        noise = torch.from_numpy(random.standard_normal((1, self.config.noise), np.float32)).to(self.device)
        condition = self.condition(torch.tensor([request.row]), request.options.nodules)
        with evaluating(made), self.autocast(request.precision):
            scan = Volume(self.to_int16(made(noise, condition))[0, 0], (1.0, 1.0, 1.0))
        return (
            scan.voxels if request.size == scan.shape else resized_box(scan, (0,) * 3, scan.shape, request.size).voxels
        )


System = VolumeGan
