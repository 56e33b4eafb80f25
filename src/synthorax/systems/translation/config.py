"""What a painter of label maps is, as one frozen and typed object. No torch here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from synthorax import makers
from synthorax.errors import InputError
from synthorax.patch import MOST_PATCH_VOXELS, PatchSettings, PatchSpec
from synthorax.training.config import Decay, NotNegative, Positive, PositiveShare, Precision

THESIS_WINDOW_HU = (-2000.0, 2000.0)
"""HU that become -1 and 1 where they are divided by 2000 (section 4.3.3)."""
THESIS_PIXEL_MM = 0.48828125
"""Width of a pixel of every scan (section 3.2); slices are 1 mm apart."""
LABEL_CLASSES = 7
"""Classes of a label map: the thesis' six, and the air around the patient."""
MOST_TOGETHER = 2**10
"""Channels of a layer, windows of a batch and painted windows kept at most."""
LEAST_PUBLISHED = 32
"""Voxels of the narrowest window whose places the thesis' critic can tell apart."""
WINDOW_MULTIPLE = 4
"""Sizes of windows are divisible by this, as the networks halve the grid twice."""


class TranslationConfig(PatchSettings):
    """The networks and their training. The defaults are the thesis' where it says, and stated where it does not.

    Attributes:
        size: voxels of a window (z, y, x); one slice (z is 1) makes a network of slices.
        spacing_mm: of its voxels (z, y, x) (section 3.2).
        window_hu: HU (low, high) that become -1 and 1 (section 4.3.3).
        model: `cyclegan`, which learns from label maps and CT that need not be of the same places, or `pix2pix`, which
            learns each label map's own CT.
        inputs: what a label map is shown as: `labels`, the class of each voxel; `mask`, the nodules alone; or
            `mask-noise`, the same with uniform noise of up to .05 (section 4.3.1).
        slices: neighbouring slices of the label map from which one is painted, an odd number; for networks of slices.
        as_published: the layers, norms and sigmoids of the thesis, and one channel in which a class is its code / 3 -
            1; else layers without a norm over the window, which paint a place alike in every window, a channel for
            each class, and no sigmoid.
        width: channels of the painter's first convolution.
        blocks: residual blocks of the painter on its coarsest grid (6 for CycleGAN).
        critic_width: channels of the critics' first convolution.
        fold: with 2 the painter's finest grid has half the voxels along each axis, and blocks of voxels are its
            channels, for a fraction of the work; not with `as_published`.
        noise: channels of white noise that the painter takes beside the label map, so that the texture of tissue need
            not come out of it; not with `as_published`.
        at_nodules: share of the windows that hold at least a part of a nodule, where there are outlined nodules.
        centred: windows of nodules have their middle in theirs, and slices cut them, as in section 4.1.1; else they lie
            anywhere around them.
        cleaned: share of the label maps that are smoothed in training by the most frequent class around each voxel,
            as segmenters and phantoms give them; maps made from HU are speckled by the noise.
        turns: windows are flipped along each axis half of the time, and so are x and y exchanged. Not in the thesis.
        batch_size: windows of a step.
        parts: in which a batch is taken, one after the other, for less memory.
        steps: of an update of painters and critics; 200 epochs of 8156 slices are 51,000 (section 4.3.5).
        learning_rate: Adam's, kept for half of the steps and falling linearly to 0 in the other half.
        betas: Adam's.
        adversarial: weight of the critics' judgement in the painters' loss.
        cycle: weight of the cycle loss of CycleGAN.
        reconstruction: weight of the distance to the label map's own CT, for Pix2Pix.
        pooled: that distance is taken between means over so many voxels along each axis, an odd number, so that noise
            is the critic's affair alone.
        pool: painted windows that are kept, of which CycleGAN's critics see one in place of a new one half of the
            time.
        ema_decay: of a running mean of the painter's weights, which then paints; 0 is none.
        checkpoints: layers are computed again where their gradients are taken, for less memory.
        sample_size: voxels (z, y, x) of the volumes that `sample` paints (128^3 in section 4.5).
        phantom_mm: least width of the voxels of the phantoms whose label maps they have; smaller voxels take the class
            of the nearest.
        templates: nodules of the training data whose shapes the model keeps, for the volumes that `sample` paints; 15
            in section 4.5.
        precision: of the layers, `auto`, `32`, `tf32` or `bf16`; weights and losses stay in 32 bits. A run notes what
            `auto` was.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 128, 128)
    spacing_mm: tuple[Positive, Positive, Positive] = (1.0, THESIS_PIXEL_MM, THESIS_PIXEL_MM)
    window_hu: tuple[float, float] = THESIS_WINDOW_HU
    model: Literal["cyclegan", "pix2pix"] = "cyclegan"
    inputs: Literal["labels", "mask", "mask-noise"] = "labels"
    slices: PositiveInt = 1
    as_published: bool = False
    width: PositiveInt = 32
    blocks: PositiveInt = 6
    critic_width: PositiveInt = 64
    fold: Literal[1, 2] = 1
    noise: NonNegativeInt = 0
    at_nodules: float = Field(default=0.5, ge=0, le=1)
    centred: bool = False
    cleaned: float = Field(default=0.0, ge=0, le=1)
    turns: bool = False
    batch_size: PositiveInt = 32
    parts: PositiveInt = 1
    steps: PositiveInt = 51_000
    learning_rate: Positive = 2e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    adversarial: NotNegative = 1.0
    cycle: NotNegative = 10.0
    reconstruction: NotNegative = 100.0
    pooled: PositiveInt = 1
    pool: NonNegativeInt = 50
    ema_decay: Decay = 0.0
    checkpoints: bool = False
    sample_size: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 128, 128)
    phantom_mm: Positive = 1.5
    templates: NonNegativeInt = 128
    precision: Precision = "auto"

    @property
    def sample_spec(self) -> PatchSpec:
        """Grid of the volumes that are sampled."""
        return PatchSpec(self.sample_size, self.spacing_mm, self.window_hu)

    @property
    def by_slices(self) -> bool:
        """Whether the networks see slices, and no volumes."""
        return self.size[0] == 1

    @property
    def channels(self) -> int:
        """Channels of a label map."""
        return LABEL_CLASSES if self.inputs == "labels" and not self.as_published else 1

    @property
    def depth(self) -> int:
        """Slices of a label map that the painter sees at once."""
        return self.slices if self.by_slices else self.size[0]

    @property
    def finest_width(self) -> int:
        """Channels on the finest grid."""
        return self.width

    @property
    def levels(self) -> int:
        """How often Pix2Pix's U-Net of the thesis halves a window, to a single voxel along its shortest axis."""
        return int(math.log2(min(n for n in self.size if n > 1)))

    def rate(self, step: int) -> PositiveShare | float:
        """The share of the learning rate at a step."""
        return min(1.0, 2 * (self.steps - step) / self.steps)

    @model_validator(mode="after")
    def _check(self) -> TranslationConfig:
        if (largest := max(self.width, self.critic_width, self.batch_size, self.pool, self.noise)) > MOST_TOGETHER:
            raise InputError("width, critic_width, batch_size, pool or noise", str(largest), f"at most {MOST_TOGETHER}")
        if math.prod(self.sample_size) > MOST_PATCH_VOXELS or any(
            n < k for n, k in zip(self.sample_size, self.size, strict=True)
        ):
            expected = f"at least a window, {self.size}, and at most {MOST_PATCH_VOXELS} voxels"
            raise InputError("sample_size", str(self.sample_size), expected)
        if self.slices % 2 == 0 or (self.slices > 1 and not self.by_slices):
            found = f"{self.slices} for windows of {self.size} voxels"
            raise InputError("slices", found, "an odd number, and 1 where windows have several slices")
        if any(n % (WINDOW_MULTIPLE * self.fold) or n < 8 for n in self.size[1 if self.by_slices else 0 :]):
            expected = f"multiples of {WINDOW_MULTIPLE * self.fold} from 8 on; z may be 1"
            raise InputError("size", str(self.size), expected)
        if self.as_published and (self.fold > 1 or self.noise):
            raise InputError("as_published", f"true with fold {self.fold} and noise {self.noise}", "fold 1, noise 0")
        if self.as_published and min(n for n in self.size if n > 1) < LEAST_PUBLISHED:
            raise InputError("size", str(self.size), f"{LEAST_PUBLISHED} voxels or more for the thesis' critic")
        if self.batch_size % self.parts:
            raise InputError("parts", f"{self.parts} of {self.batch_size} windows", "a divisor of batch_size")
        together = self.batch_size // self.parts
        unfit = together < 2 or any(n & (n - 1) for n in self.size)
        if self.as_published and self.model == "pix2pix" and unfit:
            found = f"{self.size} voxels, {together} windows at once"
            raise InputError("size or batch_size", found, "powers of two, and 2 or more, for Pix2Pix's BatchNorm")
        if self.turns and (self.size[1] != self.size[2] or self.spacing_mm[1] != self.spacing_mm[2]):
            found = f"true for {self.size} voxels of {self.spacing_mm} mm"
            raise InputError("turns", found, "windows that are as wide along x as along y")
        if self.pooled % 2 == 0 or self.pooled > min(n for n in self.size if n > 1):
            raise InputError("pooled", f"{self.pooled} for windows of {self.size} voxels", "an odd number within them")
        return self


