"""Leak checks: whether a maker, or a synthetic training case, was made with data of patients whom a store holds out.

Patients are compared by `provenance.patient_key`. An error names a patient by the id in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.datasets.case import CaseEntry
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.lineage import Lineage
from synthorax.provenance import ANONYMOUS_PATIENT, SEEN_BEFORE, UNTOLD, patient_key, patient_keys
from synthorax.screen import quantity

ORIGIN = "shape_origin"
"""Column of a table of nodules: the patient from whose outline the nodule was made."""
HELD_OUT = ("val", "test")
"""Splits whose patients' data must not be used in training."""
BY_MAKERS = "by makers trained on patients of validation or test, or whose training patients are not known"
"""Cause of a leak, by which the notes of a store count cases."""

RECORDED = "training on a store, or on masks whose patient_id a nodules.csv beside them gives, records them"
"""How the training patients of a model are recorded, for errors and reasons."""


class HeldOut(NamedTuple):
    """A patient whom a store holds out.

    Attributes:
        patient_id: id in the store or in the table of outlines; the key if no id is known.
        split: the patient's split.
        by_synthetic: whether only synthetic cases of that split have the patient's data, such as an outline.
    """

    patient_id: str
    split: str
    by_synthetic: bool = False

    def __str__(self) -> str:
        if self.by_synthetic:
            return f"{self.patient_id} (also in a synthetic case of {self.split})"
        return f"{self.patient_id} ({self.split})"


class Leak(NamedTuple):
    """The reason why a synthetic case must not be in training.

    Attributes:
        reason: the reason, with the id of a held-out patient if one is known.
        cause: the reason without ids, by which cases are counted.
    """

    reason: str
    cause: str


def held_out_patients(store: Store) -> dict[str, HeldOut]:
    """Return the patients of validation and test, and those whose outlines are in synthetic cases there, by key."""
    return held_out_of({split: store.in_split(split) for split in HELD_OUT}, store.splits)


def held_out_of(cases: Mapping[str, Iterable[CaseEntry]], splits: Mapping[str, Iterable[str]]) -> dict[str, HeldOut]:
    """Return `held_out_patients` for cases that are not in a store yet.

    Args:
        cases: split to its cases.
        splits: split to its patient ids.
    """
    found: dict[str, HeldOut] = {}
    for split in HELD_OUT:
        names = {key: patient for patient in splits[split] for key in patient_keys(patient)}
        names |= {patient_key(patient): patient for patient in splits[split]}
        found |= {key: HeldOut(name, split) for key, name in names.items() if key and key not in found}
        for case in cases[split]:
            others = {key: key for key in (case.source_patient, *_outlines(case))} | _origins(case)
            found |= {key: HeldOut(name, split, True) for key, name in others.items() if key and key not in found}
    return found


def check_unseen(lineage: Lineage, store: Store) -> None:
    """Check that a maker was not made with data of patients of a store's validation or test.

    Raises:
        InputError: it was, or its patients are not known.
    """
    check_unseen_patients(lineage, {key: str(patient) for key, patient in held_out_patients(store).items()})


def check_unseen_patients(lineage: Lineage, held_out: Mapping[str, str]) -> None:
    """Check that a maker was not made with data of some patients.

    Args:
        lineage: the patients behind the maker.
        held_out: `provenance.patient_key` of each of the patients to the patient's name.

    Raises:
        InputError: it was, or its patients are not known.
    """
    if not lineage.tells:
        found = f"{lineage.name}, without a record of the patients it was trained on"
        raise InputError("model", found, f"a model with a data.json that names them; {RECORDED}")
    if leaked := sorted(held_out[key] for key in lineage.patients & held_out.keys()):
        found = f"{lineage.name}, made with data of {len(leaked)} patients who are held out here, such as {leaked[0]}"
        raise InputError("model", found, "a model trained on this store, or on other patients")


def check_synthetic_cases(store: Store) -> None:
    """Check that no synthetic training case of a store was made with data of patients of its validation or test.

    Raises:
        InputError: a case was, or the patients behind it are not known.
    """
    if leaks := leaks_in_training(store):
        case_id, reason = next(iter(leaks.items()))
        found = f"{len(leaks)} synthetic training cases that may leak held-out patients; {case_id}: {reason}"
        raise InputError(store.path, found, "a store prepared with --only-train, which leaves such cases out")


