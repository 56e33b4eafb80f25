"""The prepared store: CT, masks and nodules of many scans in one Zarr 3 group, split by patient.

    STORE/zarr.json             a group; its attribute `synthorax` is the index: cases, nodules, splits, fingerprint
    STORE/<case>/zarr.json      a group; geometry, nodules and points of the case
    STORE/<case>/ct             int16 HU [z, y, x], chunked and compressed
    STORE/<case>/regions        uint8, the packed bits of one boxed mask a nodule; missing where nobody marked voxels

A case appears whole or not at all. The index is written last, so a store with an index is complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from synthorax.errors import InputError
from synthorax.geometry import AIR_HU
from synthorax.io.atomic import atomic_file, atomic_folder
from synthorax.nodule import Nodule
from synthorax.provenance import fingerprint
from synthorax.region import Region, paint_labels
from synthorax.volume import Volume

FORMAT = 2
INDEX = "zarr.json"
REQUEST = "prepare.json"
"""What a store is prepared from, written first; a store may be gone on with by the same request only."""
ATTRIBUTE = "synthorax"
CHUNK = (32, 128, 128)
"""Small enough that a nodule's cube touches few chunks, large enough that a scan has few."""
BITS_CHUNK = 2**20
"""Bytes of a chunk of the nodules' masks."""
Box = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Corner and shape, both (z, y, x), in voxels."""
ArrayName = Literal["ct", "mask"]
Annotated = Literal["all", "some", "none-known"]
"""Whether every nodule of a scan is known: all of them, some, or nobody has said anything."""
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


CANDIDATE = "candidate"


@dataclass(frozen=True)
class Point:
    """A place of a scan that is not an outlined nodule.

    Attributes:
        kind: such as `small nodule`, `non-nodule`, `candidate`.
        center_mm: (x, y, z), LPS.
    """

    kind: str
    center_mm: tuple[float, float, float]

    @property
    def is_finding(self) -> bool:
        """Whether readers saw something there; a detector's candidate may be anything."""
        return self.kind != CANDIDATE


