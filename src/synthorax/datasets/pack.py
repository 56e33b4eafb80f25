"""Packing a store's cases, or patches of them, into one compact file to carry to another machine.

    FILE             a zip file whose members are stored without further compression
    FILE/index.json  the request, the store's fingerprint and splits, and a row for each case
    FILE/<n>.ct      HU of case n: one step of the reversible 5/3 wavelet along z, then lossless JPEG 2000
    FILE/<n>.regions the packed bits of its nodules' boxed masks, deflated; missing if the case has no masks
    FILE/<n>.tissue  the tissue class of each voxel, deflated; only for whole cases with a label map

Before memory is allocated, the sizes that a file claims are compared with the rows of its index, and those with the
limits for a scan. Packs of format 1, which contain label maps, can still be read.

Reading needs only NumPy and Pillow. 946 real nodule cubes of 50^3 voxels take 98 MiB. Blosc takes 126 or more, JPEG
2000 alone 103, and a fitted linear predictor with context modelling would still take 95 (docs/weights.md).
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthorax.datasets import rows
from synthorax.datasets.case import (
    STORE_FORMAT,
    Case,
    CaseEntry,
    MarkedPoint,
    lineages_apart,
    lineages_joined,
    upgraded,
)
from synthorax.datasets.pack_codec import (
    decode_classes,
    decode_ct,
    decode_mask,
    decode_regions,
    encode_classes,
    encode_ct,
    encode_regions,
)
from synthorax.datasets.progress import tell, with_progress
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_folder, new_file
from synthorax.provenance import without_folders
from synthorax.region import Region, paint_labels, regions_of

if TYPE_CHECKING:
    from synthorax.datasets.patches import Place
    from synthorax.datasets.store import Store
    from synthorax.patch import PatchSpec

PACK_FORMAT = 2
PACK_INDEX = "index.json"
EXPECTED_PACK = "a file that `synthorax pack` wrote"
MOST_PACK_INDEX_BYTES = 2**26
LARGEST_STEP_HU = 64
MOST_MARGIN = 256
"""Largest margin of a patch in voxels; no shift or scaling needs more."""
PACK_DAMAGE = (
    BadZipFile,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Exceptions that Python's and Pillow's readers raise for a damaged, encrypted or too large pack."""


@dataclass(frozen=True)
class PackRequest:
    """The content of a pack.

    Attributes:
        size: voxels (z, y, x) of a patch around each nodule, and of patches of the same scans without a nodule; None
            to pack whole cases.
        spacing_mm: voxel size (z, y, x) of the patches.
        margin: voxels to keep around a nodule's patch, for shifts and scaling.
        splits: splits whose cases are packed; the patient ids of the others are kept.
        hu_step: HU are rounded to multiples of this; 1 keeps them exactly.
        seed: seed of the places without a nodule in whole scans, the same as a training with this seed would draw.

    Raises:
        InputError: a number is out of range.
    """

    size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    margin: int = 0
    splits: tuple[str, ...] = ("train", "val", "test")
    hu_step: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise InputError("size", str(self.size), "positive voxels")
        if not 0 <= self.margin <= MOST_MARGIN:
            raise InputError("margin", str(self.margin), f"0 to {MOST_MARGIN} voxels")
        if not 1 <= self.hu_step <= LARGEST_STEP_HU:
            raise InputError("HU step", str(self.hu_step), f"1 to {LARGEST_STEP_HU}")


