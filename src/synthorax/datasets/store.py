"""The prepared store: CT and nodules of many scans in one Zarr 3 group, split by patient.

    STORE/zarr.json             a group; its attribute `synthorax` is the index: cases, nodules, splits, fingerprint
    STORE/<case>/zarr.json      a group; nodules and points of the case, and the SHA-256 of each file of its arrays
    STORE/<case>/ct             int16 HU [z, y, x], chunked and compressed
    STORE/<case>/regions        uint8, the packed bits of one boxed mask a nodule; missing where nobody marked voxels
    STORE/<case>/tissue         uint8 [z, y, x], the tissue class of each voxel; only where a store was asked for it

The index holds its own hash and that of each case's `zarr.json`, which holds those of the chunks: no file can be
exchanged, cut or lost without being told when it is read. A case appears whole or not at all. The index is written
last, so a store with an index is complete. Stores of format 1, which have no hashes of chunks, are still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets import rows, store_v1
from synthorax.datasets.arrays import CASE_ARRAYS, StoredArray, keys_of, write_array
from synthorax.datasets.case import (
    CANDIDATE,
    SPLITS,
    STORE_FORMAT,
    Annotated,
    Case,
    CaseEntry,
    MarkedPoint,
    Split,
    lineages_apart,
    lineages_joined,
    pack_regions,
    packed_bytes,
    unpack_regions,
    upgraded,
)
from synthorax.errors import InputError, OutputError
from synthorax.io.atomic import atomic_file, atomic_folder
from synthorax.io.limits import read_bounded
from synthorax.parallel import map_processes
from synthorax.provenance import fingerprint, without_folders
from synthorax.region import Region, paint_labels
from synthorax.volume import Volume

__all__ = [
    "CANDIDATE",
    "SPLITS",
    "Annotated",
    "Case",
    "CaseEntry",
    "MarkedPoint",
    "Split",
    "Store",
    "write_case",
    "write_index",
]

STORE_INDEX = "zarr.json"
STORE_REQUEST = "prepare.json"
"""File with the request that a store is prepared from, written first; only the same request goes on with a store."""
ATTRIBUTE = "synthorax"
MOST_STORE_INDEX_BYTES = 2**26
"""Bytes of a store's largest index, of some 90,000 cases with one nodule each, and of the largest file of a case."""
EXPECTED_STORE = "what `synthorax prepare` wrote"
ArrayName = Literal["ct", "mask", "tissue"]


def write_case(store: Path, case: Case, source_key: str) -> CaseEntry:
    """Write a case into a store's folder, whole or not at all.

    Args:
        source_key: what it was read from; a case of the same key need not be read again.

    Raises:
        InputError: a case that cannot be read back, such as more voxels of nodules than a store holds.
        OutputError: it cannot be written.
    """
    try:
        entry = CaseEntry.of(case)
    except ValueError as error:
        raise InputError(case.case_id, str(error), "a case that a store can hold") from error
    ct = np.ascontiguousarray(case.ct.voxels, np.int16)
    bits = pack_regions(case.regions)
    points = [point.row() for point in case.points]
    content = hashlib.sha256(ct.data)
    content.update(bits.data)
    tissue = None if case.tissue is None else np.ascontiguousarray(case.tissue, np.uint8)
    if tissue is not None:
        content.update(tissue.data)
    content.update(json.dumps([entry.row(), points], sort_keys=True).encode())
    entry = replace(entry, sha256=content.hexdigest())
    with atomic_folder(store / case.case_id, overwrite=True, alone=False) as folder:
        hashes = {"ct": write_array(folder / "ct", CASE_ARRAYS["ct"], ct)}
        if case.regions:
            hashes["regions"] = write_array(folder / "regions", CASE_ARRAYS["regions"], bits)
        if tissue is not None:
            hashes["tissue"] = write_array(folder / "tissue", CASE_ARRAYS["tissue"], tissue)
        about = {"format": STORE_FORMAT, "source": source_key, "entry": entry.row(), "points": points, "arrays": hashes}
        data = _group(about)
        (folder / STORE_INDEX).write_bytes(data)
    return replace(entry, metadata_sha256=fingerprint(data))


