"""A case: a scan, or a patch of one, with what is known of it; and its row in the index of a store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets import rows
from synthorax.io.limits import MOST_VOXELS
from synthorax.lineage import Lineage
from synthorax.nodule import ATTRIBUTES, Nodule, NoduleAttributes
from synthorax.provenance import without_folders
from synthorax.region import Region, paint_labels
from synthorax.volume import Volume

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Annotated = Literal["all", "some", "none-known"]
"""Whether every nodule of a scan is known: all of them, some, or nobody has said anything."""
ANNOTATED: tuple[Annotated, ...] = ("all", "some", "none-known")
VoxelBox = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Corner and shape, both (z, y, x), in voxels."""
CANDIDATE = "candidate"
STORE_FORMAT = 2
"""Format of the stores that are written; formats up to it are read."""
MOST_REGION_BYTES = 2**26
"""Packed bits of all the regions of a case: four organs that fill half of a large scan, or any number of nodules."""
MOST_AXIS_VOXELS = 2**16
"""Most voxels of a case along an axis."""
ORTHONORMAL = 1e-4
"""Largest deviation of an axis's direction, as `Volume` allows."""
WHOLE_MM = 150.0
"""A case at least this wide and deep is a scan, whose lungs can be found; a smaller one is a cube."""
KNOW_ALL = ("lidc", "luna16", "patches", "phantom")
"""Kinds of sources whose scans have all their nodules marked."""


@dataclass(frozen=True)
class MarkedPoint:
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

    def row(self) -> dict[str, Any]:
        """The point as JSON can hold it."""
        return {"kind": self.kind, "center_mm": [round(c, 4) for c in self.center_mm]}

    @classmethod
    def from_row(cls, row: Any) -> MarkedPoint:
        """The point of such a row; raises ValueError."""
        row = rows.table(row, "point")
        x, y, z = rows.numbers(rows.field(row, "center_mm"), "center_mm", 3)
        return cls(rows.text(rows.field(row, "kind"), "kind"), (x, y, z))


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
        lineage: whose data stands behind a synthetic case; None for a patient's, and where nothing tells.
        tissue: uint8 [z, y, x] of `anatomy.tissue.TissueClass`, the nodules in it; None where no label map was made.
    """

    case_id: str
    patient_id: str
    ct: Volume
    regions: tuple[Region, ...] = ()
    nodules: tuple[Nodule, ...] = ()
    points: tuple[MarkedPoint, ...] = ()
    annotated: Annotated = "none-known"
    split: Split | None = None
    series_uid: str = ""
    synthetic: str = ""
    source_patient: str = ""
    notes: tuple[str, ...] = ()
    lineage: Lineage | None = None
    tissue: NDArray[np.uint8] | None = None

    def label_map(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The label of each voxel's nodule [z, y, x], 0 outside them; where nodules overlap, of the smaller."""
        return paint_labels(self.regions, self.ct.shape)

    def region(self, nodule: Nodule) -> Region | None:
        """The voxels of one of the nodules; None if they are not known."""
        region = self.regions[nodule.label - 1] if nodule.label else None
        return region if region is not None and region.mask.any() else None


