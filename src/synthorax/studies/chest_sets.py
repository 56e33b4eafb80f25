"""Sets of chests on which classifiers of whole chests are trained and measured (CT-SGAN, section 3.1 and figure 3a).

Chests with nodules and chests without may come from two sources, such as LIDC-IDRI and NLST, and a classifier would
learn the sources' scanners instead of nodules. So half of the chests with nodules have them erased, and half of the
chests without nodules have some injected. Edits leave traces, and in a chest of known source an edit gives the label
away. So a sham arm edits healthy places of the other halves too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.case import CaseEntry
from synthorax.datasets.chests import Chests
from synthorax.errors import InputError
from synthorax.makers import Streams
from synthorax.patch import NEGATIVE, POSITIVE, PatchSpec
from synthorax.provenance import fingerprint, making_key
from synthorax.seeding import derive, generator
from synthorax.studies.chest_edits import ChestEdits, is_made, kept_chests, lidc_diameters, on_grid
from synthorax.studies.results import MADE
from synthorax.studies.trials import Study
from synthorax.volume import Volume

SIZES_STUDIED_MM = (6.0, 8.0, 10.0, 12.0, 14.0, 16.0)
"""Diameters in mm of the nodules injected into the test set; the paper names 14 and 16, without a unit."""
KEPT, HEALTHY, ERASED, INJECTED, SHAM = "nodules kept", "healthy", "erased", "injected", "sham edit"
"""Kinds of chests: with nodules and not edited; without nodules and not edited; after an edit."""


@dataclass(frozen=True, eq=False)
class ChestSet:
    """Chests for a classifier.

    Attributes:
        hu: HU, int16 [n, z, y, x].
        labels: 1 with a nodule, 0 without one, int64 [n].
        patients: patient of each chest, [n].
        kinds: kind of each chest, `KEPT`, `HEALTHY`, `ERASED`, `INJECTED` or `SHAM`, [n].
        source: whether the chest had nodules before any edit, bool [n].
        diameters: diameter in mm of the largest nodule, NaN without a nodule or if it is unknown, [n].
        spec: grid, and HU window of the classifier.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    kinds: NDArray[np.str_]
    source: NDArray[np.bool_]
    diameters: NDArray[np.float64]
    spec: PatchSpec

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def key(self) -> str:
        """Hash of the voxels and the labels."""
        return fingerprint(np.ascontiguousarray(self.hu).tobytes() + self.labels.tobytes())

    @property
    def edited(self) -> NDArray[np.bool_]:
        """Which chests were edited, [n]."""
        return np.isin(self.kinds, (ERASED, INJECTED, SHAM))

    def rows(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch of chests: ct [b, 1, z, y, x] from -1 to 1, and label [b]."""
        chosen = list(rows)
        hu = torch.from_numpy(self.hu[chosen].astype(np.float32))
        return {"ct": self.spec.to_unit(hu)[:, None], "label": torch.from_numpy(self.labels[chosen])}

    def among(self, rows: NDArray[np.bool_]) -> ChestSet:
        """Return the set of the chests that `rows`, bool [n], marks."""
        return replace(self, **{name: getattr(self, name)[rows] for name in FIELDS})

    def labelled(self, labels: NDArray) -> ChestSet:
        """Return the same chests with other labels [n]."""
        return replace(self, labels=labels.astype(np.int64))

    @classmethod
    def joined(cls, parts: Sequence[ChestSet]) -> ChestSet:
        """Join several sets into one."""
        every: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}
        return replace(parts[0], **every)


FIELDS = ("hu", "labels", "patients", "kinds", "source", "diameters")
"""Attributes of a `ChestSet` that have one row for each chest."""


def without_nodules(chests: ChestSet) -> NDArray[np.bool_]:
    """Return which chests are of the kinds `HEALTHY` and `ERASED`, bool [n]: no nodule and no sham edit."""
    return np.isin(chests.kinds, (HEALTHY, ERASED))


@dataclass(frozen=True, eq=False)
class SplitChests:
    """The chests of a split, without edits and with their nodules erased.

    Attributes:
        name: name of the split.
        kept: the chests without edits.
        erased: the chests with their nodules erased, matched by case id; None for a study without an eraser.
    """

    name: str
    kept: Chests
    erased: Chests | None

    @cached_property
    def source(self) -> NDArray[np.bool_]:
        """Which of the chests have nodules, bool [n]."""
        return np.array([self.kept.nodules_left[case.case_id] > 0 for case in self.kept.cases], bool)

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of the chests with nodules, and the rows of the chests known to have none."""
        has, known = self.source, np.array([case.annotated == "all" for case in self.kept.cases])
        return np.flatnonzero(has), np.flatnonzero(~has & known)

    def clean(self, row: int) -> Volume | None:
        """Return a chest without nodules, its own or with them erased; None if some are left in it."""
        case_id = self.kept.cases[row].case_id
        if not self.source[row]:
            return self.kept.chest(row)
        if self.erased is None or self.erased.nodules_left.get(case_id, 1):
            return None
        at = [case.case_id for case in self.erased.cases].index(case_id)
        return self.erased.chest(at)


@dataclass(frozen=True, eq=False)
class ChestMaking:
    """Makes the sets of a study, and keeps them in files.

    Attributes:
        study: the study; the files are beside its trainings.
        edits: injects and erases nodules.
        spec: grid of the classifier.
        key: hash of the store and of the makers that edit.
    """

    study: Study
    edits: ChestEdits
    spec: PatchSpec
    key: str

    def design(self, split: SplitChests, *, sham: bool = False) -> ChestSet:
        """Make the paper's training set (figure 3a).

        Half of the chests with nodules have them erased, and half of the chests without nodules have some injected. In
        a split without healthy chests, a quarter of the chests are not edited, a quarter have their nodules erased and
        others injected, and half have them erased. Without an eraser, chests with nodules are not edited.

        Args:
            split: the chests.
            sham: whether the other chests get an edit of a healthy place.
        """
        has, without = split.rows()
        order = generator(0, "design", split.name)
        has, without = order.permutation(has), order.permutation(without)
        plan: list[tuple[int, str]] = []
        if self.edits.eraser is None:
            plan += [(row, KEPT) for row in has]
        elif len(without):
            plan += [(row, ERASED if i % 2 else KEPT) for i, row in enumerate(has)]
        else:
            plan += [(row, (KEPT, ERASED, INJECTED, ERASED)[i % 4]) for i, row in enumerate(has)]
        plan += [(row, INJECTED if i % 2 else HEALTHY) for i, row in enumerate(without)]
        return self._set(f"{split.name} sham" if sham else split.name, split, plan, sham=sham)

    def test(self, split: SplitChests) -> ChestSet:
        """Make the test set: every chest with its own nodules, without any, with one of each size, and sham-edited."""
        has, without = split.rows()
        clean = [*without, *(has if self.edits.eraser is not None else ())]
        parts = [
            self._set("test own", split, [(row, KEPT) for row in has]),
            self._set("test negative", split, [(row, HEALTHY if row in without else ERASED) for row in clean]),
        ]
        for mm in SIZES_STUDIED_MM:
            parts.append(self._set(f"test {mm:g} mm", split, [(row, INJECTED) for row in clean], diameters=(mm,)))
        if self.edits.eraser is not None:
            parts.append(self._set("test sham", split, [(row, SHAM) for row in clean]))
        return ChestSet.joined([part for part in parts if len(part)])

    def made(self, name: str, maker: Streams, n: int) -> ChestSet:
        """Make `n` scans of a maker; every second one gets nodules, in number and diameters drawn from LIDC-IDRI's."""

        def make(index: int) -> NDArray[np.int16]:
            ct = maker.scan(index, derive(0, "study scans")).whole()
            if index % 2:
                own = derive(0, "nodules of made scans", index)
                ct = self.edits.with_nodules(ct, lidc_diameters(own, self.edits.region), own)
            return on_grid(ct, self.spec.size)

        key = fingerprint(f"{self.key} {making_key(maker)}")
        hu = self._kept(name, key, list(range(n)), make)
        index = np.arange(n)
        found = ChestSet(
            hu,
            np.where(index % 2, POSITIVE, NEGATIVE),
            np.array([f"synthetic-{i:05d}" for i in index]),
            np.where(index % 2, INJECTED, HEALTHY),
            np.zeros(n, bool),
            np.full(n, np.nan),
            self.spec,
        )
        return found.among(is_made(hu))

    def _set(
        self,
        name: str,
        split: SplitChests,
        plan: Sequence[tuple[int, str]],
        *,
        sham: bool = False,
        diameters: Sequence[float] = (),
    ) -> ChestSet:
        """Make the chests of a plan, rows of the split with their kinds; a chest that cannot be edited is left out."""

        def make(one: tuple[int, str]) -> NDArray[np.int16]:
            return on_grid(self._edited(split, *one, sham=sham, diameters=diameters), self.spec.size)

        cases = [split.kept.cases[row] for row, _ in plan]
        key = fingerprint(repr((self.key, [(case.case_id, kind) for case, (_, kind) in zip(cases, plan, strict=True)])))
        hu = self._kept(name, key, plan, make)
        kinds = [kind for _, kind in plan]
        asked = max(diameters, default=np.nan)
        wide = [_widest(case) if kind == KEPT else asked for case, kind in zip(cases, kinds, strict=True)]
        found = ChestSet(
            hu,
            np.array([POSITIVE if kind in (KEPT, INJECTED) else NEGATIVE for kind in kinds], np.int64),
            np.array([case.patient_id for case in cases], np.str_),
            np.array([SHAM if sham and kind in (KEPT, HEALTHY) else kind for kind in kinds], np.str_),
            np.array([split.source[row] for row, _ in plan], bool),
            np.array([mm if kind in (KEPT, INJECTED) else np.nan for mm, kind in zip(wide, kinds, strict=True)]),
            self.spec,
        )
        return found.among(is_made(hu))

    def _edited(self, split: SplitChests, row: int, kind: str, *, sham: bool, diameters: Sequence[float]) -> Volume:
        """Return a chest after the edit that its kind asks for.

        Raises:
            InputError: the chest has nodules that cannot be erased, or no room for the edit.
        """
        own = derive(0, "edit", split.kept.cases[row].case_id, kind, *map(str, diameters))
        if kind == KEPT:
            ct = split.kept.chest(row)
            return self.edits.with_sham_edit(ct, own) if sham else ct
        clean = split.clean(row)
        if clean is None:
            raise InputError("nodules", "some that cannot be erased", "places and diameters of all")
        if kind == INJECTED:
            return self.edits.with_nodules(clean, diameters or lidc_diameters(own, self.edits.region), own)
        if kind == SHAM or (sham and kind == HEALTHY):
            return self.edits.with_sham_edit(clean, own)
        return clean

    def _kept(self, name: str, key: str, items: Sequence, make: Callable) -> NDArray[np.int16]:
        return kept_chests(self.study.out.parent / MADE, name, key, items, make, self.spec.size)


def _widest(case: CaseEntry) -> float:
    """Return the diameter in mm of a case's largest nodule, NaN if no diameter is known."""
    known = [one.attributes.diameter_mm for one in case.nodules if one.attributes.diameter_mm]
    return max(known, default=np.nan)
