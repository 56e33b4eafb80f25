"""The flow: its training step, and the generation of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from synthorax.nn.inpainter import pasted
from synthorax.seeding import derive
from synthorax.systems.flow.conditions import HAS_NONE, flow_conditions, no_condition, width_of
from synthorax.systems.flow.config import FlowConfig, FlowOptions
from synthorax.systems.flow.networks import VelocityNet
from synthorax.systems.flow.sampler import integrated
from synthorax.training.config import Precision
from synthorax.training.in_painter import PREVIEWED
from synthorax.training.system import System as TrainedSystem
from synthorax.training.trainable import FACTS, Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthorax.makers import Lineage, Options
    from synthorax.systems.flow.maker import FlowMaker

USUAL_HU, SPREAD_HU = -600.0, 350.0
"""Mean and standard deviation of the HU within 9 mm of LUNA16's nodules, by which the flow normalises its patches."""
NODULE_REACH = 3
"""Width in voxels of the cube that dilates an outline for the nodule's weight in the loss."""
PREVIEW_STEPS = 8
"""Number of integration steps in the preview."""


class Gaps(NamedTuple):
    """Patches with a region to generate in each, and their conditions.

    Attributes:
        patches: patches within -1 to 1; their values in the region are ignored.
        region: 1 in voxels to generate, 0 elsewhere.
        outline: 1 in the nodule's outline; 0 everywhere if no outline is given.
        condition: condition vectors of `flow_conditions`.
        nothing: condition vectors of `no_condition`, for guidance.
    """

    patches: Float[Tensor, "b 1 z y x"]
    region: Float[Tensor, "b 1 z y x"]
    outline: Float[Tensor, "b 1 z y x"]
    condition: Float[Tensor, "b k"]
    nothing: Float[Tensor, "b k"]

    def on(self, device: torch.device) -> Gaps:
        """Return the same on a device."""
        return Gaps(*(each.to(device) for each in self))


