"""LuNG as a maker: a generator of nodule shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.shape_sources import read_shapes
from synthorax.errors import InputError
from synthorax.io.images import is_image
from synthorax.makers import Asked, Lineage, Options, Role, Samples, check_heeds, options_of
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.screen import warn
from synthorax.shapes.diameter import as_measured
from synthorax.systems.lung.config import RADIUS, LungConfig, LungOptions, NoduleShape
from synthorax.systems.lung.system import LATENT_BATCH, GeneratedShapes, Lung, within

MOST_NODULES_NAMED = 6
"""Most nodules of a file that an error names."""
SHAPES_AT_ONCE = 4 * LATENT_BATCH
"""Shapes in memory at once."""


class LungMaker:
    """A `Generator` of nodule shapes that uses a trained LuNG; it heeds no attribute, because LuNG has no condition."""

    roles: frozenset[Role] = frozenset({"makes shapes"})
    heeds: frozenset[str] = frozenset()
    makes_empty = False
    selects = False

    def __init__(self, system: Lung, lineage: Lineage) -> None:
        self.name = system.name
        self.lineage = lineage
        self._system = system

    @property
    def spec(self) -> PatchSpec:
        """Grid of the shapes."""
        return PatchSpec(self._system.config.grid, self._system.config.spacing_mm)

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make shapes in parts of at most `SHAPES_AT_ONCE`: uniform in the latent space, near a nodule, or between two.

        The steps of a `walk` depend on the number of samples, `len(asked)`; other samples do not.

        Raises:
            InputError: attributes are requested, a sample does not have one nodule, a nodule of the options cannot be
                read, or options exclude each other.
        """
        chosen = options_of(options, LungOptions, self.name)
        if not asked:
            raise InputError("number of samples", "0", "1 or more")
        if any(len(one) != 1 for one in asked):
            raise InputError("nodules of a sample", "none or several", f"1, because {self.name} makes single nodules")
        check_heeds(self, {one[0] for one in asked})
        latents = self._latents(len(asked), seed, chosen)
        return (
            self._samples(self._system.generate(latents(start, min(start + SHAPES_AT_ONCE, len(asked)))), start, asked)
            for start in range(0, len(asked), SHAPES_AT_ONCE)
        )

    def select(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Refuse, because LuNG has no criterion to select samples.

        Raises:
            InputError: always.
        """
        raise InputError("model", f"a {self.name}, which does not select samples", "a model that selects its samples")

    def _latents(self, n: int, seed: int, options: LungOptions) -> Callable[[int, int], NDArray[np.float32]]:
        """The function that returns the latent vectors [stop - start, latent] of samples `start` to `stop`."""
        system, near, walk, radius = self._system, options.near, options.walk, options.radius
        if near is not None and walk is not None:
            raise InputError("near and walk", "both", "one of them")
        if radius is not None and near is None:
            raise InputError("radius", f"{radius:g} without `near`", "a radius together with `near`")
        if walk is not None:
            vectors = system.walk_latents(_nodule(walk[0], system.config), _nodule(walk[1], system.config), n)
            return lambda start, stop: vectors[start:stop]
        if near is None:
            return lambda start, stop: system.draw_latents(stop - start, seed, start)
        low, high = system.box_near(_nodule(near, system.config), RADIUS if radius is None else radius)
        return lambda start, stop: within(low, high, system.draw_latents(stop - start, seed, start))

    def _samples(self, made: GeneratedShapes, start: int, asked: Sequence[Asked]) -> Samples:
        n = len(made.fields)
        unmeasured = Nodule("01", self.spec.middle_mm, NoduleAttributes())
        return Samples(
            arrays={"occupancy": made.fields, "mask": made.masks.astype(np.uint8)},
            index=np.arange(start, start + n),
            asked=tuple(asked[start : start + n]),
            nodules=tuple((as_measured(unmeasured, mask, self.spec.spacing_mm),) for mask in made.masks),
            details=tuple(made.details()),
            spec=self.spec,
            lineage=self.lineage,
            tried=n,
            arithmetic={"sample_batch": LATENT_BATCH},
        )


def _nodule(nodule: NoduleShape, config: LungConfig) -> NDArray[np.float32]:
    """Return the occupancy [z, y, x] of a nodule that is given as an array, FILE or FILE:ROW."""
    if not isinstance(nodule, str | Path):
        return np.asarray(nodule, np.float32)
    path, separator, row = str(nodule).rpartition(":")
    if not separator or not row.isdigit() or Path(nodule).exists():
        path, row = str(nodule), ""
    shapes = read_shapes(path, config.grid, config.spacing_mm, every=True)
    for note in shapes.notes:
        warn(note)
    if not row and len(shapes) > 1 and is_image(Path(path)):
        some = ", ".join(record.shape_id for record in shapes.records[:MOST_NODULES_NAMED])
        raise InputError(nodule, f"{len(shapes)} nodules", f"one of them: {some}")
    row = row or "0"
    names = [record.shape_id for record in shapes.records]
    if (name := f"{Path(path).name}:{row}") in names:  # of an image, the label
        return shapes.occupancy[names.index(name)]
    if int(row) >= len(shapes):
        raise InputError(nodule, f"{len(shapes)} nodules", "a row that exists, counted from 0")
    return shapes.occupancy[int(row)]
