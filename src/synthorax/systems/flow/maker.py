"""The flow as a maker: in addition to editing scans, it generates patches of CT from noise alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthorax.editing.grid_shapes import shape_on_grid
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
"""Patches in one batch of sampling; the last batch is padded to this size, so that a patch does not depend on how many
are requested."""


class FlowMaker(FlowMethod, Generator):
    """A `Method` and, if the network was trained on whole patches, a `Generator` around a trained flow.

    Args:
        system: the trained flow.
        lineage: the patients whose data it was trained on, and its ancestors.
        options: options of edits, and of samples for which a call gives none; None takes the defaults.
    """

    def __init__(self, system: Flow, lineage: Lineage, options: Options | None = None) -> None:
        roles: frozenset[Role] = frozenset({"makes patches"} if system.config.whole else ())
        super().__init__(system, lineage, options_of(options, FlowOptions, system.name), roles)
        self.makes_empty = self.learned_healthy

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Generate patches from noise alone, in parts of `DRAWN_AT_ONCE`.

        A patch depends on its number, the seed, its own request and the options, not on the other requests. If no
        diameter is requested, that of a training nodule with similar attributes is used.

        Args:
            asked: request of each patch: one nodule, or none for a patch without a nodule.
            seed: seed of all random draws.
            options: `FlowOptions`; None takes those of the maker.

        Raises:
            InputError: no patch is requested, a patch has several nodules, a patch without a nodule is requested from
                a model that was not trained on such patches, an attribute is not supported or is outside the range of
                the training nodules, or a nodule is too wide for a patch.
        """
        chosen = options_of(options, FlowOptions, self.name, self._options)
        if not asked:
            raise InputError("number of samples", "0", "1 or more")
        for one in set(asked):
            if len(one) > 1:
                raise InputError("nodules of a sample", str(len(one)), f"at most 1, in a patch of {self.name}")
            if not one and not self.makes_empty:
                raise InputError("model", "one that was trained on patches with a nodule only", "patches with a nodule")
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
        """Return what the network is given for the nodule of a sample; None for a sample without a nodule."""
        if not asked:
            return None
        (nodule,) = asked
        if nodule.diameter_mm is None:  # that of a similar training nodule, at most what fits the patch
            random, shown = generator(seed, "diameter"), self.system.config.shown
            whole = completed(self.system.facts["attributes"], encoded([nodule], shown)[0], random)
            mm = float(decoded(whole[None], shown)[0, shown.index("diameter_mm")])
            nodule = replace(nodule, diameter_mm=min(mm, self.spec.widest_mm))
        return self.wish(nodule, shape_on_grid(shapes, nodule, self.spec, np.ones(self.spec.size, bool), seed))

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
            return (as_measured(Nodule("01", spec.middle_mm, wish.attributes), wish.outline, spec.spacing_mm),)

        return Samples(
            {"ct": spec.to_int16(unit, self.name), "mask": np.stack(masks).astype(np.uint8)},
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
