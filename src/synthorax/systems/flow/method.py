"""The flow as a method: it draws nodules into patches of a scan, and lung over nodules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.anatomy.morphology import dilated
from synthorax.annotations.lidc_table import lidc_patients
from synthorax.editing.learned import GridFill, Learned
from synthorax.editing.told_shapes import ToldShape, told_mask, told_shape
from synthorax.errors import InputError
from synthorax.makers import Edit, Filled, Lineage, Role
from synthorax.nn.conditions import decoded, encoded
from synthorax.nodule import NoduleAttributes, check_attributes
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from synthorax.rendering.maker import shape_source
from synthorax.rendering.shapes import ShapeSource
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.systems.flow.conditions import HAS_NODULE, HAS_NONE, flow_conditions, nothing_told
from synthorax.systems.flow.config import FlowOptions
from synthorax.systems.flow.system import Flow, Gaps
from synthorax.training.precision import Automatic, of_sampling
from synthorax.volume import Volume

ROUNDED = 1e-3
"""Attributes may lie beyond the range by what rounding makes."""
ERASED_MARGIN_MM = 2.0
"""An erasure reaches this far beyond the voxels of the nodule, where they are known."""


class Wish(NamedTuple):
    """A nodule as the network is told of it.

    Attributes:
        told: attributes asked for, and those of the nodule whose outline was taken.
        outline: bool [z, y, x] on the grid of the patch.
        origin, notes: as of `makers.Filled`.
    """

    told: NoduleAttributes
    outline: NDArray[np.bool_]
    origin: str = ""
    notes: tuple[str, ...] = ()


class FlowMethod(Learned):
    """A `Method` around a trained flow.

    Attributes:
        spec: grid and HU window of patches around small nodules.
        learned_healthy: whether it can draw lung without a nodule.
        range_of: the least and greatest value of each attribute that the training nodules had.

    Args:
        roles: beside injecting, and erasing where it can.
    """

    def __init__(self, system: Flow, lineage: Lineage, options: FlowOptions, roles: frozenset[Role]) -> None:
        config = system.config
        self.system, self._config, self.spec, self._options = system, config, config.patch, options
        self.learned_healthy = system.learned_healthy
        self.range_of = _ranges(system.facts["attributes"], config.shown)
        self._shapes = shapes_of(options, lineage)
        edits: frozenset[Role] = frozenset({"injects", "erases"} if self.learned_healthy else {"injects"})
        super().__init__(
            self._painted,
            config.view,
            name=system.name,
            lineage=lineage.joined(self._shapes.lineage),
            heeds=frozenset({"diameter_mm", *self.range_of, *self._shapes.heeds}),
            roles=roles | edits,
            keeps_noise=True,
            ball_mm=config.ball_mm,
            outline=self._told_outline,
        )

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Draw nodules, or lung in the place of nodules, into the middle of patches.

        Raises:
            InputError: attributes beyond those of the training nodules, or an outline that the patch has no room for.
        """
        for edit in edits:
            if edit.kind == "inject":
                self.check(edit.nodule)
        return super().fill_many(patches, regions, edits, seeds)

    def _painted(self, hu: NDArray[np.float32], region: NDArray[np.bool_], edit: Edit, seed: int) -> GridFill:
        """Draw the ball of an edit in the middle of a patch of HU [z, y, x]."""
        spec, ball = self.view_of(edit), self._ball(region, edit)
        if edit.kind == "erase":
            if edit.mask is not None:
                ball |= _widened(edit.mask, spec) & region
            return GridFill(self._drawn(hu, ball, None, spec, seed))
        if edit.mask is not None:
            self._check_mask(edit, spec)
        wish = self.wish(edit.nodule, self._told(region, edit, seed))
        return GridFill(self._drawn(hu, ball, wish, spec, seed), wish.outline, wish.told, wish.origin, wish.notes)

    def view_of(self, edit: Edit) -> PatchSpec:
        """The grid in which an edit is done; lung is drawn on the smallest voxels if they show the ball.

        Stores of cubes have no larger patches without a nodule to learn from.
        """
        least = self._config.least_ball_mm(edit.diameter_mm, self.spec)
        if edit.kind == "erase" and least >= edit.diameter_mm + 2 * self._config.least_margin_mm:
            return self.spec
        return super().view_of(edit)

    def _ball(self, region: NDArray[np.bool_], edit: Edit) -> NDArray[np.bool_]:
        """The part of a region [z, y, x] that is drawn for an edit."""
        spec = self.view_of(edit)
        ball: NDArray[np.bool_] = (2 * spec.distances_mm() <= self._config.ball_mm(edit.diameter_mm, spec)) & region
        return ball

    def _told(self, region: NDArray[np.bool_], edit: Edit, seed: int) -> ToldShape:
        """The outline that the network is told of a nodule, by a seed where none is given."""
        spec, ball = self.view_of(edit), self._ball(region, edit)
        if edit.mask is not None:
            return told_mask(edit.mask, spec, ball)
        return told_shape(self._shapes, edit.nodule, spec, ball, seed)

    def _told_outline(self, region: NDArray[np.bool_], edit: Edit, seed: int) -> NDArray[np.bool_]:
        return self._told(region, edit, seed).mask

    def _check_mask(self, edit: Edit, spec: PatchSpec) -> None:
        """Refuse a mask for which there is no room around the middle of a patch.

        Raises:
            InputError: names its width and that of the ball that is filled.
        """
        assert edit.mask is not None
        most = self._config.ball_mm(edit.diameter_mm, spec)
        inside = np.argwhere(edit.mask)
        if not len(inside) or (2 * spec.distances_mm()[edit.mask]).max() > most:
            wide = f"{axial_diameter_mm(inside, spec.spacing_mm):.3g} mm wide" if len(inside) else "no voxel"
            found = f"{wide}, or beside the middle, for a nodule of {edit.diameter_mm:g} mm"
            raise InputError("mask", found, f"voxels within the ball of {most:g} mm that {self.name} fills")

    def _drawn(
        self, hu: NDArray[np.float32], ball: NDArray[np.bool_], wish: Wish | None, spec: PatchSpec, seed: int
    ) -> NDArray[np.float32]:
        """HU [z, y, x] with the ball drawn anew, with a nodule or without one."""
        made = self.drawn([spec.to_unit(hu)], [ball], [wish], [seed], spec, self._options)[0]
        return np.where(ball, spec.to_hu(made), hu)

    def drawn(
        self,
        patches: Sequence[NDArray[np.float32]],
        balls: Sequence[NDArray[np.bool_]],
        wishes: Sequence[Wish | None],
        seeds: Sequence[int],
        spec: PatchSpec,
        options: FlowOptions,
    ) -> NDArray[np.float32]:
        """Patches [n, z, y, x] from -1 to 1 with their balls drawn anew."""
        n, size = len(patches), spec.size
        scale = torch.full((n,), spec.spacing_mm[0] / self._config.spacing_mm[0])
        has = [wish is not None for wish in wishes]
        outlines = [np.zeros(size, bool) if wish is None else wish.outline for wish in wishes]
        told = [NoduleAttributes() if wish is None else wish.told for wish in wishes]
        presence = torch.tensor([HAS_NODULE if one else HAS_NONE for one in has])
        attributes = encoded(told, self._config.shown)
        asked = Gaps(
            _stacked(patches),
            _stacked(balls),
            _stacked(outlines),
            flow_conditions(scale, presence, torch.tensor(has), attributes),
            nothing_told(scale, len(self._config.shown)),
        )
        noises = [generator(seed, "flow noise").standard_normal(size, np.float32) for seed in seeds]
        made = self.system.drawn_in(asked, _stacked(noises), options, self.precision(options))
        return made[:, 0].numpy()

    def precision(self, options: FlowOptions) -> Automatic:
        """The arithmetic in which the network draws here."""
        return of_sampling(options.precision, self._config.precision, self.system.device.type)

    def wish(self, asked: NoduleAttributes, found: ToldShape) -> Wish:
        """Return what the network is told of a nodule: its outline, and what is known of the outlined nodule too.

        What is known lies within what the training nodules had.
        """
        known = found.shape.attributes.given()
        own = {name: float(np.clip(known[name], *ends)) for name, ends in self.range_of.items() if name in known}
        return Wish(NoduleAttributes(**own | asked.given()), found.mask, found.shape.origin, found.notes)

    def check(self, asked: NoduleAttributes) -> None:
        """Refuse attributes beyond those of the training nodules.

        Raises:
            InputError: names the attribute and the range.
        """
        check_attributes(asked)
        for name, value in asked.given().items():
            low, high = self.range_of.get(name, (-np.inf, np.inf))
            if not low - ROUNDED <= value <= high + ROUNDED:
                unit = " mm" if name == "diameter_mm" else ""
                expected = f"{low:.3g} to {high:.3g}{unit}, as the training nodules of {self.name} have"
                raise InputError(name, f"{value:g}{unit}", expected)


def shapes_of(options: FlowOptions, lineage: Lineage) -> ShapeSource:
    """Return where outlines come from: if nothing else is asked for, from LIDC's readers of the training patients."""
    own = [patient for patient in lidc_patients() if patient_key(patient) in lineage.seen]
    return shape_source(options.shapes, own or None)


def _ranges(known: Tensor, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each attribute in a table of encoded ones; none of unknown attributes."""
    found = {}
    for name, column in zip(names, known.unbind(1), strict=True):
        values = column[~column.isnan()]
        if len(values):
            low, high = decoded(torch.stack([values.amin(), values.amax()])[:, None], [name])[:, 0].tolist()
            found[name] = (low, high)
    return found


def _stacked(patches: Sequence[NDArray]) -> Tensor:
    """Arrays [z, y, x] as float32 [n, 1, z, y, x]."""
    return torch.from_numpy(np.stack(patches).astype(np.float32))[:, None]


def _widened(mask: NDArray[np.bool_], spec: PatchSpec) -> NDArray[np.bool_]:
    """A mask [z, y, x], wider by `ERASED_MARGIN_MM`."""
    return dilated(mask, ERASED_MARGIN_MM, spec.spacing_mm)
