"""The AC-WGAN-GP as a maker: it makes CT patches, and judges whether a patch shows a nodule."""

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
"""Attempts at a sample before a selection leaves it out."""
TELL_EVERY_S = 20.0
"""Seconds between two lines about the progress of a selection."""
WORTH_TELLING_S = 10.0
"""Seconds that a selection has to need before it tells its estimate."""
TRAIN_MASKS = (
    "synthorax train ac-wgan --data STORE --preset PRESET --from RUN --set steps=0 --set segmenter_steps=600 --out NEW "
    "adds a segmenter"
)
"""How to give a model a segmenter, whose preset has to be that of RUN."""
NO_MASKS = (
    "this model has no segmenter: its nodules have no masks, and their diameters are not measured; " + TRAIN_MASKS
)
"""Note on samples of a model without a segmenter."""


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
    def masks_missing(self) -> str:
        """How to give the model a segmenter if it has none."""
        return "" if self._system.segmenter else TRAIN_MASKS

    @property
    def selects(self) -> bool:
        """Whether the model has the threshold for a selection, which is set when training ends."""
        return self._system.has_threshold

    def sample(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make patches, `CUBES_AT_ONCE` at a time; an attribute that is not requested is taken from a real nodule.

        If the model has a segmenter, nodules have masks, and their centres and diameters are measured on them.

        With `options.select`, a sample that fails every attempt is left out, and a note tells how many were.

        Args:
            asked: nodules of each sample with their attributes, one or none in a patch.
            seed: sample i of a seed is the same however many are made.
            options: `AcWganOptions`, or None for the defaults.

        Raises:
            InputError: an attribute that the model is not conditioned on, or a value that it cannot make; more than
                one nodule in a patch; a patch without a nodule, if the model was trained without any; a selection by a
                model without a threshold, or one that no sample passes (raised at the end).
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
        return parts

    def select(self, asked: Sequence[Asked], seed: int, options: Options | None = None) -> Iterator[Samples]:
        """Make patches as `sample` does, each until the critic accepts it as real and of its class (section 4.2).

        A sample that fails every attempt is left out, without a note and even if none passes.

        Raises:
            InputError: as `sample`, except that no sample has to pass.
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
        """Return the precision that the networks sample in on this device."""
        return of_sampling(options.precision, self._system.config.precision, self._system.device.type)

    def _check(self, asked: Sequence[Asked]) -> None:
        if not asked:
            raise InputError("number of samples", "0", "1 or more")
        for one in set(asked):
            if len(one) > 1:
                raise InputError("nodules of a sample", str(len(one)), f"0 or 1; {self.name} makes single nodules")
            if not one and not self.makes_empty:
                found = "one that was trained on no patches without a nodule"
                raise InputError("model", found, "one trained with --set negatives=true")
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
        """Make the samples of a seed with the numbers in `index`, each independent of the others."""
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
        """Return notes on attributes outside the range of the training data, and on a model without a segmenter."""
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
        """Return the nodule in the middle of sample i, or none.

        An attribute has the value that the generator was given, or else the critic's prediction; the extra column
        `diameter_is` tells where the diameter is from: asked, told (a similar real nodule's) or judged (the critic's).
        """
        if not asked:
            return ()
        given, judged = self._by_name(made.condition[i]), self._by_name(made.judged[i])
        attributes = {
            name: round(value if name == "diameter_mm" else min(max(value, 1.0), 5.0), 2)
            for name, value in (judged | given).items()
        }
        is_asked = asked[0].diameter_mm is not None
        source = "asked" if is_asked else "told" if "diameter_mm" in given else "judged"
        return (Nodule("01", self.spec.middle_mm, NoduleAttributes(**attributes), extra={"diameter_is": source}),)

    def _details(self, made: GeneratedCubes, i: int) -> dict[str, Any]:
        return {
            "attempt": int(made.attempt[i]),
            "class": int(made.labels[i]),
            "told": self._by_name(made.condition[i]),
            "judged": self._by_name(made.judged[i]),
            "score": round(float(made.scores[i]), 4),
            "confidence": round(float(made.confidence[i]), 4),
        }

    def _by_name(self, values: NDArray[np.float32]) -> dict[str, float]:
        """Return the finite values [a] by the attributes' names."""
        pairs = zip(self._system.config.attributes, np.round(values, 3).tolist(), strict=True)
        return {name: value for name, value in pairs if isfinite(value)}


def _selection_notes(n: int, found: int) -> tuple[str, ...]:
    """Return notes on a selection in which `found` of `n` samples passed.

    Raises:
        InputError: no sample passed.
    """
    if found == n:
        return ()
    more = "another seed, attributes nearer to the training data's, or no selection"
    if not found:
        raise InputError("selection", f"none of {n} samples after {SELECTION_TRIES} attempts at each", more)
    return (
        f"selection: {found} of {n} samples passed within {SELECTION_TRIES} attempts at each; to have more, try {more}",
    )


class _Progress:
    """Tells on the screen how long a selection will take, after its first attempt, and then how many are found."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._began = self._reported = time.monotonic()
        self._found = self._of = 0

    def __call__(self, found: int, of: int) -> None:
        now, is_first = time.monotonic(), not self._of
        self._found, self._of = self._found + found, self._of + of
        if is_first:
            needed = min(self._n * of / found if found else np.inf, self._n * float(SELECTION_TRIES))
            seconds = (now - self._began) / of * needed
            if seconds > WORTH_TELLING_S:
                text = f"{found} of the first {of} attempts passed; {self._n} samples need about {needed:.0f} attempts"
                say(f"selection: {text}, {max(seconds / 60, 1):.0f} minutes", error=True)
        elif now - self._reported > TELL_EVERY_S:
            say(f"selection: {self._found} of {self._n} samples found in {self._of} attempts", error=True)
            self._reported = now
