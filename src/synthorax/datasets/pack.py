"""A store's cases, or the patches a recipe needs of them, as one compact file to carry to another machine.

    FILE             a zip file, nothing in it compressed twice
    FILE/index.json  what was packed, the store's fingerprint and splits, and a row a case
    FILE/<n>.ct      HU of case n: one step of the reversible 5/3 wavelet along z, then lossless JPEG 2000
    FILE/<n>.regions the packed bits of its nodules' boxed masks, deflated; missing where nobody marked voxels
    FILE/<n>.tissue  the tissue class of each voxel, deflated; only of whole cases whose store has it

What a file claims of its sizes is compared with the rows of its index, and those with what a scan may have, before
anything is allocated. Packs of format 1, which hold label maps, are still read.

Reading takes NumPy and Pillow, nothing else. 946 real nodule cubes of 50^3 voxels take 98 MiB, where Blosc takes 126 or
more, JPEG 2000 alone 103, and a fitted linear predictor with context modelling would still take 95 (docs/weights.md).
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
EXPECTED_PACK = "what `synthorax pack` wrote"
MOST_PACK_INDEX_BYTES = 2**26
LARGEST_STEP_HU = 64
MOST_MARGIN = 256
"""Voxels around a patch; no shift or scaling takes more."""
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
    """What is to be packed.

    Attributes:
        size: voxels (z, y, x) of a patch a nodule, and of patches of the same scans without one; whole cases if None.
        spacing_mm: of the patches' voxels (z, y, x).
        margin: voxels around a nodule's patch that are kept too, for shifts and scaling.
        splits: whose patients; the others' ids are kept.
        hu_step: HU are rounded to multiples of it; 1 keeps them as they are.
        seed: of the places without a nodule in whole scans, as a run of that seed would draw them.
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
        entries: the cases with their ids, shapes, geometry and nodules.
        rows: the same as JSON has them, with the points of each case.
        splits: patient ids by split.
        of: fingerprint of the store that was packed.
        store_format: of that store.
        whole: whether every case of that store is there as it was.
        request: what was to be packed.

    Raises:
        InputError: no pack, a damaged one, one of a newer version, or one that claims more than a pack holds.
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
            raise ValueError("no regular file")
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
        """HU [z, y, x] of a case.

        Raises:
            InputError: a damaged pack.
        """
        try:
            return decode_ct(self._read(f"{number}.ct"), self.entries[number].shape, self._step)
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def regions(self, number: int) -> tuple[Region, ...]:
        """The voxels of each label of a case, as `Case.regions` has them.

        Raises:
            InputError: a damaged pack.
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
        """Labels [z, y, x] of a case, where nodules overlap of the smaller; None where nobody marked voxels.

        Raises:
            InputError: a damaged pack.
        """
        entry = self.entries[number]
        return paint_labels(self.regions(number), entry.shape) if entry.has_mask else None

    def case(self, number: int) -> Case:
        """A case with all its voxels.

        Raises:
            InputError: a damaged pack.
        """
        tissue = self.tissue(number)
        return self.entries[number].case(self.ct(number), self.regions(number), self.points(number), tissue)

    def tissue(self, number: int) -> NDArray[np.uint8] | None:
        """The tissue class of each voxel [z, y, x] of a case; None where its store had none.

        Raises:
            InputError: a damaged pack.
        """
        entry = self.entries[number]
        if not entry.has_tissue:
            return None
        try:
            return decode_classes(self._read(f"{number}.tissue"), entry.shape)
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def points(self, number: int) -> tuple[MarkedPoint, ...]:
        """What else is marked in a case.

        Raises:
            InputError: a damaged pack.
        """
        try:
            return tuple(MarkedPoint.from_row(row) for row in rows.items(self.rows[number].get("points", []), "points"))
        except PACK_DAMAGE as error:
            raise self._damage(error) from error

    def _read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a member, which is as large as it says: we compress none."""
        member = self._zip.getinfo(name)
        if member.compress_type != ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{name} is compressed once more")
        if most is not None and member.file_size > most:
            raise ValueError(f"{name} of {member.file_size:,} bytes where at most {most:,} are read")
        return self._zip.read(member)

    def _damage(self, error: Exception) -> InputError:
        return InputError(self.path, f"no pack, or a damaged one ({' '.join(str(error).split())[:120]})", EXPECTED_PACK)


def pack_store(
    store: Store, out: Path, request: PackRequest, *, workers: int | None = None, overwrite: bool = False
) -> Pack:
    """Write a store's cases, or patches of them, into one file.

    Args:
        overwrite: replace a pack that lies there.

    Raises:
        InputError: no case of those splits, a patch that cannot be cut, or a file that may not be replaced.
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
        tell("label maps of tissues are left out: a pack of patches has none")
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
    """Whether a file is a pack that can be read."""
    try:
        return bool(Pack(path).of)
    except InputError:
        return False


def unpack_store(pack: Pack, out: Path, *, overwrite: bool = False) -> Store:
    """Write a pack as a store; of the same fingerprint as the one packed, where it was packed whole.

    Raises:
        InputError: a damaged pack, or a folder that is not ours to replace.
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
            raise InputError(pack.path, f"a store of fingerprint {found[:16]}", f"{pack.of[:16]}, as was packed")
    return Store(out)


PackJob = tuple[str, "Place | None"]
"""The name of a case to be written, and the place that it is a patch of; None for a case of the store."""


@dataclass(frozen=True)
class _Encode:
    """A picklable function: a job to its case's row, and the bytes of its members by their kinds."""

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
        """The patch of a place as a case; one without a nodule has no margin, which might show one."""
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
    """A patch a nodule, and those without one that training would find."""
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
