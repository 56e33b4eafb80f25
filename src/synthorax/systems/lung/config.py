"""The configuration, presets and options of LuNG. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from synthorax import makers
from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM
from synthorax.errors import InputError
from synthorax.patch import PositiveMm
from synthorax.training.config import choose

NoduleShape = str | Path | NDArray
"""A nodule's shape as users give it: FILE, FILE:ROW (the row counted from 0, or the label in an image), or occupancy
[z, y, x] on the model's grid."""


class LungConfig(BaseModel):
    """LuNG's network and its training; the defaults are those of the paper and its released program.

    Attributes:
        layers: neurons of the hidden layers, such as 32_3_64_1024; the narrowest layer is the latent space (Kommrusch
            and Pouchet, "Synthetic lung nodule 3D image generation using autoencoders", called the paper below).
        grid: voxels of a nodule's box (z, y, x).
        spacing_mm: voxel size (z, y, x).
        method: adam trains all layers, as in the paper. fit, the fast method of the presets compact and smooth,
            arranges the latent vectors, regresses the encoder on them, and fits the generator's last layer by a convex
            method.
        iterations: with adam the number of mini-batches, which the paper calls epochs; with fit the number of passes
            over all nodules.
        batch_size: samples of a mini-batch of Adam.
        learning_rate: learning rate of Adam.
        rounds: blocks of iterations; each starts the optimiser anew.
        schedule: learning rate over a round: constant, or a short warm-up and a cosine to zero.
        support: voxels of the network: all, or base, those that some training sample uses. The others are zero in every
            sample, so that nothing is lost without them.
        initialisation: default, as in PyTorch; or data, from the training samples, so that few iterations give usable
            samples. Not used with fit.
        target: grey, the paper's grey values; or distance, a soft field of the distance to the nodule's edge,
            for smooth nodules such as outlined ones.
        edge_mm: width of the edge of that field.
        reflected: train on the 8 reflections of every nodule.
        detail: gain of the generator's random layers in the fit; with a larger gain, shapes change faster along a path
            in latent space.
        ridge: weight decay of the last layer in the fit.
        shifted_weight: weight in the fit of a half-pixel-shifted sample; other samples have weight 1.
        morph_weight: weight in the fit of a shape half-way between two neighbours; 0 for none.
        morph_thickening_mm: thickness that the fit adds around such a shape.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int) else v)] = "32_3_64_1024"
    grid: tuple[PositiveInt, PositiveInt, PositiveInt] = LUNG_GRID
    spacing_mm: tuple[PositiveMm, PositiveMm, PositiveMm] = LUNG_SPACING_MM
    method: Literal["adam", "fit"] = "adam"
    iterations: int = Field(default=150_000, ge=1)
    rounds: int = Field(default=6, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "constant"
    support: Literal["all", "base"] = "all"
    initialisation: Literal["default", "data"] = "default"
    target: Literal["grey", "distance"] = "grey"
    edge_mm: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    reflected: bool = True
    detail: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    ridge: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    shifted_weight: float = Field(default=0.05, ge=0, le=1)
    morph_weight: float = Field(default=0.3, ge=0, le=1)
    morph_thickening_mm: float = Field(default=0.2, ge=0, allow_inf_nan=False)

    @property
    def field_edge_mm(self) -> float | None:
        """`edge_mm` if the target is a soft field, otherwise None."""
        return self.edge_mm if self.target == "distance" else None

    @property
    def steps(self) -> int:
        """Training steps, which are the `iterations`."""
        return self.iterations

    @property
    def widths(self) -> tuple[int, ...]:
        """Neurons of each hidden layer."""
        return tuple(int(width) for width in self.layers.split("_"))

    @property
    def bottleneck(self) -> int:
        """Index of the latent layer in `widths`."""
        return self.widths.index(min(self.widths))

    @property
    def latent_size(self) -> int:
        """Neurons of the latent layer."""
        return min(self.widths)

    @model_validator(mode="after")
    def _check(self) -> LungConfig:
        if not re.fullmatch(r"[1-9]\d*(_[1-9]\d*)*", self.layers):
            raise InputError("layers", repr(self.layers), "neuron counts joined by underscores, as in 32_3_64_1024")
        if max(self.widths) > 65_536:
            raise InputError("layers", f"a layer of {max(self.widths)} neurons", "at most 65536")
        if self.iterations % self.rounds:
            raise InputError("iterations", str(self.iterations), f"a multiple of the {self.rounds} rounds")
        return self


PRESETS = {
    "paper": LungConfig(),
    "compact": LungConfig(method="fit", iterations=25, rounds=1, support="base"),
    "smooth": LungConfig(
        method="fit",
        iterations=25,
        rounds=1,
        support="base",
        target="distance",
        reflected=False,
        detail=3.0,
        morph_thickening_mm=0.0,
    ),
    "smoke": LungConfig(
        layers="8_3_16_64",
        iterations=60,
        rounds=2,
        batch_size=32,
        learning_rate=3e-3,
        schedule="cosine",
        support="base",
        initialisation="data",
    ),
}

ABOUT_PRESETS = {
    "paper": "the default, as published; takes hours on a CPU.",
    "compact": "for a CPU; takes half a minute for 51 nodules.",
    "smooth": "as fast, for nodules with smooth edges, such as LIDC's outlines.",
    "smoke": "takes seconds, to try the command.",
}
CORE_SECONDS = {"paper": 0.5}
"""Seconds of a CPU's core for a step of each preset that is too large for one, reckoned from 26 GFLOP."""
CPU_PRESET = "compact"
"""Preset that suits a CPU."""
FLAGS = ("layers",)


RADIUS = 0.2
"""Default of the option `radius`."""


class LungOptions(makers.Options):
    """Options of sampling.

    Attributes:
        near: make nodules similar to this nodule, FILE or FILE:ROW (the row counted from 0, or the label in an image).
        radius: with `near`, largest distance from that nodule along each axis of the latent space, whose axes go from
            -1 to 1; 0.2 if not given.
        walk: make the steps from a first nodule to a second one, FILE or FILE:ROW each.
    """

    near: NoduleShape | None = None
    radius: float | None = None
    walk: tuple[NoduleShape, NoduleShape] | None = None

    def recorded(self) -> dict[str, Any]:
        """Return, for a manifest, how the latent space is sampled: near a nodule, between two, or uniformly."""
        if self.near is not None:
            radius = RADIUS if self.radius is None else self.radius
            return {"drawn": "near", "nodule": makers.as_recorded(self.near), "radius": radius}
        if self.walk is not None:
            first, last = makers.as_recorded(self.walk)
            return {"drawn": "walk", "from": first, "to": last}
        return {"drawn": "uniform", **super().recorded()}


Options = LungOptions
Config = LungConfig


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        nodules: number of nodules to train on, drawn by the seed; all if not given.
    """

    nodules: PositiveInt | None = None


def lung_config(preset: str, settings: Mapping[str, Any]) -> LungConfig:
    """Return a preset with some settings changed.

    Raises:
        InputError: there is no such preset or setting, or a value does not fit.
    """
    return choose(PRESETS, preset, settings)
