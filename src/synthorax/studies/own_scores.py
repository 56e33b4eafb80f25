"""Comparison of the user's own detectors, trained with and without synthetic nodules, by the scores that they gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite, nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.io.tables import read_table
from synthorax.metrics.bootstrap import UndefinedError, difference
from synthorax.metrics.roc import auc_of
from synthorax.screen import quantity
from synthorax.studies.results import Arm, Test, with_corrected_p
from synthorax.studies.trials import compared_over_seeds, over_seeds

SCORE_COLUMNS = ("patient", "case", "label", "score")
"""Columns that a table of scores must have."""
EXPECTED_SCORES = f"columns {', '.join(SCORE_COLUMNS)}, and if there are several of them arm and training"


@dataclass(frozen=True, eq=False)
class OwnScores:
    """The scores of several arms for the same n cases.

    Attributes:
        patients: patient of each case, [n].
        labels: whether the case is a nodule, bool [n].
        scores: arm to the scores of each of its trainings, float64 [n] each.
    """

    patients: NDArray[np.str_]
    labels: NDArray[np.bool_]
    scores: Mapping[str, Sequence[NDArray[np.float64]]]

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of patients, cases with a nodule, and cases without one."""
        nodules = int(self.labels.sum())
        return {
            "patients": len(np.unique(self.patients)),
            "nodules": nodules,
            "cases without one": len(self.labels) - nodules,
        }


def read_own_scores(files: Sequence[Path]) -> OwnScores:
    """Read tables of scores, of which each row has the score of a detector for a case.

    Args:
        files: CSV files with the columns patient (or patient_id), case, label (1 for a nodule, else 0) and score.
            Further columns are arm, by default the name of the file, and training, for arms that were trained several
            times.

    Raises:
        InputError: a file cannot be read, lacks a column, or has a value that is not valid or a case twice; arms or
            trainings have other cases or labels; there are fewer than two arms, two patients or two classes; or the
            arms differ in their numbers of trainings.
    """
    found: dict[str, dict[str, dict[tuple[str, str], tuple[int, float]]]] = {}
    columns = (*SCORE_COLUMNS, "patient_id", "arm", "training")
    for file in files:
        rows = [
            {"patient": row["patient_id"], **row} if "patient_id" in row else row for row in read_table(file, columns)
        ]
        if missing := [name for name in SCORE_COLUMNS if name not in rows[0]]:
            raise InputError(file, f"no column {missing[0]}", EXPECTED_SCORES)
        for line, row in enumerate(rows, start=2):
            arm, training = row.get("arm") or file.stem, row.get("training") or ""
            case = _case_of(file, line, row)
            cases = found.setdefault(arm, {}).setdefault(training, {})
            if case in cases:
                which = f"case {case[1]} of patient {case[0]} twice in arm {arm}"
                expected = "one score for each case; a column training tells several trainings apart"
                raise InputError(file, which, expected)
            cases[case] = _values_of(file, line, row)
    if len(found) < 2:
        only = next(iter(found), "")
        raise InputError("scores", f"only the arm {only}", "two arms or more; give a file for each arm")
    trainings = {arm: len(each) for arm, each in found.items()}
    if len(set(trainings.values())) > 1:
        told = ", ".join(f"{n} of {arm}" for arm, n in trainings.items())
        raise InputError("scores", f"trainings: {told}", "the same number of trainings of each arm")
    return _together(found)


def _case_of(file: Path, line: int, row: Mapping[str, str]) -> tuple[str, str]:
    """Return the patient and the case of a row."""
    for name in ("patient", "case"):
        if not row[name]:
            raise InputError(file, f"no {name} in line {line}", "a patient and a case in each line")
    return row["patient"], row["case"]


def _values_of(file: Path, line: int, row: Mapping[str, str]) -> tuple[int, float]:
    """Return the label and the score of a row."""
    values = {}
    for name in ("label", "score"):
        try:
            values[name] = float(row[name])
        except ValueError:
            values[name] = nan
    if values["label"] not in (0, 1):
        raise InputError(file, f"label {row['label']!r} in line {line}", "1 for a nodule, else 0")
    if not isfinite(values["score"]):
        raise InputError(file, f"score {row['score']!r} in line {line}", "a finite number, larger for a nodule")
    return int(values["label"]), values["score"]


def _together(found: Mapping[str, Mapping[str, Mapping[tuple[str, str], tuple[int, float]]]]) -> OwnScores:
    """Return the scores of all arms in the order of the first arm's cases."""
    first = next(iter(found))
    cases = next(iter(found[first].values()))
    for arm, trainings in found.items():
        for scores in trainings.values():
            if other := sorted(cases.keys() ^ scores.keys()):
                lacking = arm if other[0] in cases else first
                what = f"{quantity(len(other), 'case')} that not all arms and trainings have"
                which = f"{other[0][1]} of patient {other[0][0]}, not in {lacking}"
                raise InputError("scores", f"{what}, such as {which}", "the same cases in each")
            if wrong := [case for case in cases if cases[case][0] != scores[case][0]]:
                what = f"case {wrong[0][1]} of patient {wrong[0][0]} with label {scores[wrong[0]][0]} in {arm}"
                raise InputError("scores", f"{what} and another in {first}", "the same label in each arm")
    labels = np.array([label for label, _ in cases.values()], bool)
    if labels.all() or not labels.any():
        raise InputError("scores", f"only label {int(labels[0])}", "cases with a nodule and cases without one")
    patients = np.array([patient for patient, _ in cases])
    if len(np.unique(patients)) < 2:
        raise InputError("scores", f"only the patient {patients[0]}", "two patients or more, which are resampled")
    return OwnScores(
        patients,
        labels,
        {
            arm: [np.array([scores[case][1] for case in cases]) for scores in trainings.values()]
            for arm, trainings in found.items()
        },
    )


def compare_own_scores(own: OwnScores, reference: str) -> tuple[list[Arm], list[Test]]:
    """Return the AUC of each arm with its interval, and its paired difference from a reference.

    Patients are resampled with all of their cases, and trainings too, as in the study of detection. The p values are
    corrected for the number of arms by Holm's method, and left out with fewer than `results.LEAST_TRAININGS` trainings.

    Args:
        own: scores of all arms.
        reference: name of the arm with which all others are compared.

    Raises:
        InputError: there is no such arm, or the AUC has no value on many resamples.
    """
    if reference not in own.scores:
        raise InputError("reference", repr(reference), f"one of the arms {', '.join(own.scores)}")
    aucs = {arm: [auc_of(own.labels, each) for each in scores] for arm, scores in own.scores.items()}
    order = [reference, *(arm for arm in aucs if arm != reference)]
    arms = [Arm(arm, list(range(len(aucs[arm]))), {"auc": over_seeds(aucs[arm], own.patients)}, {}) for arm in order]
    tests = []
    for arm in order[1:]:
        with suppress(UndefinedError):
            pairs = [difference(a, b) for a, b in zip(aucs[arm], aucs[reference], strict=True)]
            tests.append(Test(arm, reference, "auc", **asdict(compared_over_seeds(pairs, own.patients)), p_holm=None))
    return arms, with_corrected_p(tests, len(aucs[reference]))
