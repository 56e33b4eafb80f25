"""The flow as a method: it adds nodules to patches of a scan, and replaces nodules by lung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.anatomy.morphology import dilated
from synthorax.annotations.lidc_table import lidc_patients
from synthorax.editing.grid_shapes import GridShape, mask_on_grid, shape_on_grid
from synthorax.editing.learned import GridFill, Learned
from synthorax.errors import InputError
from synthorax.makers import Edit, Filled, Lineage, Role
from synthorax.nn.conditions import decoded, encoded
from synthorax.nodule import NoduleAttributes, attribute_text, check_attributes
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from synthorax.rendering.maker import shape_source
from synthorax.rendering.shapes import ShapeSource
from synthorax.seeding import generator
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.systems.flow.conditions import HAS_NODULE, HAS_NONE, flow_conditions, no_condition
from synthorax.systems.flow.config import FlowOptions
from synthorax.systems.flow.system import Flow, Gaps
from synthorax.training.precision import Automatic, of_sampling
from synthorax.volume import Volume

ROUNDED = 1e-3
"""Tolerance by which an attribute may exceed its range, for rounding."""
ERASED_MARGIN_MM = 2.0
"""Margin around the nodule's mask, if it is known, that an erasure also replaces."""


class Wish(NamedTuple):
    """What the network is given for a nodule.

    Attributes:
        attributes: the requested attributes, completed by those of the nodule whose outline is used.
        outline: the outline's mask on the grid of the patch, [z, y, x].
        origin, notes: see `makers.Filled`.
    """

    attributes: NoduleAttributes
    outline: NDArray[np.bool_]
    origin: str = ""
    notes: tuple[str, ...] = ()


