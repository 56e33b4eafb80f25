"""Sources of the shapes of rendered nodules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from synthorax.annotations.lidc_table import draw_reading, lidc_patients
from synthorax.makers import Generator, Lineage, checked_samples
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

SHAPED = frozenset({"lobulation", "sphericity", "malignancy"})
"""Attributes that depend on a nodule's shape alone."""
DRAWN_SHAPES = 32
"""Shapes that are drawn from a generator; the one nearest in diameter is used, so that it is not stretched much."""


@dataclass(frozen=True, eq=False)
class Shape:
    """The shape of a nodule.

    Attributes:
        mask: bool [z, y, x], on voxels of its own.
        attributes: attributes of the nodule that has this shape.
        origin: id of the patient whose nodule was outlined; empty if there is none.
        notes: assumptions about the mask's file.
    """

    mask: Volume
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)
    origin: str = ""
    notes: tuple[str, ...] = ()


@runtime_checkable
class ShapeSource(Protocol):
    """A function that gives a shape for a requested nodule.

    Attributes:
        heeds: attributes besides the diameter by which it chooses the shape.
    """

    heeds: frozenset[str]

    @property
    def lineage(self) -> Lineage:
        """The patients whose data stand behind the shapes."""
        ...

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return a shape drawn by a seed, of about the wanted diameter if there is a choice."""
        ...


class LidcOutlines:
    """Outlines of LIDC-IDRI's readers, drawn from the nodules most similar to the requested one.

    Args:
        patients: ids of patients whose outlines may be used; all if not given. Leave out the patients of a test set.
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
    """One mask as the shape of every nodule. Its patient is not known, and neither are those of a model that made it.

    Args:
        mask: bool [z, y, x].
        notes: assumptions about the mask's file.
    """

    heeds: frozenset[str] = frozenset()
    lineage = Lineage("a shape of one's own", tells=False)

    def __init__(self, mask: Volume, notes: tuple[str, ...] = ()) -> None:
        self._shape = Shape(mask, notes=notes)

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return the mask, without attributes."""
        return self._shape


class ShapesOfMask:
    """The nodules of a mask as shapes, one of which is chosen by the seed. Their patient is not known, see `OneShape`.

    Args:
        masks: bool [z, y, x] each.
        notes: assumptions about the mask's file.
    """

    heeds: frozenset[str] = frozenset()
    lineage = OneShape.lineage

    def __init__(self, masks: Sequence[Volume], notes: tuple[str, ...] = ()) -> None:
        self._shapes = [Shape(mask, notes=notes) for mask in masks]

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return one of the masks, without attributes."""
        return self._shapes[int(generator(seed, "shape of a mask").integers(len(self._shapes)))]


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
        """Return the mask nearest to the wanted diameter among `DRAWN_SHAPES` that the seed draws."""
        spacing = self._shapes.spec.spacing_mm
        made = checked_samples(self._shapes, [(NoduleAttributes(),)] * DRAWN_SHAPES, seed)
        masks = [mask > 0 for part in made for mask in part.arrays["mask"]]
        widths = np.array([axial_diameter_mm(np.argwhere(mask), spacing) for mask in masks])
        best = int(np.argmin(abs(np.log(widths / (wanted.diameter_mm or np.median(widths))))))
        return Shape(Volume(masks[best], spacing))
