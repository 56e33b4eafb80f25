"""Stores of cases that tests make."""

from synthorax.datasets.store import SPLITS, Store, write_case, write_index


def store_of(folder, cases):
    """A store of cases, each patient in the split of the case, or in train."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [write_case(folder, case, "test") for case in cases]
    splits = {name: {case.patient_id for case in cases if (case.split or "train") == name} for name in SPLITS}
    write_index(folder, entries, splits, source={}, skipped=[])
    return Store(folder)
