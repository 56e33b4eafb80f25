"""The summary of a store that `prepare` prints at its end: cases, nodules, annotation, and what was left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from synthorax.datasets.case import ANNOTATED, SPLITS, Annotated
from synthorax.datasets.lineage import leaks_in_training
from synthorax.datasets.mask_files import NOT_TAKEN
from synthorax.datasets.splits import LEAST_PATIENTS
from synthorax.datasets.store import Store
from synthorax.nodule import malignancy_of
from synthorax.screen import quantity

MOST_LINES = 10
"""Most lines about cases, and about files; `info` shows all."""
NODULE_LEFT_OUT = re.compile(r"(a nodule is|nodule .+?) left out: (?!its row repeats another)")
"""Start of a note on a nodule that a source has and its case lacks."""
MOST_STRUCTURES_SHOWN = 20
"""Most structures that the summary names; `info` names all."""
ANNOTATED_WORDS: Mapping[Annotated, str] = {
    "all": "every nodule is known (all)",
    "some": "some nodules are known (some)",
    "none-known": "not known whether there are nodules, so not used as healthy (none-known)",
}
"""What the summary says of the scans with each kind of annotation."""
CLASS_NAMES = ("benign", "malignant")
CLASS_WORDS = {"benign": "benign (rated below 4)", "malignant": "malignant"}
"""Classes as the summary calls them; the rule is `nodule.malignancy_of`."""
OF_ONES_OWN = ("scans", "patches")
"""Kinds of source for which the user can state that all nodules are known."""


def structures_not_taken(store: Store) -> dict[str, int]:
    """Return the names of structures not taken for nodules with their numbers of cases, the most frequent first."""
    names = Counter(
        note.removeprefix(NOT_TAKEN) for case in store.cases for note in case.notes if note.startswith(NOT_TAKEN)
    )
    return dict(names.most_common())


def annotation_counts(store: Store) -> dict[str, int]:
    """Return the numbers of cases of which all, some or no nodules are known."""
    counts = Counter(case.annotated for case in store.cases)
    return {name: counts[name] for name in ANNOTATED}


def synthetic_counts(store: Store) -> dict[str, int]:
    """Return the number of synthetic cases in each split."""
    return {split: sum(bool(case.synthetic) for case in store.in_split(split)) for split in SPLITS}


def _of_synthetic(store: Store) -> list[str]:
    """Return the lines about synthetic cases."""
    counts = synthetic_counts(store)
    made = sum(counts.values())
    if not made:
        return []
    line = f"synthetic cases: {made} of {len(store)} ({', '.join(f'{n} {split}' for split, n in counts.items())})"
    if made < len(store) and made > counts["train"]:
        line += "; validation or test has synthetic cases; --only-train keeps them out"
    lines = [line]
    if leaks := leaks_in_training(store):
        case_id, reason = next(iter(leaks.items()))
        lines.append(
            f"synthetic training cases that may leak patients of validation or test: {len(leaks)} "
            f"({case_id}: {reason}); a test on validation or test would look too good; --only-train avoids this"
        )
    return lines


def nodules_left_out(store: Store) -> int:
    """Return the number of nodules that were left out, each with a note; rows that repeat another do not count."""
    notes = [note for case in store.cases for note in case.notes]
    return sum(bool(NODULE_LEFT_OUT.match(note)) for note in notes)


def case_notes(store: Store) -> dict[str, list[str]]:
    """Return the notes of each case that has any, without those on structures not taken for nodules."""
    notes = {case.case_id: [n for n in case.notes if not n.startswith(NOT_TAKEN)] for case in store.cases}
    return {case_id: own for case_id, own in notes.items() if own}


def summary_lines(store: Store) -> list[str]:
    """Return the summary, about 40 lines at most; the first has the numbers of cases, nodules and patients."""
    nodules = [nodule for case in store.cases for nodule in case.nodules]
    masked = sum(nodule.label > 0 for nodule in nodules)
    patients = ", ".join(_patients_in(store, name) for name in SPLITS)
    left = f"; {len(store.skipped)} left out" if store.skipped else ""
    if lost := nodules_left_out(store):
        left += f"; {quantity(lost, 'nodule')} left out"
    made = [f"{quantity(len(store), 'case')}, {quantity(len(nodules), 'nodule')}, patients: {patients}{left}"]
    if masked < len(nodules):
        made.append(f"nodules: {masked} with a mask, {len(nodules) - masked} with a centre and diameter only")
    made += _of_synthetic(store)
    real = store.without_synthetic()  # as the studies use it
    with_nodules = {name: len({c.patient_id for c in real.in_split(name) if c.nodules}) for name in SPLITS}
    if nodules and min(with_nodules.values()) < LEAST_PATIENTS:
        counted = ", ".join(f"{n} {name}" for name, n in with_nodules.items())
        made.append(
            f"patients with nodules: {counted}; studies need {LEAST_PATIENTS} or more in each split: prepare more "
            "patients, or give another --split with --overwrite, before a model is trained on this store"
        )
    made += _of_classes(real)
    counts = annotation_counts(store)
    if counts["all"] < len(store):
        known = [f"{quantity(counts[name], 'scan')}: {what}" for name, what in ANNOTATED_WORDS.items() if counts[name]]
        unread = [case.case_id for case in store.cases if any(map(NODULE_LEFT_OUT.match, case.notes))]
        may_state = store.source.get("kind") in OF_ONES_OWN and "annotated" not in store.source
        may_state &= any(case.annotated != "all" and case.case_id not in unread for case in store.cases)
        advice = (
            "if your tables and masks have every nodule, add --annotated all --overwrite"
            if nodules
            else "no table or mask with a nodule was read; if you know that these scans have none at all, add "
            "--annotated all --overwrite"
        )
        made.append(". ".join(known) + f"; {advice}" * may_state)
        if unread:
            named = ", ".join(unread[:MOST_LINES]) + f" and {len(unread) - MOST_LINES} more" * (
                len(unread) > MOST_LINES
            )
            made.append(
                f"{quantity(len(unread), 'scan')} with a nodule that was left out, see below ({named}): correct its "
                "row or mask, since --annotated does not make such a scan healthy"
            )
    if names := structures_not_taken(store):
        shown = ", ".join(f"{name} ({count})" for name, count in list(names.items())[:MOST_STRUCTURES_SHOWN])
        more = f" and {len(names) - MOST_STRUCTURES_SHOWN} more" * (len(names) > MOST_STRUCTURES_SHOWN)
        made.append(
            f"structures not taken for nodules, with their numbers of cases (--structures takes others): {shown}{more}"
        )
    made += [str(note) for note in store.source.get("notes", [])]
    remarks = [f"{case_id}: {note}" for case_id, notes in case_notes(store).items() for note in notes]
    made += _bounded(remarks)
    made += _bounded([f"left out: {_skipped(skip)}" for skip in store.skipped])
    return made


def _patients_in(store: Store, split: str) -> str:
    """Return the number of patients of a split, and how many of them have synthetic scans only."""
    real = {case.patient_id for case in store.in_split(split) if not case.synthetic}
    made = len(store.splits[split]) - len(real)
    some = f" ({made} of them synthetic)" if real and made else ""
    return f"{len(store.splits[split])} {split}{some}"


def _of_classes(store: Store) -> list[str]:
    """Return a line if nodules are rated, but some split has too few patients of a class to study malignancy."""
    patients: dict[str, dict[str, set[str]]] = {name: {split: set() for split in SPLITS} for name in CLASS_NAMES}
    for case in store.cases:
        for nodule in case.nodules:
            if (found := malignancy_of(nodule)) is not None:
                patients[CLASS_NAMES[found]][store.split_of(case.patient_id)].add(case.patient_id)
    counts = {name: {split: len(ids) for split, ids in each.items()} for name, each in patients.items()}
    if not any(map(any, (each.values() for each in counts.values()))):
        return []
    if min(min(each.values()) for each in counts.values()) >= LEAST_PATIENTS:
        return []
    said = [
        f"with a {CLASS_WORDS[name]} nodule: {', '.join(f'{n} {split}' for split, n in each.items())}"
        for name, each in counts.items()
    ]
    return [
        f"patients {'; '.join(said)}; the studies of malignancy and baselines need {LEAST_PATIENTS} or more of each in "
        "each split"
    ]


def _skipped(skip: Mapping[str, str]) -> str:
    """Return the reason why a source was left out, with the case's name if the reason does not have it."""
    case_id, reason = skip["case"], skip["reason"]
    return reason if case_id in reason else f"{case_id}: {reason}"


def _bounded(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return lines[:MOST_LINES] + [f"... and {more} more of these lines, which `synthorax info` shows"] * (more > 0)
