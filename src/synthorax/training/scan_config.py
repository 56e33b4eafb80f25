"""Settings that generators of whole scans share. No torch here."""

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

ToldOfScan = Literal["spacing", "nodules"]
"""What a generator of scans may be told: the spacing of the voxels, and whether the scan has a nodule."""
Objective = Literal["wasserstein", "js"]
"""What critics and generator play for: the Wasserstein distance, or the Jensen-Shannon divergence."""
MOST_EDGE_VOXELS = 1024
"""Voxels along an edge of a scan at most."""
MOST_SCAN_CHANNELS = 2**12
"""Channels of a layer, entries of noise and scans of a batch at most."""


class ScanSettings(BaseModel):
    """Settings of a generator of whole scans that learns against critics.

    Attributes:
        size: voxels of a scan (z, y, x).
        region: `lungs`: of every whole scan the box of its lungs, resized; `cube`: of every cube its middle.
        cube_mm: spacing (z, y, x) of a cube's voxels; that of a whole scan follows from the box of its lungs.
        window_hu: HU (low, high) that become -1 and 1.
        told: what generator and critics are told of a scan: `spacing`, `nodules`.
        objective: `wasserstein` or `js`, the Jensen-Shannon divergence with logits.
        penalty: weight of the squared gradient of each critic at real samples (Mescheder et al. 2018).
        penalty_every: steps from one penalty to the next, which then counts as many times.
        batch_size: scans that an update learns from.
        steps: of one update of the critics and one of the generator.
        generator_learning_rate: Adam's.
        critic_learning_rate: Adam's.
        betas: Adam's.
        rate_end: share of both learning rates that is left at the last step; they fall linearly in the last third.
        ema_decay: of a running mean of the generator's weights, which then makes the scans; 0 is none.
        precision: of the layers, `auto`, `32`, `tf32` or `bf16`; weights, losses and penalties stay in 32 bits. A run
            notes what `auto` was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    region: ChestRegion = "lungs"
    cube_mm: tuple[PositiveMm, PositiveMm, PositiveMm] = (1.0, 1.0, 1.0)
    window_hu: tuple[float, float] = NETWORK_WINDOW_HU
    told: tuple[ToldOfScan, ...] = ()
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
        """The voxels of the scans."""
        return ChestGrid(self.size, self.region, self.cube_mm)

    @property
    def window(self) -> PatchSpec:
        """The HU window, as a grid whose spacing says nothing."""
        return PatchSpec(self.size, window_hu=self.window_hu)

    @property
    def conditions(self) -> int:
        """Numbers that the networks are told: three of the spacing, one of the nodules."""
        return 3 * ("spacing" in self.told) + ("nodules" in self.told)

    def rate(self, step: int) -> float:
        """The share of the learning rates at a step."""
        left = 3 * (self.steps - step) / self.steps
        return self.rate_end + (1 - self.rate_end) * min(max(left, 0.0), 1.0)

    @model_validator(mode="after")
    def _check_scan(self) -> ScanSettings:
        if not 3 <= min(self.size) <= max(self.size) <= MOST_EDGE_VOXELS:
            raise InputError("size", str(self.size), f"3 to {MOST_EDGE_VOXELS} voxels along each axis")
        if not -MOST_HU < self.window_hu[0] < self.window_hu[1] < MOST_HU:
            raise InputError("window_hu", str(self.window_hu), "low < high")
        if len(set(self.told)) < len(self.told):
            raise InputError("told", ", ".join(self.told), "each at most once")
        if self.batch_size > MOST_SCAN_CHANNELS:
            raise InputError("batch_size", str(self.batch_size), f"at most {MOST_SCAN_CHANNELS}")
        return self


class ScanTrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        erased_by: a maker that takes the nodules out of the training scans first, by its name or run folder, which must
            not know validation or test patients. Without one they stay in the scans, and may be in those that are made.
        cache: folder for the decoded scans; the user's cache folder if not given.
    """

    erased_by: Annotated[Any, Names("erases")] = None
    cache: Path | None = None


class ScanOptions(makers.Options):
    """Options of sampling.

    Attributes:
        nodules: scans with a nodule, or without one, of a model that was told which training scans have nodules;
            drawn as they were in training if not given.
        precision: of the networks, 32 or bf16; auto is the one that they learned in where this machine has it, else 32.
            The manifest tells which.
    """

    nodules: bool | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