def known_entry(store: Path, case_id: str, source_key: str) -> CaseEntry | None:
    """The entry of a case that was written from the same source before."""
    try:
        data = read_bounded(store / case_id / STORE_INDEX, MOST_STORE_INDEX_BYTES)
        about = _about(data)
        if about["format"] != STORE_FORMAT or about["source"] != source_key:
            return None
        return replace(CaseEntry.from_row(about["entry"]), metadata_sha256=fingerprint(data))
    except (InputError, ValueError, KeyError):
        return None


def is_case(folder: Path) -> bool:
    """Whether a folder of a store holds a finished case; another store that lies in it does not count."""
    try:
        return "entry" in _about(read_bounded(folder / STORE_INDEX, MOST_STORE_INDEX_BYTES))
    except (InputError, ValueError):
        return False


def write_index(
    store: Path,
    entries: Sequence[CaseEntry],
    splits: Mapping[str, Sequence[str]],
    *,
    source: Mapping[str, Any],
    skipped: Sequence[Mapping[str, str]],
) -> None:
    """Complete a store.

    Args:
        splits: patient ids of train, val and test.
        source: what it was prepared from, and how.
        skipped: sources that were left out, each with its reason.

    Raises:
        OutputError: it cannot be written.
    """
    splits = {name: sorted(patients) for name, patients in splits.items()}
    content = json.dumps([[e.case_id, e.sha256] for e in entries] + [splits], sort_keys=True)
    cases, lineages = lineages_apart([entry.row() for entry in entries])
    index = {
        "format": STORE_FORMAT,
        "source": dict(source),
        "fingerprint": fingerprint(content),
        "splits": splits,
        "skipped": [{name: without_folders(text) for name, text in row.items()} for row in skipped],
        "cases": cases,
        **({"lineages": lineages} if lineages else {}),
    }
    data = _group(index | {"sha256": _own_hash(index)})
    if len(data) > MOST_STORE_INDEX_BYTES:
        raise OutputError(
            store / STORE_INDEX, f"{len(entries)} cases are too many for one store; prepare two of half each"
        )
    with atomic_file(store / STORE_INDEX) as file:
        file.write_bytes(data)


def is_store(path: Path) -> bool:
    """Whether a folder holds a store, complete or not."""
    return (path / STORE_REQUEST).is_file()


@dataclass(frozen=True)
class Checked:
    """What checking all of a store found.

    Attributes:
        files: how many were checked.
        errors: one for each that is missing or not as it was written.
    """

    files: int
    errors: tuple[InputError, ...]


