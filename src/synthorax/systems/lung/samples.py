"""LuNG's samples, as the verbs ask for them and as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from synthorax.systems.lung.system import SAMPLE_BATCH, GeneratedShapes, Lung, within

CHUNK = 4 * SAMPLE_BATCH
"""Nodules that are in memory at once."""
RADIUS = 0.2
"""How far from a nodule samples near it lie in the latent space, if it is not said."""
Nodule = str | Path | NDArray
"""A nodule's shape as users give it: FILE, FILE:ROW, or occupancy [z, y, x]."""


def sample_shapes(
    system: Lung,
    n: int,
    seed: int,
    *,
    near: Nodule | None = None,
    radius: float | None = None,
    walk: tuple[Nodule, Nodule] | None = None,
) -> GeneratedShapes:
    """New nodules, in memory: uniform in the latent space, near one, or on the way from one to another.

    Raises:
        InputError: no such nodule, `near` and `walk`, or a radius without `near`.
    """
    latents = _latents(system, n, seed, near, radius, walk)
    return system.generate(latents(0, n))


def shape_chunks(
    system: Lung,
    n: int,
    seed: int,
    *,
    tell: Callable[[str], None],
    near: Nodule | None = None,
    radius: float | None = None,
    walk: tuple[Nodule, Nodule] | None = None,
) -> Iterator[GeneratedShapes]:
    """The samples of `sample_shapes` in parts, so that any number of them takes as much memory as one part."""
    latents = _latents(system, n, seed, near, radius, walk)
    return (system.generate(latents(start, min(start + CHUNK, n))) for start in range(0, n, CHUNK))


def _latents(
    system: Lung,
    n: int,
    seed: int,
    near: Nodule | None,
    radius: float | None,
    walk: tuple[Nodule, Nodule] | None,
) -> Callable[[int, int], NDArray[np.float32]]:
    """The function that gives the latent vectors [stop - start, latent] of samples `start` to `stop`.

    Raises:
        InputError: no such nodule, `near` and `walk`, or a radius without `near`.
    """
    if near is not None and walk is not None:
        raise InputError("near and walk", "both", "one of them")
    if radius is not None and near is None:
        raise InputError("radius", f"{radius:g} and no nodule", "it with `near`")
    if walk is not None:
        vectors = system.walk_latents(_nodule(walk[0], system.config), _nodule(walk[1], system.config), n)
        return lambda start, stop: vectors[start:stop]
    if near is None:
        return lambda start, stop: system.draw_latents(stop - start, seed, start)
    low, high = system.box_near(_nodule(near, system.config), RADIUS if radius is None else radius)
    return lambda start, stop: within(low, high, system.draw_latents(stop - start, seed, start))


def write_shapes(
    folder: Path,
    model: Model,
    made: GeneratedShapes | Iterable[GeneratedShapes],
    *,
    seed: int,
    how: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
) -> str:
    """Write masks, meshes, features and a manifest; returns what was made, in words.

    Args:
        made: shapes, or parts of them one after the other.

    Raises:
        InputError: an unknown format, or a folder that holds something else.
        OutputError: the folder cannot be written.
    """
    clean = 0

    def parts() -> Iterator[tuple[NDArray[np.float32], list[dict[str, Any]]]]:
        nonlocal clean
        for part in [made] if isinstance(made, GeneratedShapes) else made:
            clean += int((part.n_components == 1).sum())
            yield part.fields, part.details()

    count = write_shape_samples(
        folder,
        parts(),
        cast(Lung, model.system).config.spacing_mm,
        Origin(model.system.name, model.sha256, seed),
        how=how,
        formats=formats,
        overwrite=overwrite,
        sample_batch=SAMPLE_BATCH,
    )
    return f"{count} nodules, {clean} of them in one piece before reconnection"


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
