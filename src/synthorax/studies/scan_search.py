"""Applying a detector to the whole test scans of a study, and its FROC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_lungs
from synthorax.datasets.places import POINT_MM
from synthorax.datasets.progress import tell
from synthorax.datasets.store import CaseEntry, Store
from synthorax.metrics.bootstrap import UndefinedError
from synthorax.metrics.froc import ScanMarks, cpm_of
from synthorax.provenance import fingerprint
from synthorax.studies.results import Interval
from synthorax.studies.trials import Scores, over_seeds
from synthorax.tasks.classification import Classification
from synthorax.tasks.scanning import SETTINGS, find_nodules
from synthorax.volume import Volume


def scan_search(store: Store) -> ScanSearch | None:
    """Return the search of a store's whole test scans, or None if none of them has a nodule.

    Scans whose nodules are not all known are left out, with a line on the screen: a detection of an unlisted nodule
    would count as a false positive.
    """
    scans = [case for case in store.in_split("test") if case.is_whole]
    whole = [case for case in scans if case.annotated == "all"]
    if len(whole) < len(scans):
        tell(f"{len(scans) - len(whole)} whole test scans are not searched, because not all of their nodules are known")
    return ScanSearch(store, tuple(whole)) if any(case.nodules for case in whole) else None


@dataclass(frozen=True, eq=False)
class ScanSearch:
    """A search for nodules in whole scans (`trials.Search`).

    Attributes:
        store: store of the scans.
        cases: the scans.
    """

    store: Store
    cases: tuple[CaseEntry, ...]

    @property
    def key(self) -> str:
        """Hash of the scans and of the settings of the search."""
        return fingerprint(repr((SETTINGS, [case.sha256 for case in self.cases])).encode())

    @cached_property
    def _lungs(self) -> list[Volume]:
        return [find_lungs(self.store.read(case.case_id).ct).mask for case in self.cases]

    def __call__(self, task: Classification) -> NDArray[np.float64]:
        """Return a detector's marks in all scans: rows of scan number, x, y, z in mm and score, [c, 5]."""
        found = [np.zeros((0, 5))]
        for i, (case, lungs) in enumerate(zip(self.cases, self._lungs, strict=True)):
            marks = find_nodules(task, self.store.read(case.case_id).ct, lungs)
            found.append(np.column_stack([np.full(len(marks), i), marks]))
        return np.concatenate(found)

    def froc(self, found: Sequence[Scores]) -> Interval:
        """Return the mean sensitivity at LUNA16's seven rates of false positives, with its interval.

        Raises:
            UndefinedError: the scans belong to one patient.
        """
        patients = np.array([case.patient_id for case in self.cases])
        if len(np.unique(patients)) < 2:
            raise UndefinedError("scans", "scans of one patient", "scans of 2 or more patients")
        return over_seeds([cpm_of(self._marks(scores.marks)) for scores in found], patients)

    def _marks(self, marks: NDArray[np.float64]) -> list[ScanMarks]:
        found = []
        for i, case in enumerate(self.cases):
            nodules = [(*nodule.center_mm, nodule.attributes.diameter_mm or POINT_MM) for nodule in case.nodules]
            others = [point for point in self.store.points(case.case_id) if point.is_finding]
            points = [(*point.center_mm, POINT_MM) for point in others]
            places = [np.array(rows, np.float64).reshape(-1, 4) for rows in (nodules, points)]
            found.append(ScanMarks(marks[marks[:, 0] == i, 1:], *places))
        return found
