"""The arms of the study of segmentation: how many real patients each learns from, and how many synthetic volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError
from synthorax.seeding import generator

PAPER_RATIO_OF_REAL = 344 / 59
"""N / n: real volumes of the comparison model for each one of model 3 (table 4.1)."""
PAPER_RATIO_OF_MADE = 1400 / 344
"""Synthetic volumes of model 2 for each one of model 1, which is called 4 N."""
FOLD = 10
"""Synthetic volumes of model 3 for each real one."""
FURTHER_FOLDS = (1, 3)
"""Further such numbers."""
FEW_TEMPLATES = 15
"""Templates of the thesis' nodules."""
SegmenterArmKind = Literal["real", "published", "mixed", "amounts", "templates", "sources"]
"""Real ones alone at n, 2 n, ... N; N and 4 N synthetic ones; mixtures of N; other amounts beside n; 4 N of 15
templates; other makers than the first."""
FEW, FULL = "n real", "N real"
"""The arms of n and of N real patients, which are always trained."""


@dataclass(frozen=True)
class SegmenterArm:
    """What a segmenter learns from.

    Attributes:
        real: patients, the first ones of `real_patients`.
        made: synthetic volumes, the first ones of their source.
        source: their maker; empty where there are none.
        templates: their nodules have so many shapes; 0: as many as there are.
        against: arms that it is compared with.
    """

    name: str
    real: int
    made: int = 0
    source: str = ""
    templates: int = 0
    against: tuple[str, ...] = (FULL,)


@dataclass(frozen=True)
class RealPatients:
    """The real patients of a study, in the order in which arms take them.

    Attributes:
        patients: the n validation patients first, whom no maker knows; then training patients, drawn once.
        few: n.
        full: N.
    """

    patients: tuple[str, ...]
    few: int
    full: int

    @classmethod
    def of(cls, store: Store, cases: Sequence[CaseEntry], train: Sequence[CaseEntry]) -> RealPatients:
        """Draw them.

        Args:
            cases: with outlined nodules, of the validation patients.
            train: with outlined nodules, of the training patients.

        Raises:
            InputError: no patient among one of them.
        """
        first, more = (sorted({case.patient_id for case in some if not case.synthetic}) for some in (cases, train))
        if not first or not more:
            found = f"{len(first)} validation and {len(more)} training patients with outlined nodules"
            raise InputError(store.path, found, "one or more of each: the n real patients are those of validation")
        order = generator(0, "real patients").permutation(len(more))
        full = min(round(PAPER_RATIO_OF_REAL * len(first)), len(first) + len(more))
        return cls((*first, *(more[i] for i in order.tolist())), len(first), full)

    def rows(self, patients: NDArray[np.str_], count: int) -> NDArray[np.int64]:
        """Which volumes are of the first patients, by the patient of each."""
        found: NDArray[np.int64] = np.flatnonzero(np.isin(patients, self.patients[:count]))
        return found


def beside_few(source: str, fold: float, *, main: bool) -> str:
    """The arm of n real patients with synthetic volumes of a source beside them."""
    return f"{FEW} + {fold:g}n {'synthetic' if main else source}"


def segmenter_arms(
    kinds: Sequence[SegmenterArmKind],
    real: RealPatients,
    volumes: tuple[int, int, int],
    sources: Sequence[str],
) -> list[SegmenterArm]:
    """The arms of some kinds; n and N real patients, and n with 10 n of the first source, are always among them.

    Args:
        volumes: of n, of N / 2 and of N real patients.
        sources: names of the makers, the thesis' kind of painter first.

    Raises:
        InputError: an unknown kind.
    """
    if unknown := sorted(set(kinds) - set(get_args(SegmenterArmKind))):
        raise InputError("arms", repr(unknown[0]), ", ".join(get_args(SegmenterArmKind)))
    n, half, full = volumes
    main, model_3 = sources[0], beside_few(sources[0], FOLD, main=True)
    many = round(PAPER_RATIO_OF_MADE * full)
    arms = [SegmenterArm(FEW, real.few)]
    if "real" in kinds:
        folds = range(2, -(-real.full // real.few))
        arms += [SegmenterArm(f"{k}n real", k * real.few) for k in folds]
    arms.append(SegmenterArm(FULL, real.full, against=()))
    if "published" in kinds:
        arms += [
            SegmenterArm("N synthetic", 0, full, main),
            SegmenterArm("4N synthetic", 0, many, main, against=(FULL, "N synthetic")),
        ]
    arms.append(SegmenterArm(model_3, real.few, FOLD * n, main, against=(FULL, FEW)))
    if "mixed" in kinds:
        arms += [
            SegmenterArm(f"{FULL} + N synthetic", real.full, full, main),
            SegmenterArm("N in all, half of them synthetic", real.full // 2, full - half, main),
        ]
    if "amounts" in kinds:
        arms += [
            SegmenterArm(beside_few(main, fold, main=True), real.few, fold * n, main, against=(FEW,))
            for fold in FURTHER_FOLDS
        ]
    if "templates" in kinds:
        name = f"4N synthetic, {FEW_TEMPLATES} templates"
        against = ("4N synthetic",) if "published" in kinds else (FULL,)
        arms.append(SegmenterArm(name, 0, many, main, templates=FEW_TEMPLATES, against=against))
    if "sources" in kinds:
        arms += [
            SegmenterArm(beside_few(other, FOLD, main=False), real.few, FOLD * n, other, against=(FEW, model_3))
            for other in sources[1:]
        ]
    return arms
