"""The settings of a translation from label maps to CT, as one frozen and typed object. Does not import torch."""

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
"""HU that are mapped to -1 and 1; the thesis divides HU by 2000 (section 4.3.3)."""
THESIS_PIXEL_MM = 0.48828125
"""Pixel spacing of all scans of the thesis (section 3.2); its slices are 1 mm apart."""
LABEL_CLASSES = 7
"""Number of classes of a label map: the thesis' six, and the air around the patient."""
MOST_TOGETHER = 2**10
"""Largest number of channels in a layer, of windows in a batch, and of windows in the pool."""
LEAST_PUBLISHED = 32
"""Least size of a window, in voxels, for the thesis' critic."""
WINDOW_MULTIPLE = 4
"""Window sizes must be multiples of this, because the networks halve the grid twice."""


class TranslationConfig(PatchSettings):
    """Settings of the networks and their training. The defaults are the thesis'; values that it lacks are marked.

    Attributes:
        size: voxels of a window (z, y, x); with z = 1 the networks are two-dimensional and work on slices.
        spacing_mm: voxel spacing (z, y, x) of a window (section 3.2).
        window_hu: HU (low, high) that are mapped to -1 and 1 (section 4.3.3).
        model: `cyclegan`, which trains on label maps and CT that need not show the same places, or `pix2pix`, which
            trains on pairs of a label map and its own CT.
        inputs: encoding of a label map: `labels`, the class of each voxel; `mask`, the nodules only; or `mask-noise`,
            the mask with uniform noise of up to 0.05 (section 4.3.1).
        slices: neighbouring slices of the label map that are the input for one slice of CT, an odd number; for networks
            that work on slices.
        as_published: whether to use the layers, norms and sigmoids of the thesis, and one input channel with the value
            class code / 3 - 1; else layers without a norm over the window, so that a place looks the same in every
            window, one channel for each class, and no sigmoid.
        width: channels of the painter's first convolution.
        blocks: residual blocks of the painter on its coarsest grid (6 for CycleGAN).
        critic_width: channels of the critics' first convolution.
        critic_contrast: factor of the CT in the input of its critic. It decides how small a difference of HU the critic
            can tell, because spectral normalisation limits its slope; not with `as_published`.
        fold: 2 halves the painter's finest grid along each axis and makes blocks of voxels its channels, for a fraction
            of the computation; not with `as_published`.
        noise: channels of noise that the painter gets in addition to the label map, from which it can make the
            texture of tissue; not with `as_published`.
        noise_correlation: correlation of neighbouring voxels in these channels, from 0 for white noise to 0.7; in CT of
            lung it is about 0.6.
        at_nodules: share of the windows that contain at least a part of a nodule, if there are outlined nodules.
        centred: whether a window of a nodule has the nodule at its centre, or a slice cuts it, as in section 4.1.1;
            else the nodule lies anywhere in the window.
        cleaned: share of the label maps that are smoothed in training by the most frequent class around each voxel, to
            resemble maps of segmenters and phantoms; maps derived from HU are speckled by CT noise.
        turns: whether windows are flipped along each axis with probability one half, and x and y are exchanged with
            probability one half. Not in the thesis.
        batch_size: windows in a step.
        parts: number of parts of a batch, which are computed one after another to save memory.
        steps: number of steps, each with one update of painters and critics; 200 epochs of 8156 slices are 51,000
            (section 4.3.5).
        learning_rate: learning rate of Adam, constant in the first half of the steps and falling linearly to 0 in the
            second half.
        betas: betas of Adam.
        adversarial: weight of the adversarial loss in the painters' loss.
        cycle: weight of the cycle loss of CycleGAN.
        reconstruction: weight of the L1 distance to the label map's own CT, for Pix2Pix.
        pooled: width in voxels, an odd number, of the means between which that distance is taken, so that only the
            critic judges noise.
        pool: painted windows of earlier steps that are kept; CycleGAN's critics see one of them instead of a new window
            with probability one half.
        ema_decay: decay of the moving average of the painter's weights, which then paints; 0 keeps none.
        checkpoints: whether layers are computed again in the backward pass, to save memory.
        sample_size: voxels (z, y, x) of the volumes that `sample` paints (128^3 in section 4.5).
        phantom_mm: smallest voxel spacing of the phantoms whose label maps `sample` uses; smaller voxels take the
            nearest class.
        templates: number of training nodules whose shapes the model keeps, for the volumes that `sample` paints; 15 in
            section 4.5.
        precision: precision of the layers: `auto`, `32`, `tf32` or `bf16`; weights and losses stay in 32 bits. A run
            records what `auto` was resolved to.
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
    critic_contrast: Positive = 1.0
    fold: Literal[1, 2] = 1
    noise: NonNegativeInt = 0
    noise_correlation: float = Field(default=0.0, ge=0, le=0.7)
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
        """The grid of sampled volumes."""
        return PatchSpec(self.sample_size, self.spacing_mm, self.window_hu)

    @property
    def by_slices(self) -> bool:
        """Whether the networks work on slices, not on volumes."""
        return self.size[0] == 1

    @property
    def channels(self) -> int:
        """Channels of an encoded label map."""
        return LABEL_CLASSES if self.inputs == "labels" and not self.as_published else 1

    @property
    def depth(self) -> int:
        """Number of slices of a label map that the painter sees at once."""
        return self.slices if self.by_slices else self.size[0]

    @property
    def finest_width(self) -> int:
        """Channels of the painter on its finest grid."""
        return self.width

    @property
    def levels(self) -> int:
        """Number of times that the thesis' U-Net of Pix2Pix halves a window, to one voxel along its shortest axis."""
        return int(math.log2(min(n for n in self.size if n > 1)))

    def rate(self, step: int) -> PositiveShare | float:
        """Return the share of the initial learning rate at a step."""
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
            raise InputError("slices", found, "an odd number, and 1 if windows have several slices")
        if any(n % (WINDOW_MULTIPLE * self.fold) or n < 8 for n in self.size[1 if self.by_slices else 0 :]):
            expected = f"multiples of {WINDOW_MULTIPLE * self.fold}, at least 8; z may be 1"
            raise InputError("size", str(self.size), expected)
        if self.as_published and (self.fold > 1 or self.noise or self.critic_contrast != 1):
            found = f"true with fold {self.fold}, noise {self.noise} and critic_contrast {self.critic_contrast:g}"
            raise InputError("as_published", found, "fold 1, noise 0 and critic_contrast 1")
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
            expected = "an odd number, at most the size of a window"
            raise InputError("pooled", f"{self.pooled} for windows of {self.size} voxels", expected)
        return self