@dataclass(frozen=True, eq=False)
class Case:
    """A scan, or a patch of one, with what is known of it.

    Attributes:
        ct: int16 HU, axes as near to left, back and head as they can be.
        regions: the voxels of the nodule with label i at index i - 1, in voxels of `ct`; they may overlap.
        annotated: whether every nodule of the scan is known. The default is the safe one: no place of such a scan is
            taken for healthy.
        split: where its source says so.
        synthetic: the mark of generated voxels; empty for a patient's.
        source_patient: `provenance.patient_key` of the patient whose scan a synthetic case was made from.
        notes: what was left out or mended when it was read.
    """

    case_id: str
    patient_id: str
    ct: Volume
    regions: tuple[Region, ...] = ()
    nodules: tuple[Nodule, ...] = ()
    points: tuple[Point, ...] = ()
    annotated: Annotated = "none-known"
    split: Split | None = None
    series_uid: str = ""
    synthetic: str = ""
    source_patient: str = ""
    notes: tuple[str, ...] = ()

    def label_map(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The label of each voxel's nodule [z, y, x], 0 outside them; where nodules overlap, of the smaller."""
        return paint_labels(self.regions, self.ct.shape)

    def region(self, nodule: Nodule) -> Region | None:
        """The voxels of one of the nodules; None if they are not known."""
        return self.regions[nodule.label - 1] if nodule.label else None


@dataclass(frozen=True)
class CaseEntry:
    """A case as the index knows it.

    Attributes:
        shape: voxels (z, y, x).
        boxes: corner and shape, both (z, y, x), of each region.
        sha256: of voxels, regions, geometry and nodules.
        given_split: what its source said; a store's splits are `Store.splits`.
    """

    case_id: str
    patient_id: str
    series_uid: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[tuple[float, ...], ...]
    nodules: tuple[Nodule, ...]
    boxes: tuple[Box, ...]
    annotated: Annotated
    synthetic: str
    sha256: str
    source_patient: str = ""
    given_split: Split | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_mask(self) -> bool:
        """Whether the voxels of any nodule are known."""
        return bool(self.boxes)

    def row(self) -> dict[str, Any]:
        """The entry as JSON can hold it."""
        return vars(self) | {"nodules": [nodule.row() for nodule in self.nodules]}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> CaseEntry:
        """The entry of such a row."""
        tuples = {name: tuple(row[name]) for name in ("shape", "spacing_mm", "origin_mm", "notes")}
        direction = tuple(tuple(line) for line in row["direction"])
        nodules = tuple(Nodule.from_row(nodule) for nodule in row["nodules"])
        boxes = tuple((tuple(corner), tuple(shape)) for corner, shape in row["boxes"])
        return cls(**dict(row) | tuples | {"direction": direction, "nodules": nodules, "boxes": boxes})

    def volume(self, voxels: NDArray) -> Volume:
        """Voxels with the geometry of the case."""
        return Volume(voxels, self.spacing_mm, self.origin_mm, np.array(self.direction))


def write_case(store: Path, case: Case, source_key: str) -> CaseEntry:
    """Write a case into a store's folder, whole or not at all.

    Args:
        source_key: what it was read from; a case of the same key need not be read again.

    Raises:
        OutputError: it cannot be written.
    """
    ct = np.ascontiguousarray(case.ct.voxels, np.int16)
    bits = _packed(case.regions)
    content = [ct.tobytes(), bits.tobytes()]
    entry = CaseEntry(
        case_id=case.case_id,
        patient_id=case.patient_id,
        series_uid=case.series_uid,
        shape=case.ct.shape,
        spacing_mm=case.ct.spacing_mm,
        origin_mm=case.ct.origin_mm,
        direction=tuple(map(tuple, case.ct.direction.tolist())),
        nodules=case.nodules,
        boxes=tuple((region.corner, region.shape) for region in case.regions),
        annotated=case.annotated,
        synthetic=case.synthetic,
        sha256="",
        source_patient=case.source_patient,
        given_split=case.split,
        notes=case.notes,
    )
    points = [{"kind": p.kind, "center_mm": [round(c, 4) for c in p.center_mm]} for p in case.points]
    content.append(json.dumps([entry.row(), points], sort_keys=True).encode())
    entry = replace(entry, sha256=fingerprint(b"".join(content)))
    with atomic_folder(store / case.case_id, overwrite=True) as folder:
        attributes = {ATTRIBUTE: {"source": source_key, "entry": entry.row(), "points": points}}
        group = zarr.create_group(folder, zarr_format=3, attributes=attributes)
        _write_array(group, "ct", ct)
        if case.regions:
            _write_array(group, "regions", bits)
    return entry


def known_entry(store: Path, case_id: str, source_key: str) -> CaseEntry | None:
    """The entry of a case that was written from the same source before."""
    try:
        attributes = json.loads((store / case_id / INDEX).read_text())["attributes"][ATTRIBUTE]
        return CaseEntry.from_row(attributes["entry"]) if attributes["source"] == source_key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def case_folders(store: Path) -> list[Path]:
    """The folders of a store that hold cases of ours, finished ones."""
    found = []
    for folder in store.iterdir():
        try:
            if ATTRIBUTE in json.loads((folder / INDEX).read_text())["attributes"]:
                found.append(folder)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


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
    index = {
        "format": FORMAT,
        "source": dict(source),
        "fingerprint": fingerprint(content.encode()),
        "splits": splits,
        "skipped": [dict(s) for s in skipped],
        "cases": [entry.row() for entry in entries],
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTE: index}}
    with atomic_file(store / INDEX) as file:
        file.write_text(json.dumps(group, indent=1, allow_nan=False) + "\n")


def is_store(path: Path) -> bool:
    """Whether a folder holds a store, complete or not."""
    return (path / REQUEST).is_file()


