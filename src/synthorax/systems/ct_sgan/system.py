"""CT-SGAN: its training step (CT-SGAN, section 2, equation 2), and the generation of scans slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from synthorax.datasets.chests import slices_of
from synthorax.datasets.one_thread import each_in_one_thread, in_one_thread
from synthorax.nn.modes import frozen
from synthorax.seeding import derive, generator
from synthorax.systems.ct_sgan.config import CtSganConfig, CtSganOptions
from synthorax.systems.ct_sgan.networks import LatentPath, SlabCritic, SliceCritic, SliceGenerator
from synthorax.training.replay import Replayed
from synthorax.training.scan_config import ScanOptions
from synthorax.training.scan_gan import GENERATOR, ScanFacts, ScanGan, ScanRequest

SLICES, SLABS = "slices", "slabs"
"""Names of the critics."""
CRITICS = (SLABS, SLICES)
"""All critics, in the order of their updates."""
SCAN_SLICES_AT_ONCE = 4
"""Slices in one batch of sampling, which sets its memory; the last batch is padded to this size."""


class CtSgan(ScanGan):
    """CT-SGAN: a latent path and a slice generator as the generator, and the critics of slices and of slabs.

    Args:
        config: settings.
        seed: seed of all random draws.
        known: facts on the training scans; None makes an empty model, whose weights and facts are loaded next.
    """

    name = "ct-sgan"
    config: CtSganConfig
    sampling = CtSganOptions

    def __init__(self, config: CtSganConfig, seed: int = 0, known: ScanFacts | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            made = nn.ModuleDict({"path": LatentPath(config), "slice": SliceGenerator(config)})
            networks = {GENERATOR: made, SLICES: SliceCritic(config), SLABS: SlabCritic(config)}
        super().__init__(config, networks, seed, known or ScanFacts.none())

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> CtSgan:
        model = cls(CtSganConfig.model_validate(dict(config)))
        model.load_weights(weights)
        return model

    def prepare_training(self, fabric: Fabric) -> None:
        super().prepare_training(fabric)
        critics = [parameter for name in CRITICS for parameter in self.networks[name].parameters()]
        graphs = self.config.cuda_graphs
        self._of_critics = {
            penalised: Replayed(partial(self._of_both_critics, penalised=penalised), critics, enabled=graphs)
            for penalised in (False, True)
        }
        self._of_generator = Replayed(self._generator_gradients, self.networks[GENERATOR].parameters(), enabled=graphs)

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Update each critic, then the generator; all see the same positions in the scans.

        Args:
            batch: a batch of `Chests.batch`.
            step: step of the training.
        """
        self.set_rates(step)
        start, chosen = batch["start"], batch["chosen"]
        given = {
            "start": start,
            "chosen": chosen,
            "condition": self.condition(batch["index"]),
            "position": self._position(start, chosen),
        }
        real = {"slab": batch["slab"], **given, **self._drawn("critics", step, len(start))}
        figures = self._of_critics[self.penalised(step)](real)
        for name in CRITICS:
            self.update(name)
        found = self._of_generator({**given, **self._drawn("generator", step, len(start))})
        self.update(GENERATOR)
        fakes = figures.pop("fake"), found.pop("fake")
        return {**figures, **found, **self.diversity(batch["slab"][:, None, 1:-1], *fakes)}

    def _of_both_critics(self, batch: Mapping[str, Tensor], *, penalised: bool) -> dict[str, Tensor]:
        """Add up the gradients of both critics.

        Args:
            batch: slab [b, d + 2, y, x], start [b], chosen [b, n], condition [b, k], position [b * n], and the noise of
                `_drawn`.
            penalised: whether the penalty is due.

        Returns:
            Losses by name, and `fake`, the middle channels of the generated slabs [b, 1, d, y, x].
        """
        slab, chosen, condition = batch["slab"], batch["chosen"], batch["condition"]
        of_slices = batch["position"], condition.repeat_interleave(self.config.slices, 0)
        real = slab[:, None, 1:-1], slices_of(slab, chosen, self.config.channels)
        with torch.no_grad(), self.autocast():
            made = self._made(batch)
        fake = self._shown(made, chosen)
        slabs, slices = cast(SlabCritic, self.networks[SLABS]), cast(SliceCritic, self.networks[SLICES])
        figures = self.critic_gradients(SLABS, lambda x: slabs(x, condition), real[0], fake[0], penalised=penalised)
        figures |= self.critic_gradients(SLICES, lambda x: slices(x, *of_slices), real[1], fake[1], penalised=penalised)
        return {**figures, "fake": fake[0]}

    def _generator_gradients(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the gradients of the generator.

        Args:
            batch: start [b], chosen [b, n], condition [b, k], position [b * n], and the noise of `_drawn`.

        Returns:
            The loss, and `fake`, the middle channels of the generated slabs [b, 1, d, y, x].
        """
        condition = batch["condition"]
        of_slices = batch["position"], condition.repeat_interleave(self.config.slices, 0)
        slabs, slices = cast(SlabCritic, self.networks[SLABS]), cast(SliceCritic, self.networks[SLICES])
        with frozen(slabs, slices):
            with self.autocast():
                fake = self._shown(self._made(batch), batch["chosen"])
                of_slab, of_slice = slabs(fake[0], condition), slices(fake[1], *of_slices)
            loss = self.generator_loss(of_slab)
            loss = loss + self.config.slices * self.generator_loss(of_slice)  # the sum of equation 2
            loss.backward()
        return {"generator": loss.detach(), "fake": fake[0].detach()}

    def _position(self, start: Int[Tensor, " b"], chosen: Int[Tensor, "b n"]) -> Float[Tensor, " m"]:
        """Return the position, from 0 to 1, of each chosen slice among the slices that have two neighbours.

        Args:
            start: index in its scan of the first slice of each slab, from 1.
            chosen: indices of the chosen slices in their slab.
        """
        return ((start[:, None] - 1 + chosen).flatten() / (self.config.path - 1)).float()

    def _drawn(self, kind: str, step: int, scans: int) -> dict[str, Tensor]:
        """Return the noise of a slab of each of `b` scans.

        Args:
            kind: name of the random stream.
            step: step of the training.
            scans: number of scans of this process, `b`.

        Returns:
            noise [b, p, s] of each slice of the whole scans, state [b, 4 h] of the LSTM, patient [b, n] and, if
            configured, grain [b, d + 2, g, v, u] of the slab's slices with one more before and one after.
        """
        config, n = self.config, scans * self.share.world
        noise = self.drawn(f"{kind} slices", step, n, config.path, config.slice_noise)
        drawn = self.drawn(f"{kind} patient", step, n, 4 * config.hidden + config.patient_noise)
        found = {"noise": noise, "state": drawn[:, : 4 * config.hidden], "patient": drawn[:, 4 * config.hidden :]}
        if config.grain:
            found["grain"] = self.drawn(f"{kind} grain", step, n, config.slab + 2, config.grain, *config.finest)
        return found

    def _made(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b d c y x"]:
        """Generate the slices of one slab of each of `b` scans.

        Args:
            batch: start [b], index in its scan of the first slice of each slab, from 1; condition [b, k]; and the noise
                of `_drawn`.
        """
        config, start = self.config, batch["start"]
        made = cast(nn.ModuleDict, self.networks[GENERATOR])
        path = made["path"](batch["noise"], batch["state"])
        rows = torch.arange(len(start), device=path.device)[:, None]
        of_slab = path[rows, (start - 1)[:, None] + torch.arange(config.slab, device=path.device)]
        constant = torch.cat([batch["patient"], batch["condition"]], 1)[:, None].expand(-1, config.slab, -1)
        grain = _with_neighbours(batch["grain"]).flatten(0, 1) if config.grain else None
        slices: Tensor = made["slice"](torch.cat([constant, of_slab], 2).flatten(0, 1), grain)
        return slices.unflatten(0, (len(start), config.slab))

    def _shown(self, made: Float[Tensor, "b d c y x"], chosen: Int[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        """Return the critics' inputs: the middle channels [b, 1, d, y, x] and the chosen slices [b*n, c, y, x]."""
        middle = made[:, None, :, self.config.channels // 2]
        rows = torch.arange(len(made), device=made.device)[:, None]
        return middle, made[rows, chosen].flatten(0, 1)

    @property
    def arithmetic(self) -> dict[str, Any]:
        return {"slices_at_once": SCAN_SLICES_AT_ONCE}

    def size_of(self, options: ScanOptions) -> tuple[int, int, int]:
        depth = options.depth if isinstance(options, CtSganOptions) else None
        return (depth or self.config.size[0], *self.config.size[1:])

    def like_scan(self, index: int, options: ScanOptions) -> int:
        patient = options.patient if isinstance(options, CtSganOptions) else None
        return index if patient is None else patient

    def slabs(self, request: ScanRequest) -> Iterator[NDArray[np.int16]]:
        """Generate a scan slab by slab, HU [n, y, x], beginning at the feet.

        Each slice is the middle channel of the generator's output; the first and the last slice of the scan are the
        outer channels of their neighbours. A scan with another number of slices than in training uses the same path of
        latent vectors, interpolated at more or fewer points. Several slabs are generated at once, each in one thread,
        so that the bits do not depend on the number of cores.
        """
        latents = in_one_thread(self._latents, request)
        last = len(latents) - 1

        def slab(first: int) -> NDArray[np.int16]:
            made = self._slices(request, latents, first)
            middle = made[:, self.config.channels // 2]
            below, above = made[: int(first == 0), 0], made[len(made) - int(first + len(made) > last) :, -1]
            return np.concatenate([below, middle, above])

        yield from each_in_one_thread(slab, range(0, len(latents), SCAN_SLICES_AT_ONCE))

    @torch.no_grad()
    def _latents(self, request: ScanRequest) -> Float[Tensor, "d n"]:
        """Return the whole latent vectors of all slices of a scan that have two neighbours."""
        options = request.options
        assert isinstance(options, CtSganOptions)
        noise, state, _ = self._noise(request.seed, request.index if options.path is None else options.path)
        _, _, patient = self._noise(request.seed, self.like_scan(request.index, options))
        path = cast(nn.ModuleDict, self.sampler)["path"](noise, state)[0]
        of_slices = _stretched(path, self.config.size[0], request.size[0])
        condition = self.condition(torch.tensor([request.row]), request.options.nodules)
        return torch.cat([torch.cat([patient, condition], 1).expand(len(of_slices), -1), of_slices], 1)

    def _noise(self, seed: int, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the noise of a scan: for its slices, the LSTM's initial states, and its patient, each [1, ...]."""
        config, random = self.config, generator(seed, "ct-sgan", index)
        shapes = ((config.path, config.slice_noise), (4 * config.hidden,), (config.patient_noise,))
        noise, state, patient = (
            torch.from_numpy(random.standard_normal((1, *shape), np.float32)).to(self.device) for shape in shapes
        )
        return noise, state, patient

    @torch.no_grad()
    def _slices(self, request: ScanRequest, latents: Float[Tensor, "d n"], first: int) -> NDArray[np.int16]:
        """Return slices in HU [n, c, y, x], from index `first`; n is `SCAN_SLICES_AT_ONCE`, or fewer at the end."""
        part = latents[first : first + SCAN_SLICES_AT_ONCE]
        padded = torch.cat([part, part[-1:].expand(SCAN_SLICES_AT_ONCE - len(part), -1)])
        with self.autocast(request.precision):
            slices = cast(nn.ModuleDict, self.sampler)["slice"](padded, self._grain(request, first))
        return self.to_int16(slices[: len(part)])

    def _grain(self, request: ScanRequest, first: int) -> Float[Tensor, "b g v u"] | None:
        """Return the grain of a batch of slices and their neighbours; it does not depend on the batch. None without."""
        if not self.config.grain:
            return None
        shape = (self.config.grain, *self.config.finest)
        numbers = range(first, first + SCAN_SLICES_AT_ONCE + 2)
        drawn = [generator(request.seed, "grain", request.index, z).standard_normal(shape, np.float32) for z in numbers]
        return _with_neighbours(torch.from_numpy(np.stack(drawn))[None].to(self.device))[0]


System = CtSgan


def _with_neighbours(fine: Float[Tensor, "b n g v u"]) -> Float[Tensor, "b m h v u"]:
    """Return the grain of slices with the grain of both neighbours as further channels, without both end slices."""
    return torch.cat([fine[:, :-2], fine[:, 1:-1], fine[:, 2:]], 2)


def _stretched(path: Float[Tensor, "p h"], trained: int, depth: int) -> Float[Tensor, "d h"]:
    """Return the latent vectors of a scan of another depth, interpolated linearly between those of the trained depth.

    Args:
        path: latent vectors of the slices that have two neighbours, in a scan of the trained depth.
        trained: number of slices of that scan.
        depth: number of slices of the scan to generate; its latent vectors are two fewer.
    """
    if depth == trained:
        return path
    at = (torch.arange(1, depth - 1, dtype=torch.float64) + 0.5) * (trained / depth) - 1.5
    at = at.clamp(0, len(path) - 1).to(path.device)
    low = at.floor().long().clamp(max=max(len(path) - 2, 0))
    share = (at - low).to(path.dtype)[:, None]
    return torch.lerp(path[low], path[(low + 1).clamp(max=len(path) - 1)], share)