_PAPER = TranslationConfig(as_published=True, at_nodules=1.0, centred=True, templates=15)
_OURS = TranslationConfig(
    spacing_mm=(1.0, 1.0, 1.0),
    window_hu=(-1024.0, 1000.0),
    critic_width=32,
    critic_contrast=4.0,
    noise=1,
    noise_correlation=0.6,
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
    "paper2d": "CycleGAN on slices of 128^2, as published, on a GPU.",
    "paper3d": "the same layers on volumes of 128^3.",
    "patch48": "CycleGAN on volumes of 48 mm, a channel for each class, noise for texture, no norm over a window.",
    "compact2d": "the same on slices of 48 mm, for a CPU.",
    "compact": "Pix2Pix on volumes of 32 mm, folded, for a CPU.",
    "smoke": "seconds.",
}
CORE_SECONDS: dict[str, float | None] = {"paper2d": None, "paper3d": None}
"""Presets that are too large for a CPU; nobody measured the seconds of their steps."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""
FLAGS = ("model", "inputs", "slices")


class TranslationOptions(makers.Options):
    """Options of sampling.

    Attributes:
        labels: store whose training cases' label maps are painted; label maps of phantoms, which show no patient, if
            not given.
        shapes: source of the nodules' shapes: a mask, a model that makes shapes, such as a trained LuNG, or lidc for
            the outlines of LIDC-IDRI's readers; the shapes that the model keeps from its training if not given.
        without: share of the volumes without a nodule; 0.2 in the thesis.
    """

    labels: Path | None = None
    shapes: Path | str | None = None
    without: float = Field(default=0.0, ge=0, le=1)


class TrainingOptions(makers.Options):
    """Options of training in addition to the configuration.

    Attributes:
        labels: store with the label maps that CycleGAN is trained on, with CT of the data; the data's own label maps if
            not given.
        cache: folder for decoded cases; the user's cache folder if not given.
    """

    labels: Path | None = None
    cache: Path | None = None


Config = TranslationConfig
Options = TranslationOptions
