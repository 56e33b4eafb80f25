"""Finding the patient of each scan of a store: by its table, the manifest beside it, its header or its path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from synthorax.annotations.nodule_table import TableImage
from synthorax.datasets.case import Annotated
from synthorax.datasets.manifests import Manifests
from synthorax.datasets.patients import MOST_NAMED, Person, linked, tell_patients_apart
from synthorax.datasets.sources import Files, Whose
from synthorax.errors import InputError
from synthorax.io.dicom_file import read_about
from synthorax.io.images import image_stem
from synthorax.provenance import sha256, synthetic_patient
from synthorax.screen import quantity


@dataclass(frozen=True)
class Known:
    """A scan of a store, from which synthetic scans may have been made.

    Attributes:
        patient_id: its patient in the store.
        files: its files.
    """

    patient_id: str
    files: Files

    @cached_property
    def person(self) -> Person:
        """Facts about the patient, with the names that `inject` may have used for the patient."""
        if self.files.files and not self.files.patient_id:
            return Person.of_series(read_about(self.files.files[0]), self.files.path)
        name = self.files.patient_id or self.files.stem
        return Person(self.files.path, bool(self.files.files), name, series_uid=self.files.series_uid)


def whose_scans(
    scans: Sequence[Files],
    people: Sequence[Person],
    rows: Sequence[TableImage | None],
    manifests: Manifests,
    patient_from: str,
    stated: Annotated | None,
    known: Sequence[Known] = (),
) -> tuple[list[Whose], list[str]]:
    """Return patient, source patient and split of each scan, and notes.

    The patient is found in the scan's table; otherwise in the manifest beside it, its header or its path, in this
    order.

    Args:
        scans: the scans.
        people: facts about each scan's patient, from header and path.
        rows: entry of each scan in a table, or None.
        manifests: manifests of synthetic scans.
        patient_from: rule by which patients are identified (`patients.tell_patients_apart`).
        stated: the user's statement whether all nodules of the scans are known, or None.
        known: scans of the store that synthetic scans join.

    Raises:
        InputError: a patient is in two splits, or the rule does not match a scan.
    """
    given = [image.patient_id if image else "" for image in rows]
    sources = [("", "") if files.files else manifests.source_of(files.path) for files in scans]
    if patient_from == "auto":
        for i, (name, _) in enumerate(sources):
            named = manifests.patient_of(scans[i].path) or synthetic_patient(image_stem(name)) if name else ""
            given[i] = given[i] or named
    asked = [i for i, patient in enumerate(given) if not patient]
    found, notes = tell_patients_apart([people[i] for i in asked], patient_from)
    if patient_from != "auto" and (settled := sum(map(bool, given))):
        named = "the table or a manifest names the patient"
        if settled == len(scans):
            notes.append(f"--patient-from is not used: {named} of every scan")
        else:
            notes.append(f"--patient-from is not used for {settled} of {quantity(len(scans), 'scan')}: {named}")
    notes += _notes_on_ids(given, rows)
    patients = list(given)
    namesakes: set[str] = set()
    for i, patient in zip(asked, found, strict=True):
        patients[i] = patient
    patients += [one.patient_id for one in known]
    sources += [("", "")] * len(known)
    every = [*scans, *(one.files for one in known)]
    originals = _originals(every, sources)
    for i, original in originals.items():
        patients[i] = synthetic_patient(patients[original])
    for i, patient in _namesakes(patients, sources, originals).items():
        patients[i] = patient
        namesakes.add(sources[i][0])
    if namesakes:
        names = ", ".join(sorted(namesakes)[:MOST_NAMED])
        notes.append(f"synthetic scans from different sources with one name ({names}) are given to different patients")
    patients, keys, link_notes = linked(patients, [*people, *(one.person for one in known)])
    patients, keys = patients[: len(scans)], keys[: len(scans)]
    first: dict[str, TableImage] = {}
    for patient, image in zip(patients, rows, strict=True):
        if image is not None and image.split is not None:
            other = first.setdefault(patient, image)
            if other.split != image.split:
                each = f"{other.image.name} in {other.split} (line {other.line})"
                found_ = (
                    f"patient {patient} in two splits: {each}, {image.image.name} in {image.split} (line {image.line})"
                )
                raise InputError(image.table, found_, "one split for each patient; patient_id names an image's patient")
    whose = [
        Whose(
            patient,
            key,
            image.split if image else None,  # type: ignore[arg-type]
            stated,
            manifests.mark_of(files.path),
            manifests.lineage_of(files.path),
            every[originals[i]].path if i in originals else None,
        )
        for i, (patient, key, image, files) in enumerate(zip(patients, keys, rows, scans, strict=True))
    ]
    return whose, [*notes, *link_notes]


def _notes_on_ids(given: Sequence[str], rows: Sequence[TableImage | None]) -> list[str]:
    """Return notes on images of tables without the patient id that others have, and on ids that are nearly the same.

    Args:
        given: patient id of each scan; empty if none was given.
        rows: entry of each scan in a table, or None.
    """
    notes = []
    blank = [row.image.name for patient, row in zip(given, rows, strict=True) if row is not None and not patient]
    if blank and any(row is not None and row.patient_id for row in rows):
        notes.append(
            f"{quantity(len(blank), 'image')} of a table without a patient_id, which other rows have "
            f"({', '.join(blank[:MOST_NAMED])}): the folder or file is taken for the patient"
        )
    spellings: dict[str, set[str]] = defaultdict(set)
    for patient in filter(None, given):
        spellings["".join(patient.split()).casefold()].add(patient)
    for alike in spellings.values():
        if len(alike) > 1:
            listed = ", ".join(repr(patient) for patient in sorted(alike))
            notes.append(f"patient ids that differ in capitals or spaces alone are of different patients: {listed}")
    return notes


def _originals(scans: Sequence[Files], sources: Sequence[tuple[str, str]]) -> dict[int, int]:
    """Map the index of each synthetic scan whose source is among the scans to that source's index, by its bytes."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, files in enumerate(scans):
        if not files.files and not sources[i][0]:
            by_name[files.path.name].append(i)
    hashes: dict[int, str] = {}
    found = {}
    for i, (name, wanted) in enumerate(sources):
        for candidate in by_name.get(name, []) if wanted else []:
            if candidate not in hashes:
                hashes[candidate] = sha256(scans[candidate].path)
            if hashes[candidate] == wanted:
                found[i] = candidate
    return found


def _namesakes(
    patients: Sequence[str], sources: Sequence[tuple[str, str]], originals: Mapping[int, int]
) -> dict[int, str]:
    """Return new patient ids for synthetic scans whose sources have one name, like `image.nii.gz`, but other bytes.

    A patient that is not named after a file, but was stated, keeps all scans.
    """
    hashes: dict[str, set[str]] = defaultdict(set)
    for i, (patient, (name, digest)) in enumerate(zip(patients, sources, strict=True)):
        if digest and i not in originals and patient == synthetic_patient(image_stem(name)):
            hashes[patient].add(digest)
    return {
        i: synthetic_patient(f"{patient} {sources[i][1]}")
        for i, patient in enumerate(patients)
        if len(hashes.get(patient, ())) > 1 and sources[i][1] and i not in originals
    }
