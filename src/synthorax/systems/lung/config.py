"""What a LuNG model is, as one frozen and typed object. No torch here."""

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
"""A nodule's shape as users give it: FILE, FILE:ROW (a row counted from 0, or the label in an image), or occupancy
[z, y, x] on the model's grid."""


class LungConfig(BaseModel):
    """LuNG's network and its training; the defaults are the paper's and its released program's.

    Attributes:
        layers: neurons of the hidden layers, as in 32_3_64_1024; the narrowest is the latent space (section IV).
        grid: voxels of a nodule's box (z, y, x).
        spacing_mm: of its voxels (z, y, x).
        method: Adam on all layers, as published; or the fit of `systems.lung.fit`: arranged latent vectors,
            a regressed feature network, and a convex fit of the generator's last layer.
        iterations: mini-batches of Adam in all, which the paper calls epochs; or passes of the fit.
        batch_size: samples of a mini-batch of Adam.
        learning_rate: Adam's.
        rounds: blocks of iterations; each starts the optimiser anew.
        schedule: learning rate over a round: constant, or a short warm-up and a cosine to zero.
        support: voxels the network sees: all, or those that some base sample uses. The others are
            zero in every sample, so leaving them out loses nothing.
        initialisation: PyTorch's default, or from the data (`ShapeAutoencoder.initialise_from`), so that
            few iterations give usable samples. The fit has its own.
        target: what the network learns a nodule as: the paper's grey values, or a soft field of the distance to its
            edge (`systems.lung.depth`), for smooth nodules such as outlined ones.
        edge_mm: of that field, how far its edge reaches.
        reflected: the base set has the 8 reflections of every nodule.
        detail: of the fit: gain of the generator's random layers; more lets the shape change faster on the way
            through the latent space.
        ridge: of the fit: weight decay of the last layer.
        shifted_weight: of the fit: weight of a half-pixel-shifted sample, of 1 for the others.
        morph_weight: of the fit: weight of a shape half-way between two neighbours; 0 leaves them out.
        morph_thickening_mm: added all around those shapes.
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
        """`edge_mm` where it is used."""
        return self.edge_mm if self.target == "distance" else None

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
    "paper": "as published, hours on a CPU.",
    "compact": "half a minute for 51 nodules.",
    "smooth": "the same for outlined nodules, as LIDC's, which have no rough edges.",
    "smoke": "seconds.",
}
FLAGS = ("layers",)


RADIUS = 0.2
"""Half the width of the box of the latent space, whose axes go from -1 to 1, if `near` comes without a radius."""


class LungOptions(makers.Options):
    """Options of sampling.

    Attributes:
        near: a nodule, FILE or FILE:ROW (a row counted from 0, or the label in an image): make nodules like it.
        radius: with `near`, how far from it in the latent space, whose axes go from -1 to 1; 0.2 if not given.
        walk: two nodules, FILE or FILE:ROW each: make steps from the first to the second.
    """

    near: NoduleShape | None = None
    radius: float | None = None
    walk: tuple[NoduleShape, NoduleShape] | None = None

    def told(self) -> dict[str, Any]:
        """Return how the latent space is sampled: near a nodule, between two, or, if nothing is said, uniformly."""
        if self.near is not None:
            radius = RADIUS if self.radius is None else self.radius
            return {"drawn": "near", "nodule": makers.as_told(self.near), "radius": radius}
        if self.walk is not None:
            first, last = makers.as_told(self.walk)
            return {"drawn": "walk", "from": first, "to": last}
        return super().told()


Options = LungOptions
Config = LungConfig


class TrainingOptions(makers.Options):
    """Options of training, beside the configuration.

    Attributes:
        nodules: train on this many nodules, drawn by the seed; on all if not given.
    """

    nodules: PositiveInt | None = None


def lung_config(preset: str, settings: Mapping[str, Any]) -> LungConfig:
    """A preset with some settings changed.

    Raises:
        InputError: no such preset, or a setting that does not exist or whose value does not fit.
    """
    return choose(PRESETS, preset, settings)
