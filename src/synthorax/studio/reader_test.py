"""The reader test: a person sees real and synthetic nodules, not knowing which, and says which they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from synthorax.annotations.nodule_table import NODULE_TABLE, read_nodule_table
from synthorax.errors import InputError
from synthorax.geometry import orient, resample_like
from synthorax.io.images import image_stem, is_image
from synthorax.io.scans import read_scan
from synthorax.metrics.estimates import CONFIDENCE, Estimate
from synthorax.metrics.roc import delong_interval
from synthorax.seeding import generator
from synthorax.studio.folders import check_stored_inside
from synthorax.volume import Volume

READ_MM = 48.0
"""Edge of the cubes that a reader sees; less if the smallest image is smaller."""
READ_VOXEL_MM = 0.75
"""Voxels of the cubes. All have the same, so that the grid does not give away what is synthetic."""
LEAST_READ_MM = 12.0
"""An image smaller than this along an axis shows too little to judge."""
MOST_PATCH_MM = 120.0
"""An image larger than this along an axis is a scan, and needs a table that says where its nodules are."""
NOT_SCANS = ("_mask", "_region")
"""Ends of the names of images that are not CT."""
CALL_COLUMNS = ("item", "truth", "called", "confidence", "seconds", "source")


@dataclass(frozen=True, eq=False)
class ReaderItem:
    """What a reader sees once.

    Attributes:
        cube: HU [z, y, x] around the nodule.
        synthetic: whether the nodule is.
        source: file or method that it comes from.
    """

    cube: Volume
    synthetic: bool
    source: str


@dataclass(frozen=True)
class ReaderCall:
    """What a reader said of an item.

    Attributes:
        synthetic: what the item was taken for.
        confidence: 1 (guess) to 5 (certain).
        seconds: from the item's appearance to the call.
    """

    synthetic: bool
    confidence: int
    seconds: float

    @property
    def score(self) -> int:
        """How synthetic the item looks to the reader, from -5 to 5; the AUC's score."""
        return self.confidence if self.synthetic else -self.confidence