class Store:
    """A complete store, open for reading.

    Attributes:
        cases: in the order they were prepared.
        splits: patient ids by split.
        fingerprint: hash of all voxels, regions, nodules and splits.
        skipped: sources that were left out, each with its reason.
        format: 2, or 1 for a store without hashes of its chunks.

    Raises:
        InputError: no store, one that was not finished, one of a newer version, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / STORE_INDEX).exists():
            found = "a store that was not finished" if is_store(path) else "no store"
            raise InputError(path, found, f"{EXPECTED_STORE}, to its end")
        data = read_bounded(path / STORE_INDEX, MOST_STORE_INDEX_BYTES, "the index of a store")
        try:
            self._open(_about(data))
        except ValueError as error:
            raise InputError(path, f"a damaged store ({error})", EXPECTED_STORE) from error

    def _open(self, index: dict[str, Any]) -> None:
        self.format: int = rows.whole(rows.field(index, "format"), "format", 1, 2**31)
        if self.format > STORE_FORMAT:
            expected = f"format 1 or {STORE_FORMAT}; a newer synthorax wrote it: update synthorax"
            raise InputError(self.path, f"a store of format {self.format}", expected)
        self.source = rows.table(rows.field(index, "source"), "source")
        cases = rows.items(rows.field(index, "cases"), "cases")
        if self.format == 1:
            cases = [upgraded(rows.table(row, "case"), self.source) for row in cases]
        elif index.pop("sha256", None) != _own_hash(index):
            raise ValueError("its index is not as it was written")
        cases = lineages_joined(cases, index.get("lineages", []))
        self.cases = tuple(CaseEntry.from_row(row) for row in cases)
        for case in self.cases if self.format > 1 else ():
            rows.sha256_text(case.metadata_sha256, f"case {case.case_id}: metadata_sha256")
        self.splits = rows.splits(rows.field(index, "splits"), [case.patient_id for case in self.cases])
        self.fingerprint = rows.sha256_text(rows.field(index, "fingerprint"), "fingerprint")
        self.skipped = rows.table_of_texts(rows.field(index, "skipped"), "skipped")
        rows.unique([case.case_id for case in self.cases], "case_id")

    @classmethod
    def of(cls, data: str | Path | Store) -> Store:
        """A store, opened or by its path.

        Raises:
            InputError: there is none.
        """
        return data if isinstance(data, cls) else cls(Path(data))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, case_id: str) -> CaseEntry:
        try:
            return self._by_id[case_id]
        except KeyError:
            raise InputError(self.path, f"no case {case_id}", "a case of the store") from None

    def split_of(self, patient_id: str) -> str:
        """Which split a patient is in."""
        return self._split_of[patient_id]

    def in_split(self, split: str) -> list[CaseEntry]:
        """The cases of the patients of a split."""
        return [case for case in self.cases if self._split_of[case.patient_id] == split]

    def read(self, case_id: str) -> Case:
        """A case with all its voxels.

        Raises:
            InputError: no such case, or one that is not as it was written.
        """
        entry = self[case_id]
        ct = self._array(case_id, "ct").read((0, 0, 0), entry.shape)
        tissue = self._array(case_id, "tissue").read((0, 0, 0), entry.shape) if entry.has_tissue else None
        return entry.case(ct, self._regions(entry), self.points(case_id), tissue)

    def points(self, case_id: str) -> tuple[MarkedPoint, ...]:
        """What else is marked in a case."""
        return self._metadata(case_id).points

    def region(self, case_id: str, label: int) -> Region:
        """The voxels of the nodule with a label.

        Raises:
            InputError: the case has no such label, or is not as it was written.
        """
        entry = self[case_id]
        labels = entry.labels
        if not 1 <= label <= labels:
            raise InputError(f"{self.path}, case {case_id}", f"no label {label}", f"1 to {labels}")
        return self._regions(entry, label)[0]

    def read_box(self, case_id: str, start: Sequence[int], shape: Sequence[int], array: ArrayName = "ct") -> Volume:
        """A box of a case's voxels; outside the scan it is air, no nodule, or outside the body.

        Args:
            start: index (z, y, x) of its first voxel; may be negative.
            shape: voxels along (z, y, x).
            array: `ct` for HU; `mask` for the nodules' labels, where they overlap of the smaller; `tissue` for the
                classes of `anatomy.tissue.TissueClass`.

        Raises:
            InputError: no such case, one that is not as it was written, or one without the label map of its tissues.
        """
        entry = self[case_id]
        if array == "tissue" and not entry.has_tissue:
            expected = "a store with label maps; prepare it with --tissue"
            raise InputError(f"{self.path}, case {case_id}", "no label map of its tissues", expected)
        box: NDArray
        if array == "mask":
            box = paint_labels(self._regions(entry), shape, start)
        else:
            low, high = np.clip([start, np.add(start, shape)], 0, entry.shape).tolist()
            box = np.full(tuple(shape), CASE_ARRAYS[array].outside, CASE_ARRAYS[array].dtype)
            if all(b > a for a, b in zip(low, high, strict=True)):
                inside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
                box[inside] = self._array(case_id, array).read(low, high)
        whole = entry.volume(box)
        x, y, z = whole.to_world(start).tolist()
        return replace(whole, origin_mm=(x, y, z))

    def check(self, workers: int | None = None) -> Checked:
        """Read every file of the store and compare its hash with the one that was written.

        Of a store of format 1, which has one hash a case, that of all its voxels and nodules is compared.

        Args:
            workers: processes; one a core if not given.
        """
        found = list(map_processes(_Check(self), self.cases, workers=workers, chunk=4))
        return Checked(1 + sum(n for n, _ in found), tuple(error for _, errors in found for error in errors))

    def check_case(self, entry: CaseEntry) -> tuple[int, list[InputError]]:
        """The number of files of a case, and an error for each that is not as it was written."""
        try:
            if self.format == 1:
                return store_v1.check(self.path / entry.case_id, entry)
            found = [self._array(entry.case_id, name).check() for name in self._metadata(entry.case_id).hashes]
        except InputError as error:
            return 1, [error]
        return 1 + sum(n for n, _ in found), [error for _, errors in found for error in errors]

    def _regions(self, entry: CaseEntry, label: int | None = None) -> tuple[Region, ...]:
        """The regions of a case, or the one of a label."""
        first, last = (0, entry.labels) if label is None else (label - 1, label)
        if first == last:
            return ()
        if entry.boxes is None:
            return store_v1.regions(self.path / entry.case_id, entry)[first:last]
        boxes = entry.boxes[first:last]
        low = sum(map(packed_bytes, entry.boxes[:first]))
        high = low + sum(map(packed_bytes, boxes))
        return unpack_regions(self._array(entry.case_id, "regions").read((low,), (high,)), boxes)

    def _array(self, case_id: str, name: str) -> StoredArray:
        entry, folder = self[case_id], self.path / case_id
        shape = entry.shape if name != "regions" else (sum(map(packed_bytes, entry.boxes or ())),)
        hashes = None
        if self.format > 1:
            hashes = self._metadata(case_id).hashes.get(name)
            if hashes is None or set(hashes) != set(keys_of(CASE_ARRAYS[name], shape)):
                found = f"no hashes of the array {name} with shape {shape}"
                raise InputError(folder / STORE_INDEX, found, f"those that were written; {self._remedy(folder)}")
        return StoredArray(folder / name, CASE_ARRAYS[name], shape, hashes, self._remedy(folder))

    def _metadata(self, case_id: str) -> _CaseFile:
        file = self.path / case_id / STORE_INDEX
        try:
            expected = self[case_id].metadata_sha256
            return _checked_metadata(file, expected) if expected else _read_metadata(file, "")
        except (InputError, ValueError) as error:
            found = error.args[1] if isinstance(error, InputError) else f"a damaged case ({error})"
            raise InputError(file, found, f"what was written; {self._remedy(file.parent)}") from error

    def _remedy(self, case: Path) -> str:
        """What a user can do about a damaged case."""
        if self.format == 1:
            return store_v1.REMEDY
        return f"delete {case} and run the same `synthorax prepare` again, or unpack the store again"

    @cached_property
    def _by_id(self) -> dict[str, CaseEntry]:
        return {case.case_id: case for case in self.cases}

    @cached_property
    def _split_of(self) -> dict[str, str]:
        return {patient: name for name, patients in self.splits.items() for patient in patients}


@dataclass(frozen=True)
class _Check:
    """A picklable function: a case to the number of its files and what is wrong with them."""

    store: Store

    def __call__(self, entry: CaseEntry) -> tuple[int, list[InputError]]:
        return self.store.check_case(entry)


@dataclass(frozen=True)
class _CaseFile:
    """What the file of a case says beside its row.

    Attributes:
        hashes: of the files of each array.
    """

    points: tuple[MarkedPoint, ...]
    hashes: dict[str, dict[str, str]]


def _read_metadata(file: Path, sha256: str) -> _CaseFile:
    data = read_bounded(file, MOST_STORE_INDEX_BYTES)
    if sha256 and fingerprint(data) != sha256:
        raise ValueError("not as it was written")
    about = _about(data)
    points = tuple(MarkedPoint.from_row(row) for row in rows.items(rows.field(about, "points"), "points"))
    hashes = {
        rows.one_of(name, "array", tuple(CASE_ARRAYS)): {
            key: rows.sha256_text(value, key) for key, value in rows.table(files, name).items()
        }
        for name, files in rows.table(about.get("arrays", {}), "arrays").items()
    }
    return _CaseFile(points, hashes)


_checked_metadata = lru_cache(maxsize=256)(_read_metadata)
"""Files of cases by path and hash: patches of a case are read one after the other."""


def _group(about: Mapping[str, Any]) -> bytes:
    """The file of a Zarr group with our attribute."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTE: about}}
    return (json.dumps(group, allow_nan=False) + "\n").encode()


def _about(data: bytes) -> dict[str, Any]:
    """Our attribute of such a file; raises ValueError where there is none."""
    attributes = rows.table(rows.field(rows.json_object(data), "attributes"), "attributes")
    return rows.table(rows.field(attributes, ATTRIBUTE), ATTRIBUTE)


def _own_hash(index: Mapping[str, Any]) -> str:
    """The hash of an index, by which damage to it is found."""
    return fingerprint(json.dumps(index, sort_keys=True, allow_nan=False).encode())
