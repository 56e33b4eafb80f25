"""The flow as a maker: it draws nodules into patches of a scan, draws lung over them, and makes patches of CT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from synthorax.makers import Asked, Edit, Filled, Generator, Lineage, Options, Role, Samples, check_heeds, options_of
from synthorax.nn.conditions import completed, decoded, encoded
from synthorax.nodule import Nodule, NoduleAttributes, check_attributes
from synthorax.patch import PatchSpec
from synthorax.provenance import patient_key
from synthorax.rendering.maker import shape_source
from synthorax.rendering.shapes import ShapeSource
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import as_measured, axial_diameter_mm
from synthorax.systems.flow.conditions import HAS_NODULE, HAS_NONE, flow_conditions, nothing_told
from synthorax.systems.flow.config import FlowOptions
from synthorax.systems.flow.system import Flow, Gaps
from synthorax.training.precision import of_sampling
from synthorax.volume import Volume

DRAWN_AT_ONCE = 8
"""Patches made at once; the last part is padded, so that a patch does not depend on its company."""
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


class FlowMaker(Learned, Generator):
    """A `Method` and a `Generator` around a trained flow.

    Args:
        options: of edits; those of samples come with each call.
    """

    def __init__(self, system: Flow, lineage: Lineage, options: Options | None = None) -> None:
        config = system.config
        self._system, self._config, self.spec = system, config, config.patch
        self._options = options_of(options, FlowOptions, system.name)
        self._of_training = system.facts["attributes"]
        known = ~self._of_training.isnan().all(0)
        self._heard = [name for name, is_known in zip(config.shown, known.tolist(), strict=True) if is_known]
        self._shapes = self._shapes_of(self._options, lineage)
        self.makes_empty = system.learned_healthy
        roles: list[Role] = ["injects"]
        roles += ["erases"] if self.makes_empty else []
        roles += ["makes patches"] if config.whole else []
        super().__init__(
            self._painted,
            config.view,
            name=system.name,
            lineage=lineage.joined(self._shapes.lineage),
            heeds=frozenset({"diameter_mm", *self._heard, *self._shapes.heeds}),
            roles=frozenset(roles),
            keeps_noise=True,
            ball_mm=config.ball_mm,
            outline=self._told_outline,
        )

    def _shapes_of(self, options: FlowOptions, lineage: Lineage) -> ShapeSource:
        """Where outlines come from: if nothing else is asked for, from LIDC's readers of the training patients."""
        own = [patient for patient in lidc_patients() if patient_key(patient) in lineage.seen]
        return shape_source(options.shapes, own or None)

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
                self._check(edit.nodule)
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
        wish = self._wish(edit.nodule, self._told(region, edit, seed))
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
        made = self._unit([spec.to_unit(hu)], [ball], [wish], [seed], spec, self._options)[0]
        return np.where(ball, spec.to_hu(made), hu)

    def _unit(
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
        precision = of_sampling(options.precision, self._config.precision, self._system.device.type)
        made = self._system.drawn_in(asked, _stacked(noises), options, precision)
        return made[:, 0].numpy()

    def _wish(self, asked: NoduleAttributes, found: ToldShape) -> Wish:
        """What the network is told of a nodule: its outline, and where nothing is asked for, the outlined nodule's."""
        own = {name: value for name, value in found.shape.attributes.given().items() if name in self._heard}
        return Wish(NoduleAttributes(**own | asked.given()), found.mask, found.shape.origin, found.notes)

    def _check(self, asked: NoduleAttributes) -> None:
        """Refuse attributes beyond those of the training nodules.

        Raises:
            InputError: names the attribute and the range.
        """
        check_attributes(asked)
        for name, value in asked.given().items():
            if name not in self._heard:
                continue
            column = self._of_training[:, self._config.shown.index(name)]
            ends = torch.stack([column.nan_to_num(torch.inf).amin(), column.nan_to_num(-torch.inf).amax()])
            low, high = decoded(ends[:, None], [name])[:, 0].tolist()
            if not low - ROUNDED <= value <= high + ROUNDED:
                unit = " mm" if name == "diameter_mm" else ""
                expected = f"{low:.3g} to {high:.3g}{unit}, as the training nodules of {self.name} have"
                raise InputError(name, f"{value:g}{unit}", expected)

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make patches out of noise alone, `DRAWN_AT_ONCE` in a part; each depends on its own number alone.

        Where no diameter is asked for, that of a training nodule like the one asked for is taken.

        Raises:
            InputError: several nodules in a patch, none of a model that learned no patch without one, attributes that
                it does not heed or beyond those of its training nodules, or a nodule that the patch does not show.
        """
        chosen = options_of(options, FlowOptions, self.name)
        if not asked:
            raise InputError("number of samples", "0", "1 or more")
        for one in set(asked):
            if len(one) > 1:
                raise InputError("nodules of a sample", str(len(one)), f"at most 1, in a patch of {self.name}")
            if not one and not self.makes_empty:
                raise InputError("model", "one that learned no patches without a nodule", "patches with a nodule")
            check_heeds(self, one)
            for nodule in one:
                self._check(nodule)
                if (nodule.diameter_mm or 0) > self.spec.widest_mm:
                    expected = f"at most {self.spec.widest_mm:g} mm in a patch of {self.name}"
                    raise InputError("diameter_mm", f"{nodule.diameter_mm:g} mm", expected)
        shapes = self._shapes if options is None else self._shapes_of(chosen, self.lineage)
        return self._parts(asked, seed, chosen, shapes)

    def _parts(self, asked: Sequence[Asked], seed: int, options: FlowOptions, shapes: ShapeSource) -> Iterator[Samples]:
        spec = self.spec
        for start in range(0, len(asked), DRAWN_AT_ONCE):
            index = list(range(start, min(start + DRAWN_AT_ONCE, len(asked))))
            padded = index + index[-1:] * (DRAWN_AT_ONCE - len(index))
            seeds = [derive(seed, "sample", i) for i in padded]
            each = [asked[i] for i in padded]
            wishes = [self._of_sample(one, own, shapes) for one, own in zip(each, seeds, strict=True)]
            empty, everywhere = np.zeros(spec.size, np.float32), np.ones(spec.size, bool)
            n = len(padded)
            unit = self._unit([empty] * n, [everywhere] * n, wishes, seeds, spec, options)[: len(index)]
            yield self._samples(unit, index, each[: len(index)], wishes[: len(index)])

    def _of_sample(self, asked: Asked, seed: int, shapes: ShapeSource) -> Wish | None:
        """What the network is told of the nodule of a sample; None of one without a nodule."""
        if not asked:
            return None
        (nodule,) = asked
        if nodule.diameter_mm is None:  # that of a training nodule alike, no wider than the patch shows
            random, shown = generator(seed, "diameter"), self._config.shown
            whole = completed(self._of_training, encoded([nodule], shown)[0], random)
            mm = float(decoded(whole[None], shown)[0, shown.index("diameter_mm")])
            nodule = replace(nodule, diameter_mm=min(mm, self.spec.widest_mm))
        return self._wish(nodule, told_shape(shapes, nodule, self.spec, np.ones(self.spec.size, bool), seed))

    def _samples(
        self,
        unit: NDArray[np.float32],
        index: Sequence[int],
        asked: Sequence[Asked],
        wishes: Sequence[Wish | None],
    ) -> Samples:
        spec = self.spec
        masks = [np.zeros(spec.size, bool) if wish is None else wish.outline for wish in wishes]

        def nodules(wish: Wish | None) -> tuple[Nodule, ...]:
            if wish is None:
                return ()
            return (as_measured(Nodule("01", spec.middle_mm, wish.told), wish.outline, spec.spacing_mm),)

        return Samples(
            {"ct": spec.to_int16(unit), "mask": np.stack(masks).astype(np.uint8)},
            np.array(index),
            tuple(asked),
            tuple(map(nodules, wishes)),
            tuple({"outline": patient_key(wish.origin)} if wish and wish.origin else {} for wish in wishes),
            spec,
            self.lineage,
            tuple(dict.fromkeys(note for wish in wishes if wish for note in wish.notes)),
            len(index),
            {"sample_batch": DRAWN_AT_ONCE},
        )


def _stacked(patches: Sequence[NDArray]) -> Tensor:
    """Arrays [z, y, x] as float32 [n, 1, z, y, x]."""
    return torch.from_numpy(np.stack(patches).astype(np.float32))[:, None]


def _widened(mask: NDArray[np.bool_], spec: PatchSpec) -> NDArray[np.bool_]:
    """A mask [z, y, x], wider by `ERASED_MARGIN_MM`."""
    return dilated(mask, ERASED_MARGIN_MM, spec.spacing_mm)
