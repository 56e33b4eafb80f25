"""Leak checks: whether a maker, or the synthetic cases of a store's training, know patients whom the store holds out.

Patients are compared by `provenance.patient_key`; an error names the store's own patient by the id that the store has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from synthorax.annotations.lidc_table import lidc_patients
from synthorax.datasets.case import CaseEntry
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.lineage import Lineage
from synthorax.provenance import ANONYMOUS_PATIENT, SEEN_BEFORE, UNTOLD, patient_key

ORIGIN = "shape_origin"
"""Column of a nodule's table: the patient whose outline the nodule was made from."""
HELD_OUT = ("val", "test")
"""Splits whose patients no training may know."""
BY_MAKERS = "by makers that know patients of validation or test, or do not tell whom they know"
"""Cause of a leak, as the notes of a store count it."""


class HeldOut(NamedTuple):
    """A patient whom a store holds out.

    Attributes:
        patient_id: as the store, or the table of outlines, has it; the key where no more is known.
    """

    patient_id: str
    split: str

    def __str__(self) -> str:
        return f"{self.patient_id} ({self.split})"


class Leak(NamedTuple):
    """Why a synthetic case must not be in training.

    Attributes:
        reason: with the name of a held-out patient, where one is known.
        cause: without names, to count cases by.
    """

    reason: str
    cause: str


def held_out_patients(store: Store) -> dict[str, HeldOut]:
    """Patients of validation and test, and those whose outlines are in synthetic cases of them, by their keys."""
    return held_out_of({split: store.in_split(split) for split in HELD_OUT}, store.splits)


def held_out_of(cases: Mapping[str, Iterable[CaseEntry]], splits: Mapping[str, Iterable[str]]) -> dict[str, HeldOut]:
    """The same of cases that are no store yet.

    Args:
        cases: by split.
        splits: patient ids by split.
    """
    found: dict[str, HeldOut] = {}
    for split in HELD_OUT:
        names = {patient_key(patient): patient for patient in splits[split]}
        for case in cases[split]:
            names |= {key: key for key in (case.source_patient, *_outlines(case)) if key not in names}
            names |= _origins(case)
        found |= {key: HeldOut(name, split) for key, name in names.items() if key and key not in found}
    return found


def check_unseen(lineage: Lineage, store: Store) -> None:
    """Refuse a maker that knows patients of a store's validation or test, or does not tell whom it knows.

    Raises:
        InputError: it does, or does not tell.
    """
    check_unseen_patients(lineage, {key: str(patient) for key, patient in held_out_patients(store).items()})


def check_unseen_patients(lineage: Lineage, held_out: Mapping[str, str]) -> None:
    """Refuse a maker that knows some patients, or does not tell whom it knows.

    Args:
        held_out: names of the patients, by `provenance.patient_key`.

    Raises:
        InputError: it does, or does not tell.
    """
    if not lineage.tells:
        found = f"{lineage.name}, which does not tell from whom it learned"
        raise InputError("model", found, "one with a record of its patients, data.json")
    if leaked := sorted(held_out[key] for key in lineage.patients & held_out.keys()):
        found = f"{lineage.name}, which knows {len(leaked)} patients who are held out here, such as {leaked[0]}"
        raise InputError("model", found, "one trained on this store, or on other patients")


def check_synthetic_cases(store: Store) -> None:
    """Refuse a store whose training has synthetic cases that know patients of its validation or test.

    Raises:
        InputError: it has, or has cases whose maker does not tell whom it knows.
    """
    if leaks := leaks_in_training(store):
        case_id, reason = next(iter(leaks.items()))
        found = f"synthetic training cases that may know held-out patients, {len(leaks)} in all; {case_id}: {reason}"
        raise InputError(store.path, found, "a store prepared with --only-train, which leaves such cases out")


def leaks_in_training(store: Store) -> dict[str, str]:
    """Synthetic cases of training that may know held-out patients, by case id, each with the reason."""
    cases = [case for case in store.in_split("train") if case.synthetic]
    held_out = held_out_patients(store) if cases else {}
    return {case.case_id: leak.reason for case in cases if (leak := why_not_train(case, held_out))}


def why_not_train(case: CaseEntry, held_out: Mapping[str, HeldOut]) -> Leak | None:
    """Why a synthetic case must not be in training; None where it may.

    A case without a lineage, as phantoms and older stores have them, is judged by the outlines that its nodules name.
    """
    lineage = case.lineage
    if case.source_patient in held_out:
        return made_from(held_out[case.source_patient])
    if lineage is not None and not lineage.tells:
        return Leak(f"its maker, {lineage.name or 'which is unknown'}, does not tell whom it knows", BY_MAKERS)
    if outlined := sorted(str(held_out[key]) for key in {*_origins(case), *_outlines(case)} & held_out.keys()):
        cause = "with outlines of nodules of patients of validation or test"
        return Leak(f"it has the outline of a nodule of patient {outlined[0]}", cause)
    if lineage is not None and (seen := sorted(str(held_out[key]) for key in lineage.seen & held_out.keys())):
        return Leak(f"its maker, {lineage.name}, knows {len(seen)} held-out patients, such as {seen[0]}", BY_MAKERS)
    return None


def made_from(patient: HeldOut) -> Leak:
    """The leak of a case made from a scan of a held-out patient."""
    return Leak(f"it was made from a scan of patient {patient}", "made from scans of patients of validation or test")


def outline_patients(store: Store) -> list[str]:
    """LIDC's patients who are in training, or whose outlines are; where none is, all who are not held out.

    So rendering knows no more patients than a model trained beside it.
    """
    held_out = held_out_patients(store)
    cases = store.in_split("train")
    train = {patient_key(patient) for patient in store.splits["train"]}.union(
        *map(_origins, cases), *map(_outlines, cases)
    )
    allowed = [patient for patient in lidc_patients() if patient_key(patient) not in held_out]
    return [patient for patient in allowed if patient_key(patient) in train] or allowed


def training_data(store: Store, *makers: Lineage) -> dict[str, Any]:
    """What `data.json` of a run on a store's training tells: fingerprint, patients, and whom its synthetic cases know.

    Args:
        makers: of other synthetic data that the run learns from.

    Patients known by their keys alone are written as `ANONYMOUS-` and the key, of which `patient_key` gives the key.
    """
    cases = [case for case in store.in_split("train") if case.synthetic]
    known = {key: name for case in cases for key, name in _origins(case).items()}
    lineages = [*(case.lineage for case in cases if case.lineage), *makers]
    keys = {key for lineage in lineages for key in lineage.patients if key not in known}
    trained = {patient_key(patient) for patient in store.splits["train"]}
    names = {key: ANONYMOUS_PATIENT + key for key in keys} | known
    before = sorted(name for key, name in names.items() if key not in trained)
    told = {"fingerprint": store.fingerprint, "patients": store.splits}
    untold = not all(lineage.tells for lineage in lineages)
    return told | ({SEEN_BEFORE: before} if before else {}) | ({UNTOLD: True} if untold else {})


def _origins(case: CaseEntry) -> dict[str, str]:
    """The patients whose outlines a case's nodules name, by key."""
    names = {nodule.extra.get(ORIGIN, "") for nodule in case.nodules}
    return {patient_key(name): name for name in names if name}


def _outlines(case: CaseEntry) -> frozenset[str]:
    """The keys of patients whose outlines were put into a case."""
    return case.lineage.outlines if case.lineage else frozenset()