class Store:
    """A complete store, open for reading.

    Attributes:
        cases: in the order they were prepared.
        splits: patient ids by split.
        fingerprint: hash of all voxels, masks, nodules and splits.
        skipped: sources that were left out, each with its reason.

    Raises:
        InputError: no store, one that was not finished, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            index = json.loads((path / INDEX).read_text())["attributes"][ATTRIBUTE]
            if index["format"] != FORMAT:
                raise InputError(path, f"a store of format {index['format']}", f"format {FORMAT}; prepare it again")
            self.cases = tuple(CaseEntry.from_row(row) for row in index["cases"])
            self.splits: dict[str, list[str]] = index["splits"]
            self.fingerprint: str = index["fingerprint"]
            self.skipped: list[dict[str, str]] = index["skipped"]
            self.source: dict[str, Any] = index["source"]
        except FileNotFoundError:
            found = "a store that was not finished" if is_store(path) else "no store"
            raise InputError(path, found, "what `synthorax prepare` wrote, to its end") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(path, f"a damaged store ({error})", "what `synthorax prepare` wrote") from error

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
        """A case with all its voxels."""
        entry = self[case_id]
        return Case(
            case_id=case_id,
            patient_id=entry.patient_id,
            ct=entry.volume(np.asarray(self._array(case_id, "ct")[:])),
            regions=tuple(self.region(case_id, label) for label in range(1, len(entry.boxes) + 1)),
            nodules=entry.nodules,
            points=self.points(case_id),
            annotated=entry.annotated,
            split=entry.given_split,
            series_uid=entry.series_uid,
            synthetic=entry.synthetic,
            source_patient=entry.source_patient,
            notes=entry.notes,
        )

    def points(self, case_id: str) -> tuple[Point, ...]:
        """What else is marked in a case."""
        return tuple(Point(p["kind"], tuple(p["center_mm"])) for p in self._attributes(case_id)["points"])

    def region(self, case_id: str, label: int) -> Region:
        """The voxels of the nodule with a label.

        Raises:
            InputError: the case has no such label.
        """
        boxes = self[case_id].boxes
        if not 1 <= label <= len(boxes):
            raise InputError(f"{self.path}, case {case_id}", f"no label {label}", f"1 to {len(boxes)}")
        sizes = [-(-math.prod(shape) // 8) for _, shape in boxes]
        corner, shape = boxes[label - 1]
        first = sum(sizes[: label - 1])
        bits = np.asarray(self._array(case_id, "regions")[first : first + sizes[label - 1]])
        return Region(corner, np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool))

    def read_box(self, case_id: str, start: Sequence[int], shape: Sequence[int], array: ArrayName = "ct") -> Volume:
        """A box of a case's voxels; outside the scan it is air, or no nodule.

        Args:
            start: index (z, y, x) of its first voxel; may be negative.
            shape: voxels along (z, y, x).
            array: `ct` for HU; `mask` for the nodules' labels, where they overlap of the smaller.
        """
        entry = self[case_id]
        box: NDArray
        if array == "mask":
            labels = range(1, len(entry.boxes) + 1)
            box = paint_labels([self.region(case_id, label) for label in labels], shape, start)
        else:
            low, high = np.clip([start, np.add(start, shape)], 0, entry.shape)
            box = np.full(tuple(shape), AIR_HU, np.int16)
            if (high > low).all():
                inside = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
                box[inside] = self._array(case_id, "ct")[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        whole = entry.volume(box)
        x, y, z = whole.to_world(start).tolist()
        return replace(whole, origin_mm=(x, y, z))

    def _array(self, case_id: str, name: str) -> zarr.Array:
        try:
            return zarr.open_array(self.path / case_id / name, mode="r")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(self.path / case_id / name, f"a damaged array ({error})", "a case of the store") from error

    def _attributes(self, case_id: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / case_id / INDEX).read_text())["attributes"][ATTRIBUTE])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(self.path / case_id, f"a damaged case ({error})", "a case of the store") from error

    @cached_property
    def _by_id(self) -> dict[str, CaseEntry]:
        return {case.case_id: case for case in self.cases}

    @cached_property
    def _split_of(self) -> dict[str, str]:
        return {patient: name for name, patients in self.splits.items() for patient in patients}


def _packed(regions: Sequence[Region]) -> NDArray[np.uint8]:
    """The bits of all regions, each from a byte of its own on."""
    return np.concatenate([np.zeros(0, np.uint8), *(np.packbits(region.mask) for region in regions)])


def _write_array(group: zarr.Group, name: str, values: NDArray) -> None:
    chunks = tuple(min(n, c) for n, c in zip(values.shape, CHUNK if values.ndim == 3 else (BITS_CHUNK,), strict=True))
    shuffle: Literal["bitshuffle", "noshuffle"] = "bitshuffle" if values.dtype.itemsize > 1 else "noshuffle"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle=shuffle)],
        dimension_names=("z", "y", "x") if values.ndim == 3 else ("byte",),
        fill_value=0,
    )
    array[:] = values
