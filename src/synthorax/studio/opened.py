"""Scans that are open in the studio, as the page shows them: voxels on axes that lead right, anterior and superior."""

from __future__ import annotations

import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthorax.api.edit_session import EditSession, EditStep
from synthorax.editing.plan import ball_around
from synthorax.errors import InputError
from synthorax.geometry import AIR_HU, orient
from synthorax.provenance import without_folders
from synthorax.region import Region
from synthorax.volume import Volume

SHOWN_AXES = "RAS"
"""Directions in which x, y and z grow in the page's voxels."""
MOST_SHOWN_VOXELS = 512 * 512 * 700
"""Most voxels of a scan in the studio: the browser holds six bytes for each."""
MOST_OPEN = 4
"""Scans that are open at once; the one that was used longest ago is closed for a fifth."""
COARSE_VIEW_MM = 1.4
"""Least width of the voxels of the 3D view."""
HEADER_BYTES = 352
"""Bytes of a NIfTI-1 header and the four after it."""
SENT_BYTES = 2**22
"""Bytes of a scan that are sent at once."""


class OpenScan:
    """A scan with its edits, and what the page needs of it.

    Args:
        session: of the scan.
        name: shown on the page.
        upload: id of the upload that it was read from; empty if there is none.

    Raises:
        InputError: the scan has too many voxels.
    """

    def __init__(self, session: EditSession, name: str, upload: str = "") -> None:
        voxels = int(np.prod(session.ct.shape))
        if voxels > MOST_SHOWN_VOXELS:
            expected = f"at most {MOST_SHOWN_VOXELS} voxels in the studio; `synthorax inject` takes larger scans"
            raise InputError(name, f"{' x '.join(map(str, session.ct.shape[::-1]))} voxels", expected)
        self.session, self.name, self.upload = session, name, upload
        self.key = secrets.token_hex(12)
        self.lock = threading.Lock()
        self.used = time.monotonic()
        nothing = np.broadcast_to(np.int8(0), session.ct.shape)
        self.grid = orient(replace(session.ct, voxels=nothing), SHOWN_AXES)
        self.notes = list(session.notes)

    def about(self) -> dict[str, Any]:
        """Return what the page shows of the scan, with its edits and nodules."""
        z, y, x = self.grid.spacing_mm
        return {
            "key": self.key,
            "name": self.name,
            "shape": list(self.grid.shape[::-1]),
            "spacing_mm": [x, y, z],
            "affine": self.grid.affine[:3].tolist(),
            "notes": [without_folders(note) for note in self.notes],
            "is_dicom": self.session.source.dicom is not None,
            **self.state(),
        }

    def state(self) -> dict[str, Any]:
        """Return the edits and the nodules."""
        steps = [
            {
                "kind": step.result.kind,
                "method": step.result.lineage.name,
                "seed": step.seed,
                "count": len(step.result.nodules),
                "gone": list(step.gone),
                "notes": [without_folders(note) for note in step.result.notes],
            }
            for step in self.session.steps
        ]
        return {"steps": steps, "undone": self.session.undone, "nodules": self.nodules()}

    def nodules(self) -> list[dict[str, Any]]:
        """Return a row for each nodule of the mask, those that were in the scan first."""
        made = {nodule.label: nodule for nodule in self.session.nodules}
        seeds = {
            nodule.label: step.seed
            for step in self.session.steps
            if step.result.kind == "inject"
            for nodule in step.result.nodules
        }
        rows = []
        for label, region in enumerate(self.session.labels, start=1):
            if not region.voxels:
                continue
            own = made.get(label)
            ball = ball_around(region, self.session.mask)
            rows.append(
                {
                    "label": label,
                    "method": own.extra["method"] if own else "",
                    "seed": seeds.get(label) if own else None,
                    "diameter_mm": round(float((own.attributes.diameter_mm if own else 0) or ball.diameter_mm), 1),
                    "center_mm": [round(c, 1) for c in ball.center_mm],
                    "voxel": self.grid.to_voxel(ball.center_mm)[::-1].round(1).tolist(),
                    "visible": own is None or own.extra.get("visible") != "no",
                    "attributes": {
                        name: round(value, 1)
                        for name, value in (own.attributes.given() if own else {}).items()
                        if name != "diameter_mm"
                    },
                }
            )
        return rows

    def nifti(self) -> Iterator[bytes]:
        """Yield the scan as it is now as an uncompressed NIfTI file, whole HU in int16."""
        import nibabel as nib

        shown = orient(self.session.ct, SHOWN_AXES)
        header = nib.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape(shown.shape[::-1])
        header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]) @ shown.affine, "scanner")
        header.set_xyzt_units("mm")
        header["vox_offset"] = HEADER_BYTES
        header["cal_min"], header["cal_max"] = -1350, 150
        header["magic"] = b"n+1"
        yield header.binaryblock + bytes(HEADER_BYTES - len(header.binaryblock))
        slices = max(1, SENT_BYTES // max(1, 2 * shown.shape[1] * shown.shape[2]))
        for first in range(0, shown.shape[0], slices):
            yield _whole_hu(shown.voxels[first : first + slices]).tobytes()

    def nifti_bytes(self) -> int:
        """Return the size of the file of `nifti`."""
        return HEADER_BYTES + 2 * int(np.prod(self.grid.shape))

    def labels(self) -> bytes:
        """Return the nodules' labels as the page has its voxels, uint8 with x changing first."""
        return np.ascontiguousarray(orient(self.session.mask, SHOWN_AXES).voxels).tobytes()

    def coarse(self) -> dict[str, Any]:
        """Return the lungs on every few voxels, for the 3D view.

        Returns:
            `step`: every so many voxels along (x, y, z); `shape` along (x, y, z); and `lungs`, a bit for each, x
            changing first. Nothing if the scan has no lungs.
        """
        try:
            lungs = self.session.lungs()
        except InputError:
            return {}
        steps = [max(1, round(COARSE_VIEW_MM / mm)) for mm in self.grid.spacing_mm]
        shape = tuple(-(-n // step) for n, step in zip(self.grid.shape, steps, strict=True))
        z, y, x = (mm * step for mm, step in zip(self.grid.spacing_mm, steps, strict=True))
        coarse = replace(self.grid, voxels=np.broadcast_to(np.int8(0), shape), spacing_mm=(z, y, x))
        bits = np.packbits(lungs.mask_on(coarse).ravel(), bitorder="little")
        return {"step": steps[::-1], "shape": list(shape[::-1]), "lungs": b64encode(bits.tobytes()).decode()}

    def changes(self, step: EditStep) -> list[dict[str, Any]]:
        """Return the boxes of voxels that an edit, or its undo or redo, may have changed, as they are now.

        Returns:
            A box for each part of the edit region, and for each nodule whose label changed: its first voxel `corner`
            and its `shape`, along (x, y, z) of the page, and `hu` and `labels`, x changing first.
        """
        pairs = zip(_padded(step.labels_before, step), _padded(step.labels_after, step), strict=True)
        others = [one for pair in pairs if not _same(*pair) for one in pair if one.voxels]
        parts = _parts(step.changed)
        boxes = [*parts, *(other for other in others if not any(_holds(part, other) for part in parts))]
        return [self._changed(box.corner, box.shape) for box in boxes]

    def _changed(self, corner: Sequence[int], shape: Sequence[int]) -> dict[str, Any]:
        ct, mask = self.session.ct, self.session.mask
        low, high = np.clip(corner, 0, None), np.minimum(np.add(corner, shape), ct.shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        labels = self._part(mask, mask.voxels[box], low).voxels
        return self._placed(ct, ct.voxels[box], low) | {"labels": b64encode(labels.tobytes()).decode()}

    def cube(self, volume: Volume, center_mm: Sequence[float], half_mm: float) -> dict[str, Any]:
        """Return a cube of a volume around a world point, cut off at the scan's faces, as `change` gives its box."""
        at = np.rint(volume.to_voxel(center_mm)).astype(int)
        half = np.ceil(np.divide(half_mm, volume.spacing_mm)).astype(int)
        low, high = np.clip(at - half, 0, None), np.minimum(at + half + 1, volume.shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        made = self._placed(volume, volume.voxels[box], low)
        return made | {"at": [int(a - b) for a, b in zip(self._voxel(center_mm), made["corner"], strict=True)]}

    def world(self, voxel: Sequence[float]) -> tuple[float, float, float]:
        """Return the world point (x, y, z), LPS, of a voxel (x, y, z) of the page."""
        x, y, z = self.grid.to_world(list(voxel)[::-1]).tolist()
        return x, y, z

    def _voxel(self, point_mm: Sequence[float]) -> list[int]:
        return np.rint(self.grid.to_voxel(point_mm)).astype(int)[::-1].tolist()

    def _part(self, of: Volume, voxels: NDArray, corner: NDArray) -> Volume:
        x, y, z = of.to_world(corner).tolist()
        return orient(replace(of, voxels=voxels, origin_mm=(x, y, z)), SHOWN_AXES)

    def _placed(self, of: Volume, voxels: NDArray, corner: NDArray) -> dict[str, Any]:
        part = self._part(of, voxels, corner)
        hu = b64encode(_whole_hu(part.voxels).tobytes()).decode()
        return {"corner": self._voxel(part.origin_mm), "shape": list(part.shape[::-1]), "hu": hu}


class OpenScans:
    """The scans that are open, by their keys."""

    def __init__(self) -> None:
        self._scans: dict[str, OpenScan] = {}
        self._lock = threading.Lock()

    def add(self, scan: OpenScan) -> list[OpenScan]:
        """Keep a scan open; return those that were closed for it."""
        with self._lock:
            self._scans[scan.key] = scan
            oldest = sorted(self._scans.values(), key=lambda one: one.used)
            closed = oldest[: max(0, len(oldest) - MOST_OPEN)]
            for one in closed:
                del self._scans[one.key]
            return closed

    def __getitem__(self, key: str) -> OpenScan:
        with self._lock:
            found = self._scans.get(key)
        if found is None:
            raise InputError("scan", "one that is closed", f"an open scan; the studio keeps {MOST_OPEN} open at once")
        found.used = time.monotonic()
        return found

    def close(self, key: str) -> OpenScan | None:
        """Close a scan and return it; None if it is not open."""
        with self._lock:
            return self._scans.pop(key, None)

    def __len__(self) -> int:
        return len(self._scans)


def _whole_hu(voxels: NDArray) -> NDArray[np.int16]:
    """HU as the page shows them: whole numbers, air where there is no value."""
    if voxels.dtype != np.int16:
        limits = np.iinfo(np.int16)
        voxels = np.clip(np.rint(np.nan_to_num(voxels, nan=AIR_HU)), limits.min, limits.max)
    return voxels.astype("<i2", copy=False)


def _parts(region: Region) -> list[Region]:
    """The parts of a region that do not touch each other, each in its smallest box."""
    from scipy.ndimage import find_objects, label

    parts, count = label(region.mask)
    if count <= 1:
        return [region]
    found = [Region(tuple(side.start for side in box), region.mask[box]) for box in find_objects(parts)]
    return [part.moved(region.corner) for part in found]


def _holds(box: Region, other: Region) -> bool:
    """Whether the box of a region holds that of another."""
    low, high = np.array(box.corner), np.add(box.corner, box.shape)
    return bool((low <= other.corner).all() and (np.add(other.corner, other.shape) <= high).all())


def _same(one: Region, other: Region) -> bool:
    """Whether two regions mark the same voxels."""
    return one is other or (one.corner == other.corner and np.array_equal(one.mask, other.mask))


def _padded(regions: Sequence[Region], step: EditStep) -> list[Region]:
    """Regions of the labels before or after an edit, as many as there are at either time."""
    nothing = Region((0, 0, 0), np.zeros((0, 0, 0), bool))
    count = max(len(step.labels_before), len(step.labels_after))
    return [*regions, *[nothing] * (count - len(regions))]
