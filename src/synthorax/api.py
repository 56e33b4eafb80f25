"""The verbs as functions: `import synthorax as sx; sx.sample("run", 10)`.

The command line is a thin layer over these. Imports that take seconds stay inside the function that
needs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.shapes.features import FEATURES, Convention, shape_features

if TYPE_CHECKING:
    from synthorax.datasets.lidc import LidcShapes
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.hub import Model
    from synthorax.systems.lung.system import GeneratedShapes
    from synthorax.training.loop import Outcome


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The 12 features of some nodules.

    Attributes:
        names: one per nodule.
        values: float64 [n, 12], columns as in `synthorax.shapes.features.FEATURES`.
    """

    names: list[str]
    values: NDArray[np.float64]

    def rows(self) -> list[dict[str, Any]]:
        """A mapping per nodule: `nodule`, then `f1` to `f12`."""
        return [
            {"nodule": name, **dict(zip(FEATURES, row.tolist(), strict=True))}
            for name, row in zip(self.names, self.values, strict=True)
        ]


def features(
    nodules: str | Path | NDArray,
    *,
    convention: Convention = "alnsb",
    spacing_mm: Sequence[float] | None = None,
) -> FeatureTable:
    """The 12 analyzer features of nodule masks (LuNG, section III-D).

    Args:
        nodules: a file or folder (`.npy`, NIfTI, MHA, ...), or an array [n, z, y, x]; a voxel above 0.1 counts.
        convention: `alnsb`, the analyzer as released, or `corrected`.
        spacing_mm: voxel size (z, y, x) of arrays, LuNG's 1.25 x 0.7 x 0.7 mm if not given.

    Raises:
        InputError: what was given holds no nodule masks.
    """
    from synthorax.datasets.shape_files import ANALYZER_THRESHOLD, read_nodule_masks
    from synthorax.datasets.shapes import LUNG_SPACING_MM

    if not isinstance(nodules, str | Path):
        masks = nodules if nodules.dtype == np.bool_ else nodules > ANALYZER_THRESHOLD
        values = shape_features(masks, spacing_mm or LUNG_SPACING_MM, convention)
        return FeatureTable([str(i) for i in range(len(masks))], values)
    found = read_nodule_masks(Path(nodules), spacing_mm)
    values = np.empty((len(found), len(FEATURES)))
    kinds = {(mask.values.shape, mask.spacing_mm) for mask in found}
    for shape, spacing in kinds:
        rows = [i for i, mask in enumerate(found) if (mask.values.shape, mask.spacing_mm) == (shape, spacing)]
        values[rows] = shape_features(np.stack([found[i].mask for i in rows]), spacing, convention)
    return FeatureTable([mask.name for mask in found], values)


def lidc_shapes(*, readers: int = 2, **grid: Any) -> LidcShapes:
    """The nodules of LIDC-IDRI as shapes on one grid, from the annotation table in the package.

    Args:
        readers: a voxel belongs to a nodule if at least so many of the four readers marked it.
        grid: `grid` and `spacing_mm` of `datasets.lidc.LidcRequest`; LuNG's if not given.
    """
    from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes

    return cached_lidc_shapes(LidcRequest(readers=readers, **grid))


def train(
    system: str,
    data: str | Path | ShapeSet,
    out: str | Path,
    *,
    preset: str = "paper",
    settings: Mapping[str, Any] | None = None,
    nodules: int | None = None,
    seed: int = 0,
    device: str = "auto",
    max_minutes: float | None = None,
) -> Outcome:
    """Train a system into a run folder, or go on where an earlier call stopped.

    Args:
        system: `lung`.
        data: `lidc`, a file or folder of masks, or a `ShapeSet`.
        settings: fields of the system's configuration that differ from the preset.
        nodules: train on so many of them, drawn by `seed`; all if not given.

    Raises:
        InputError: unknown names, settings or data that do not fit.
        OutputError: the run folder cannot be written.
        TrainingError: a figure is no longer finite.
    """
    from synthorax.systems.lung.config import PRESETS, lung_config
    from synthorax.training.run_folder import RunFolder, check_run_folder

    if system != "lung":
        raise InputError("system", repr(system), "lung")
    if preset not in PRESETS:
        raise InputError("preset", repr(preset), " or ".join(PRESETS))
    config = lung_config(preset, settings or {})
    check_run_folder(Path(out))
    shapes = read_shapes(data, config.grid, config.spacing_mm)
    if nodules is not None:
        shapes = shapes.draw(nodules, seed)

    from synthorax.systems.lung.system import Lung
    from synthorax.training.loop import fit, make_fabric

    fabric = make_fabric(device)
    model, batches = Lung.for_training(config, shapes.occupancy, seed)
    run = RunFolder.open(
        Path(out),
        {"system": system, "preset": preset, "seed": seed, "config": config.model_dump(mode="json")},
        {"fingerprint": shapes.fingerprint, "shapes": len(shapes), "train_patients": shapes.patient_ids},
    )
    return fit(model, batches, run, fabric, steps=config.iterations, max_minutes=max_minutes)


def read_shapes(
    data: str | Path | ShapeSet, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> ShapeSet:
    """The shapes that `data` names, on the grid: `lidc`, a file or folder of masks, or a set as it is."""
    from synthorax.datasets.shape_files import read_shape_set

    if data == "lidc":
        return lidc_shapes(grid=grid, spacing_mm=spacing_mm).shapes
    if isinstance(data, str | Path):
        return read_shape_set(Path(data), grid, spacing_mm)
    return data


def load(model: str | Path) -> Model:
    """A model by its run folder, ready to sample; `load(...).system` has all that it can do."""
    from synthorax import hub

    return hub.load(model)


def sample(model: str | Path | Model, n: int, *, seed: int = 0) -> GeneratedShapes:
    """`n` new samples of a model. Sample i of a seed is the same whatever `n` is.

    Raises:
        InputError: no such model, or a negative `n`.
    """
    from synthorax.systems.lung.system import Lung

    if n < 0:
        raise InputError("number of samples", str(n), "0 or more")
    loaded = load(model) if isinstance(model, str | Path) else model
    assert isinstance(loaded.system, Lung)
    return loaded.system.sample(n, seed)
