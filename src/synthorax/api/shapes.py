"""Nodule shapes: where they come from, and what they measure."""

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

BATCH_BYTES = 1 << 26
"""Bytes of mask voxels that `features` holds at once when it reads files; a single larger mask is held alone."""


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The 12 features of some nodules.

    Attributes:
        names: one per nodule.
        values: float64 [n, 12], columns as in `synthorax.shapes.features.FEATURES`.
        notes: what was assumed of the files.
    """

    names: list[str]
    values: NDArray[np.float64]
    notes: tuple[str, ...] = ()

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
        nodules: a file or folder (`.npy`, NIfTI, MHA, ...), or an array [n, z, y, x]. Whole numbers are labels. Of
            fractions, voxels of 0.5 or more count in images, which hold probabilities, and voxels above 0.1 in
            arrays and `.npy` files, which hold occupancies as LuNG's seeds do.
        convention: `alnsb`, the analyzer as released, or `corrected`.
        spacing_mm: voxel size (z, y, x) of arrays, LuNG's 1.25 x 0.7 x 0.7 mm if not given.

    Raises:
        InputError: what was given holds no nodule masks.

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
    """Runs of nodules of one shape and spacing, each of at most `BATCH_BYTES` or of a single nodule."""
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
    """The nodules of LIDC-IDRI as shapes on one grid, from the annotation table in the package.

    Args:
        readers: a voxel belongs to a nodule if at least so many of the four readers marked it.
        grid: `grid` and `spacing_mm` of `datasets.lidc.LidcRequest`; LuNG's if not given.
    """
    from synthorax.datasets.lidc import LidcRequest, cached_lidc_shapes

    return cached_lidc_shapes(LidcRequest(readers=readers, **grid))


def read_shapes(
    data: str | Path | ShapeSet, grid: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> ShapeSet:
    """The shapes that `data` names, on the grid: `lidc`, a file or folder of masks, or a set as it is."""
    from synthorax.datasets.shape_sources import read_shapes as read

    return read(data, grid, spacing_mm)
