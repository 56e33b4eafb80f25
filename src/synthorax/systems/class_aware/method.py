"""The class-aware in-painter as a method: it puts a benign or malignant nodule into a patch of a scan."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.editing.learned import GridFill, Learned
from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, Role
from synthorax.nn.conditions import completed, encoded
from synthorax.nodule import MALIGNANT_FROM, NoduleAttributes, check_attributes
from synthorax.provenance import patient_key
from synthorax.rendering.renderer import outlined, placed
from synthorax.rendering.shapes import SHAPED, LidcOutlines, Shape
from synthorax.seeding import derive, generator
from synthorax.systems.class_aware.conditions import conditions_of
from synthorax.systems.class_aware.system import ClassAware
from synthorax.training.precision import of_sampling
from synthorax.volume import Volume

MALIGNANT_RATING, BENIGN_RATING = 5.0, 1.0
"""Ratings of malignancy by which an outline is drawn where a class alone is asked for."""


class ClassAwareMethod(Learned):
    """A `Method` around a trained class-aware in-painter."""

    def __init__(self, system: ClassAware, lineage: Lineage) -> None:
        config = system.config
        self._system, self._config = system, config
        self._outlines: LidcOutlines | None = None
        told = {"diameter_mm", "malignancy", *config.shown}
        if config.outlines:
            own = [patient for patient in lidc_patients() if patient_key(patient) in lineage.seen]
            self._outlines = LidcOutlines(own or None)
            lineage = lineage.joined(self._outlines.lineage)
            told |= SHAPED
        roles: frozenset[Role] = frozenset({"injects"})
        super().__init__(
            self._painted, config.patch, name=system.name, lineage=lineage, heeds=frozenset(told), roles=roles
        )

    def _painted(self, hu: NDArray[np.float32], region: NDArray[np.bool_], edit: Edit, seed: int) -> GridFill:
        """Fill the ball of a nodule in the middle of a patch of HU [z, y, x]."""
        config, spec = self._config, self._config.patch
        check_attributes(edit.nodule)
        diameter = edit.diameter_mm
        if diameter < max(spec.spacing_mm):
            found = f"{diameter:g} mm"
            raise InputError("diameter", found, f"at least the {max(spec.spacing_mm):g} mm of a voxel of {self.name}")
        ball = (2 * spec.distances_mm() <= config.ball_mm(diameter, spec)) & region
        wanted, outline, origin = edit.nodule, None, ""
        notes: tuple[str, ...] = ()
        if self._outlines is not None:
            shape, outline = self._outline(edit.nodule, seed)
            outline &= ball
            own = {name: value for name, value in shape.attributes.given().items() if name in self.heeds}
            wanted = NoduleAttributes(**own | edit.nodule.given())
            origin, notes = shape.origin, shape.notes
        malignant = 1.0 if (wanted.malignancy or 0) >= MALIGNANT_FROM else -1.0
        attributes = completed(
            self._system.facts["attributes"], encoded([wanted], config.shown)[0], generator(seed, "attributes")
        )
        random = generator(seed, "class-aware noise")
        noise = torch.from_numpy(random.uniform(-1, 1, (1, 1, *spec.size)).astype(np.float32))
        map_of_outline = None if outline is None else torch.from_numpy(outline.astype(np.float32))[None, None]
        told = conditions_of(torch.tensor([malignant]), attributes[None])
        patch = spec.to_unit(torch.from_numpy(hu.astype(np.float32))[None, None])
        seen = torch.from_numpy(ball.astype(np.float32))[None, None]
        precision = of_sampling("auto", config.precision, self._system.device.type)
        unit, mask = self._system.filled(patch, seen, told, noise, map_of_outline, precision)
        made = spec.to_hu(unit.numpy())
        return GridFill(np.where(ball, made, hu), outline if mask is None else mask, wanted, origin, notes)

    def _outline(self, wanted: NoduleAttributes, seed: int) -> tuple[Shape, NDArray[np.bool_]]:
        """An outline of a nodule like the one wanted, of its diameter, on the in-painter's grid [z, y, x]."""
        assert self._outlines is not None
        spec = self._config.patch
        shape = self._outlines(wanted, derive(seed, "outline"))
        grid = Volume(np.zeros(spec.size, np.float32), spec.spacing_mm)
        assert wanted.diameter_mm is not None
        solid = placed(shape.mask, grid, wanted.diameter_mm, generator(seed, "outline"))
        return shape, outlined(solid, grid)
