"""Splitting patients, never scans or nodules, into train, val and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synthorax.errors import InputError
from synthorax.provenance import fingerprint

LEAST_PATIENTS = 4
"""Fewest patients of each class in each split that a study accepts; with fewer, there is no interval."""
FRACTIONS = (0.7, 0.1, 0.2)
"""Default shares of train, val and test."""


def split_patients(
    given: Mapping[str, str | None],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    train_patients: int | None = None,
) -> dict[str, list[str]]:
    """Return the patients of train, val and test.

    Patients are ordered by a hash of their id and the seed before they are split. So the order of two patients depends
    neither on the order of files nor on the other patients.

    Args:
        given: patient to the split that the source gives, or to None.
        fractions: shares of train, val and test among the patients without a given split.
        seed: seed of the order.
        train_patients: most patients of train; the others are in no split. A smaller number gives a subset of the
            patients of a larger one. None for all.

    Raises:
        InputError: the fractions do not sum to 1, or `train_patients` is less than 1.
    """
    if len(fractions) != 3 or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise InputError("split", ", ".join(f"{f:g}" for f in fractions), "shares of train, val, test that sum to 1")
    if train_patients is not None and train_patients < 1:
        raise InputError("train_patients", str(train_patients), "1 or more")
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for patient, split in given.items():
        if split is not None:
            splits[split].append(patient)
    rest = _shuffled([patient for patient, split in given.items() if split is None], seed)
    first, second = round(fractions[0] * len(rest)), round((fractions[0] + fractions[1]) * len(rest))
    for name, part in zip(splits, (rest[:first], rest[first:second], rest[second:]), strict=True):
        splits[name] = sorted([*splits[name], *part])
    if train_patients is not None:
        splits["train"] = sorted(_shuffled(splits["train"], seed)[:train_patients])
    return splits


def _shuffled(patients: Sequence[str], seed: int) -> list[str]:
    """Sort patients by a hash of their id and the seed."""
    return sorted(patients, key=lambda patient: fingerprint(f"{seed} {patient}"))
