"""Shapes of training nodules that a model keeps, so that sampling uses no outlines of other patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.store import CaseEntry, Store
from synthorax.makers import Lineage
from synthorax.nodule import NoduleAttributes
from synthorax.rendering.shapes import Shape
from synthorax.rendering.solid import solid_of_mask
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.volume import Volume

SIDE = 24
"""Voxels of a template along each axis."""
ROOM = 2
"""Voxels between the nodule and the border of its template, on each side."""
NEAREST = 8
"""Number of templates nearest in diameter from which a nodule's shape is drawn; fewer if there are not so many."""
PACKED_BYTES = SIDE**3 // 8


@dataclass(frozen=True, eq=False)
class Templates:
    """Shapes of nodules, each on a grid whose voxels grow with the nodule.

    Attributes:
        masks: masks of the nodules, [n, z, y, x].
        spacing_mm: voxel spacing of each mask, whose voxels are cubes, [n].
    """

    masks: NDArray[np.bool_]
    spacing_mm: NDArray[np.float64]

    @classmethod
    def none(cls) -> Templates:
        """Return a set without shapes."""
        return cls(np.zeros((0, SIDE, SIDE, SIDE), bool), np.zeros(0))

    def __len__(self) -> int:
        return len(self.masks)

    def tensors(self) -> dict[str, Tensor]:
        """Return the shapes as facts of a model: packed bits, uint8 [n, bytes], and spacings, float32 [n]."""
        bits = np.packbits(self.masks.reshape(len(self.masks), SIDE**3), axis=1)
        return {
            "templates": torch.from_numpy(bits.reshape(len(self.masks), PACKED_BYTES)),
            "template_mm": torch.from_numpy(self.spacing_mm.astype(np.float32)),
        }

    @classmethod
    def of_tensors(cls, facts: Mapping[str, Tensor]) -> Templates:
        """Return the shapes of a model's facts; the inverse of `tensors`."""
        bits, spacing = facts["templates"].numpy(), facts["template_mm"].double().numpy()
        masks = np.unpackbits(bits, axis=1).astype(bool).reshape(len(bits), SIDE, SIDE, SIDE)
        return cls(masks, spacing)

    def check(self) -> None:
        """Check loaded shapes.

        Raises:
            ValueError: a mask is empty, a spacing is not positive, or their numbers differ.
        """
        sizes = len(self.masks) == len(self.spacing_mm) and bool((self.spacing_mm > 0).all())
        if not sizes or not self.masks.any((1, 2, 3)).all():
            raise ValueError("templates of nodules without a voxel or a size")


class TemplateShapes:
    """A `rendering.shapes.ShapeSource` of templates; their patients are among those that the model was trained on."""

    heeds: frozenset[str] = frozenset()

    def __init__(self, templates: Templates) -> None:
        self.lineage = Lineage("templates")
        self._templates = templates
        self._widths = [
            axial_diameter_mm(np.argwhere(mask), (mm,) * 3)
            for mask, mm in zip(templates.masks, templates.spacing_mm.tolist(), strict=True)
        ]

    def __call__(self, wanted: NoduleAttributes, seed: int) -> Shape:
        """Return a template of about the requested diameter, drawn by the seed; any template if none is requested."""
        found = np.arange(len(self._templates))
        if wanted.diameter_mm is not None:
            found = np.argsort(np.abs(np.log(np.divide(self._widths, wanted.diameter_mm))), kind="stable")[:NEAREST]
        chosen = int(generator(seed, "template").choice(found))
        mm = float(self._templates.spacing_mm[chosen])
        return Shape(Volume(self._templates.masks[chosen], (mm, mm, mm)))


def templates_of(store: Store, cases: Sequence[CaseEntry], count: int, seed: int) -> Templates:
    """Return shapes of at most `count` outlined nodules of some cases, drawn by the seed."""
    known = [(case, nodule.label) for case in cases for nodule in case.nodules if nodule.label]
    order = generator(seed, "templates").permutation(len(known))[:count]
    masks, spacings = [], []
    for case, label in (known[i] for i in order):
        region = store.region(case.case_id, label)
        if not region.voxels:
            continue
        solid = solid_of_mask(Volume(region.mask, case.spacing_mm))
        mm = 2 * solid.reach_mm / (SIDE - 2 * ROOM)
        axis = (np.arange(SIDE) - (SIDE - 1) / 2) * mm
        mask = solid.at(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))) <= 0
        if mask.any():
            masks.append(mask)
            spacings.append(mm)
    return Templates(np.stack(masks), np.array(spacings)) if masks else Templates.none()