_PAPER = TranslationConfig(as_published=True, at_nodules=1.0, centred=True, templates=15)
_OURS = TranslationConfig(
    spacing_mm=(1.0, 1.0, 1.0),
    window_hu=(-1024.0, 1000.0),
    critic_width=32,
    noise=1,
    cleaned=0.5,
    turns=True,
    betas=(0.5, 0.9),
    reconstruction=10.0,
    pooled=3,
    ema_decay=0.999,
)


def _changed(config: TranslationConfig, **settings: object) -> TranslationConfig:
    return TranslationConfig.model_validate(config.model_dump() | settings)


PRESETS = {
    "paper2d": _PAPER,
    "paper3d": _changed(_PAPER, size=(128, 128, 128), batch_size=1, checkpoints=True),
    "patch48": _changed(_OURS, size=(48, 48, 48), batch_size=4, steps=20_000),
    "compact2d": _changed(_OURS, size=(1, 48, 48), width=24, critic_width=24, blocks=4, batch_size=16, steps=8_000),
    "compact": _changed(
        _OURS,
        model="pix2pix",
        size=(32, 32, 32),
        width=32,
        critic_width=24,
        blocks=4,
        fold=2,
        batch_size=4,
        steps=12_000,
    ),
    "smoke": _changed(
        _OURS,
        size=(16, 16, 16),
        width=8,
        blocks=1,
        critic_width=4,
        fold=2,
        batch_size=2,
        steps=6,
        pool=3,
        sample_size=(24, 24, 24),
        phantom_mm=6.0,
        templates=8,
    ),
}