class FlowMethod(Learned):
    """A `Method` around a trained flow.

    Attributes:
        spec: grid and HU window of patches around small nodules.
        learned_healthy: whether it can generate lung without a nodule.
        range_of: smallest and largest value of each attribute among the training nodules.

    Args:
        system: the trained flow.
        lineage: the patients whose data it was trained on, and its ancestors.
        options: options of edits.
        roles: roles in addition to injecting and, if it can, erasing.
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
            outline=self._shape_mask,
        )

    def fill_many(
        self,
        patches: Sequence[Volume],
        regions: Sequence[NDArray[np.bool_]],
        edits: Sequence[Edit],
        seeds: Sequence[int],
    ) -> list[Filled]:
        """Add a nodule at the centre of each patch, or replace the nodule there by lung; see `makers.Method`.

        Raises:
            InputError: an attribute is outside the range of the training nodules, or a mask does not fit the ball.
        """
        for edit in edits:
            if edit.kind == "inject":
                self.check(edit.nodule)
        return super().fill_many(patches, regions, edits, seeds)

    def _painted(self, hu: NDArray[np.float32], region: NDArray[np.bool_], edit: Edit, seed: int) -> GridFill:
        """Generate the ball of an edit at the centre of a patch.

        Args:
            hu: patch in HU, [z, y, x].
            region: voxels that may change, [z, y, x].
            edit: the nodule to add or to erase.
            seed: seed of the outline and the noise.

        Raises:
            InputError: the edit's mask does not fit the ball.
        """
        spec, ball = self.view_of(edit), self._ball(region, edit)
        if edit.kind == "erase":
            if edit.mask is not None:
                ball |= _widened(edit.mask, spec) & region
            return GridFill(self._drawn(hu, ball, None, spec, seed))
        if edit.mask is not None:
            self._check_mask(edit, spec)
        wish = self.wish(edit.nodule, self._shape(region, edit, seed))
        return GridFill(self._drawn(hu, ball, wish, spec, seed), wish.outline, wish.attributes, wish.origin, wish.notes)

    def view_of(self, edit: Edit) -> PatchSpec:
        """Return the grid on which an edit is done; an erasure uses the smallest voxels if the ball fits that patch.

        Stores of cubes have no larger patches without a nodule to train on.
        """
        least = self._config.least_ball_mm(edit.diameter_mm, self.spec)
        if edit.kind == "erase" and least >= edit.diameter_mm + 2 * self._config.least_margin_mm:
            return self.spec
        return super().view_of(edit)

    def _ball(self, region: NDArray[np.bool_], edit: Edit) -> NDArray[np.bool_]:
        """Return the voxels of a region that are generated for an edit, [z, y, x]."""
        spec = self.view_of(edit)
        ball: NDArray[np.bool_] = (2 * spec.distances_mm() <= self._config.ball_mm(edit.diameter_mm, spec)) & region
        return ball

    def _shape(self, region: NDArray[np.bool_], edit: Edit, seed: int) -> GridShape:
        """Return the outline that the network is given: the edit's own mask, or an outline drawn by the seed."""
        spec, ball = self.view_of(edit), self._ball(region, edit)
        if edit.mask is not None:
            return mask_on_grid(edit.mask, spec, ball)
        return shape_on_grid(self._shapes, edit.nodule, spec, ball, seed)

    def _shape_mask(self, region: NDArray[np.bool_], edit: Edit, seed: int) -> NDArray[np.bool_]:
        return self._shape(region, edit, seed).mask

    def _check_mask(self, edit: Edit, spec: PatchSpec) -> None:
        """Check that a mask has voxels and lies inside the ball that is filled.

        Raises:
            InputError: it does not; names the width of the mask and of the ball.
        """
        assert edit.mask is not None
        most = self._config.ball_mm(edit.diameter_mm, spec)
        inside = np.argwhere(edit.mask)
        if not len(inside) or (2 * spec.distances_mm()[edit.mask]).max() > most:
            wide = f"{axial_diameter_mm(inside, spec.spacing_mm):.3g} mm wide" if len(inside) else "no voxel"
            found = f"{wide}, or off the centre, for a nodule of {edit.diameter_mm:g} mm"
            raise InputError("mask", found, f"voxels within the ball of {most:g} mm that {self.name} fills")

    def _drawn(
        self, hu: NDArray[np.float32], ball: NDArray[np.bool_], wish: Wish | None, spec: PatchSpec, seed: int
    ) -> NDArray[np.float32]:
        """Return HU [z, y, x] in which the ball is generated, with the nodule of `wish` or, for None, without one."""
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
        """Return patches [n, z, y, x] within -1 to 1 in which the balls are generated.

        Args:
            patches: patches within -1 to 1, each [z, y, x].
            balls: voxels to generate, each [z, y, x].
            wishes: nodule of each patch; None generates lung without a nodule.
            seeds: seed of the noise of each patch.
            spec: grid of all patches.
            options: options of the integration.
        """
        n, size = len(patches), spec.size
        scale = torch.full((n,), spec.spacing_mm[0] / self._config.spacing_mm[0])
        has = [wish is not None for wish in wishes]
        outlines = [np.zeros(size, bool) if wish is None else wish.outline for wish in wishes]
        wanted = [NoduleAttributes() if wish is None else wish.attributes for wish in wishes]
        presence = torch.tensor([HAS_NODULE if one else HAS_NONE for one in has])
        attributes = encoded(wanted, self._config.shown)
        asked = Gaps(
            _stacked(patches),
            _stacked(balls),
            _stacked(outlines),
            flow_conditions(scale, presence, torch.tensor(has), attributes),
            no_condition(scale, len(self._config.shown)),
        )
        noises = [generator(seed, "flow noise").standard_normal(size, np.float32) for seed in seeds]
        made = self.system.drawn_in(asked, _stacked(noises), options, self.precision(options))
        return made[:, 0].numpy()

    def precision(self, options: FlowOptions) -> Automatic:
        """Return the precision of the network's arithmetic on this machine."""
        return of_sampling(options.precision, self._config.precision, self.system.device.type)

    def wish(self, asked: NoduleAttributes, found: GridShape) -> Wish:
        """Return what the network is given for a nodule: an outline, the requested attributes and the outline's own.

        Attributes of the outlined nodule are clipped to the range of the training nodules.

        Args:
            asked: the requested attributes.
            found: the outline.
        """
        known = found.shape.attributes.given()
        own = {name: float(np.clip(known[name], *ends)) for name, ends in self.range_of.items() if name in known}
        return Wish(NoduleAttributes(**own | asked.given()), found.mask, found.shape.origin, found.notes)

    def check(self, asked: NoduleAttributes) -> None:
        """Check that attributes are within the range of the training nodules.

        Raises:
            InputError: an attribute is outside its range; names the attribute and the range.
        """
        check_attributes(asked)
        for name, value in asked.given().items():
            low, high = self.range_of.get(name, (-np.inf, np.inf))
            if not low - ROUNDED <= value <= high + ROUNDED:
                expected = f"{low:.3g} to {high:.3g}, the range of the training nodules of {self.name}"
                if name == "diameter_mm":
                    expected = f"{low:.3g} to {min(high, self._widest_mm()):.3g} mm with {self.name}"
                raise InputError(name, attribute_text(name, value), expected)


def shapes_of(options: FlowOptions, lineage: Lineage) -> ShapeSource:
    """Return the source of outlines: that of the options, or LIDC-IDRI's outlines of the training patients.

    If none of the training patients is in LIDC-IDRI, the outlines of all its patients are used.
    """
    own = [patient for patient in lidc_patients() if patient_key(patient) in lineage.seen]
    return shape_source(options.shapes, own or None)


def _ranges(known: Tensor, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of each attribute; an attribute without known values is left out.

    Args:
        known: encoded attributes, [n, a]; NaN if unknown.
        names: names of the attributes, [a].
    """
    found = {}
    for name, column in zip(names, known.unbind(1), strict=True):
        values = column[~column.isnan()]
        if len(values):
            low, high = decoded(torch.stack([values.amin(), values.amax()])[:, None], [name])[:, 0].tolist()
            found[name] = (low, high)
    return found


def _stacked(patches: Sequence[NDArray]) -> Tensor:
    """Return arrays [z, y, x] as one float32 tensor [n, 1, z, y, x]."""
    return torch.from_numpy(np.stack(patches).astype(np.float32))[:, None]


def _widened(mask: NDArray[np.bool_], spec: PatchSpec) -> NDArray[np.bool_]:
    """Return a mask [z, y, x] dilated by `ERASED_MARGIN_MM`."""
    return dilated(mask, ERASED_MARGIN_MM, spec.spacing_mm)