class ReaderTest:
    """A test in progress: items in a random order and the calls so far.

    Args:
        items: real and synthetic ones.
        seed: of the order.
        reader: who reads.
        notes: notes that are shown with the result.

    Raises:
        InputError: a kind has no item.
    """

    def __init__(self, items: Sequence[ReaderItem], seed: int, reader: str = "", notes: Sequence[str] = ()) -> None:
        for synthetic, kind in ((False, "real"), (True, "synthetic")):
            if not any(item.synthetic == synthetic for item in items):
                raise InputError("reader test", f"no {kind} item", "items of both kinds")
        order = generator(seed, "reader test").permutation(len(items))
        self.items = _alike([items[i] for i in order])
        self.seed, self.reader, self.notes = seed, reader, tuple(notes)
        self.calls: dict[int, ReaderCall] = {}
        self._lock = threading.Lock()

    def call(self, item: int, call: ReaderCall) -> int:
        """Record a call and return the number of items that are left; the first call of an item stands.

        Raises:
            InputError: there is no such item, or it was called before.
        """
        with self._lock:
            if not 0 <= item < len(self.items):
                raise InputError("item", str(item), f"0 to {len(self.items) - 1}")
            if item in self.calls:
                raise InputError("item", f"{item}, which was called before", "an item without a call")
            self.calls[item] = call
            return len(self.items) - len(self.calls)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each call, by `CALL_COLUMNS`.

        Raises:
            InputError: an item has no call yet, so that its truth must stay hidden.
        """
        if left := len(self.items) - len(self.calls):
            raise InputError("reader test", f"{left} items without a call", "a call of every item")
        names = {True: "synthetic", False: "real"}
        return [
            {
                "item": number,
                "truth": names[item.synthetic],
                "called": names[self.calls[number].synthetic],
                "confidence": self.calls[number].confidence,
                "seconds": round(self.calls[number].seconds, 1),
                "source": item.source,
            }
            for number, item in enumerate(self.items)
        ]

    def result(self) -> dict[str, Any]:
        """Return counts, sensitivity and specificity for synthetic nodules, and the AUC, with intervals.

        Raises:
            InputError: an item has no call yet.
        """
        rows = self.rows()
        truth = np.array([item.synthetic for item in self.items])
        called = np.array([self.calls[i].synthetic for i in range(len(self.items))])
        scores = np.array([self.calls[i].score for i in range(len(self.items))], float)
        right = truth == called
        figures: dict[str, Any] = {
            "sensitivity": _share(right[truth]),
            "specificity": _share(right[~truth]),
            "accuracy": _share(right),
        }
        if min(truth.sum(), (~truth).sum()) >= 2:
            figures["auc"] = _row(delong_interval(truth.astype(int), scores))
        return {
            "reader": self.reader,
            "seed": self.seed,
            "confidence": CONFIDENCE,
            "real": int((~truth).sum()),
            "synthetic": int(truth.sum()),
            "called_synthetic": {"of_real": int(called[~truth].sum()), "of_synthetic": int(called[truth].sum())},
            "figures": figures,
            "notes": list(self.notes),
            "calls": rows,
        }


def items_of_folder(folder: Path, root: Path, *, synthetic: bool, most: int, seed: int) -> Iterator[ReaderItem]:
    """Yield the nodules of a folder: its patches, or the nodules that its `nodules.csv` lists in its scans.

    Args:
        folder: with images of CT.
        root: folder that no image may lie outside of.
        synthetic: what the nodules are.
        most: nodules to take; drawn from all if there are more.
        seed: of the draw.

    Raises:
        InputError: there is no image, or one is a whole scan that no table lists.
    """
    places = list(_places(folder))
    chosen = np.sort(generator(seed, "items", folder.name, synthetic).permutation(len(places))[:most])
    for i in chosen:
        image, center_mm = places[i]
        check_stored_inside(image, root)
        scan = read_scan(image, any_values=True).ct
        extent = np.multiply(scan.shape, scan.spacing_mm)
        if center_mm is None and extent.max() > MOST_PATCH_MM:
            found = f"a scan of {' x '.join(f'{mm:.0f}' for mm in extent[::-1])} mm without a row in {NODULE_TABLE}"
            raise InputError(image.name, found, f"a patch of at most {MOST_PATCH_MM:g} mm, or a table of its nodules")
        middle = scan.to_world((np.array(scan.shape) - 1) / 2).tolist() if center_mm is None else center_mm
        yield ReaderItem(cube_around(scan, middle), synthetic, image.name)


def items_of_scan(
    ct: Volume, made: Volume, real: Mapping[str, Sequence[float]], synthetic: Mapping[str, Sequence[float]]
) -> list[ReaderItem]:
    """Return the real nodules of a scan, and synthetic ones that were put into it.

    Args:
        ct: HU of the scan with its real nodules.
        made: HU of the scan with the synthetic ones too.
        real, synthetic: places (x, y, z) in mm by what the result calls them.
    """
    found = [ReaderItem(cube_around(ct, at), False, name) for name, at in real.items()]
    return found + [ReaderItem(cube_around(made, at), True, name) for name, at in synthetic.items()]


def cube_around(scan: Volume, center_mm: Sequence[float]) -> Volume:
    """Return the part of a scan around a world point, upright, at most `READ_MM` wide and within the scan."""
    upright = orient(scan, "LPS")
    at = upright.to_voxel(center_mm)
    half = READ_MM / 2 / np.array(upright.spacing_mm)
    low = np.clip(np.floor(at - half), 0, None).astype(int)
    high = np.minimum(np.ceil(at + half).astype(int) + 1, upright.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    x, y, z = upright.to_world(low).tolist()
    return replace(upright, voxels=upright.voxels[box].copy(), origin_mm=(x, y, z))


def _alike(items: Sequence[ReaderItem]) -> list[ReaderItem]:
    """The items on cubes of one size and spacing, those of the smallest."""
    extents = np.array([np.multiply(item.cube.shape, item.cube.spacing_mm) for item in items])
    edge = min(READ_MM, float(extents.min()))
    if edge < LEAST_READ_MM:
        worst = items[int(extents.min(1).argmin())]
        found = f"{worst.source}: {edge:.1f} mm along one axis"
        raise InputError("reader test", found, f"{LEAST_READ_MM:g} mm or more around each nodule")
    n = max(8, int(edge / READ_VOXEL_MM))
    made = []
    for item in items:
        cube = item.cube
        middle = cube.to_world((np.array(cube.shape) - 1) / 2)
        first = (middle - (n - 1) / 2 * READ_VOXEL_MM * cube.direction.sum(1)).tolist()
        voxels = np.broadcast_to(np.int16(0), (n, n, n))
        grid = Volume(voxels, (READ_VOXEL_MM,) * 3, (first[0], first[1], first[2]), cube.direction)
        hu = np.clip(np.nan_to_num(cube.voxels, nan=-1000), -1024, 3071).astype(np.int16)
        edged = replace(cube, voxels=np.pad(hu, 1, "edge"), origin_mm=tuple(cube.to_world((-1, -1, -1)).tolist()))
        made.append(replace(item, cube=resample_like(edged, grid)))
    return made


def _places(folder: Path) -> Iterator[tuple[Path, tuple[float, float, float] | None]]:
    """The images of a folder with the places of nodules; None for a patch, whose nodule is in its middle."""
    table = folder / NODULE_TABLE
    if table.is_file():
        for image in read_nodule_table(table):
            for row in image.nodules:
                if row.center_mm is not None:
                    yield image.image, row.center_mm
        return
    images = [
        path
        for path in sorted(folder.iterdir())
        if is_image(path) and path.is_file() and not image_stem(path).endswith(NOT_SCANS)
    ]
    if not images:
        raise InputError(folder.name, "no image", f"images of patches, or scans with {NODULE_TABLE}")
    for path in images:
        yield path, None


def _share(right: np.ndarray) -> dict[str, float]:
    """The share that is right, with its exact interval (Clopper and Pearson 1934)."""
    found = binomtest(int(right.sum()), len(right)).proportion_ci(CONFIDENCE)
    return _row(Estimate(float(right.mean()), float(found.low), float(found.high)))


def _row(estimate: Estimate) -> dict[str, float]:
    return {name: round(getattr(estimate, name), 4) for name in ("value", "low", "high")}
