"""Sets of nodule shapes on one grid, the training data of shape models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import fingerprint
from synthorax.seeding import generator

LUNG_GRID = (20, 40, 40)
"""LuNG's grid: voxels (z, y, x) (section III-A)."""
LUNG_SPACING_MM = (1.25, 0.7, 0.7)
"""LuNG's voxel size (z, y, x) in mm; the grid measures 25 x 28 x 28 mm."""


@dataclass(frozen=True)
class ShapeRecord:
    """The origin of a shape.

    Attributes:
        shape_id: name, unique in its set.
        patient_id: the patient, by whom splits are made; for a shape of an unknown patient, a name of its own.
        series_uid: UID of the scan.
        n_readers: number of readers who outlined the nodule.
        attributes: attributes of the nodule.
    """

    shape_id: str
    patient_id: str
    series_uid: str = ""
    n_readers: int = 0
    attributes: NoduleAttributes = field(default_factory=NoduleAttributes)

    def row(self) -> dict[str, object]:
        """Return the record as one flat row of a table."""
        row = asdict(self)
        return row | row.pop("attributes")

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ShapeRecord:
        """Read a record from a row that `row` returned; its values may have become texts.

        Raises:
            KeyError: a column is missing.
            ValueError: a number is not valid.
        """
        rated = {
            name: float(row[name]) if row[name] not in (None, "") else None
            for name in NoduleAttributes.__dataclass_fields__
        }
        return cls(
            shape_id=row["shape_id"],
            patient_id=row["patient_id"],
            series_uid=row["series_uid"],
            n_readers=int(row["n_readers"]),
            attributes=NoduleAttributes(**rated),
        )


@dataclass(frozen=True, eq=False)
class ShapeSet:
    """A stack of nodule shapes, with one record for each.

    Attributes:
        occupancy: float32 [n, z, y, x] from 0 (outside) to 1 (a voxel wholly inside).
        spacing_mm: voxel size (z, y, x).
        records: origin of each shape.
        notes: sentences about assumptions made for the files of the shapes.
        tells_patients: whether the patient of every shape is known.
    """

    occupancy: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    records: tuple[ShapeRecord, ...]
    notes: tuple[str, ...] = ()
    tells_patients: bool = True

    def __len__(self) -> int:
        return len(self.occupancy)

    @property
    def fingerprint(self) -> str:
        """Hash of the shapes and their spacing."""
        return fingerprint(self.occupancy.tobytes() + np.asarray(self.spacing_mm).tobytes())

    @property
    def patient_ids(self) -> list[str]:
        """Ids of the patients, each once, sorted; empty if not all are known."""
        return sorted({record.patient_id for record in self.records}) if self.tells_patients else []

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> ShapeSet:
        """Return the shapes at `indices`, in this order."""
        records = tuple(self.records[i] for i in indices)
        return replace(self, occupancy=self.occupancy[np.asarray(indices)], records=records)

    def draw(self, n: int, seed: int) -> ShapeSet:
        """Draw `n` shapes by the seed, of different patients if there are enough patients.

        Raises:
            InputError: there are fewer than `n` shapes.
        """
        if not 0 < n <= len(self):
            raise InputError("nodules", str(n), f"1 to {len(self)}, the number of available shapes")
        order = generator(seed, "draw shapes").permutation(len(self))
        patients = [self.records[i].patient_id for i in order]
        repeats = [patients[:k].count(patient) for k, patient in enumerate(patients)]
        return self.select(np.sort(order[np.argsort(repeats, kind="stable")][:n]))
