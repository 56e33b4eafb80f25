"""Where the shapes of rendered nodules come from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from synthorax.annotations.lidc_table import draw_reading
from synthorax.nodule import NoduleAttributes
from synthorax.volume import Volume


@dataclass(frozen=True, eq=False)
class Shape:
    """A nodule's voxels.

    Attributes:
        mask: bool [z, y, x].
        attributes: what is known of the nodule that it is of.
        origin: whose it is.
    """

    mask: Volume
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    origin: str = ""


class ShapeSource(Protocol):
    """Gives a shape for what is wanted.

    Attributes:
        model_sha256: hash of its weights; empty if it has none.
    """

    model_sha256: str

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """The shape of a seed, of about the wanted width if there is a choice."""
        ...


class LidcShapes:
    """Outlines of LIDC-IDRI's readers, of nodules that are most like what is wanted.

    Args:
        patients: whose; those of a test set are to be left out.
    """

    model_sha256 = ""

    def __init__(self, patients: Collection[str] | None = None) -> None:
        self._patients = patients

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """A reader's mask and ratings."""
        reading = draw_reading(wanted, seed, self._patients)
        mask = Volume(reading.region.mask, reading.scan.voxel_mm)
        return Shape(mask, NoduleAttributes(**reading.ratings), reading.scan.patient_id)


class OneShape:
    """The same mask for every nodule, scaled to its diameter."""

    model_sha256 = ""

    def __init__(self, mask: Volume) -> None:
        self._mask = mask

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """The mask; nothing else is known of it."""
        return Shape(self._mask)
