"""A store's cases, or the patches a recipe needs of them, as one compact file to carry to another machine.

    FILE             a zip file, nothing in it compressed twice
    FILE/index.json  what was packed, the store's fingerprint and splits, and a row a case
    FILE/<n>.ct      HU of case n: one step of the reversible 5/3 wavelet along z, then lossless JPEG 2000
    FILE/<n>.mask    its mask as bit planes, deflated; missing where nobody marked voxels

Reading takes NumPy and Pillow, nothing else. 946 real nodule cubes of 50^3 voxels take 98 MiB, where Blosc takes 126 or
more, JPEG 2000 alone 103, and a fitted linear predictor with context modelling would still take 95 (docs/weights.md).
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthorax.datasets.progress import shown
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file, atomic_folder, check_folder_is_free
from synthorax.region import Region, regions_of

if TYPE_CHECKING:
    from synthorax.datasets.patches import PatchSpec, Place
    from synthorax.datasets.store import Case, Store

FORMAT = 1
INDEX = "index.json"
WRITTEN = "what `synthorax pack` wrote"
SLAB_VOXELS = 2**24
"""So many are one picture at most; Pillow warns of larger ones."""
LARGEST_STEP_HU = 64
DAMAGE = (
    BadZipFile,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    NotImplementedError,
    zlib.error,
    Image.DecompressionBombError,
)
"""What reading a damaged file ends in."""


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
        if self.margin < 0:
            raise InputError("margin", str(self.margin), "0 or more voxels")
        if not 1 <= self.hu_step <= LARGEST_STEP_HU:
            raise InputError("HU step", str(self.hu_step), f"1 to {LARGEST_STEP_HU}")


class Pack:
    """A pack, open for reading.

    Attributes:
        rows: of the cases: ids, shape, geometry, nodules with centre, size, ratings and label, points.
        splits: patient ids by split.
        of: fingerprint of the store that was packed.
        whole: whether every case of that store is there as it was.

    Raises:
        InputError: no pack, a damaged one, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = ZipFile(path)
            index = json.loads(self._zip.read(INDEX))
            if index["format"] != FORMAT:
                raise InputError(path, f"a pack of format {index['format']}", f"format {FORMAT}; pack it again")
            self.rows: list[dict[str, Any]] = index["cases"]
            self.splits: dict[str, list[str]] = index["splits"]
            self.of: str = index["of"]
            self.whole: bool = index["whole"]
            self.request: dict[str, Any] = index["request"]
            self.source: dict[str, Any] = index["source"]
            self.skipped: list[dict[str, str]] = index["skipped"]
            names = [row["case_id"] for row in self.rows]
            if any(Path(name).name != name for name in names) or len({*names}) < len(names):
                raise ValueError("names of cases that are no folders' names")
        except FileNotFoundError:
            raise InputError(path, "nothing", WRITTEN) from None
        except DAMAGE as error:
            raise self._damage(error) from error

    def __len__(self) -> int:
        return len(self.rows)

    def ct(self, number: int) -> NDArray[np.int16]:
        """HU [z, y, x] of a case.

        Raises:
            InputError: a damaged pack.
        """
        try:
            shape = self.rows[number]["shape"]
            hu = decode_ct(self._zip.read(f"{number}.ct"), shape) * self.request["hu_step"]
            return np.clip(hu, -(2**15), 2**15 - 1).astype(np.int16)
        except DAMAGE as error:
            raise self._damage(error) from error

    def mask(self, number: int) -> NDArray[np.uint8] | None:
        """Labels [z, y, x] of a case; None where nobody marked voxels.

        Raises:
            InputError: a damaged pack.
        """
        try:
            if not self.rows[number]["has_mask"]:
                return None
            return decode_mask(self._zip.read(f"{number}.mask"), self.rows[number]["shape"])
        except DAMAGE as error:
            raise self._damage(error) from error

    def _damage(self, error: Exception) -> InputError:
        return InputError(self.path, f"no pack, or a damaged one ({' '.join(str(error).split())[:120]})", WRITTEN)


def pack_store(store: Store, out: Path, request: PackRequest, *, workers: int | None = None) -> Pack:
    """Write a store's cases, or patches of them, into one file.

    Raises:
        InputError: no case of those splits, or a patch that cannot be cut.
        OutputError: the file cannot be written.
    """
    from synthorax.datasets.store import SPLITS
    from synthorax.parallel import map_processes

    for split in request.splits:
        if split not in SPLITS:
            raise InputError("split", repr(split), " or ".join(SPLITS))
    cases = [case for case in store.cases if store.split_of(case.patient_id) in request.splits]
    jobs = [(case.case_id, None) for case in cases] if request.size is None else _patches(store, request)
    if not jobs:
        what = "case" if request.size is None else "nodule"
        raise InputError(store.path, f"no {what} in {', '.join(request.splits)}", "one or more")
    index: dict[str, Any] = {
        "format": FORMAT,
        "synthorax": version("synthorax"),
        "request": asdict(request),
        "of": store.fingerprint,
        "whole": request.size is None and request.hu_step == 1 and len(cases) == len(store),
        "source": store.source,
        "skipped": store.skipped,
        "splits": store.splits,
        "cases": [],
    }
    encoded = map_processes(_Encode(store, request), jobs, workers=workers, chunk=16)
    with atomic_file(out) as file, ZipFile(file, "w") as zipped:
        for number, (row, ct, mask) in enumerate(shown(encoded, "pack", len(jobs))):
            index["cases"].append(row)
            zipped.writestr(ZipInfo(f"{number}.ct"), ct)
            if mask is not None:
                zipped.writestr(ZipInfo(f"{number}.mask"), mask)
        zipped.writestr(ZipInfo(INDEX), json.dumps(index, allow_nan=False))
    return Pack(out)


