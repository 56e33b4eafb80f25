"""A case: a scan, or a patch of one, with its nodules, masks and origin; and its row in the index of a store."""

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
"""Whether the nodules of a scan are known: all of them, some, or no statement about them."""
ANNOTATED: tuple[Annotated, ...] = ("all", "some", "none-known")
VoxelBox = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Corner and shape, both (z, y, x), in voxels."""
CANDIDATE = "candidate"
STORE_FORMAT = 2
"""Format of the stores that this version writes; it reads all formats up to this one."""
MOST_REGION_BYTES = 2**26
"""Largest size in bytes of the packed masks of all regions of a case: four organs that fill half of a large scan, or
any number of nodules."""
MOST_AXIS_VOXELS = 2**16
"""Most voxels of a case along an axis."""
ORTHONORMAL = 1e-4
"""Largest deviation of the axes' directions from orthonormal ones, as `Volume` allows."""
WHOLE_MM = 150.0
"""A case at least this wide and deep, in mm, counts as a whole scan, in which lungs can be found; a smaller case counts
as a cube."""
KNOW_ALL = ("lidc", "luna16", "patches", "phantom")
"""Kinds of sources that list all nodules of their scans."""


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
        """Whether readers marked the place; otherwise it is a detector's candidate, which may be anything."""
        return self.kind != CANDIDATE

    def row(self) -> dict[str, Any]:
        """Return the point as a JSON object."""
        return {"kind": self.kind, "center_mm": [round(c, 4) for c in self.center_mm]}

    @classmethod
    def from_row(cls, row: Any) -> MarkedPoint:
        """Read a point from a JSON object.

        Raises:
            ValueError: the object is not valid.
        """
        row = rows.table(row, "point")
        x, y, z = rows.numbers(rows.field(row, "center_mm"), "center_mm", 3)
        return cls(rows.text(rows.field(row, "kind"), "kind"), (x, y, z))


@dataclass(frozen=True, eq=False)
class Case:
    """A scan, or a patch of one, with its nodules, masks and origin.

    Attributes:
        case_id: name of the case, unique in its store.
        patient_id: the patient.
        ct: HU, int16, with axes as near to left, posterior and superior as possible.
        regions: masks of the nodules in voxels of `ct`; the nodule with label i has index i - 1. Masks may overlap.
        nodules: the nodules.
        points: other marked places.
        annotated: whether all nodules of the scan are known. By default nothing is known, so that no place of the scan
            is taken for healthy.
        split: the split that the source gives, or None.
        series_uid: UID of the DICOM series; empty if there is none.
        synthetic: the mark of generated voxels; empty for a patient's scan.
        source_patient: `provenance.patient_key` of the patient from whose scan a synthetic case was made.
        notes: sentences about what was left out or corrected when the case was read.
        lineage: the patients whose data was used to make a synthetic case; None for a patient's scan, and if unknown.
        tissue: `anatomy.tissue.TissueClass` of each voxel, nodules included, uint8 [z, y, x]; None without a label map.
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
        """Return the label of each voxel's nodule, [z, y, x], 0 outside nodules; overlaps get the smaller label."""
        return paint_labels(self.regions, self.ct.shape)

    def region(self, nodule: Nodule) -> Region | None:
        """Return the mask of a nodule of this case; None if it is not known."""
        region = self.regions[nodule.label - 1] if nodule.label else None
        return region if region is not None and region.mask.any() else None


