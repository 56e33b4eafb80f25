"""The prepared store: CT and nodules of many scans in one Zarr 3 group, split by patient.

    STORE/zarr.json             a group; its attribute `synthorax` is the index: cases, nodules, splits, fingerprint
    STORE/<case>/zarr.json      a group; nodules and points of the case, and the SHA-256 of each file of its arrays
    STORE/<case>/ct             int16 HU [z, y, x], chunked and compressed
    STORE/<case>/regions        uint8, the packed bits of one boxed mask for each nodule; missing without masks
    STORE/<case>/tissue         uint8 [z, y, x], the tissue class of each voxel; only if label maps were requested

The index has its own hash and that of each case's `zarr.json`, which has the hashes of the chunks. So a file that is
exchanged, truncated or missing is noticed when it is read. A case is written completely or not at all. The index is
written last, so a store with an index is complete. Stores of format 1, which have no hashes of chunks, can still be
read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
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
from synthorax.screen import quantity
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
"""File with the request of a store, written first; only the same request may resume the store."""
ATTRIBUTE = "synthorax"
MOST_STORE_INDEX_BYTES = 2**26
"""Largest size in bytes of a store's index, enough for about 90,000 cases with one nodule each, and of a case's
`zarr.json`."""
EXPECTED_STORE = "a store that `synthorax prepare` wrote"
ArrayName = Literal["ct", "mask", "tissue"]


def write_case(store: Path, case: Case, source_key: str) -> CaseEntry:
    """Write a case into a store's folder, completely or not at all.

    Args:
        store: folder of the store.
        case: the case.
        source_key: key of its source; a case whose source has the same key is not read again.

    Raises:
        InputError: the case could not be read back, for example because its masks are too large for a store.
        OutputError: a file cannot be written.
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
    """Return the entry of a case that was written earlier from a source with the same key; None if there is none."""
    try:
        data = read_bounded(store / case_id / STORE_INDEX, MOST_STORE_INDEX_BYTES)
        about = _about(data)
        if about["format"] != STORE_FORMAT or about["source"] != source_key:
            return None
        return replace(CaseEntry.from_row(about["entry"]), metadata_sha256=fingerprint(data))
    except (InputError, ValueError, KeyError):
        return None