@dataclass(frozen=True)
class CaseEntry:
    """A case as the index of a store knows it.

    Attributes:
        shape: voxels (z, y, x).
        boxes: corner and shape, both (z, y, x), of each region; None in a store of format 1, whose masks are label
            maps that have to be read first.
        sha256: of voxels, regions, geometry and nodules.
        metadata_sha256: of the file `zarr.json` of the case, which holds the hashes of all chunks; empty in format 1.
        given_split: what its source said; a store's splits are `Store.splits`.
        lineage: whose data stands behind a synthetic case; None for a patient's, and where nothing tells.
        has_tissue: whether the store holds the label map of its tissues.
    """

    case_id: str
    patient_id: str
    series_uid: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[tuple[float, ...], ...]
    nodules: tuple[Nodule, ...]
    boxes: tuple[VoxelBox, ...] | None
    annotated: Annotated
    synthetic: str
    sha256: str
    metadata_sha256: str = ""
    source_patient: str = ""
    given_split: Split | None = None
    notes: tuple[str, ...] = ()
    lineage: Lineage | None = None
    has_tissue: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the case is a scan with lungs to be found in it, and no cube."""
        return spans_a_chest(self.shape, self.spacing_mm)

    @property
    def has_mask(self) -> bool:
        """Whether the voxels of any nodule are known."""
        return self.boxes is None or bool(self.boxes)

    @property
    def labels(self) -> int:
        """Number of regions; in format 1 the largest label of a nodule."""
        if self.boxes is None:
            return max((nodule.label for nodule in self.nodules), default=0)
        return len(self.boxes)

    @classmethod
    def of(cls, case: Case) -> CaseEntry:
        """The entry of a case, without its hashes.

        Raises:
            ValueError: something that cannot be read back, such as a region beyond the scan or an id that is a path.
        """
        return cls.from_row(
            {
                **{name: getattr(case, name) for name in ("case_id", "patient_id", "series_uid", "annotated")},
                "synthetic": case.synthetic,
                "source_patient": case.source_patient,
                "shape": list(case.ct.shape),
                "spacing_mm": list(case.ct.spacing_mm),
                "origin_mm": list(case.ct.origin_mm),
                "direction": case.ct.direction.tolist(),
                "nodules": [nodule.row() for nodule in case.nodules],
                "boxes": [[list(region.corner), list(region.shape)] for region in case.regions],
                "given_split": case.split,
                "notes": [without_folders(note) for note in case.notes],
                **({} if case.lineage is None else {"lineage": case.lineage.row()}),
                **({} if case.tissue is None else {"has_tissue": True}),
            }
        )

    def case(
        self,
        ct: NDArray[np.int16],
        regions: Sequence[Region],
        points: Sequence[MarkedPoint],
        tissue: NDArray[np.uint8] | None = None,
    ) -> Case:
        """The case of this entry, with its voxels [z, y, x] in HU, its nodules' regions, its points and its tissues."""
        return Case(
            case_id=self.case_id,
            patient_id=self.patient_id,
            ct=self.volume(ct),
            regions=tuple(regions),
            nodules=self.nodules,
            points=tuple(points),
            annotated=self.annotated,
            split=self.given_split,
            series_uid=self.series_uid,
            synthetic=self.synthetic,
            source_patient=self.source_patient,
            notes=self.notes,
            lineage=self.lineage,
            tissue=tissue,
        )

    def row(self) -> dict[str, Any]:
        """The entry as JSON can hold it, without the fields that older stores do not have where they say nothing."""
        row = vars(self) | {"nodules": [nodule.row() for nodule in self.nodules]}
        del row["lineage"], row["has_tissue"]
        row |= {} if self.lineage is None else {"lineage": self.lineage.row()}
        return row | ({"has_tissue": True} if self.has_tissue else {})

    @classmethod
    def from_row(cls, row: Any) -> CaseEntry:
        """The entry of such a row.

        Raises:
            ValueError: a value that no case has.
        """
        row = rows.table(row, "case")
        case_id = rows.folder_name(rows.field(row, "case_id"), "case_id")
        try:
            return cls._checked(case_id, row)
        except ValueError as error:
            raise ValueError(f"case {case_id}: {error}") from error

    @classmethod
    def _checked(cls, case_id: str, row: Mapping[str, Any]) -> CaseEntry:
        shape = _triple(rows.field(row, "shape"), "shape", 1)
        if math.prod(shape) > MOST_VOXELS:
            raise ValueError(f"a shape of {math.prod(shape):,} voxels where at most {MOST_VOXELS:,} are read")
        spacing = rows.numbers(rows.field(row, "spacing_mm"), "spacing_mm", 3)
        if min(spacing) <= 0:
            raise ValueError(f"spacing_mm {spacing} where positive millimetres were expected")
        directions = rows.items(rows.field(row, "direction"), "direction")
        direction = tuple(rows.numbers(line, "direction", 3) for line in directions)
        if len(direction) != 3 or not _orthonormal(direction):
            raise ValueError("a direction whose axes are not orthonormal")
        boxes = rows.field(row, "boxes")
        checked = None if boxes is None else tuple(_box(box, shape) for box in rows.items(boxes, "boxes"))
        labels = MOST_VOXELS if checked is None else len(checked)
        nodules = tuple(_nodule(one, labels) for one in rows.items(rows.field(row, "nodules"), "nodules"))
        if checked and sum(packed_bytes(box) for box in checked) > MOST_REGION_BYTES:
            raise ValueError(f"boxes of more than {8 * MOST_REGION_BYTES:,} voxels in all")
        given = row.get("given_split")
        return cls(
            case_id=case_id,
            patient_id=rows.text(rows.field(row, "patient_id"), "patient_id"),
            series_uid=rows.text(rows.field(row, "series_uid"), "series_uid"),
            shape=shape,
            spacing_mm=spacing,  # type: ignore[arg-type]
            origin_mm=rows.numbers(rows.field(row, "origin_mm"), "origin_mm", 3),  # type: ignore[arg-type]
            direction=direction,
            nodules=nodules,
            boxes=checked,
            annotated=rows.one_of(rows.field(row, "annotated"), "annotated", ANNOTATED),
            synthetic=rows.text(rows.field(row, "synthetic"), "synthetic"),
            sha256=rows.text(row.get("sha256", ""), "sha256"),
            metadata_sha256=rows.text(row.get("metadata_sha256", ""), "metadata_sha256"),
            source_patient=rows.text(row.get("source_patient", ""), "source_patient"),
            given_split=None if given is None else rows.one_of(given, "given_split", SPLITS),
            notes=rows.texts(row.get("notes", []), "notes"),
            lineage=None if row.get("lineage") is None else _lineage(row["lineage"]),
            has_tissue=row.get("has_tissue") is True,
        )

    def volume(self, voxels: NDArray) -> Volume:
        """Voxels with the geometry of the case."""
        return Volume(voxels, self.spacing_mm, self.origin_mm, np.array(self.direction))

    def grid(self) -> Volume:
        """The geometry of the case; its voxels are 0 and take no memory."""
        return self.volume(np.broadcast_to(np.int16(0), self.shape))


