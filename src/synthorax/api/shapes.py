"""Nodule shapes and their 12 features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthorax.shapes.features import FEATURES, Convention, shape_features

if TYPE_CHECKING:
    from synthorax.datasets.lidc import LidcShapes
    from synthorax.datasets.shape_files import NoduleMask
    from synthorax.datasets.shapes import ShapeSet
    from synthorax.datasets.store import Store

BATCH_BYTES = 1 << 26
"""Bytes of masks that `features` has in memory when it reads files; a larger mask is alone in memory."""


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The 12 shape features of n nodules.

    Attributes:
        names: name of each nodule.
        values: float64 [n, 12], with the columns of `synthorax.shapes.features.FEATURES`.
        notes: what was assumed about the files.
    """

    names: list[str]
    values: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary for each nodule, with its name as `nodule` and its features as `f1` to `f12`."""
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
    """Compute the 12 shape features of nodule masks (LuNG, section III-D).

    Args:
        nodules: file or folder (`.npy`, NIfTI, MHA, ...), or an array [n, z, y, x]. Whole numbers are labels. If the
            values are fractions, a nodule's voxels are those of 0.5 or more in an image (probabilities), and those
            above 0.1 in an array or `.npy` file (occupancies, as LuNG's seeds).
        convention: `alnsb`, as the released ALNSB analyzer computes them, or `corrected`.
        spacing_mm: voxel spacing (z, y, x) of arrays; by default LuNG's 1.25 x 0.7 x 0.7 mm.

    Raises:
        InputError: there are no nodule masks in `nodules`.

    >>> import numpy as np
    >>> import synthorax as sx
    >>> masks = np.zeros((1, 12, 40, 40), bool)
    >>> masks[0, 4:8, 14:26, 14:26] = True
    >>> table = sx.features(masks, spacing_mm=(1.0, 1.0, 1.0))
    >>> table.values.shape
    (1, 12)
    >>> table.rows()[0]["f5"]  # the volume, mm3
    576.0
    """
    from synthorax.datasets.shape_files import ANALYZER_THRESHOLD, checked_masks, nodule_masks
    from synthorax.datasets.shapes import LUNG_SPACING_MM

    if not isinstance(nodules, str | Path):
        masks = checked_masks(nodules, "masks") > ANALYZER_THRESHOLD
        values = shape_features(masks, spacing_mm or LUNG_SPACING_MM, convention)
        return FeatureTable([str(i) for i in range(len(masks))], values)
    names: list[str] = []
    notes: dict[str, None] = {}
    tables = [np.empty((0, len(FEATURES)))]
    for batch in _batches(nodule_masks(Path(nodules), spacing_mm)):
        names += [nodule.name for nodule in batch]
        notes |= dict.fromkeys(note for nodule in batch for note in nodule.notes)
        tables.append(shape_features(np.stack([n.mask for n in batch]), batch[0].spacing_mm, convention))
    return FeatureTable(names, np.concatenate(tables), tuple(notes))


def _batches(nodules: Iterable[NoduleMask]) -> Iterator[list[NoduleMask]]:
    """Group consecutive nodules of one shape and spacing into batches of at most `BATCH_BYTES`."""
    batch: list[NoduleMask] = []
    for nodule in nodules:
        alike = batch and (batch[0].values.shape, batch[0].spacing_mm) == (nodule.values.shape, nodule.spacing_mm)
        if batch and not (alike and (len(batch) + 1) * nodule.values.nbytes <= BATCH_BYTES):
            yield batch
            batch = []
        batch.append(nodule)
    if batch:
        yield batch


def lidc_shapes(*, readers: int = 2, **grid: Any) -> LidcShapes:
    """Return the nodules of LIDC-IDRI as shapes on one grid, from the annotation table in the package.

    Args:
        readers: a voxel belongs to a nodule if at least this many of the four readers marked it, 1 to 4.
        grid: `grid`, voxels (z, y, x), and `spacing_mm`, voxel spacing (z, y, x); by default LuNG's.
    """
    from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes

    return cached_lidc_shapes(LidcRequest(readers=readers, **grid))


def read_shapes(
    data: str | Path | Store | ShapeSet, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> ShapeSet:
    """Return nodule shapes on a grid.

    Args:
        data: "lidc", for the annotations in the package; a store, for the outlined nodules of its training patients; a
            file or folder of masks; or shapes, returned as they are.
        grid: voxels (z, y, x).
        spacing_mm: voxel spacing (z, y, x).
    """
    from synthorax.datasets.shape_sources import read_shapes as read

    return read(data, grid, spacing_mm)