def is_case(folder: Path) -> bool:
    """Return whether a subfolder of a store holds a finished case; another store in it does not count."""
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
    """Write the index of a store, which completes it.

    Args:
        store: folder of the store.
        entries: the cases.
        splits: split to its patient ids.
        source: facts about the sources and the request.
        skipped: sources that were left out, each with the reason.

    Raises:
        OutputError: the index cannot be written, or the store has too many cases.
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
    """Return whether a folder holds a store, complete or not."""
    return (path / STORE_REQUEST).is_file()


def check_not_newer(path: Path) -> None:
    """Check that the store in a folder, if there is one, is not of a format that only a newer version can read.

    Raises:
        InputError: the store is of such a format.
    """
    try:
        found = rows.whole(
            _about(read_bounded(path / STORE_INDEX, MOST_STORE_INDEX_BYTES))["format"], "format", 1, 2**31
        )
    except (InputError, ValueError, KeyError):
        return
    if found > STORE_FORMAT:
        raise _newer(path, found, ", or replace the store with --overwrite")


def _newer(path: Path, found: int, more: str = "") -> InputError:
    expected = f"format 1 or {STORE_FORMAT}; a newer synthorax wrote it: update synthorax{more}"
    return InputError(path, f"a store of format {found}", expected)


@dataclass(frozen=True)
class Checked:
    """The result of checking all files of a store.

    Attributes:
        files: number of files checked.
        errors: an error for each file that is missing or was changed after it was written.
    """

    files: int
    errors: tuple[InputError, ...]


class Store:
    """A complete store, open for reading.

    Attributes:
        path: folder of the store.
        cases: the cases, in the order in which they were prepared.
        splits: split to its patient ids.
        source: facts about the sources and the request.
        fingerprint: hash of all voxels, regions, nodules and splits.
        skipped: sources that were left out, each with the reason.
        format: 2, or 1 for a store without hashes of its chunks.
        note: what was left out of the store by `without_synthetic`; empty for a whole store.

    Raises:
        InputError: the folder has no store, or the store is unfinished, damaged or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = ""
        if not (path / STORE_INDEX).exists():
            if is_store(path):
                expected = "a finished store; run the same `synthorax prepare` again to finish it"
                raise InputError(path, "a store that was not finished", expected)
            raise InputError(path, "no store", f"{EXPECTED_STORE} completely")
        data = read_bounded(path / STORE_INDEX, MOST_STORE_INDEX_BYTES, "the index of a store")
        try:
            self._open(_about(data))
        except ValueError as error:
            expected = f"{EXPECTED_STORE}; run the same `synthorax prepare` again, or unpack the store again"
            raise InputError(path, f"a damaged store ({error})", expected) from error

    def _open(self, index: dict[str, Any]) -> None:
        self.format: int = rows.whole(rows.field(index, "format"), "format", 1, 2**31)
        if self.format > STORE_FORMAT:
            raise _newer(self.path, self.format)
        self.source = rows.table(rows.field(index, "source"), "source")
        cases = rows.items(rows.field(index, "cases"), "cases")
        if self.format == 1:
            cases = [upgraded(rows.table(row, "case"), self.source) for row in cases]
        elif index.pop("sha256", None) != _own_hash(index):
            raise ValueError("its index was changed after it was written")
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
        """Return a store that is open, or open one by its path.

        Raises:
            InputError: there is no store at the path.
        """
        return data if isinstance(data, cls) else cls(Path(data))  # type: ignore[arg-type]

    def without_synthetic(self) -> Store:
        """Return the store without its synthetic cases, for studies, whose real arms must be real.

        A store of synthetic cases alone, such as one of phantoms, is returned as it is. `note` of the new store says
        how many cases were left out.
        """
        real = tuple(case for case in self.cases if not case.synthetic)
        if not real or len(real) == len(self.cases):
            return self
        patients = {case.patient_id for case in real}
        left = quantity(len(self.cases) - len(real), "synthetic case")
        store = copy(self)
        for cached in ("_by_id", "_split_of"):
            vars(store).pop(cached, None)
        store.cases = real
        store.splits = {name: [one for one in ids if one in patients] for name, ids in self.splits.items()}
        store.fingerprint = fingerprint(json.dumps([self.fingerprint, [case.case_id for case in real]]).encode())
        store.note = (
            f"{left} of the store {self.path.name} left out: real nodules are compared with those of the models"
        )
        return store

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, case_id: str) -> CaseEntry:
        try:
            return self._by_id[case_id]
        except KeyError:
            raise InputError(self.path, f"no case {case_id}", "a case of the store") from None

    def split_of(self, patient_id: str) -> str:
        """Return the split of a patient."""
        return self._split_of[patient_id]

    def in_split(self, split: str) -> list[CaseEntry]:
        """Return the cases of the patients of a split."""
        return [case for case in self.cases if self._split_of[case.patient_id] == split]

    def read(self, case_id: str) -> Case:
        """Read a case with all its voxels.

        Raises:
            InputError: the store has no such case, or a file of it was changed after it was written.
        """
        entry = self[case_id]
        ct = self._array(case_id, "ct").read((0, 0, 0), entry.shape)
        tissue = self._array(case_id, "tissue").read((0, 0, 0), entry.shape) if entry.has_tissue else None
        return entry.case(ct, self._regions(entry), self.points(case_id), tissue)

    def points(self, case_id: str) -> tuple[MarkedPoint, ...]:
        """Return the points marked in a case besides nodules."""
        return self._metadata(case_id).points

    def region(self, case_id: str, label: int) -> Region:
        """Return the mask of the nodule with a label.

        Raises:
            InputError: the case has no such label, or a file of it was changed after it was written.
        """
        entry = self[case_id]
        labels = entry.labels
        if not 1 <= label <= labels:
            raise InputError(f"{self.path}, case {case_id}", f"no label {label}", f"1 to {labels}")
        return self._regions(entry, label)[0]

    def read_box(self, case_id: str, start: Sequence[int], shape: Sequence[int], array: ArrayName = "ct") -> Volume:
        """Read a box of a case's voxels; voxels outside the scan are air, no nodule, or outside the body.

        Args:
            case_id: the case.
            start: index (z, y, x) of the first voxel of the box; may be negative.
            shape: voxels (z, y, x) of the box.
            array: `ct` for HU; `mask` for the nodules' labels, with the smaller label in overlaps; `tissue` for
                `anatomy.tissue.TissueClass`.

        Raises:
            InputError: the store has no such case, the case has no label map of tissues, or a file of it was changed
                after it was written.
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
        """Read every file of the store and compare its hash with the one stored when it was written.

        A store of format 1 has one hash for each case, over all its voxels and nodules, which is compared instead.

        Args:
            workers: number of processes; by default one for each core.
        """
        found = list(map_processes(_Check(self), self.cases, workers=workers, chunk=4))
        return Checked(1 + sum(n for n, _ in found), tuple(error for _, errors in found for error in errors))

    def check_case(self, entry: CaseEntry) -> tuple[int, list[InputError]]:
        """Return the number of files of a case, and an error for each that was changed after it was written."""
        try:
            if self.format == 1:
                return store_v1.check(self.path / entry.case_id, entry)
            found = [self._array(entry.case_id, name).check() for name in self._metadata(entry.case_id).hashes]
        except InputError as error:
            return 1, [error]
        return 1 + sum(n for n, _ in found), [error for _, errors in found for error in errors]

    def _regions(self, entry: CaseEntry, label: int | None = None) -> tuple[Region, ...]:
        """Read the regions of a case, or the region of one label."""
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
                raise InputError(folder / STORE_INDEX, found, f"the hashes of all its files; {self._remedy(folder)}")
        return StoredArray(folder / name, CASE_ARRAYS[name], shape, hashes, self._remedy(folder))

    def _metadata(self, case_id: str) -> _CaseFile:
        file = self.path / case_id / STORE_INDEX
        try:
            expected = self[case_id].metadata_sha256
            return _checked_metadata(file, expected) if expected else _read_metadata(file, "")
        except (InputError, ValueError) as error:
            found = error.args[1] if isinstance(error, InputError) else f"a damaged case ({error})"
            raise InputError(file, found, f"the file as it was written; {self._remedy(file.parent)}") from error

    def _remedy(self, case: Path) -> str:
        """Return the end of an error about a damaged case: what the user can do."""
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
    """A picklable function: a case to the number of its files, and to an error for each changed one."""

    store: Store

    def __call__(self, entry: CaseEntry) -> tuple[int, list[InputError]]:
        return self.store.check_case(entry)


@dataclass(frozen=True)
class _CaseFile:
    """The content of a case's `zarr.json` besides its entry.

    Attributes:
        points: marked points.
        hashes: array to the key and SHA-256 of each of its files.
    """

    points: tuple[MarkedPoint, ...]
    hashes: dict[str, dict[str, str]]


def _read_metadata(file: Path, sha256: str) -> _CaseFile:
    data = read_bounded(file, MOST_STORE_INDEX_BYTES)
    if sha256 and fingerprint(data) != sha256:
        raise ValueError("changed after it was written")
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
"""`_read_metadata` with a cache, since many patches of one case are read in a row."""


def _group(about: Mapping[str, Any]) -> bytes:
    """Return the file of a Zarr group with the attribute `ATTRIBUTE`."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTE: about}}
    return (json.dumps(group, allow_nan=False) + "\n").encode()


def _about(data: bytes) -> dict[str, Any]:
    """Return the attribute `ATTRIBUTE` of the file of a Zarr group.

    Raises:
        ValueError: the file is not valid, or has no such attribute.
    """
    attributes = rows.table(rows.field(rows.json_object(data), "attributes"), "attributes")
    return rows.table(rows.field(attributes, ATTRIBUTE), ATTRIBUTE)


def _own_hash(index: Mapping[str, Any]) -> str:
    """Return the hash of an index, which is stored in it to detect damage."""
    return fingerprint(json.dumps(index, sort_keys=True, allow_nan=False).encode())
