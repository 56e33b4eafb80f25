"""Models: trained, loaded, sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthorax.api.shapes import read_shapes
from synthorax.errors import InputError

if TYPE_CHECKING:
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.hub import Model
    from synthorax.systems.lung.config import LungConfig
    from synthorax.systems.lung.system import GeneratedShapes
    from synthorax.training.loop import Outcome

Nodule = str | Path | NDArray
"""A nodule's shape as users give it: FILE, FILE:ROW, or occupancy [z, y, x]."""


def train(
    system: str,
    data: str | Path | ShapeSet,
    out: str | Path,
    *,
    preset: str = "paper",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    start: str | Path | Model | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    max_minutes: float | None = None,
    **options: Any,
) -> Outcome:
    """Train a system into a run folder, or go on where an earlier call stopped.

    Args:
        system: `lung`.
        data: `lidc`, a file or folder of masks, or a `ShapeSet`.
        settings: fields of the system's configuration that differ from the preset.
        start: a model whose weights are the first ones (fine-tuning); fresh ones if not given.
        device: auto, cpu, cuda or mps.
        devices: so many of them, each a process with its share of every batch.
        nodes: hosts with so many devices each; every one of them runs the same program.
        options: the system's own: `nodules`, to train LuNG on so many of them, drawn by `seed`.

    Raises:
        InputError: unknown names, settings or data that do not fit.
        OutputError: the run folder cannot be written.
        TrainingError: a figure is no longer finite, or shows a collapse.
    """
    from synthorax import hub
    from synthorax.training.run_folder import RunFolder, check_run_folder

    entry = hub.entry(system)
    if max_minutes is not None and not max_minutes >= 0:
        raise InputError("max minutes", f"{max_minutes:g}", "0 or more")
    config = hub.part(entry.config)(preset, settings or {})
    check_run_folder(Path(out))
    first = load(start) if isinstance(start, str | Path) else start
    training = hub.part(entry.training)(config, data, seed, **options)
    settled = {"system": system, "preset": preset, "seed": seed, "config": config.model_dump(mode="json")}
    if first is not None:
        hub.start_from(training.model, first)
        settled["from"] = first.sha256

    from synthorax.training.devices import launch, make_fabric
    from synthorax.training.loop import fit

    fabric = make_fabric(device, devices, nodes, training.precision)
    launch(fabric)
    run = RunFolder.open(Path(out), settled, training.data, fabric)
    return fit(training, run, fabric, max_minutes=max_minutes)


def load(model: str | Path) -> Model:
    """A model by its run folder, ready to sample; `load(...).system` has all that it can do."""
    from synthorax import hub

    return hub.load(model)


def sample(
    model: str | Path | Model,
    n: int,
    *,
    seed: int = 0,
    near: Nodule | None = None,
    radius: float = 0.2,
    walk: tuple[Nodule, Nodule] | None = None,
) -> GeneratedShapes:
    """`n` new nodules of a model. Sample i of a seed is the same whatever `n` is.

    Args:
        near: make nodules like this one.
        radius: how far from it in the latent space, whose axes go from -1 to 1.
        walk: make `n` steps from the first of two nodules to the second.

    A nodule is occupancy [z, y, x] on the model's grid, or FILE or FILE:ROW.

    Raises:
        InputError: no such model or nodule, `n` below 1, or both `near` and `walk`.
    """
    from synthorax.systems.lung.system import Lung

    if n < 1:
        raise InputError("number of samples", str(n), "1 or more")
    if near is not None and walk is not None:
        raise InputError("near and walk", "both", "one of them")
    system = (load(model) if isinstance(model, str | Path) else model).system
    assert isinstance(system, Lung)
    if walk is not None:
        return system.walk(_nodule(walk[0], system.config), _nodule(walk[1], system.config), n)
    if near is not None:
        return system.near(_nodule(near, system.config), n, radius, seed)
    return system.sample(n, seed)


def write_samples(
    folder: str | Path,
    model: Model,
    made: GeneratedShapes,
    *,
    seed: int,
    how: Mapping[str, Any] | None = None,
    formats: Sequence[str] = ("npy", "nifti", "mha", "stl"),
    overwrite: bool = False,
) -> None:
    """Write samples as files that other tools open, with features and a manifest.

    Args:
        how: what the manifest tells of how they were drawn; uniformly if not given.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    from synthorax.datasets.sample_folder import write_shape_samples
    from synthorax.provenance import Origin
    from synthorax.systems.lung.system import SAMPLE_BATCH, Lung

    assert isinstance(model.system, Lung)
    write_shape_samples(
        Path(folder),
        made.fields,
        model.system.config.spacing_mm,
        Origin(model.system.name, model.sha256, seed),
        made.details(),
        how=how or {"drawn": "uniform"},
        formats=formats,
        overwrite=overwrite,
        sample_batch=SAMPLE_BATCH,
    )


def _nodule(nodule: Nodule, config: LungConfig) -> NDArray[np.float32]:
    """Occupancy [z, y, x] of a nodule given as an array, FILE or FILE:ROW."""
    if not isinstance(nodule, str | Path):
        return np.asarray(nodule, np.float32)
    path, separator, row = str(nodule).rpartition(":")
    if not separator or not row.isdigit() or Path(nodule).exists():
        path, row = str(nodule), "0"
    shapes = read_shapes(path, config.grid, config.spacing_mm)
    names = [record.shape_id for record in shapes.records]
    if (name := f"{Path(path).name}:{row}") in names:  # of an image, the label
        return shapes.occupancy[names.index(name)]
    if int(row) >= len(shapes):
        raise InputError(nodule, f"{len(shapes)} nodules", "a row that exists, counted from 0")
    return shapes.occupancy[int(row)]