def leaks_in_training(store: Store) -> dict[str, str]:
    """Return the synthetic training cases that may leak held-out patients: case id to the reason."""
    cases = [case for case in store.in_split("train") if case.synthetic]
    held_out = held_out_patients(store) if cases else {}
    return {case.case_id: leak.reason for case in cases if (leak := why_not_train(case, held_out))}


def why_not_train(case: CaseEntry, held_out: Mapping[str, HeldOut]) -> Leak | None:
    """Return the reason why a synthetic case must not be in training; None if it may.

    A case without a lineage, such as a phantom or a case of an older store, is judged by its nodules' outlines alone.

    Args:
        case: the case.
        held_out: key of each held-out patient to the patient.
    """
    lineage = case.lineage
    if case.source_patient in held_out:
        return made_from(held_out[case.source_patient])
    if lineage is not None and not lineage.tells:
        maker = lineage.name or "unknown"
        return Leak(f"the training patients of its maker ({maker}) are not known; {RECORDED}", BY_MAKERS)
    if outlined := sorted(str(held_out[key]) for key in {*_origins(case), *_outlines(case)} & held_out.keys()):
        cause = "with outlines of nodules of patients of validation or test"
        return Leak(f"it has the outline of a nodule of patient {outlined[0]}", cause)
    if lineage is not None and (seen := sorted(str(held_out[key]) for key in lineage.seen & held_out.keys())):
        found = (
            f"its maker, {lineage.name}, was trained on {quantity(len(seen), 'held-out patient')}, such as {seen[0]}"
        )
        return Leak(found, BY_MAKERS)
    return None


def made_from(patient: HeldOut) -> Leak:
    """Return the leak of a case that was made from a scan of a held-out patient."""
    return Leak(f"it was made from a scan of patient {patient}", "made from scans of patients of validation or test")


def outline_patients(store: Store) -> list[str]:
    """Return the LIDC-IDRI patients whose outlines rendering may use in a study on a store.

    These are the patients of the training split, or whose outlines are in it, so that rendering uses no more patients
    than a model trained beside it. If there are none, they are all patients who are not held out.
    """
    held_out = held_out_patients(store)
    cases = store.in_split("train")
    train = {patient_key(patient) for patient in store.splits["train"]}.union(
        *map(_origins, cases), *map(_outlines, cases)
    )
    allowed = [patient for patient in lidc_patients() if patient_key(patient) not in held_out]
    return [patient for patient in allowed if patient_key(patient) in train] or allowed


def training_data(store: Store, *makers: Lineage) -> dict[str, Any]:
    """Return the content of `data.json` of a run on a store's training split.

    It has the store's fingerprint, the patients of its splits, and the patients behind its synthetic cases. A patient
    known only by key is written as `ANONYMOUS-` and the key; `patient_key` of that name is the key again.

    Args:
        store: the store.
        makers: lineages of the makers of other synthetic data on which the run is trained.
    """
    cases = [case for case in store.in_split("train") if case.synthetic]
    known = {key: name for case in cases for key, name in _origins(case).items()}
    lineages = [*(case.lineage for case in cases if case.lineage), *makers]
    keys = {key for lineage in lineages for key in lineage.patients if key not in known}
    trained = {patient_key(patient) for patient in store.splits["train"]}
    names = {key: ANONYMOUS_PATIENT + key for key in keys} | known
    before = sorted(name for key, name in names.items() if key not in trained)
    about = {"fingerprint": store.fingerprint, "patients": store.splits}
    untold = not all(lineage.tells for lineage in lineages)
    return about | ({SEEN_BEFORE: before} if before else {}) | ({UNTOLD: True} if untold else {})


def _origins(case: CaseEntry) -> dict[str, str]:
    """Return the patients whose outlines a case's nodules name: key to name."""
    names = {nodule.extra.get(ORIGIN, "") for nodule in case.nodules}
    return {patient_key(name): name for name in names if name}


def _outlines(case: CaseEntry) -> frozenset[str]:
    """Return the keys of the patients whose outlines were used in a case."""
    return case.lineage.outlines if case.lineage else frozenset()