class Pack:
    """A pack, open for reading.

    Attributes:
        path: the file.
        format: format of the pack.
        entries: the cases with their ids, shapes, geometry and nodules.
        rows: the cases as JSON objects, with their points.
        splits: split to its patient ids.
        source: source of the store that was packed.
        of: fingerprint of that store.
        store_format: format of that store.
        whole: whether all cases of that store are in the pack without change.
        request: the content of the pack, as a JSON object.
        skipped: what the store left out, with reasons.

    Raises:
        InputError: the file is not a pack, is damaged, is of a newer version, or claims more than a pack can have.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._open()
        except FileNotFoundError:
            raise InputError(path, "nothing", EXPECTED_PACK) from None
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def _open(self) -> None:
        if not self.path.is_file():
            os.stat(self.path)
            raise ValueError("not a regular file")
        self._zip = ZipFile(self.path)
        rows.unique([member.filename for member in self._zip.infolist()], "member")
        index = rows.json_object(self._read(PACK_INDEX, MOST_PACK_INDEX_BYTES))
        self.format: int = rows.whole(rows.field(index, "format"), "format", 1, 2**31)
        if self.format > PACK_FORMAT:
            expected = f"format 1 or {PACK_FORMAT}; a newer synthorax wrote it: update synthorax"
            raise InputError(self.path, f"a pack of format {self.format}", expected)
        self.source = rows.table(rows.field(index, "source"), "source")
        cases = lineages_joined(rows.items(rows.field(index, "cases"), "cases"), index.get("lineages", []))
        self.rows: list[dict[str, Any]] = [rows.table(row, "case") for row in cases]
        if self.format == 1:
            self.rows = [upgraded(row, self.source) | {"given_split": row.get("split")} for row in self.rows]
        self.entries = tuple(CaseEntry.from_row(row) for row in self.rows)
        rows.unique([entry.case_id for entry in self.entries], "case_id")
        self.splits = rows.splits(rows.field(index, "splits"), [entry.patient_id for entry in self.entries])
        self.of = rows.sha256_text(rows.field(index, "of"), "fingerprint")
        self.store_format: int = rows.whole(index.get("store_format", 1), "format", 1, STORE_FORMAT)
        self.whole = bool(rows.field(index, "whole"))
        self.request = rows.table(rows.field(index, "request"), "request")
        self._step = rows.whole(rows.field(self.request, "hu_step"), "hu_step", 1, LARGEST_STEP_HU)
        self.skipped = rows.table_of_texts(rows.field(index, "skipped"), "skipped")

    def __len__(self) -> int:
        return len(self.rows)

    def ct(self, number: int) -> NDArray[np.int16]:
        """Read the HU of a case, [z, y, x].

        Raises:
            InputError: the pack is damaged.
        """
        try:
            return decode_ct(self._read(f"{number}.ct"), self.entries[number].shape, self._step)
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def regions(self, number: int) -> tuple[Region, ...]:
        """Read the masks of a case's nodules; see `Case.regions`.

        Raises:
            InputError: the pack is damaged.
        """
        entry = self.entries[number]
        try:
            if entry.boxes is None:
                labels = decode_mask(self._read(f"{number}.mask"), entry.shape)
                return tuple(regions_of(labels, range(1, entry.labels + 1)))
            return decode_regions(self._read(f"{number}.regions"), entry.boxes) if entry.boxes else ()
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def mask(self, number: int) -> NDArray | None:
        """Read the label map of a case, [z, y, x], with the smaller label in overlaps; None if the case has no masks.

        Raises:
            InputError: the pack is damaged.
        """
        entry = self.entries[number]
        return paint_labels(self.regions(number), entry.shape) if entry.has_mask else None

    def case(self, number: int) -> Case:
        """Read a case with all its voxels.

        Raises:
            InputError: the pack is damaged.
        """
        tissue = self.tissue(number)
        return self.entries[number].case(self.ct(number), self.regions(number), self.points(number), tissue)

    def tissue(self, number: int) -> NDArray[np.uint8] | None:
        """Read the tissue class of each voxel of a case, [z, y, x]; None if its store had no label map.

        Raises:
            InputError: the pack is damaged.
        """
        entry = self.entries[number]
        if not entry.has_tissue:
            return None
        try:
            return decode_classes(self._read(f"{number}.tissue"), entry.shape)
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def points(self, number: int) -> tuple[MarkedPoint, ...]:
        """Read the points marked in a case besides nodules.

        Raises:
            InputError: the pack is damaged.
        """
        try:
            return tuple(MarkedPoint.from_row(row) for row in rows.items(self.rows[number].get("points", []), "points"))
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def _read(self, name: str, most: int | None = None) -> bytes:
        """Return the bytes of a member; packs store members without compression, so its size is known beforehand."""
        member = self._zip.getinfo(name)
        if member.compress_type != ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{name} is compressed once more")
        if most is not None and member.file_size > most:
            raise ValueError(f"{name} of {member.file_size:,} bytes where at most {most:,} were expected")
        return self._zip.read(member)

    def _damage(self, error: Exception) -> InputError:
        found = f"a damaged pack or another file ({' '.join(str(error).split())[:120]})"
        return InputError(self.path, found, EXPECTED_PACK)


def pack_store(
    store: Store, out: Path, request: PackRequest, *, workers: int | None = None, overwrite: bool = False
) -> Pack:
    """Write a store's cases, or patches of them, into one file.

    Args:
        store: the store.
        out: the file to write.
        request: content of the pack.
        workers: number of processes; by default one for each core.
        overwrite: replace an existing pack.

    Raises:
        InputError: the splits have no case, a patch cannot be cut, or the file exists and may not be replaced.
        OutputError: the file cannot be written.
    """
    from synthorax.datasets.store import SPLITS
    from synthorax.parallel import map_processes

    for split in request.splits:
        if split not in SPLITS:
            raise InputError("split", repr(split), " or ".join(SPLITS))
    cases = [case for case in store.cases if store.split_of(case.patient_id) in request.splits]
    jobs = [(case.case_id, None) for case in cases] if request.size is None else _patches(store, request)
    if request.size is not None and any(case.has_tissue for case in cases):
        tell("label maps of tissues are left out, because a pack of patches cannot have them")
    if not jobs:
        what = "case" if request.size is None else "nodule"
        raise InputError(store.path, f"no {what} in {', '.join(request.splits)}", "one or more")
    index: dict[str, Any] = {
        "format": PACK_FORMAT,
        "synthorax": version("synthorax"),
        "request": asdict(request),
        "of": store.fingerprint,
        "store_format": store.format,
        "whole": request.size is None and request.hu_step == 1 and len(cases) == len(store),
        "source": store.source,
        "skipped": [{name: without_folders(text) for name, text in row.items()} for row in store.skipped],
        "splits": store.splits,
        "cases": [],
    }
    encoded = map_processes(_Encode(store, request), jobs, workers=workers, chunk=16)
    with new_file(out, overwrite=overwrite, is_ours=is_pack) as file, ZipFile(file, "w") as zipped:
        for number, (row, members) in enumerate(with_progress(encoded, "pack", len(jobs))):
            index["cases"].append(row)
            for kind, data in members.items():
                zipped.writestr(ZipInfo(f"{number}.{kind}"), data)
        index["cases"], lineages = lineages_apart(index["cases"])
        index |= {"lineages": lineages} if lineages else {}
        zipped.writestr(ZipInfo(PACK_INDEX), json.dumps(index, allow_nan=False))
    return Pack(out)


def is_pack(path: Path) -> bool:
    """Return whether a file is a pack that can be read."""
    try:
        return bool(Pack(path).of)
    except InputError:
        return False


def unpack_store(pack: Pack, out: Path, *, overwrite: bool = False) -> Store:
    """Write a pack as a store. If a whole store was packed, the result has the same fingerprint.

    Args:
        pack: the pack.
        out: folder of the store.
        overwrite: replace a store that an earlier call wrote.

    Raises:
        InputError: the pack is damaged, or the folder holds something else.
        OutputError: the store cannot be written.
    """
    from synthorax.datasets.store import STORE_REQUEST, Store, write_case, write_index

    made = {"kind": "pack", "of": pack.of, **pack.request}
    with atomic_folder(out, overwrite=overwrite) as folder:
        request = {"synthorax": version("synthorax"), **made}
        (folder / STORE_REQUEST).write_text(json.dumps(request, indent=1) + "\n")
        entries = [
            write_case(folder, pack.case(number), f"pack {pack.of} {number}")
            for number in with_progress(range(len(pack)), "unpack", len(pack))
        ]
        source = pack.source if pack.whole else made | {"packed": pack.source}
        write_index(folder, entries, pack.splits, source=source, skipped=pack.skipped)
        same = pack.whole and pack.store_format == STORE_FORMAT
        if same and (found := Store(folder).fingerprint) != pack.of:
            expected = f"{pack.of[:16]}, that of the packed store"
            raise InputError(pack.path, f"a store with fingerprint {found[:16]}", expected)
    return Store(out)


PackJob = tuple[str, "Place | None"]
"""Name of a case to write, and the place of which it is a patch; None for a whole case of the store."""


@dataclass(frozen=True)
class _Encode:
    """A picklable function: a job to its case's row, and to the kind and bytes of each of its members."""

    store: Store
    request: PackRequest

    def __call__(self, job: PackJob) -> tuple[dict[str, Any], dict[str, bytes]]:
        name, place = job
        case = self.store.read(name) if place is None else self._patch(name, place)
        voxels = np.rint(case.ct.voxels / self.request.hu_step).astype(np.int16)
        row = CaseEntry.of(case).row() | {"points": [point.row() for point in case.points]}
        members = {"ct": encode_ct(voxels)}
        if case.regions:
            members["regions"] = encode_regions(case.regions)
        if case.tissue is not None:
            members["tissue"] = encode_classes(case.tissue)
        return row, members

    def _patch(self, name: str, place: Place) -> Case:
        """Return the patch of a place as a case; a patch without a nodule gets no margin, which might show a nodule."""
        from synthorax.datasets.patches import read_patch

        nodule, entry = place.nodule, self.store[place.case_id]
        margin = 0 if nodule is None else self.request.margin
        ct, mask = read_patch(self.store, place, _spec(self.request), (margin,) * 3)
        region = Region.of(mask)
        has_voxels = nodule is not None and region.voxels > 0
        points = [point for point in self.store.points(place.case_id) if point.is_finding]
        return replace(
            entry.case(ct.voxels, [region] if has_voxels else [], points),
            case_id=name,
            ct=ct,
            nodules=() if nodule is None else (replace(nodule, label=int(has_voxels)),),
            annotated="all" if nodule is None else entry.annotated,
        )


def _patches(store: Store, request: PackRequest) -> list[PackJob]:
    """Return a job for each nodule's patch, and for the patches without a nodule that training would draw."""
    from synthorax.datasets.places import negative_places, nodule_places

    places: list[Place] = []
    for split in request.splits:
        nodules = nodule_places(cases := store.in_split(split))
        if nodules:
            places += nodules
            margin, count = (request.margin,) * 3, len(nodules)
            places += dict.fromkeys(negative_places(store, cases, _spec(request), count, request.seed, margin=margin))
    seen: Counter[str] = Counter()
    jobs: list[PackJob] = []
    for place in places:
        jobs.append((f"{place.case_id}-{seen[place.case_id]}", place))
        seen[place.case_id] += 1
    return jobs


def _spec(request: PackRequest) -> PatchSpec:
    from synthorax.patch import PatchSpec

    assert request.size is not None
    return PatchSpec(request.size, request.spacing_mm)