def spans_a_chest(shape: Sequence[int], spacing_mm: Sequence[float]) -> bool:
    """Whether a grid of voxels (z, y, x) is as wide and deep as a chest, `WHOLE_MM` or more."""
    return min(n * s for n, s in zip(shape[1:], spacing_mm[1:], strict=True)) >= WHOLE_MM


def upgraded(row: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a case of format 1 as format 2 has it; raises ValueError.

    A scan in which nobody marked a nodule is taken for annotated only where its source annotates all.
    """
    packed = source.get("packed")
    kind = packed.get("kind") if isinstance(packed, dict) else source.get("kind")
    known = kind in KNOW_ALL or bool(rows.field(row, "nodules"))
    boxes: list[Any] | None = None if rows.field(row, "has_mask") else []
    return {**row, "boxes": boxes, "annotated": "all" if known else "none-known"}


def packed_bytes(box: VoxelBox) -> int:
    """Bytes of the packed bits of a region with this box."""
    return -(-math.prod(box[1]) // 8)


def pack_regions(regions: Sequence[Region]) -> NDArray[np.uint8]:
    """The packed bits of the masks of regions, one mask after the other, each from a byte of its own on."""
    return np.concatenate([np.zeros(0, np.uint8), *(np.packbits(region.mask) for region in regions)])


def unpack_regions(bits: NDArray[np.uint8], boxes: Sequence[VoxelBox]) -> tuple[Region, ...]:
    """The regions with these boxes whose bits `pack_regions` packed."""
    found, start = [], 0
    for box in boxes:
        (corner, shape), stop = box, start + packed_bytes(box)
        mask = np.unpackbits(bits[start:stop], count=math.prod(shape)).reshape(shape).view(bool)
        found.append(Region(corner, mask))
        start = stop
    return tuple(found)


def _triple(value: Any, name: str, least: int) -> tuple[int, int, int]:
    if len(rows.items(value, name)) != 3:
        raise ValueError(f"{name} {str(value)[:60]} where three whole numbers were expected")
    z, y, x = (rows.whole(one, name, least, MOST_AXIS_VOXELS) for one in value)
    return z, y, x


def _box(value: Any, shape: tuple[int, int, int]) -> VoxelBox:
    if len(rows.items(value, "box")) != 2:
        raise ValueError(f"box {str(value)[:60]} where a corner and a shape were expected")
    corner, size = _triple(value[0], "corner of a box", 0), _triple(value[1], "shape of a box", 1)
    if any(a + n > whole for a, n, whole in zip(corner, size, shape, strict=True)):
        raise ValueError(f"a box of {size} voxels at {corner}, which reaches beyond the scan's {shape}")
    return corner, size


def _orthonormal(direction: tuple[tuple[float, ...], ...]) -> bool:
    matrix = np.array(direction)
    return bool((np.abs(matrix) < 2).all()) and np.allclose(matrix.T @ matrix, np.eye(3), atol=ORTHONORMAL)


def _lineage(value: Any) -> Lineage:
    lineage = Lineage.from_row(rows.table(value, "lineage"))
    for text in (lineage.name, lineage.model_sha256, *lineage.patients):
        rows.text(text, "lineage")
    return shared(lineage)


@lru_cache(maxsize=256)
def shared(lineage: Lineage) -> Lineage:
    """The first of equal lineages: thousands of cases of one maker hold its hundreds of patients once."""
    return lineage


def lineages_apart(cases: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows of cases with a number in the place of each lineage, and the lineages, each once, by their numbers."""
    numbers: dict[str, int] = {}
    lineages: list[Any] = []
    made = []
    for row in cases:
        if row.get("lineage") is not None:
            text = json.dumps(row["lineage"], sort_keys=True)
            if text not in numbers:
                numbers[text] = len(lineages)
                lineages.append(row["lineage"])
            row = {**row, "lineage": numbers[text]}
        made.append(dict(row))
    return made, lineages


def lineages_joined(cases: Sequence[Any], lineages: Any) -> list[Any]:
    """The rows that `lineages_apart` took apart.

    Raises:
        ValueError: a number of no lineage.
    """
    known = rows.items(lineages, "lineages")
    made = []
    for row in cases:
        if rows.table(row, "case").get("lineage") is not None:
            row = {**row, "lineage": known[rows.whole(row["lineage"], "lineage", 0, len(known) - 1)]}
        made.append(row)
    return made


def _nodule(value: Any, labels: int) -> Nodule:
    row = rows.table(value, "nodule")
    x, y, z = rows.numbers(rows.field(row, "center_mm"), "center_mm", 3)
    given = rows.table(rows.field(row, "attributes"), "attributes")
    attributes = {rows.one_of(name, "attribute", ATTRIBUTES): rows.number(one, name) for name, one in given.items()}
    if attributes.get("diameter_mm", 1) <= 0:
        raise ValueError(f"diameter_mm {attributes['diameter_mm']:g} where a positive number was expected")
    ratings = rows.table(rows.field(row, "ratings"), "ratings")
    extra = rows.table(rows.field(row, "extra"), "extra")
    return Nodule(
        nodule_id=rows.text(rows.field(row, "nodule_id"), "nodule_id"),
        center_mm=(x, y, z),
        attributes=NoduleAttributes(**attributes),
        label=rows.whole(rows.field(row, "label"), "label", 0, labels),
        ratings={
            name: tuple(rows.number(one, name) for one in rows.items(values, name)) for name, values in ratings.items()
        },
        extra={name: rows.text(one, name) for name, one in extra.items()},
    )
