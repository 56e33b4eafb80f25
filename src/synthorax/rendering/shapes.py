"""Where the shapes of rendered nodules come from."""

from __future__ import annotations

from collections.abc import Callable, Collection

from synthorax.annotations.lidc_table import draw_reading
from synthorax.nodule import NoduleAttributes
from synthorax.volume import Volume

ShapeSource = Callable[[NoduleAttributes, int], tuple[Volume, NoduleAttributes]]
"""By what is wanted and a seed: a mask, and what is known of the nodule that it is of."""


class LidcShapes:
    """Outlines of LIDC-IDRI's readers, of nodules that are most like what is wanted.

    Args:
        patients: whose; those of a test set are to be left out.
    """

    def __init__(self, patients: Collection[str] | None = None) -> None:
        self._patients = patients

    def __call__(self, wanted: NoduleAttributes, seed: int) -> tuple[Volume, NoduleAttributes]:
        """A reader's mask and ratings."""
        reading = draw_reading(wanted, seed, self._patients)
        return Volume(reading.region.mask, reading.scan.voxel_mm), NoduleAttributes(**reading.ratings)


class OneShape:
    """The same mask for every nodule, scaled to its diameter."""

    def __init__(self, mask: Volume) -> None:
        self._mask = mask

    def __call__(self, wanted: NoduleAttributes, seed: int) -> tuple[Volume, NoduleAttributes]:
        """The mask; nothing else is known of it."""
        return self._mask, NoduleAttributes()
