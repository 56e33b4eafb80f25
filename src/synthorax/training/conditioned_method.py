"""Adds nodules to scans with a trained in-painter, which fills a ball given the nodule's attributes and outline."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.editing.grid_shapes import GridShape, mask_on_grid, shape_on_grid
from synthorax.editing.learned import GridFill, Learned
from synthorax.errors import InputError
from synthorax.makers import Edit, Lineage, Role
from synthorax.nn.conditions import completed, encoded
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.provenance import patient_key
from synthorax.rendering.maker import shape_source
from synthorax.rendering.shapes import ShapeSource
from synthorax.seeding import generator
from synthorax.training.in_painter import ConditionedInPainter
from synthorax.training.precision import of_sampling


class ConditionedMethod(Learned):
    """A `Method` around a trained in-painter.

    Args:
        system: the trained in-painter.
        lineage: the patients whose data it was trained on, and its ancestors.
        shapes: source of the outlines, see `rendering.maker.shape_source`. If not given: outlines of the LIDC-IDRI
            patients that the network was trained on, or of all LIDC-IDRI patients if it was trained on none of them.

    Raises:
        InputError: shapes are given for a network without outlines, or are neither a mask nor a maker of shapes.
    """

    def __init__(self, system: ConditionedInPainter, lineage: Lineage, shapes: object = None) -> None:
        config = system.config
        self._system, self._config = system, config
        self._shapes: ShapeSource | None = None
        if config.outlines:
            own = [patient for patient in lidc_patients() if patient_key(patient) in lineage.seen]
            self._shapes = shape_source(shapes, own or None)
            lineage = lineage.joined(self._shapes.lineage)
        elif shapes is not None:
            found = f"given for a {system.name} that was trained without outlines"
            raise InputError("shapes", found, "none, or a model that was trained with `outlines=true`")
        heeds = {"diameter_mm", *system.heeds, *config.shown} | (self._shapes.heeds if self._shapes else set())
        roles: frozenset[Role] = frozenset({"injects"})
        super().__init__(
            self._painted,
            config.view,
            name=system.name,
            lineage=lineage,
            heeds=frozenset(heeds),
            roles=roles,
            ball_mm=config.ball_mm,
            outline=None if self._shapes is None else self._shape_mask,
        )

    def _painted(self, hu: NDArray[np.float32], region: NDArray[np.bool_], edit: Edit, seed: int) -> GridFill:
        """Fill the ball of a nodule at the centre of a patch.

        Args:
            hu: patch in HU, [z, y, x].
            region: voxels that may change, [z, y, x].
            edit: the requested nodule.
            seed: seed of the outline, the missing attributes and the noise.

        Raises:
            InputError: an attribute is out of its range, or the nodule is smaller than a voxel of the patch.
        """
        spec = self._config.view.of_nodule(edit.diameter_mm)
        check_attributes(edit.nodule)
        if edit.diameter_mm < max(spec.spacing_mm):
            least = max(spec.spacing_mm)
            expected = f"at least {least:g} mm, the width of a voxel of {self.name}"
            raise InputError("diameter", f"{edit.diameter_mm:g} mm", expected)
        wanted, found = edit.nodule, None
        if self._shapes is not None:
            found = self._shape(region, edit, seed)
            known = {name: value for name, value in found.shape.attributes.given().items() if name in self.heeds}
            wanted = NoduleAttributes(**known | wanted.given())
        ball = self._ball(region, edit.diameter_mm)
        unit, mask = self._filled_ball(spec.to_unit(hu.astype(np.float32)), ball, wanted, found, seed)
        made = np.where(ball, spec.to_hu(unit), hu)
        if found is None:
            return GridFill(made, mask, wanted)
        return GridFill(made, found.mask, wanted, found.shape.origin, found.notes)

    def _ball(self, region: NDArray[np.bool_], diameter_mm: float) -> NDArray[np.bool_]:
        """Return the voxels of a region that are filled for a nodule, [z, y, x]."""
        spec = self._config.view.of_nodule(diameter_mm)
        ball: NDArray[np.bool_] = (2 * spec.distances_mm() <= self._config.ball_mm(diameter_mm, spec)) & region
        return ball

    def _shape(self, region: NDArray[np.bool_], edit: Edit, seed: int) -> GridShape:
        """Return the outline that the network is given: the edit's own mask, or an outline drawn by the seed."""
        assert self._shapes is not None
        spec, ball = self._config.view.of_nodule(edit.diameter_mm), self._ball(region, edit.diameter_mm)
        if edit.mask is not None:
            return mask_on_grid(edit.mask, spec, ball)
        return shape_on_grid(self._shapes, edit.nodule, spec, ball, seed)

    def _shape_mask(self, region: NDArray[np.bool_], edit: Edit, seed: int) -> NDArray[np.bool_]:
        return self._shape(region, edit, seed).mask

    def _filled_ball(
        self,
        patch: NDArray[np.float32],
        ball: NDArray[np.bool_],
        wanted: NoduleAttributes,
        found: GridShape | None,
        seed: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return the filled patch within -1 to 1, and the mask of the network's mask head or None, each [z, y, x]."""
        config, system = self._config, self._system
        attributes = completed(
            system.facts["attributes"], encoded([wanted], config.shown)[0], generator(seed, "attributes")
        )
        noise = generator(seed, f"{self.name} noise").uniform(-1, 1, patch.shape).astype(np.float32)
        seen, inside, random = (torch.from_numpy(each)[None, None] for each in (patch, ball.astype(np.float32), noise))
        outline = None if found is None else torch.from_numpy(found.mask.astype(np.float32))[None, None]
        precision = of_sampling("auto", config.precision, system.device.type)
        unit, mask = system.filled(seen, inside, system.condition(wanted, attributes[None]), random, outline, precision)
        return unit.numpy(), mask
