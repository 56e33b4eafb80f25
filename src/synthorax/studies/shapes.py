"""LuNG's experiment: trainings of generators of shapes, measured by the paper's Score and more (sections III-D, IV)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from synthorax.datasets.shape_files import ANALYZER_THRESHOLD
from synthorax.datasets.shapes import ShapeSet
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.provenance import fingerprint
from synthorax.seeding import derive, generator
from synthorax.shapes.acceptance import WARM_UP_NODULES, Analysis, accept, analyse, measure, measure_kept
from synthorax.shapes.features import shape_features
from synthorax.shapes.overlap import dice, greatest_dice
from synthorax.shapes.reconnection import ON_THRESHOLD
from synthorax.studies.noted import read_figures
from synthorax.studies.results import Arm, interval
from synthorax.systems.lung.base_set import base_set, half_pixel_shift, to_input, to_occupancy
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.feedback import Feedback, train_in_rounds
from synthorax.systems.lung.system import GeneratedShapes, Lung

NODULES_AT_ONCE = 500
"""Number of nodules generated and analysed at once, which bounds the memory."""
COPY_DICE = 0.95
"""A generated nodule with more Dice overlap than this with a training sample counts as a copy of it."""
COMPARISON_SEEDS = 2
"""Number of trainings of each arm of a comparison, as in tables I and II."""
HELD_OUT_SHARE = 0.2
"""Share of the patients held out in a further training of an arm with `Plan.held_out`."""

ShapesComparison = Literal["sizes", "feedback", "depth", "fit"]


@dataclass(frozen=True)
class Plan:
    """One arm: its training, and the paper's results for it.

    Attributes:
        name: name of the arm.
        layers: layer widths of the autoencoder, such as `32_3_64_1024`.
        settings: settings of the configuration that differ from the study's.
        feedback: how accepted nodules are fed back into training; None for no feedback.
        reconnected: whether generated nodules are reconnected before they are analysed.
        held_out: whether a further training leaves out a fifth of the patients, to measure the error on their nodules.
        paper: measure to the paper's value.
    """

    name: str
    layers: str
    settings: dict[str, Any] = field(default_factory=dict)
    feedback: Feedback | None = None
    reconnected: bool = True
    held_out: bool = False
    paper: dict[str, float] = field(default_factory=dict)


FEEDBACK = {
    "none": None,
    "accepted": Feedback(),
    "reflection": Feedback(reflections=1),
    "reflections": Feedback(reflections=4),
    "trade": Feedback(trade=True),
}
"""Name of each way of feeding accepted nodules back (section III-E), as users give it."""

RELEASED = {"score": 177, "acceptance": 0.86, "mse": 0.0757, "feature_distance": 1.7048, "feature_mmse": 0.0620}
"""Results of the released 32_3_64_1024 run; the paper states its Score as 176."""

ORIGINAL_SEEDS = "5e57e6698472eab67463afb88030875cf68580ff31e035e33f7ec79710f59f7f"
"""Fingerprint of the 51 nodules for which the paper reports results."""


def _table(acceptance: float, mse: float, feature_distance: float, **more: float) -> dict[str, float]:
    return {"acceptance": acceptance / 100, "mse": mse, "feature_distance": feature_distance, **more}


def comparison_plans(comparison: ShapesComparison, layers: str) -> list[Plan]:
    """Return the arms of a comparison.

    Args:
        comparison: `sizes` for the paper's figures 5 to 7; `feedback` for its tables I and II; `depth` for the depth of
            the feature network (section III-B); `fit` for variants of this package's own training.
        layers: layer widths of the study's configuration.
    """
    if comparison == "sizes":
        return [
            Plan(f"32_{size}_64_1024{note}", f"32_{size}_64_1024", feedback=feedback)
            for size in (2, 3, 4, 8)
            for note, feedback in (("", None), (", 1 reflection", Feedback(reflections=1)))
        ]
    if comparison == "depth":
        _, _, after = layers.partition("_")
        return [
            Plan("1 layer", after, held_out=True),
            Plan("2 layers", layers, held_out=True),
            Plan("3 layers", f"128_{layers}", held_out=True),
        ]
    if comparison == "fit":
        return [
            Plan("as it is", layers, held_out=True),
            Plan("no morphs", layers, {"morph_weight": 0.0}, held_out=True),
            Plan("shifted as heavy", layers, {"shifted_weight": 1.0}, held_out=True),
            Plan("less detail", layers, {"detail": 3.0}, held_out=True),
            Plan("more detail", layers, {"detail": 12.0}, held_out=True),
            Plan("more ridge", layers, {"ridge": 1e-2}, held_out=True),
            Plan("thicker morphs", layers, {"morph_thickening_mm": 0.4}, held_out=True),
        ]
    deep, raw = "16_4_64_256_1024", Feedback(reconnected=False)
    return [
        Plan("I: none", deep, reconnected=False, paper=_table(54, 0.03, 1.75, feature_mmse=0.07)),
        Plan("I: as accepted", deep, {}, raw, False, paper=_table(44, 0.03, 2.23, feature_mmse=0.21)),
        Plan(
            "I: as accepted, traded",
            deep,
            {},
            Feedback(trade=True, reconnected=False),
            False,
            paper=_table(36, 0.05, 2.43, feature_mmse=0.26),
        ),
        Plan(
            "I: 4 reflections, traded",
            deep,
            {},
            Feedback(4, trade=True, reconnected=False),
            False,
            paper=_table(29, 0.04, 2.68, feature_mmse=0.45),
        ),
        Plan("II: none", "64_4_64_1024", paper=_table(85, 0.08, 1.78, clean=109 / 400, inverted=0)),
        Plan(
            "II: 1 reflection",
            "64_4_64_1024",
            {},
            Feedback(1),
            paper=_table(64, 0.06, 3.13, clean=63 / 400, inverted=0),
        ),
        Plan("II: none, deeper", "64_4_64_256_1024", paper=_table(80, 0.02, 1.96, clean=117 / 400, inverted=2 / 400)),
        Plan(
            "II: 1 reflection, deeper",
            "64_4_64_256_1024",
            {},
            Feedback(1),
            paper=_table(61, 0.03, 4.11, clean=77 / 400, inverted=6.5 / 400),
        ),
    ]


@dataclass(frozen=True, eq=False)
class ShapeStudy:
    """The experiment on one set of nodules.

    Attributes:
        nodules: real training nodules.
        features: their shape features, float64 [n, 12].
        config: configuration of every arm, except for the settings of its plan.
        folder: folder in which the results of finished trainings are kept, from which a stopped study resumes.
        fabric: device of the networks.
        models: models trained in this process that are needed again.
    """

    nodules: ShapeSet
    features: NDArray[np.float64]
    config: LungConfig
    folder: Path
    fabric: Fabric
    models: dict[str, Lung] = field(default_factory=dict, repr=False)

    def run(self, plan: Plan, seeds: Sequence[int], samples: int, console: Console) -> tuple[Arm, list[dict[str, Any]]]:
        """Train and measure an arm with each seed; results of earlier calls are read.

        Args:
            plan: the arm.
            seeds: seeds of the trainings.
            samples: number of generated nodules that are measured for each training.
            console: gets a line for each training.

        Returns:
            The arm with its metrics, and the results of each training (`train_and_measure`).
        """
        runs = []
        n_features = self.features.shape[1]
        shapes = {
            "latents": (len(self.nodules), self.config.latent_size),
            "feature_mean": (n_features,),
            "feature_deviation": (n_features,),
        }
        for seed in seeds:
            config = self.plan_config(plan)
            key = fingerprint(repr((replace(plan, paper={}), config, self.nodules.fingerprint, samples, seed)).encode())
            note = self.folder / f"{key.rpartition(':')[2][:16]}.json"
            if note.exists():
                runs.append(read_figures(note, shapes))
                continue
            console.print(f"[bold]{escape(plan.name)}[/bold], training seed {seed}")
            found = self.train_and_measure(plan, seed, samples)
            with atomic_file(note) as file:
                file.write_text(json.dumps(found))
            runs.append(found)
            console.print("  " + "  ".join(f"{name} {value:.4g}" for name, value in found["metrics"].items()))
        names = dict.fromkeys(name for run in runs for name in run["metrics"])
        metrics = {name: interval([run["metrics"][name] for run in runs if name in run["metrics"]]) for name in names}
        return Arm(plan.name, list(seeds), metrics, plan.paper), runs

    def plan_config(self, plan: Plan) -> LungConfig:
        """Return the configuration of an arm."""
        return LungConfig.model_validate(self.config.model_dump() | {"layers": plan.layers} | plan.settings)

    def train(self, plan: Plan, seed: int, rows: NDArray[np.int64] | None = None) -> Lung:
        """Train the model of an arm on all nodules, or on some rows of them."""
        occupancy = self.nodules.occupancy if rows is None else self.nodules.occupancy[rows]
        config = self.plan_config(plan)

        def select(made: GeneratedShapes, own: int) -> NDArray[np.bool_]:
            return accept(self.analyse(made.fields), self.features, own)

        # The main arm's first model is needed again, for the arm without reconnection and for the pictures.
        is_main = rows is None and seed == 0 and config == self.config
        key = repr(plan.feedback)
        if is_main and key in self.models:
            return self.models[key]
        system = train_in_rounds(config, occupancy, seed, self.fabric, plan.feedback, select)
        if is_main:
            self.models[key] = system
        return system

    def train_and_measure(self, plan: Plan, seed: int, samples: int) -> dict[str, Any]:
        """Train an arm once; return its metrics, and the latents and feature statistics that the pictures show."""
        started = time.perf_counter()
        system = self.train(plan, seed)
        metrics = {"training_s": time.perf_counter() - started}
        sampled = self.sample(system, samples, derive(seed, "study samples"), plan.reconnected)
        own = derive(seed, "accept")
        kept = accept(sampled.analysis, self.features, own)
        metrics |= {"acceptance": 0.0} | dict(zip(("mse", "dice"), self.reproduction(system), strict=True))
        if kept.sum() > WARM_UP_NODULES:
            score = measure_kept(sampled.analysis, kept, self.features, metrics["mse"])
            metrics |= {"score": score.score} | asdict(score)
        metrics |= {
            "pre_filter": float(sampled.analysis.passed.mean()),
            "clean": float((sampled.n_components == 1).mean()),
            "inverted": float(sampled.inverted.mean()),
            "copies": float((sampled.overlap > COPY_DICE).mean()),
            "overlap": float(sampled.overlap.mean()),
        }
        if plan.held_out:
            metrics |= dict(zip(("held_out_mse", "held_out_dice"), self.held_out(plan, seed), strict=True))
        scale = np.where(self.features.std(0) > 0, self.features.std(0), np.nan)
        features = sampled.analysis.features[kept]
        return {
            "metrics": metrics,
            "latents": np.round(system.encode(self.nodules.occupancy), 4).tolist(),
            "feature_mean": (features.mean(0) / self.features.mean(0)).tolist(),
            "feature_deviation": np.nan_to_num(features.std(0) / scale, nan=1.0).tolist(),
        }

    def sample(self, system: Lung, n: int, seed: int, reconnected: bool) -> Sampled:
        """Generate and analyse `n` nodules of a model, chunk by chunk."""
        base = base_set(self.nodules.occupancy) > 0
        parts = []
        for start in range(0, n, NODULES_AT_ONCE):
            made = system.sample(min(NODULES_AT_ONCE, n - start), seed, start, reconnected=reconnected)
            parts.append((self.analyse(made.fields), made.n_components, made.inverted, greatest_dice(made.masks, base)))
        analyses, *columns = zip(*parts, strict=True)
        whole = Analysis(np.concatenate([a.features for a in analyses]), np.concatenate([a.passed for a in analyses]))
        return Sampled(whole, *(np.concatenate(column) for column in columns))

    def analyse(self, fields: NDArray[np.float32]) -> Analysis:
        """Analyse generated grey values [n, z, y, x] with the 12 features of the ALNSB analyzer."""
        return analyse(to_occupancy(fields) > ANALYZER_THRESHOLD, self.nodules.spacing_mm)

    def reproduction(self, system: Lung, rows: NDArray[np.int64] | None = None) -> tuple[float, float]:
        """Return how well a model reproduces nodules: table I's MSE (1000 x squared error a voxel) and mean Dice."""
        occupancy = self.nodules.occupancy if rows is None else self.nodules.occupancy[rows]
        learned, target = system.decode(system.encode(occupancy)), system.target(occupancy)
        overlap = dice(learned >= ON_THRESHOLD, target >= ON_THRESHOLD)
        return float(1000 * np.square(learned - target).mean()), float(overlap.mean())

    def held_out(self, plan: Plan, seed: int) -> tuple[float, float]:
        """Return `reproduction` of the nodules of patients whom a further training leaves out."""
        patients = np.array([record.patient_id for record in self.nodules.records])
        names = np.unique(patients)
        drawn = generator(seed, "held out").permutation(names)[: max(1, round(HELD_OUT_SHARE * len(names)))]
        held_out = np.isin(patients, drawn)
        system = self.train(plan, seed, np.flatnonzero(~held_out))
        return self.reproduction(system, np.flatnonzero(held_out))

    def base_acceptance(self, seed: int = 0) -> dict[str, float]:
        """Return the shares of the real nodules' reflections and shifts that the analyzer accepts (paper: 95 %).

        See section III-D.
        """
        occupancy = self.nodules.occupancy
        shifted = half_pixel_shift(occupancy)
        kinds = {
            "reflections": occupancy,
            "reflections and their half-pixel shifts": np.concatenate([occupancy, shifted]),
            "the same as the network sees them": to_input(np.concatenate([occupancy, shifted])),
        }
        found = {}
        for name, stack in kinds.items():
            masks = stack > ANALYZER_THRESHOLD
            flips = [masks[:, ::z, ::y, ::x] for z in (1, -1) for y in (1, -1) for x in (1, -1)]
            order = generator(seed, "base").permutation(8 * len(masks))
            analysis = analyse(np.concatenate(flips)[order], self.nodules.spacing_mm)
            found[name] = measure(analysis, self.features, 0.0, seed).acceptance
        return found


@dataclass(frozen=True, eq=False)
class Sampled:
    """Measures of n generated nodules.

    Attributes:
        analysis: shape features, and whether the analyzer's filter passes each nodule.
        n_components: number of connected components before reconnection, [n].
        inverted: whether the nodule came out dark on bright, [n].
        overlap: Dice with the most similar training sample, [n].
    """

    analysis: Analysis
    n_components: NDArray[np.int64]
    inverted: NDArray[np.bool_]
    overlap: NDArray[np.float32]


def measurable(nodules: ShapeSet) -> tuple[ShapeSet, NDArray[np.float64]]:
    """Return the nodules whose features are all finite, and these features [n, 12].

    A nodule of a single voxel, for example, has features that are not finite.

    Raises:
        InputError: there are fewer than two such nodules.
    """
    features = shape_features(nodules.occupancy > ANALYZER_THRESHOLD, nodules.spacing_mm)
    chosen = np.flatnonzero(np.isfinite(features).all(1))
    if len(chosen) < 2:
        raise InputError("nodules", f"{len(chosen)} of {len(nodules)} with finite features", "two or more")
    return nodules.select(chosen), features[chosen]
