"""The arms of the study of segmentation: the numbers of real patients and of synthetic volumes of each."""

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
"""N / n: ratio of the real volumes of the thesis' comparison model and of its model 3 (Hagvall Hörnstedt, table
4.1)."""
PAPER_RATIO_OF_MADE = 1400 / 344
"""Ratio of the synthetic volumes of the thesis' model 2, called 4 N, and of its model 1."""
FOLD = 10
"""Number of synthetic volumes for each real one in the thesis' model 3."""
FURTHER_FOLDS = (1, 3)
"""Numbers of synthetic volumes for each real one in the arms of kind `amounts`."""
FEW_TEMPLATES = 15
"""Number of nodule shapes that the thesis has, its templates."""
SegmenterArmKind = Literal["real", "published", "mixed", "amounts", "templates", "sources"]
"""Kinds of arms. `real`: n, 2 n, ... N real patients. `published`: N and 4 N synthetic volumes. `mixed`: N real
patients with N synthetic volumes, and N volumes of which half are synthetic. `amounts`: n real patients with other
amounts of synthetic volumes. `templates`: 4 N synthetic volumes with 15 nodule shapes. `sources`: the other makers."""
FEW, FULL = "n real", "N real"
"""Names of the arms of n and of N real patients, which are always trained."""


@dataclass(frozen=True)
class SegmenterArm:
    """The volumes on which a segmenter is trained.

    Attributes:
        name: name of the arm.
        real: number of real patients, the first ones of `RealPatients.patients`.
        made: number of synthetic volumes, the first ones of their maker.
        source: name of their maker; empty without synthetic volumes.
        templates: number of shapes of their nodules; 0 for all shapes.
        against: names of the arms with which it is compared.
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
        patients: the n validation patients, on whom no maker was trained, and then training patients in a random order.
        few: n, the number of validation patients.
        full: N, the number of patients of the largest arm.
    """

    patients: tuple[str, ...]
    few: int
    full: int

    @classmethod
    def of(cls, store: Store, cases: Sequence[CaseEntry], train: Sequence[CaseEntry]) -> RealPatients:
        """Put the patients in order.

        Args:
            store: the store, for errors.
            cases: validation cases with outlined nodules.
            train: training cases with outlined nodules.

        Raises:
            InputError: the validation or the training split has no patient with an outlined nodule.
        """
        first, more = (sorted({case.patient_id for case in some if not case.synthetic}) for some in (cases, train))
        if not first or not more:
            found = f"{len(first)} validation and {len(more)} training patients with outlined nodules"
            raise InputError(store.path, found, "one or more of each: the n real patients are the validation patients")
        order = generator(0, "real patients").permutation(len(more))
        full = min(round(PAPER_RATIO_OF_REAL * len(first)), len(first) + len(more))
        return cls((*first, *(more[i] for i in order.tolist())), len(first), full)

    def rows(self, patients: NDArray[np.str_], count: int) -> NDArray[np.int64]:
        """Return the rows of the volumes that belong to the first `count` patients.

        Args:
            patients: patient of each volume, [n].
            count: number of patients.
        """
        found: NDArray[np.int64] = np.flatnonzero(np.isin(patients, self.patients[:count]))
        return found


def beside_few(source: str, fold: float, *, main: bool) -> str:
    """Return the name of the arm of n real patients with `fold` n synthetic volumes of a maker."""
    return f"{FEW} + {fold:g}n {'synthetic' if main else source}"


def segmenter_arms(
    kinds: Sequence[SegmenterArmKind],
    real: RealPatients,
    volumes: tuple[int, int, int],
    sources: Sequence[str],
) -> list[SegmenterArm]:
    """Return the arms of some kinds.

    The arms of n and N real patients, and of n with 10 n synthetic volumes of the first maker, are always among them.

    Args:
        kinds: kinds of arms.
        real: the real patients.
        volumes: numbers of real volumes of n, of N / 2 and of N patients.
        sources: names of the makers, the main painter first.

    Raises:
        InputError: a kind is unknown.
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
