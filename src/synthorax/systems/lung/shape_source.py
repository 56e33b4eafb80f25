"""Shapes of a model for nodules that are rendered."""

from __future__ import annotations

import numpy as np

from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.makers import Lineage
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import patient_key
from synthorax.rendering.shapes import Shape
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.systems.lung.system import Lung
from synthorax.volume import Volume

DRAWN = 32
"""Of so many shapes of a model the one nearest in width is taken, so that none is stretched much."""


class ModelShapes:
    """New shapes of a trained LuNG.

    Raises:
        InputError: a model that makes no shapes.
    """

    heeds: frozenset[str] = frozenset()

    def __init__(self, model: Model) -> None:
        if not isinstance(model.system, Lung):
            raise InputError("shapes", f"a model of {model.system.name}", "one that makes shapes, such as lung")
        self._system = model.system
        self.lineage = Lineage("lung", model.sha256, frozenset(map(patient_key, model.seen)), tells=bool(model.seen))

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """The shape of nearly the wanted width among some that the seed draws."""
        spacing = self._system.config.spacing_mm
        masks = self._system.sample(DRAWN, seed).masks
        widths = np.array([axial_diameter_mm(np.argwhere(mask), spacing) for mask in masks])
        best = int(np.argmin(abs(np.log(widths / (wanted.diameter_mm or np.median(widths))))))
        return Shape(Volume(masks[best], spacing))