@dataclass(frozen=True)
class CaseEntry:
    """The entry of a case in the index of a store; attributes without a description are those of `Case`.

    Attributes:
        shape: voxels (z, y, x).
        spacing_mm: voxel size (z, y, x).
        origin_mm: centre (x, y, z) of the first voxel, LPS.
        direction: directions of the axes, see `Volume`.
        boxes: corner and shape, both (z, y, x), of each region; None in a store of format 1, whose masks are label
            maps that must be read to know the boxes.
        sha256: hash of voxels, regions, geometry and nodules.
        metadata_sha256: hash of the case's `zarr.json`, which has the hashes of all chunks; empty in format 1.
        given_split: split that the source gave; the splits of the store are `Store.splits`.
        has_tissue: whether the store has a label map of the case's tissues.
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
        """Whether the case is a whole scan, in which lungs can be found, and not a cube."""
        return spans_a_chest(self.shape, self.spacing_mm)

    @property
    def has_mask(self) -> bool:
        """Whether the mask of any nodule is known."""
        return self.boxes is None or bool(self.boxes)

    @property
    def labels(self) -> int:
        """Number of regions; in format 1, the largest label of a nodule."""
        if self.boxes is None:
            return max((nodule.label for nodule in self.nodules), default=0)
        return len(self.boxes)

    @classmethod
    def of(cls, case: Case) -> CaseEntry:
        """Return the entry of a case, without its hashes.

        Raises:
            ValueError: a value could not be read back, such as a region beyond the scan or an id that is a path.
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
        """Return the case of this entry with its arrays.

        Args:
            ct: HU [z, y, x].
            regions: masks of the nodules.
            points: other marked places.
            tissue: label map of tissues, [z, y, x], if there is one.
        """
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
        """Return the entry as a JSON object; fields that older stores lack are left out if they are empty."""
        row = vars(self) | {"nodules": [nodule.row() for nodule in self.nodules]}
        del row["lineage"], row["has_tissue"]
        row |= {} if self.lineage is None else {"lineage": self.lineage.row()}
        return row | ({"has_tissue": True} if self.has_tissue else {})

    @classmethod
    def from_row(cls, row: Any) -> CaseEntry:
        """Read an entry from a JSON object.

        Raises:
            ValueError: the object is not valid; the error names the case.
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
            raise ValueError(f"a shape of {math.prod(shape):,} voxels where at most {MOST_VOXELS:,} were expected")
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
        """Return voxels [z, y, x] as a volume with the geometry of the case."""
        return Volume(voxels, self.spacing_mm, self.origin_mm, np.array(self.direction))

    def grid(self) -> Volume:
        """Return a volume with the geometry of the case, whose voxels are 0 and take no memory."""
        return self.volume(np.broadcast_to(np.int16(0), self.shape))


def spans_a_chest(shape: Sequence[int], spacing_mm: Sequence[float]) -> bool:
    """Return whether a grid of voxels (z, y, x) is at least `WHOLE_MM` wide and deep."""
    return min(n * s for n, s in zip(shape[1:], spacing_mm[1:], strict=True)) >= WHOLE_MM


def upgraded(row: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the JSON object of a case from format 1 to format 2.

    A scan without nodules counts as annotated only if its source lists all nodules.

    Args:
        row: the case.
        source: the store's source.

    Raises:
        ValueError: a field is missing.
    """
    packed = source.get("packed")
    kind = packed.get("kind") if isinstance(packed, dict) else source.get("kind")
    known = kind in KNOW_ALL or bool(rows.field(row, "nodules"))
    boxes: list[Any] | None = None if rows.field(row, "has_mask") else []
    return {**row, "boxes": boxes, "annotated": "all" if known else "none-known"}


def packed_bytes(box: VoxelBox) -> int:
    """Return the size in bytes of the packed mask of a region with this box."""
    return -(-math.prod(box[1]) // 8)


def pack_regions(regions: Sequence[Region]) -> NDArray[np.uint8]:
    """Pack the masks of regions into bits, one mask after the other; each begins at a new byte."""
    return np.concatenate([np.zeros(0, np.uint8), *(np.packbits(region.mask) for region in regions)])


def unpack_regions(bits: NDArray[np.uint8], boxes: Sequence[VoxelBox]) -> tuple[Region, ...]:
    """Return the regions with these boxes from the bits that `pack_regions` packed."""
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
    """Return the first of equal lineages, so that thousands of cases of one maker share one set of patients."""
    return lineage


def lineages_apart(cases: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Replace the lineage of each case's JSON object by a number; return the objects and the list of lineages."""
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
    """Put the lineages back into the objects that `lineages_apart` returned.

    Raises:
        ValueError: a number has no lineage.
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
