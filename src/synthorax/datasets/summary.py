"""What a store holds, in a few lines that end `prepare`: nodules, what is known of the scans, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from synthorax.datasets.case import ANNOTATED, SPLITS
from synthorax.datasets.lineage import leaks_in_training
from synthorax.datasets.mask_files import NOT_TAKEN
from synthorax.datasets.store import Store

MOST_LINES = 10
"""Lines on cases or files that are shown; `info` shows all."""
MOST_STRUCTURES_SHOWN = 20
"""Structures that the summary names; `info` names all."""


def structures_not_taken(store: Store) -> dict[str, int]:
    """In how many cases a structure of each name was not taken for a nodule, the most frequent first."""
    names = Counter(
        note.removeprefix(NOT_TAKEN) for case in store.cases for note in case.notes if note.startswith(NOT_TAKEN)
    )
    return dict(names.most_common())


def annotation_counts(store: Store) -> dict[str, int]:
    """Number of cases of which all, some or no nodules are known."""
    counts = Counter(case.annotated for case in store.cases)
    return {name: counts[name] for name in ANNOTATED}


def synthetic_counts(store: Store) -> dict[str, int]:
    """Number of synthetic cases in each split."""
    return {split: sum(bool(case.synthetic) for case in store.in_split(split)) for split in SPLITS}


def _of_synthetic(store: Store) -> list[str]:
    """What is to be known of synthetic cases beside real ones."""
    counts = synthetic_counts(store)
    made = sum(counts.values())
    if not made:
        return []
    told = f"synthetic cases: {made} of {len(store)} ({', '.join(f'{n} {split}' for split, n in counts.items())})"
    if made < len(store) and made > counts["train"]:
        told += "; validation and test are not of real cases alone; --only-train keeps them real"
    lines = [told]
    if leaks := leaks_in_training(store):
        case_id, reason = next(iter(leaks.items()))
        lines.append(
            f"synthetic training cases that may know patients of validation or test: {len(leaks)} "
            f"({case_id}: {reason}); studies refuse this store; --only-train leaves such cases out"
        )
    return lines


def case_notes(store: Store) -> dict[str, list[str]]:
    """What was left out or mended in each case, less the structures that were not taken."""
    notes = {case.case_id: [n for n in case.notes if not n.startswith(NOT_TAKEN)] for case in store.cases}
    return {case_id: told for case_id, told in notes.items() if told}


def summary_lines(store: Store) -> list[str]:
    """The summary, of at most some 40 lines; the first says how many cases, nodules and patients there are."""
    nodules = [nodule for case in store.cases for nodule in case.nodules]
    masked = sum(nodule.label > 0 for nodule in nodules)
    patients = ", ".join(f"{len(ids)} {name}" for name, ids in store.splits.items())
    left = f"; {len(store.skipped)} left out" if store.skipped else ""
    made = [f"{len(store)} cases, {len(nodules)} nodules, patients: {patients}{left}"]
    if masked < len(nodules):
        made.append(f"nodules: {masked} with voxels, {len(nodules) - masked} with a centre and diameter only")
    made += _of_synthetic(store)
    counts = annotation_counts(store)
    if counts["all"] < len(store):
        what = {
            "all": "every nodule of {}",
            "some": "some nodules of {}",
            "none-known": "no nodule of {}, which are not taken for healthy",
        }
        told = [f"{text.format(counts[name])} ({name})" for name, text in what.items() if counts[name]]
        made.append(f"known of the scans: {'; '.join(told)}; --annotated states it")
    if names := structures_not_taken(store):
        shown = ", ".join(f"{name} ({count})" for name, count in list(names.items())[:MOST_STRUCTURES_SHOWN])
        more = f" and {len(names) - MOST_STRUCTURES_SHOWN} more" * (len(names) > MOST_STRUCTURES_SHOWN)
        made.append(
            f"structures not taken for nodules, and in how many cases (--structures takes others): {shown}{more}"
        )
    made += [str(note) for note in store.source.get("notes", [])]
    remarks = [f"{case_id}: {note}" for case_id, notes in case_notes(store).items() for note in notes]
    made += _bounded(remarks)
    made += _bounded([f"left out: {_skipped(skip)}" for skip in store.skipped])
    return made


def _skipped(skip: Mapping[str, str]) -> str:
    """A reason why something was left out, with its case where the reason does not name it."""
    case_id, reason = skip["case"], skip["reason"]
    return reason if case_id in reason else f"{case_id}: {reason}"


def _bounded(told: list[str]) -> list[str]:
    more = len(told) - MOST_LINES
    return told[:MOST_LINES] + [f"... and {more} more of these lines, which `synthorax info` shows"] * (more > 0)
