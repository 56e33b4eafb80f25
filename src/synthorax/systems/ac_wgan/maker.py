"""The AC-WGAN-GP as a maker: a generator of CT patches, and a judge of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.makers import Asked, Lineage, Options, Role, Samples, check_heeds, noting_last, options_of
from synthorax.nodule import Nodule, NoduleAttributes, check_attributes
from synthorax.patch import POSITIVE, PatchSpec
from synthorax.screen import say
from synthorax.systems.ac_wgan.config import AcWganOptions
from synthorax.systems.ac_wgan.system import CUBE_BATCH, CUBES_AT_ONCE, AcWgan, GeneratedCubes
from synthorax.tasks import made_masks
from synthorax.training.config import Precision
from synthorax.training.precision import of_sampling

SELECTION_TRIES = 50
"""A selection gives up after this many attempts at a sample."""
TELL_EVERY_S = 20.0
"""Seconds between two lines that say how far a selection is."""
WORTH_TELLING_S = 10.0
"""A selection that will take longer than this says so after its first attempt."""
NO_MASKS = (
    "this model has no segmenter: its nodules have no masks, and their diameters are not measured; "
    "train one with --set segmenter_steps=600"
)


class AcWganMaker:
    """A `Generator` of patches around a trained AC-WGAN-GP; a `Judge` too if it learned patches without a nodule."""

    def __init__(self, system: AcWgan, lineage: Lineage) -> None:
        self.name = system.name
        self.lineage = lineage
        self.heeds: frozenset[str] = frozenset(system.config.attributes)
        self.makes_empty = system.config.negatives
        judges: tuple[Role, ...] = ("judges",) if self.makes_empty else ()
        self.roles: frozenset[Role] = frozenset({"makes patches", *judges})
        self._system = system

    @property
    def spec(self) -> PatchSpec:
        """Grid and HU window of the patches."""
        return self._system.config.patch

    @property
    def selects(self) -> bool:
        """Whether training has set the threshold that a selected sample has to reach."""
        return self._system.has_threshold

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make patches in parts of at most `CUBES_AT_ONCE`; attributes left out are copied from a similar real nodule.

        Where the model has a segmenter, nodules have masks, whose diameters and centres are theirs.

        With `options.select`, samples that never pass the selection are left out, and a note tells how many.

        Raises:
            InputError: attributes that it does not heed or cannot make, more than one nodule a patch, patches without
                a nodule of a model that learned none; for a selection, a model without a threshold, or, at the end,
                not one sample that passes.
        """
        chosen = options_of(options, AcWganOptions, self.name)
        precision = self._precision(chosen)
        self._check(asked)
        if chosen.select:
            self._system.check_selects()
            selected = self._selected(asked, seed, precision)
            parts = noting_last(selected, len, lambda found: _selection_notes(len(asked), sum(found)))
        else:
            parts = self._parts(asked, seed, precision)
        return made_masks.noted(parts) if self._system.segmenter else parts

    def select(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make patches anew until the critic takes each for real and for its class (section 4.2).

        Raises:
            InputError: as `sample`, but that none of them has to pass.
        """
        precision = self._precision(options_of(options, AcWganOptions, self.name))
        self._check(asked)
        self._system.check_selects()
        return self._selected(asked, seed, precision)

    def judge(self, hu: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return the probability of a nodule by the critic's class head [n] in patches [n, z, y, x] of HU."""
        unit = self.spec.to_unit(torch.from_numpy(np.asarray(hu, np.float32)))[:, None]
        probabilities = self._system.judge(unit).classes.softmax(1)[:, POSITIVE]
        return probabilities.numpy().astype(np.float64)

    def _precision(self, options: AcWganOptions) -> Precision:
        """The arithmetic of sampling here."""
        return of_sampling(options.precision, self._system.config.precision, self._system.device.type)

    def _check(self, asked: Sequence[Asked]) -> None:
        if not asked:
            raise InputError("number of samples", "0", "1 or more")
        for one in set(asked):
            if len(one) > 1:
                raise InputError("nodules of a sample", str(len(one)), f"at most 1, in a patch of {self.name}")
            if not one and not self.makes_empty:
                found = "one that learned no patches without a nodule"
                raise InputError("model", found, "one trained with negatives=true")
            check_heeds(self, one)
            for attributes in one:
                check_attributes(attributes)
                self._system.check_asked(attributes)

    def _parts(self, asked: Sequence[Asked], seed: int, precision: Precision) -> Iterator[Samples]:
        notes = self._doubts(asked)
        for start in range(0, len(asked), CUBES_AT_ONCE):
            index = np.arange(start, min(start + CUBES_AT_ONCE, len(asked)))
            yield self._samples(self._made(index, seed, asked, precision), asked, notes, precision)
            notes = ()

    def _selected(self, asked: Sequence[Asked], seed: int, precision: Precision) -> Iterator[Samples]:
        notes, progress = self._doubts(asked), _Progress(len(asked))
        for start in range(0, len(asked), CUBES_AT_ONCE):
            waiting = np.arange(start, min(start + CUBES_AT_ONCE, len(asked)))
            kept: list[GeneratedCubes] = []
            for attempt in range(SELECTION_TRIES):
                made = self._made(waiting, seed, asked, precision, attempt)
                good = self._system.passes(made)
                kept.append(made.rows(good))
                progress(int(good.sum()), len(good))
                waiting = waiting[~good]
                if not len(waiting):
                    break
            part = GeneratedCubes.joined(kept)
            part = part.rows(np.argsort(part.index))
            tried = int((part.attempt + 1).sum()) + len(waiting) * SELECTION_TRIES
            yield replace(self._samples(part, asked, notes, precision), tried=tried)
            notes = ()

    def _made(
        self, index: NDArray[np.int64], seed: int, asked: Sequence[Asked], precision: Precision, attempt: int = 0
    ) -> GeneratedCubes:
        """Samples of a seed by their numbers; each is the same whatever others are made with it."""
        has_nodule = np.array([bool(asked[i]) for i in index], bool)
        groups = []
        for positive in (True, False):
            chosen = index[has_nodule == positive]
            if len(chosen):
                each = [asked[i][0] if positive else NoduleAttributes() for i in chosen]
                groups.append(self._system.made(chosen, seed, each, positive, attempt, precision))
        made = GeneratedCubes.joined(groups)
        return made.rows(np.argsort(made.index, kind="stable"))

    def _doubts(self, asked: Sequence[Asked]) -> tuple[str, ...]:
        """Notes on attributes asked for beyond what the model has learned from, and on masks that it cannot make."""
        each = dict.fromkeys(one for nodules in asked for one in nodules)
        doubts = dict.fromkeys(note for one in each for note in self._system.doubts(one))
        return (*doubts, *((NO_MASKS,) if each and self._system.segmenter is None else ()))

    def _samples(
        self, made: GeneratedCubes, asked: Sequence[Asked], notes: tuple[str, ...], precision: Precision
    ) -> Samples:
        samples = Samples(
            arrays={"ct": made.hu},
            index=made.index,
            asked=tuple(asked[i] for i in made.index),
            nodules=tuple(self._nodules(made, i, asked[number]) for i, number in enumerate(made.index)),
            details=tuple(self._details(made, i) for i in range(len(made.index))),
            spec=self.spec,
            lineage=self.lineage,
            notes=notes,
            tried=len(made.index),
            arithmetic={"sample_batch": CUBE_BATCH, "precision": precision},
        )
        segmenter = self._system.segmenter
        return samples if segmenter is None else made_masks.with_masks(samples, segmenter)

    def _nodules(self, made: GeneratedCubes, i: int, asked: Asked) -> tuple[Nodule, ...]:
        """The nodule of a sample, which lies in the middle; its attributes are those told to the network, or judged."""
        if not asked:
            return ()
        told, judged = self._by_name(made.told[i]), self._by_name(made.judged[i])
        attributes = {
            name: round(value if name == "diameter_mm" else min(max(value, 1.0), 5.0), 2)
            for name, value in (judged | told).items()
        }
        is_asked = asked[0].diameter_mm is not None
        source = "asked" if is_asked else "told" if "diameter_mm" in told else "judged"
        return (Nodule("01", self.spec.middle_mm, NoduleAttributes(**attributes), extra={"diameter_is": source}),)

    def _details(self, made: GeneratedCubes, i: int) -> dict[str, Any]:
        return {
            "attempt": int(made.attempt[i]),
            "class": int(made.labels[i]),
            "told": self._by_name(made.told[i]),
            "judged": self._by_name(made.judged[i]),
            "score": round(float(made.scores[i]), 4),
            "confidence": round(float(made.confidence[i]), 4),
        }

    def _by_name(self, values: NDArray[np.float32]) -> dict[str, float]:
        """Attributes that have a value."""
        pairs = zip(self._system.config.attributes, np.round(values, 3).tolist(), strict=True)
        return {name: value for name, value in pairs if isfinite(value)}


def _selection_notes(n: int, found: int) -> tuple[str, ...]:
    """Return what to tell of a selection of `n` samples that found a number of them.

    Raises:
        InputError: none was.
    """
    if found == n:
        return ()
    more = "another seed, conditions that more samples meet, or no selection"
    if not found:
        raise InputError("selection", f"none of {n} samples after {SELECTION_TRIES} attempts at each", more)
    return (
        f"selection: {found} of {n} samples reached the threshold in {SELECTION_TRIES} attempts at each; "
        f"for more, {more}",
    )


class _Progress:
    """Says after the first attempt of a selection how long it will take, and from then on how far it is."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._began = self._told = time.monotonic()
        self._found = self._of = 0

    def __call__(self, found: int, of: int) -> None:
        now, is_first = time.monotonic(), not self._of
        self._found, self._of = self._found + found, self._of + of
        if is_first:
            needed = min(self._n * of / found if found else np.inf, self._n * float(SELECTION_TRIES))
            seconds = (now - self._began) / of * needed
            if seconds > WORTH_TELLING_S:
                text = f"{found} of the first {of} samples passed; {self._n} need about {needed:.0f} samples"
                say(f"selection: {text} and {max(seconds / 60, 1):.0f} minutes", error=True)
        elif now - self._told > TELL_EVERY_S:
            say(f"selection: {self._found} of {self._n} found, in {self._of} samples", error=True)
            self._told = now
