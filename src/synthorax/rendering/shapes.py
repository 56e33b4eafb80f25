"""Where the shapes of rendered nodules come from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from synthorax.annotations.lidc_table import draw_reading, lidc_patients
from synthorax.makers import Generator, Lineage
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

SHAPED = frozenset({"lobulation", "sphericity", "malignancy"})
"""Attributes that a nodule has from its shape alone."""
DRAWN_SHAPES = 32
"""Shapes drawn from a generator, of which the one nearest in diameter is taken, so that none is stretched much."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A nodule's voxels.

    Attributes:
        mask: bool [z, y, x].
        attributes: what is known of the nodule whose shape it is.
        origin: the patient whose nodule was outlined; empty where there is none.
        notes: what was assumed of its file.
    """

    mask: Volume
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    origin: str = ""
    notes: tuple[str, ...] = ()


@runtime_checkable
class ShapeSource(Protocol):
    """Gives a shape for a nodule that is wanted.

    Attributes:
        heeds: attributes, beside the diameter, by which it chooses the shape.
    """

    heeds: frozenset[str]

    @property
    def lineage(self) -> Lineage:
        """Whose data stands behind the shapes."""
        ...

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return the shape of a seed, of about the wanted width if there is a choice."""
        ...


class LidcOutlines:
    """Outlines of LIDC-IDRI's readers, of nodules that are most like what is wanted.

    Args:
        patients: whose outlines may be used; leave out those of a test set. All if not given.
    """

    heeds = SHAPED

    def __init__(self, patients: Collection[str] | None = None) -> None:
        self._patients = patients

    @cached_property
    def lineage(self) -> Lineage:
        """The patients whose outlines may be used."""
        patients = lidc_patients() if self._patients is None else self._patients
        return Lineage("lidc outlines").with_outlines(map(patient_key, patients))

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return a reader's mask and ratings."""
        reading = draw_reading(wanted, seed, self._patients)
        mask = Volume(reading.region.mask, reading.scan.voxel_mm)
        return Shape(mask, NoduleAttributes(**reading.ratings), reading.scan.patient_id)


class OneShape:
    """The same mask for every nodule, scaled to its diameter.

    Args:
        mask: bool [z, y, x].
        notes: what was assumed of its file.
    """

    heeds: frozenset[str] = frozenset()
    lineage = Lineage("a shape of one's own")

    def __init__(self, mask: Volume, notes: tuple[str, ...] = ()) -> None:
        self._shape = Shape(mask, notes=notes)

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return the mask; nothing else is known of its nodule."""
        return self._shape


class SampledShapes:
    """New shapes of a generator, such as a trained LuNG.

    Args:
        shapes: makes shapes (`occupancy` and `mask`).
    """

    heeds: frozenset[str] = frozenset()

    def __init__(self, shapes: Generator) -> None:
        self._shapes = shapes
        self.lineage = shapes.lineage

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return the mask of nearly the wanted width among some that the seed draws."""
        spacing = self._shapes.spec.spacing_mm
        made = self._shapes.sample([(NoduleAttributes(),)] * DRAWN_SHAPES, seed)
        masks = [mask > 0 for part in made for mask in part.arrays["mask"]]
        widths = np.array([axial_diameter_mm(np.argwhere(mask), spacing) for mask in masks])
        best = int(np.argmin(abs(np.log(widths / (wanted.diameter_mm or np.median(widths))))))
        return Shape(Volume(masks[best], spacing))
