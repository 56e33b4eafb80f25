"""Whose each scan of a store is: by its table, by the manifest beside it, by its header or by its path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthorax.annotations.nodule_table import TableImage
from synthorax.datasets.case import ANNOTATED, Annotated
from synthorax.datasets.patients import MOST_NAMED, Person, linked, patients_of
from synthorax.datasets.sources import Files, Whose
from synthorax.errors import InputError
from synthorax.io.atomic import MARK
from synthorax.io.images import image_stem
from synthorax.io.mappings import read_mapping
from synthorax.provenance import MANIFEST, SYNTHETIC_PATIENT, sha256, synthetic_patient

MOST_MANIFEST_BYTES = 2**24
"""A manifest of more bytes is not ours."""


class Manifests:
    """The manifests of synthetic scans, each read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Mapping[str, Any]] = {}
        self._damaged: set[Path] = set()

    def of(self, scan: Path) -> Mapping[str, Any]:
        """What the manifest beside a scan says; empty if there is none of ours."""
        if scan.parent not in self._read:
            path, content = scan.parent / MANIFEST, {}
            try:
                if path.is_file() and path.stat().st_size <= MOST_MANIFEST_BYTES:
                    content = read_mapping(path, "manifest")
            except (OSError, InputError):
                if (scan.parent / MARK).is_file():
                    self._damaged.add(scan.parent)
            self._read[scan.parent] = content if content.get("synthorax") else {}
        return self._read[scan.parent]

    def masks_beside(self, scan: Path) -> list[Path]:
        """The images beside a synthetic scan that are no scans: masks and edit regions."""
        files = self.of(scan).get("files")
        return (
            [scan.parent / str(files[n]) for n in ("mask", "region") if n in files] if isinstance(files, dict) else []
        )

    def usual(self, table: Path) -> Annotated:
        """What a table tells of its images: all nodules; of an edited scan those put in, not those of its patient.

        A table of ours whose manifest is damaged may be of an edited scan.
        """
        stated = self.of(table).get("annotated")
        if stated in ANNOTATED:
            return stated
        if table.parent in self._damaged:
            return "some"
        files = self.of(table).get("files")
        return "some" if isinstance(files, dict) and "region" in files else "all"

    def source_of(self, scan: Path) -> tuple[str, str]:
        """Name and SHA-256 of the image that a synthetic scan was made from; empty if not known."""
        source = self.of(scan).get("source")
        return (str(source.get("name", "")), str(source.get("sha256", ""))) if isinstance(source, dict) else ("", "")


def whose_scans(
    scans: Sequence[Files],
    people: Sequence[Person],
    rows: Sequence[TableImage | None],
    manifests: Manifests,
    patient_from: str,
    stated: Annotated | None,
) -> tuple[list[Whose], list[str]]:
    """Patient, source patient and split of each scan: by its table, else by the manifest beside it, header or path."""
    given = [image.patient_id if image else "" for image in rows]
    sources = [("", "") if files.files else manifests.source_of(files.path) for files in scans]
    if patient_from == "auto":
        for i, (name, _) in enumerate(sources):
            given[i] = given[i] or (synthetic_patient(image_stem(name)) if name else "")
    asked = [i for i, patient in enumerate(given) if not patient]
    found, notes = patients_of([people[i] for i in asked], patient_from)
    patients = list(given)
    told_apart: set[str] = set()
    for i, patient in zip(asked, found, strict=True):
        patients[i] = patient
    originals = _originals(scans, sources)
    for i, original in originals.items():
        patients[i] = synthetic_patient(patients[original])
    for i, patient in _namesakes(patients, sources, originals).items():
        patients[i] = patient
        told_apart.add(sources[i][0])
    if told_apart:
        names = ", ".join(sorted(told_apart)[:MOST_NAMED])
        notes.append(f"synthetic scans of different sources of one name ({names}) are taken for different patients'")
    patients, keys, told = linked(patients, people)
    splits: dict[str, tuple[str, Path]] = {}
    for patient, image in zip(patients, rows, strict=True):
        if image is not None and image.split is not None:
            split, other = splits.setdefault(patient, (image.split, image.image))
            if split != image.split:
                found_ = (
                    f"patient {patient} in two splits: {other.name} in {split}, {image.image.name} in {image.split}"
                )
                raise InputError(image.table, found_, "one split a patient; patient_id says whose an image is")
    whose = [
        Whose(patient, key, image.split if image else None, stated)  # type: ignore[arg-type]
        for patient, key, image in zip(patients, keys, rows, strict=True)
    ]
    return whose, [*notes, *told]


def _originals(scans: Sequence[Files], sources: Sequence[tuple[str, str]]) -> dict[int, int]:
    """For each synthetic scan whose source is here too, the number of that source, known by its bytes."""
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
    """New patient ids for synthetic scans whose sources have one name and different bytes, as `image.nii.gz` has."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for i, (patient, (_, digest)) in enumerate(zip(patients, sources, strict=True)):
        if digest and i not in originals and patient.startswith(SYNTHETIC_PATIENT):
            hashes[patient].add(digest)
    return {
        i: synthetic_patient(f"{patient} {sources[i][1]}")
        for i, patient in enumerate(patients)
        if len(hashes.get(patient, ())) > 1 and sources[i][1] and i not in originals
    }