ABOUT_PRESETS = {
    "paper2d": "slices of 128^2 by CycleGAN, as published, on a GPU.",
    "paper3d": "the same layers on volumes of 128^3.",
    "patch48": "volumes of 48 mm, a channel for each class, noise for texture, no norm over a window.",
    "compact2d": "the same by slices of 48 mm, for a CPU.",
    "compact": "Pix2Pix by volumes of 32 mm, folded, for a CPU.",
    "smoke": "seconds.",
}
FLAGS = ("model", "inputs", "slices")


class TranslationOptions(makers.Options):
    """Options of sampling.

    Attributes:
        labels: store whose training cases' label maps are painted; those of phantoms, which have no patient, if not
            given.
        shapes: of the nodules: a mask, a model that makes shapes, such as a trained LuNG, or lidc, the outlines of
            LIDC-IDRI's readers; those that the model keeps of its training if not given.
        without: share of the volumes that get no nodule; 0.2 in the thesis.
    """

    labels: Path | None = None
    shapes: Path | str | None = None
    without: float = Field(default=0.0, ge=0, le=1)


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        labels: store whose label maps CycleGAN learns from, beside the CT of the data; those of the data if not given.
        cache: folder for decoded cases; the user's cache folder if not given.
    """

    labels: Path | None = None
    cache: Path | None = None


Config = TranslationConfig
Options = TranslationOptions
