"""LuNG's samples, as the verbs ask for them and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.sample_folder import FORMATS, write_shape_samples
from synthorax.datasets.shape_sources import read_shapes
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.provenance import Origin
from synthorax.systems.lung.config import LungConfig
from synthorax.systems.lung.system import SAMPLE_BATCH, GeneratedShapes, Lung

Nodule = str | Path | NDArray
"""A nodule's shape as users give it: FILE, FILE:ROW, or occupancy [z, y, x]."""


def sample_shapes(
    system: Lung,
    n: int,
    seed: int,
    *,
    near: Nodule | None = None,
    radius: float = 0.2,
    walk: tuple[Nodule, Nodule] | None = None,
) -> GeneratedShapes:
    """New nodules: uniform in the latent space, near one, or on the way from one to another.

    Raises:
        InputError: no such nodule, or both `near` and `walk`.
    """
    if near is not None and walk is not None:
        raise InputError("near and walk", "both", "one of them")
    if walk is not None:
        return system.walk(_nodule(walk[0], system.config), _nodule(walk[1], system.config), n)
    if near is not None:
        return system.near(_nodule(near, system.config), n, radius, seed)
    return system.sample(n, seed)


def write_shapes(
    folder: Path,
    model: Model,
    made: GeneratedShapes,
    *,
    seed: int,
    how: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
) -> str:
    """Write masks, meshes, features and a manifest; returns what was made, in words.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    write_shape_samples(
        folder,
        made.fields,
        cast(Lung, model.system).config.spacing_mm,
        Origin(model.system.name, model.sha256, seed),
        made.details(),
        how=how,
        formats=formats,
        overwrite=overwrite,
        sample_batch=SAMPLE_BATCH,
    )
    clean = int((made.n_components == 1).sum())
    return f"{len(made.fields)} nodules, {clean} of them in one piece before reconnection"


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