def unpack_store(pack: Pack, out: Path, *, overwrite: bool = False) -> Store:
    """Write a pack as a store; of the same fingerprint as the one packed, where it was packed whole.

    Raises:
        InputError: a damaged pack, or a folder that is not ours to replace.
        OutputError: the store cannot be written.
    """
    from synthorax.datasets.store import REQUEST, Store, write_case, write_index

    check_folder_is_free(out, overwrite=overwrite)
    made = {"kind": "pack", "of": pack.of, **pack.request}
    with atomic_folder(out, overwrite=overwrite) as folder:
        request = {"synthorax": version("synthorax"), **made}
        (folder / REQUEST).write_text(json.dumps(request, indent=1) + "\n")
        entries = [
            write_case(folder, _case(pack, number), f"pack {pack.of} {number}")
            for number in shown(range(len(pack)), "unpack", len(pack))
        ]
        source = pack.source if pack.whole else made | {"packed": pack.source}
        write_index(folder, entries, pack.splits, source=source, skipped=pack.skipped)
        if pack.whole and (found := Store(folder).fingerprint) != pack.of:
            raise InputError(pack.path, f"a store of fingerprint {found[:16]}", f"{pack.of[:16]}, as was packed")
    return Store(out)


def encode_ct(voxels: NDArray[np.integer]) -> bytes:
    """int16 [z, y, x] without loss."""
    z, y, x = voxels.shape
    depth = max(SLAB_VOXELS // (y * x), 1)
    pictures = [_encode_slab(voxels[start : start + depth].astype(np.int32)) for start in range(0, z, depth)]
    header = [[depth], *[[lifted, least, len(picture)] for lifted, least, picture in pictures]]
    return json.dumps(header).encode() + b"\n" + b"".join(picture for *_, picture in pictures)


def decode_ct(data: bytes, shape: Sequence[int]) -> NDArray[np.int32]:
    """The way back.

    Raises:
        ValueError: not what `encode_ct` made of this shape.
        OSError: not pictures.
    """
    first, _, rest = data.partition(b"\n")
    (depth,), *headers = json.loads(first)
    z, y, x = shape
    made = np.empty((z, y, x), np.int32)
    for start, (lifted, least, length) in zip(range(0, z, depth), headers, strict=True):
        slab = made[start : start + depth]
        with Image.open(BytesIO(rest[:length])) as picture:
            slab[:] = np.asarray(picture).astype(np.int32).reshape(slab.shape) + least
        if lifted:
            slab[:] = _unlift(slab)
        rest = rest[length:]
    return made


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """Labels [z, y, x] as deflated bit planes, after a byte that counts them."""
    planes = int(mask.max(initial=0)).bit_length()
    bits = np.packbits([(mask >> plane) & 1 for plane in range(planes)]) if planes else np.zeros(0, np.uint8)
    return bytes([planes]) + zlib.compress(bits.tobytes(), 9)


def decode_mask(data: bytes, shape: Sequence[int]) -> NDArray[np.uint8]:
    """The way back.

    Raises:
        ValueError, zlib.error: not what `encode_mask` made of this shape.
    """
    planes, count = data[0], int(np.prod(shape))
    bits = zlib.decompressobj().decompress(data[1:], planes * count // 8 + 2)
    flat = np.unpackbits(np.frombuffer(bits, np.uint8))[: planes * count].reshape(planes, *shape)
    return np.sum([flat[plane] << plane for plane in range(planes)], 0, np.uint8) + np.zeros(shape, np.uint8)


def _encode_slab(slab: NDArray[np.int32]) -> tuple[bool, int, bytes]:
    """Whether it was lifted, what was taken off, and one picture of all slices, one below the other."""
    lifted = _lift(slab)
    is_lifted = int(lifted.max()) - int(lifted.min()) < 2**16
    values = lifted if is_lifted else slab
    least = int(values.min())
    picture = Image.fromarray((values - least).astype(np.uint16).reshape(-1, slab.shape[2]))
    written = BytesIO()
    picture.save(written, "JPEG2000", irreversible=False, no_jp2=True)
    return is_lifted, least, written.getvalue()


def _lift(slab: NDArray[np.int32]) -> NDArray[np.int32]:
    """Along z: the even slices made smooth, then what the odd ones differ from their neighbours' mean."""
    even, odd = slab[0::2], slab[1::2].copy()
    odd -= _between(even, len(odd))
    return np.concatenate([even + _beside(odd, len(even)), odd])


def _unlift(slab: NDArray[np.int32]) -> NDArray[np.int32]:
    made = np.empty_like(slab)
    even, odd = np.split(slab, [-(-len(slab) // 2)])
    made[0::2] = even - _beside(odd, len(even))
    made[1::2] = odd + _between(made[0::2], len(odd))
    return made


def _between(even: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """The mean of the even slices before and after each of `n` odd ones; the last goes on beyond the end."""
    after = np.concatenate([even[1:], even[-1:]])
    return (even[:n] + after[:n]) >> 1


def _beside(odd: NDArray[np.int32], n: int) -> NDArray[np.int32] | int:
    """A quarter of what the odd slices beside each of `n` even ones differ by."""
    if not len(odd):
        return 0
    around = np.concatenate([odd[:1], odd, odd[-1:]])
    return (around[:n] + around[1 : n + 1] + 2) >> 2


Job = tuple[str, "Place | None"]
"""The name of a case to be written, and the place that it is a patch of; None for a case of the store."""


@dataclass(frozen=True)
class _Encode:
    """A picklable function: a job to its case's row and bytes."""

    store: Store
    request: PackRequest

    def __call__(self, job: Job) -> tuple[dict[str, Any], bytes, bytes | None]:
        name, place = job
        case = self.store.read(name) if place is None else self._patch(name, place)
        voxels = np.rint(case.ct.voxels / self.request.hu_step).astype(np.int16)
        mask = encode_mask(case.label_map().astype(np.uint8)) if case.regions else None
        return _row(case), encode_ct(voxels), mask

    def _patch(self, name: str, place: Place) -> Case:
        """The patch of a place as a case; one without a nodule has no margin, which might show one."""
        from synthorax.datasets.patches import read_patch
        from synthorax.datasets.store import Case

        nodule, entry = place.nodule, self.store[place.case_id]
        margin = 0 if nodule is None else self.request.margin
        ct, mask = read_patch(self.store, place, _spec(self.request), (margin,) * 3)
        region = Region.of(mask)
        has_voxels = nodule is not None and region.voxels > 0
        return Case(
            case_id=name,
            patient_id=place.patient_id,
            ct=ct,
            regions=(region,) if has_voxels else (),
            annotated=entry.annotated,
            nodules=() if nodule is None else (replace(nodule, label=int(has_voxels)),),
            split=entry.given_split,
            series_uid=entry.series_uid,
            synthetic=entry.synthetic,
            notes=entry.notes,
        )


def _patches(store: Store, request: PackRequest) -> list[Job]:
    """A patch a nodule, and those without one that training would find."""
    from synthorax.datasets.patches import negative_places, nodule_places

    places: list[Place] = []
    for split in request.splits:
        nodules = nodule_places(cases := store.in_split(split))
        if nodules:
            places += nodules
            places += dict.fromkeys(negative_places(store, cases, _spec(request), len(nodules), request.seed))
    seen: Counter[str] = Counter()
    jobs: list[Job] = []
    for place in places:
        jobs.append((f"{place.case_id}-{seen[place.case_id]}", place))
        seen[place.case_id] += 1
    return jobs


def _spec(request: PackRequest) -> PatchSpec:
    from synthorax.datasets.patches import PatchSpec

    assert request.size is not None
    return PatchSpec(request.size, request.spacing_mm)


def _row(case: Case) -> dict[str, Any]:
    """A case without its voxels, as JSON can hold it."""
    return {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "series_uid": case.series_uid,
        "shape": list(case.ct.shape),
        "spacing_mm": list(case.ct.spacing_mm),
        "origin_mm": list(case.ct.origin_mm),
        "direction": case.ct.direction.tolist(),
        "nodules": [nodule.row() for nodule in case.nodules],
        "points": [asdict(point) for point in case.points],
        "has_mask": bool(case.regions),
        "annotated": case.annotated,
        "source_patient": case.source_patient,
        "split": case.split,
        "synthetic": case.synthetic,
        "notes": list(case.notes),
    }


def _case(pack: Pack, number: int) -> Case:
    from synthorax.datasets.store import Case, Point
    from synthorax.nodule import Nodule
    from synthorax.volume import Volume

    row = pack.rows[number]
    try:
        x, y, z = row["origin_mm"]
        mask = pack.mask(number)
        return Case(
            case_id=row["case_id"],
            patient_id=row["patient_id"],
            ct=Volume(pack.ct(number), tuple(row["spacing_mm"]), (x, y, z), np.array(row["direction"])),
            regions=tuple(regions_of(mask, range(1, int(mask.max(initial=0)) + 1))) if mask is not None else (),
            annotated=row.get("annotated", "none-known"),
            source_patient=row.get("source_patient", ""),
            nodules=tuple(Nodule.from_row(nodule) for nodule in row["nodules"]),
            points=tuple(Point(p["kind"], tuple(p["center_mm"])) for p in row["points"]),
            split=row["split"],
            series_uid=row["series_uid"],
            synthetic=row["synthetic"],
            notes=tuple(row["notes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(pack.path, f"a damaged row of case {number} ({error})", WRITTEN) from error
