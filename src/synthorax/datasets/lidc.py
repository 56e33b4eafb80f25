"""The nodules of LIDC-IDRI as shapes, from the annotation table that ships with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from synthorax.annotations.clustering import AnnotatedNodule, cluster
from synthorax.annotations.lidc_table import LIDC_TABLE, read_lidc_table
from synthorax.annotations.reading import Reading
from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM, ShapeRecord, ShapeSet
from synthorax.errors import InputError, OutputError
from synthorax.io.atomic import atomic_file
from synthorax.parallel import map_processes
from synthorax.provenance import fingerprint
from synthorax.shapes.resampling import resample

LIDC_SHAPES_RECIPE = 2
"""Version of the recipe, part of the cache's key; raise it when the same request would give other shapes."""
NO_CONSENSUS = "without consensus"
TOO_LARGE = "larger than the grid"


@dataclass(frozen=True)
class LidcRequest:
    """The rule by which voxels belong to a nodule, and the grid of the shapes.

    Attributes:
        readers: number of the four readers who must have marked a voxel for it to belong to the nodule.
        grid: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x).
    """

    readers: int = 2
    grid: tuple[int, int, int] = LUNG_GRID
    spacing_mm: tuple[float, float, float] = LUNG_SPACING_MM

    def __post_init__(self) -> None:
        if not 1 <= self.readers <= 4:
            raise InputError("readers", str(self.readers), "1 to 4 of the four readers")
        if min(self.grid) < 1 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise InputError("grid", f"{self.grid} voxels of {self.spacing_mm} mm", "positive sizes")


@dataclass(frozen=True, eq=False)
class LidcShapes:
    """The shapes of LIDC-IDRI's nodules, and how many nodules have none.

    Attributes:
        shapes: the shapes.
        counts: numbers of all nodules, of those kept, and of those left out for each reason.
    """

    shapes: ShapeSet
    counts: dict[str, int]


def lidc_shapes(request: LidcRequest, workers: int | None = None) -> LidcShapes:
    """Return the shape of every LIDC-IDRI nodule that has a consensus and fits into the grid, in the order of patients.

    Args:
        request: consensus and grid.
        workers: number of processes; by default one for each core.
    """
    scans = [readings for readings in read_lidc_table() if readings]
    outcomes = list(chain.from_iterable(map_processes(_ShapesOfScan(request), scans, workers=workers, chunk=16)))
    kept = [(record, shape) for record, shape in outcomes if not isinstance(shape, str)]
    counts = {"nodules": len(outcomes), "kept": len(kept)}
    for reason in (NO_CONSENSUS, TOO_LARGE):
        counts[reason] = sum(isinstance(shape, str) and shape == reason for _, shape in outcomes)
    occupancy = np.array([shape for _, shape in kept], np.float32).reshape(-1, *request.grid)
    return LidcShapes(ShapeSet(occupancy, request.spacing_mm, tuple(record for record, _ in kept)), counts)


def cached_lidc_shapes(request: LidcRequest, cache: Path | None = None) -> LidcShapes:
    """Return `lidc_shapes`, kept in the user's cache folder; if that cannot be written, nothing is kept."""
    cache = cache or platformdirs.user_cache_path("synthorax")
    key = fingerprint(json.dumps([LIDC_SHAPES_RECIPE, asdict(request)]).encode() + LIDC_TABLE.read_bytes())[:16]
    file = cache / f"lidc-shapes-{key}.npz"
    if (known := _read_cache(file, request)) is not None:
        return known
    made = lidc_shapes(request)
    notes = {"counts": made.counts, "records": [record.row() for record in made.shapes.records]}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, occupancy=made.shapes.occupancy.astype(np.float16), notes=json.dumps(notes))
    except (OSError, OutputError):
        pass
    return made


def _read_cache(file: Path, request: LidcRequest) -> LidcShapes | None:
    try:
        with np.load(file) as stored:
            notes = json.loads(str(stored["notes"]))
            occupancy = stored["occupancy"].astype(np.float32)
        records = tuple(ShapeRecord.from_row(row) for row in notes["records"])
        if occupancy.shape != (len(records), *request.grid):
            return None
        return LidcShapes(ShapeSet(occupancy, request.spacing_mm, records), dict(notes["counts"]))
    except Exception:  # any damage of a cache is mended by making it again
        return None


@dataclass(frozen=True)
class _ShapesOfScan:
    """A picklable function: the readings of a scan to a record and a shape, or the reason for none, of each nodule."""

    request: LidcRequest

    def __call__(self, readings: Sequence[Reading]) -> list[tuple[ShapeRecord, NDArray[np.float32] | str]]:
        return list(self._outcomes(cluster(readings)))

    def _outcomes(self, nodules: Sequence[AnnotatedNodule]) -> Iterator[tuple[ShapeRecord, NDArray[np.float32] | str]]:
        for i, nodule in enumerate(nodules, start=1):
            scan = nodule.scan
            record = ShapeRecord(
                shape_id=f"{scan.patient_id}-{scan.series_uid[-6:]}-{i:02d}",
                patient_id=scan.patient_id,
                series_uid=scan.series_uid,
                n_readers=len(nodule.readings),
                attributes=nodule.attributes,
            )
            mask = nodule.consensus(self.request.readers).mask
            if not mask.any():
                yield record, NO_CONSENSUS
                continue
            shape = resample(mask, scan.voxel_mm, self.request.grid, self.request.spacing_mm)
            yield record, TOO_LARGE if shape is None else shape
