"""Settings that generators of whole scans share. Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from synthorax import makers
from synthorax.datasets.chest_grid import ChestGrid, ChestRegion
from synthorax.errors import InputError
from synthorax.makers import Names
from synthorax.patch import MOST_HU, NETWORK_WINDOW_HU, PatchSpec, PositiveMm
from synthorax.training.config import Decay, NotNegative, Positive, PositiveShare, Precision

ScanCondition = Literal["spacing", "nodules"]
"""Conditions that a generator of scans may have: the voxel spacing, and whether the scan has a nodule."""
Objective = Literal["wasserstein", "js"]
"""Adversarial objective: the Wasserstein distance, or the Jensen-Shannon divergence."""
MOST_EDGE_VOXELS = 1024
"""Largest number of voxels along an edge of a scan."""
MOST_SCAN_CHANNELS = 2**12
"""Largest number of channels in a layer, of entries of the noise vector, and of scans in a batch."""


class ScanSettings(BaseModel):
    """Settings of a generator of whole scans that trains against critics.

    Attributes:
        size: voxels of a scan (z, y, x).
        region: part of each case to train on. `lungs`: the box of the lungs of a whole scan, resized; `cube`: the
            middle of a cube.
        cube_mm: voxel spacing (z, y, x) of a cube; that of a whole scan follows from the box of its lungs.
        window_hu: HU (low, high) that are mapped to -1 and 1.
        conditions: conditions of the generator and the critics: `spacing`, `nodules`.
        objective: `wasserstein`, or `js` for the Jensen-Shannon divergence with logits.
        penalty: weight of the squared gradient norm of each critic at real samples (Mescheder et al. 2018).
        penalty_every: steps between two penalties; each is multiplied by this number.
        batch_size: scans in an update.
        steps: number of steps, each with one update of the critics and one of the generator.
        generator_learning_rate: learning rate of the generator's Adam optimiser.
        critic_learning_rate: learning rate of the critics' Adam optimisers.
        betas: betas of all Adam optimisers.
        rate_end: share of all learning rates at the last step; they fall linearly in the last third of the training.
        ema_decay: decay of the moving average of the generator's weights, which then generates scans; 0 keeps none.
        precision: precision of the layers: `auto`, `32`, `tf32` or `bf16`; weights, losses and penalties stay in 32
            bits. A run records what `auto` was resolved to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    region: ChestRegion = "lungs"
    cube_mm: tuple[PositiveMm, PositiveMm, PositiveMm] = (1.0, 1.0, 1.0)
    window_hu: tuple[float, float] = NETWORK_WINDOW_HU
    conditions: tuple[ScanCondition, ...] = ()
    objective: Objective = "wasserstein"
    penalty: NotNegative = 10.0
    penalty_every: PositiveInt = 1
    batch_size: PositiveInt = 4
    steps: PositiveInt = 100_000
    generator_learning_rate: Positive = 1e-4
    critic_learning_rate: Positive = 1e-4
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    rate_end: PositiveShare = 1.0
    ema_decay: Decay = 0.999
    precision: Precision = "auto"

    @property
    def grid(self) -> ChestGrid:
        """The voxel grid of the scans."""
        return ChestGrid(self.size, self.region, self.cube_mm)

    @property
    def window(self) -> PatchSpec:
        """The HU window, as a `PatchSpec` whose spacing has no meaning."""
        return PatchSpec(self.size, window_hu=self.window_hu)

    @property
    def condition_length(self) -> int:
        """Length of the networks' condition vector: three entries for the spacing, one for the nodules."""
        return 3 * ("spacing" in self.conditions) + ("nodules" in self.conditions)

    def rate(self, step: int) -> float:
        """Return the share of the initial learning rates at a step."""
        left = 3 * (self.steps - step) / self.steps
        return self.rate_end + (1 - self.rate_end) * min(max(left, 0.0), 1.0)

    @model_validator(mode="after")
    def _check_scan(self) -> ScanSettings:
        if not 3 <= min(self.size) <= max(self.size) <= MOST_EDGE_VOXELS:
            raise InputError("size", str(self.size), f"3 to {MOST_EDGE_VOXELS} voxels along each axis")
        if not -MOST_HU < self.window_hu[0] < self.window_hu[1] < MOST_HU:
            raise InputError("window_hu", str(self.window_hu), "low < high")
        if len(set(self.conditions)) < len(self.conditions):
            raise InputError("conditions", ", ".join(self.conditions), "each name at most once")
        if self.batch_size > MOST_SCAN_CHANNELS:
            raise InputError("batch_size", str(self.batch_size), f"at most {MOST_SCAN_CHANNELS}")
        return self


class ScanTrainingOptions(makers.Options):
    """Options of training in addition to the configuration.

    Attributes:
        erased_by: name or run folder of a maker that first removes the nodules from the training scans; it must not
            have been trained on validation or test patients. Without one the nodules stay, and generated scans may
            contain nodules.
        cache: folder for the decoded scans; the user's cache folder if not given.
    """

    erased_by: Annotated[Any, Names("erases")] = None
    cache: Path | None = None


class ScanOptions(makers.Options):
    """Options of sampling.

    Attributes:
        nodules: whether to generate scans with a nodule or without one, for a model that was conditioned on nodules in
            training; drawn from the training scans if not given.
        precision: precision of the networks, 32 or bf16; auto is the precision of the training if this machine
            supports it, else 32. The manifest records it.
    """

    nodules: bool | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
