"""Who is in which split: patients, never scans or nodules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synthorax.errors import InputError
from synthorax.provenance import fingerprint

FRACTIONS = (0.7, 0.1, 0.2)
"""Train, val, test."""


def split_patients(
    given: Mapping[str, str | None],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    train_patients: int | None = None,
) -> dict[str, list[str]]:
    """Patients of train, val and test.

    The order in which patients are dealt out is a hash of their ids and the seed, so it depends neither
    on the order of files nor on who else is there.

    Args:
        given: each patient's split where the source says so, else None.
        fractions: of those whose split is not given.
        train_patients: of train at most so many, others are in no split; fewer are always some of more.

    Raises:
        InputError: fractions that are no shares of one, or not one patient of train.
    """
    if len(fractions) != 3 or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise InputError("split", ", ".join(f"{f:g}" for f in fractions), "shares of train, val, test that sum to 1")
    if train_patients is not None and train_patients < 1:
        raise InputError("train patients", str(train_patients), "1 or more")
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
    """In an order of the seed's that each patient has by itself."""
    return sorted(patients, key=lambda patient: fingerprint(f"{seed} {patient}"))
