"""Synthetic cases that join a store of real ones: their patients, and which of them may be training cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthorax.datasets.case import SPLITS, Case, CaseEntry
from synthorax.datasets.lineage import HELD_OUT, HeldOut, Leak, held_out_of, made_from, why_not_train
from synthorax.datasets.patients import by_name
from synthorax.datasets.reader_sources import LidcSource, LunaSource
from synthorax.datasets.source_lists import patch_sources, tables_of
from synthorax.datasets.sources import ScanSource, Source, TableSource, Unreadable
from synthorax.datasets.whose import Known
from synthorax.errors import InputError
from synthorax.lineage import Lineage

JOINED_PREFIX = "synthetic-"
"""Prefix of the names of synthetic cases that join a store."""


@dataclass(frozen=True)
class MadeSource:
    """A synthetic scan as a source of a case of the store that it joins.

    Attributes:
        case_id: name of the case.
        made: the scan with its table of nodules.
    """

    case_id: str
    made: TableSource

    @property
    def key(self) -> str:
        """The name of the case, and a hash of the files from which it is made."""
        return f"{self.case_id} {self.made.key}"

    def read(self) -> Case:
        """Read the case.

        Raises:
            InputError: it cannot be read, or is not marked as synthetic.
        """
        case = self.made.read()
        if not case.synthetic:
            found = "a scan that neither its own header nor a manifest marks as synthetic"
            expected = "a scan that `inject`, `sample` or `translate` made; give other scans as the source"
            raise InputError(self.made.files.path, found, expected)
        return replace(case, case_id=self.case_id, lineage=case.lineage or Lineage("", tells=False))


@dataclass(frozen=True)
class Joined:
    """The synthetic cases that join a store.

    Attributes:
        sources: the cases' sources.
        only_train: whether they become training cases, and those made with data of patients of validation or test are
            left out.
        aliases: key of each name that a synthetic scan may have for its source's patient, to the store's patients.
        notes: sentences about how the cases were found.
    """

    sources: tuple[Source, ...] = ()
    only_train: bool = False
    aliases: Mapping[str, set[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def join(folders: Sequence[Path], real: Sequence[Source], only_train: bool) -> Joined:
    """Find the synthetic cases of folders that `inject` and `sample` wrote, or of folders above such folders.

    Args:
        folders: the folders.
        real: sources of the store that the cases join.
        only_train: see `Joined`.

    Raises:
        InputError: a folder has no synthetic scans, or a table does not match its scans.
    """
    scans = [source for source in real if isinstance(source, ScanSource | TableSource | LidcSource | LunaSource)]
    known = [Known(source.whose.patient_id, source.files) for source in scans]
    aliases = by_name([one.patient_id for one in known], [one.person for one in known])
    tables = [table for folder in folders for table in _tables(folder)]
    if not tables:
        return Joined((), only_train, aliases)
    found = patch_sources(tables, known=known)
    used = {source.case_id.casefold() for source in real if not isinstance(source, Unreadable)}
    made: list[Source] = []
    for source in found.sources:
        name = source.case_id if source.case_id.casefold().startswith(JOINED_PREFIX) else JOINED_PREFIX + source.case_id
        number, case_id = 1, name
        while case_id.casefold() in used:
            number, case_id = number + 1, f"{name}-{number + 1}"
        used.add(case_id.casefold())
        made.append(MadeSource(case_id, source) if isinstance(source, TableSource) else source)
    return Joined(tuple(made), only_train, aliases, tuple(f"--synthetic: {note}" for note in found.notes))


def _tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(folder, "no folder", "a folder that `inject`, `sample` or `translate` wrote, or one above")
    if found := tables_of(folder):
        return found
    expected = "a folder of scans that `inject`, `sample` or `translate` wrote, not shapes"
    raise InputError(folder, "no scans with a table of nodules", expected)


def in_training_alone(
    entries: Iterable[CaseEntry],
    splits: Mapping[str, Sequence[str]],
    aliases: Mapping[str, set[str]],
) -> tuple[dict[str, list[str]], list[CaseEntry], dict[str, Leak]]:
    """Put synthetic cases into training, except those that may be made with data of patients of validation or test.

    Args:
        entries: all cases.
        splits: split to the patients of its real cases; a patient may be in no split.
        aliases: see `Joined`.

    Returns:
        The splits with the patients of synthetic cases, the cases of the store, and the id of each case left out with
        the reason.
    """
    entries = list(entries)
    split_of = {patient: split for split in SPLITS for patient in splits[split]}
    real = [entry for entry in entries if not entry.synthetic and entry.patient_id in split_of]
    dropped = {entry.patient_id for entry in entries if not entry.synthetic} - set(split_of)
    cases = {split: [entry for entry in real if split_of[entry.patient_id] == split] for split in HELD_OUT}
    held_out = held_out_of(cases, splits)
    for key, patients in aliases.items():
        for patient in sorted(patients):
            if split_of.get(patient) in HELD_OUT:
                held_out.setdefault(key, HeldOut(patient, split_of[patient]))
    left: dict[str, Leak] = {}
    train = dict.fromkeys(splits["train"])
    kept = []
    for entry in entries:
        if not entry.synthetic:
            kept += [entry] if entry.patient_id in split_of else []
        elif entry.patient_id in dropped:
            continue  # the caller left out its patient
        elif leak := _why_not(entry, split_of, held_out):
            left[entry.case_id] = leak
        else:
            kept.append(entry)
            train[entry.patient_id] = None
    return {**{split: list(splits[split]) for split in SPLITS}, "train": sorted(train)}, kept, left


def _why_not(entry: CaseEntry, split_of: Mapping[str, str], held_out: Mapping[str, HeldOut]) -> Leak | None:
    if split_of.get(entry.patient_id) in HELD_OUT:
        return made_from(HeldOut(entry.patient_id, split_of[entry.patient_id]))
    if entry.lineage is None:
        return Leak(
            "the patients on whom its maker was trained are not known",
            "by makers whose training patients are not known",
        )
    return why_not_train(entry, held_out)


def synthetic_notes(left: Mapping[str, Leak], kept: Iterable[CaseEntry]) -> list[str]:
    """Return a note on the numbers of synthetic cases in training and left out, for a store with `only_train`."""
    made = sum(bool(entry.synthetic) for entry in kept)
    causes = Counter(leak.cause for leak in left.values())
    counted = "".join(f"; left out: {count} {cause}" for cause, count in causes.most_common())
    return [f"synthetic cases, all in training: {made}{counted}"]