class Flow(TrainedSystem):
    """A rectified flow from noise to CT within a region (Liu et al. 2023).

    Facts: `attributes` [n, a], the encoded attributes of the training nodules, NaN if unknown; `healthy`, the number of
    training patches without a nodule.

    Attributes:
        shown: training patches for the preview, as one batch of the training data; None shows no preview.
        held_out: batches of validation patients, whose loss selects the best weights; empty if there are none.

    Args:
        config: settings.
        seed: seed of all random draws.
        attributes: encoded attributes of the training nodules, [n, a]; None gives an empty table, as when weights are
            to be loaded.
        healthy: number of training patches without a nodule.
    """

    name = "flow"
    memory_format = torch.channels_last_3d

    def __init__(self, config: FlowConfig, seed: int = 0, attributes: Tensor | None = None, healthy: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            network = VelocityNet(
                width_of(len(config.shown)),
                widths=config.widths,
                blocks=config.blocks,
                fold=config.fold,
                embedding=config.embedding,
            )
        known = torch.zeros(0, len(config.shown)) if attributes is None else attributes
        super().__init__(
            config,
            {"velocity": network},
            seed=seed,
            decays={"velocity": config.ema_decay},
            facts={"attributes": known, "healthy": torch.tensor(float(healthy))},
        )
        self.config: FlowConfig = config
        self.shown: Mapping[str, Tensor] | None = None
        self.held_out: Sequence[Mapping[str, Tensor]] = ()

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Flow:
        model = cls(FlowConfig.model_validate(dict(config)), attributes=weights[FACTS + "attributes"])
        model.load_weights(weights)
        return model

    def maker(self, lineage: Lineage) -> FlowMaker:
        from synthorax.systems.flow.maker import FlowMaker

        return FlowMaker(self, lineage)

    def editor(self, lineage: Lineage, options: Options) -> FlowMaker:
        from synthorax.systems.flow.maker import FlowMaker

        return FlowMaker(self, lineage, options)

    @property
    def learned_healthy(self) -> bool:
        """Whether it was trained on patches without a nodule."""
        return bool(self.facts["healthy"] > 0)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        optimizer = torch.optim.AdamW(
            self.networks["velocity"].parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        return {"velocity": optimizer}

    def check(self, world: int) -> None:
        Share(0, world).rows(self.config.batch_size)

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Update the network by the squared error of its velocity against CT minus noise, at a random time.

        Args:
            batch: `ct` [b, 1, z, y, x] within -1 to 1, `region` and `outline` [b, 1, z, y, x], and `condition` [b, k].
            step: step of the training.
        """
        config = self.config
        self.set_rate("velocity", config.learning_rate * config.rate(step))
        n = len(batch["ct"]) * self.share.world
        logits = config.time_mean + config.time_spread * self.drawn("time", step, n)
        noise = self.drawn("noise", step, n, *batch["ct"].shape[1:])
        with self.autocast():
            error = self._error(self._network, batch, logits.sigmoid(), noise)
        loss = (error * loss_weights(batch, config.nodule_weight)).flatten(1).sum(1).mean()
        loss.backward()
        self.update("velocity", config.most_gradient)
        return {"loss": loss.detach(), "nodule": _mean_in(error.detach(), batch["outline"])}

    def _error(
        self, network: VelocityNet, batch: Mapping[str, Tensor], time: Float[Tensor, " b"], noise: Tensor
    ) -> Float[Tensor, "b 1 z y x"]:
        """Return the squared error of the velocity in each voxel.

        Args:
            network: the network or its moving average.
            batch: see `training_step`.
            time: time of each patch, 0 for noise to 1 for CT.
            noise: standard normal noise of the shape of `ct`.
        """
        ct = self._normal(batch["ct"])
        share = time[:, None, None, None, None]
        under_way = torch.where(batch["region"] > 0, share * ct + (1 - share) * noise, ct)
        found = network(under_way, batch["region"], batch["outline"], time, batch["condition"])
        return (found.float() - (ct - noise)).square()

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Return the loss on held-out nodules, with the same times and noise in every measurement."""
        network, found = self._drawing, []
        for i, batch in enumerate(self.held_out):
            random = torch.Generator().manual_seed(derive(self.seed, "validation", i))
            n = len(batch["ct"])
            time = (torch.arange(n) + 0.5) / n
            noise = torch.randn(batch["ct"].shape, generator=random)
            moved = {name: value.to(self.device) for name, value in batch.items()}
            with self.autocast():
                error = self._error(network, moved, time.to(self.device), noise.to(self.device))
            found.append((error * loss_weights(moved, self.config.nodule_weight)).flatten(1).sum(1))
        return {"validation_loss": float(torch.cat(found).mean())}

    @torch.no_grad()
    def drawn_in(
        self,
        gaps: Gaps,
        noise: Float[Tensor, "b 1 z y x"],
        options: FlowOptions,
        precision: Precision = "32",
    ) -> Float[Tensor, "b 1 z y x"]:
        """Generate the regions of patches from noise.

        Args:
            gaps: the patches, their regions and conditions.
            noise: standard normal noise.
            options: options of the integration.
            precision: precision of the network's arithmetic.

        Returns:
            The whole patches within -1 to 1, on the CPU.
        """
        network, own = self._drawing, gaps.on(self.device)
        ct = self._normal(own.patches)
        if options.guidance != 1:  # both velocities in one batch, which oneDNN computes much faster than batches of 1
            conditions = torch.cat([own.condition, own.nothing])
            outlines = torch.cat([own.outline, torch.zeros_like(own.outline)])
        else:
            conditions, outlines = own.condition, own.outline
        regions = own.region.repeat(len(conditions) // len(ct), 1, 1, 1, 1)

        def velocity(made: Tensor, now: float) -> Tensor:
            seen = torch.where(own.region > 0, made, ct).repeat(len(conditions) // len(ct), 1, 1, 1, 1)
            time = torch.full((len(conditions),), now, device=ct.device)
            with self.autocast(precision):
                along = network(seen, regions, outlines, time, conditions).float()
            if options.guidance == 1:
                return along
            asked, usual = along.chunk(2)
            return usual + options.guidance * (asked - usual)

        made = integrated(velocity, noise.to(self.device), options.steps, options.solver)
        return pasted(self._unit(made).clip(-1, 1), own.patches, own.region).cpu()

    def preview(self) -> Figure | None:
        """Return middle slices of training patches: real, with the nodule generated by two seeds, and erased."""
        if self.shown is None:
            return None
        import numpy as np

        from synthorax.figures import REAL, SYNTHETIC, Slice, ct_slices

        batch = {name: value[:PREVIEWED] for name, value in self.shown.items()}
        n, attributes = len(batch["ct"]), len(self.config.shown)
        nothing = no_condition(batch["scale"], attributes)
        absent = flow_conditions(
            batch["scale"],
            torch.full((n,), HAS_NONE),
            torch.zeros(n, dtype=torch.bool),
            torch.full((n, attributes), torch.nan),
        )
        as_given = Gaps(batch["ct"], batch["region"], batch["outline"], batch["condition"], nothing)
        erased = as_given._replace(outline=torch.zeros_like(batch["outline"]), condition=absent)
        random = torch.Generator().manual_seed(derive(self.seed, "preview"))
        noises = [torch.randn(batch["ct"].shape, generator=random) for _ in range(2)]
        how = FlowOptions(steps=PREVIEW_STEPS)
        rows = [(batch["ct"], "real", REAL)]
        rows += [(self.drawn_in(as_given, noise, how), "generated", SYNTHETIC) for noise in noises]
        rows += [(self.drawn_in(erased, noises[0], how), "erased", SYNTHETIC)]
        z, y, x = (length // 2 for length in self.config.size)
        none = np.zeros(self.config.size, bool)
        panels = [
            Slice(self.config.patch.to_hu(cube[0].numpy())[z], none[z], name, (y, x), colour)
            for cubes, name, colour in rows
            for cube in cubes
        ]
        return ct_slices(panels, half=max(y, x), columns=n)

    def _normal(self, unit: Tensor) -> Tensor:
        """Return patches within -1 to 1 normalised to the flow's mean of 0 and standard deviation of 1."""
        middle, half = self._scale
        return (unit * half + middle - USUAL_HU) / SPREAD_HU

    def _unit(self, normal: Tensor) -> Tensor:
        """Return normalised patches within -1 to 1; the inverse of `_normal`."""
        middle, half = self._scale
        return (normal * SPREAD_HU + USUAL_HU - middle) / half

    @property
    def _scale(self) -> tuple[float, float]:
        """The centre of the HU window, and half of its width."""
        low, high = self.config.window_hu
        return (low + high) / 2, (high - low) / 2

    @property
    def _network(self) -> VelocityNet:
        return cast(VelocityNet, self.networks["velocity"])

    @property
    def _drawing(self) -> VelocityNet:
        """The network that generates outside training: the moving average, if there is one."""
        return cast(VelocityNet, self.averages.get("velocity", self._network))


System = Flow


def loss_weights(batch: Mapping[str, Tensor], nodule_weight: float) -> Float[Tensor, "b 1 z y x"]:
    """Return the weight of each voxel in a patch's loss; the weights sum to 1 over the region.

    If an outline is given, the nodule and its neighbouring voxels together have at least the share `nodule_weight`,
    even if the nodule is small. Without an outline all voxels of the region have equal weights: the network must then
    find where a nodule may be, and unequal weights would bias that.

    Args:
        batch: `region` and `outline`, each [b, 1, z, y, x].
        nodule_weight: least share of the nodule and its neighbouring voxels.
    """
    region = batch["region"]
    near = functional.max_pool3d(batch["outline"], NODULE_REACH, stride=1, padding=NODULE_REACH // 2) * region
    all_voxels, near_voxels = (_count(each).clamp_min(1) for each in (region, near))
    least = nodule_weight * (_count(near) > 0)
    share = torch.maximum(least, _count(near) / all_voxels)
    rest = region - near
    return near * share / near_voxels + rest * (1 - share) / _count(rest).clamp_min(1)


def _count(each: Tensor) -> Tensor:
    """Return the sum over each patch, [b, 1, 1, 1, 1]."""
    return each.sum((1, 2, 3, 4), keepdim=True)


def _mean_in(error: Tensor, inside: Tensor) -> Tensor:
    """Return the mean error inside the outlines."""
    return (error * inside).sum() / inside.sum().clamp_min(1)
