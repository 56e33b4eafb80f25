"""The flow as a maker: beside its edits, it makes patches of CT out of noise alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthorax.editing.told_shapes import told_shape
from synthorax.errors import InputError
from synthorax.makers import Asked, Generator, Lineage, Options, Role, Samples, check_heeds, options_of
from synthorax.nn.conditions import completed, decoded, encoded
from synthorax.nodule import Nodule
from synthorax.provenance import patient_key
from synthorax.rendering.shapes import ShapeSource
from synthorax.seeding import derive, generator
from synthorax.shapes.diameter import as_measured
from synthorax.systems.flow.config import FlowOptions
from synthorax.systems.flow.method import FlowMethod, Wish, shapes_of
from synthorax.systems.flow.system import Flow

DRAWN_AT_ONCE = 8
"""Patches made at once; the last part is padded, so that a patch does not depend on its company."""


class FlowMaker(FlowMethod, Generator):
    """A `Method` and, if the network learned whole patches, a `Generator` around a trained flow.

    Args:
        options: of edits; those of samples come with each call.
    """

    def __init__(self, system: Flow, lineage: Lineage, options: Options | None = None) -> None:
        roles: frozenset[Role] = frozenset({"makes patches"} if system.config.whole else ())
        super().__init__(system, lineage, options_of(options, FlowOptions, system.name), roles)
        self.makes_empty = self.learned_healthy

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
                self.check(nodule)
                if (nodule.diameter_mm or 0) > self.spec.widest_mm:
                    expected = f"at most {self.spec.widest_mm:g} mm in a patch of {self.name}"
                    raise InputError("diameter_mm", f"{nodule.diameter_mm:g} mm", expected)
        shapes = self._shapes if options is None else shapes_of(chosen, self.lineage)
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
            unit = self.drawn([empty] * n, [everywhere] * n, wishes, seeds, spec, options)[: len(index)]
            yield self._samples(unit, index, each[: len(index)], wishes[: len(index)], options)

    def _of_sample(self, asked: Asked, seed: int, shapes: ShapeSource) -> Wish | None:
        """What the network is told of the nodule of a sample; None of one without a nodule."""
        if not asked:
            return None
        (nodule,) = asked
        if nodule.diameter_mm is None:  # that of a training nodule alike, no wider than the patch shows
            random, shown = generator(seed, "diameter"), self.system.config.shown
            whole = completed(self.system.facts["attributes"], encoded([nodule], shown)[0], random)
            mm = float(decoded(whole[None], shown)[0, shown.index("diameter_mm")])
            nodule = replace(nodule, diameter_mm=min(mm, self.spec.widest_mm))
        return self.wish(nodule, told_shape(shapes, nodule, self.spec, np.ones(self.spec.size, bool), seed))

    def _samples(
        self,
        unit: NDArray[np.float32],
        index: Sequence[int],
        asked: Sequence[Asked],
        wishes: Sequence[Wish | None],
        options: FlowOptions,
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
            {"sample_batch": DRAWN_AT_ONCE, "precision": self.precision(options)},
        )
