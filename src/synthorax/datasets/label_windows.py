"""Windows of CT and of tissue label maps, cut from a store's cases after resampling them once to one voxel size."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from synthorax.anatomy.tissue import TissueClass
from synthorax.datasets.case import CaseEntry
from synthorax.datasets.progress import tell, with_progress
from synthorax.datasets.store import Store
from synthorax.errors import InputError, OutputError, reason
from synthorax.geometry import orient, resample_to_spacing
from synthorax.io.atomic import atomic_file
from synthorax.parallel import map_processes
from synthorax.provenance import fingerprint
from synthorax.seeding import generator

LABEL_WINDOWS_RECIPE = 1
"""Version of the recipe, part of the cache's key; raise it when the same request would give other voxels."""
MOST_SMALL_NAMED = 3
"""Most cases too small for a window that the line on the screen names; it gives the number of all."""
NodulePlace = tuple[int, tuple[int, int, int], tuple[int, int, int]]
"""Index of a case, and first and last voxel (z, y, x) of the box of one of its nodules."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows cut from cases.

    Attributes:
        ct: HU, int16 [b, z, y, x].
        tissue: `TissueClass` of each voxel, uint8 [b, z, y, x]; None if label maps were not read.
        case: index of each window's case, [b].
    """

    ct: NDArray[np.int16]
    tissue: NDArray[np.uint8] | None
    case: NDArray[np.int64]


class LabelWindows:
    """Cases of a store with one voxel size, from which windows are cut for training steps.

    Attributes:
        cases: the cases.
        shapes: voxels (z, y, x) of each case.
        nodules: places of the cases' outlined nodules.
        size: voxels (z, y, x) of a window.
        seed: seed of the windows.
    """

    def __init__(
        self,
        cases: Sequence[CaseEntry],
        rows: Sequence[dict[str, Any]],
        ct: NDArray[np.int16],
        tissue: NDArray[np.uint8] | None,
        size: tuple[int, int, int],
        seed: int,
    ) -> None:
        self.cases, self.size, self.seed = tuple(cases), size, seed
        self.shapes = [tuple(row["shape"]) for row in rows]
        self.nodules: list[NodulePlace] = [
            (i, tuple(low), tuple(high)) for i, row in enumerate(rows) for low, high in row["nodules"]
        ]
        self._starts = np.concatenate([[0], np.cumsum([math.prod(shape) for shape in self.shapes])])
        self._ct, self._tissue = ct, tissue
        places = [math.prod(n - k + 1 for n, k in zip(shape, size, strict=True)) for shape in self.shapes]
        self._share = np.cumsum(places) / sum(places)

    @property
    def has_tissue(self) -> bool:
        """Whether label maps were read."""
        return self._tissue is not None

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of voxels of each tissue class in all cases, in the order of `TissueClass`."""
        assert self._tissue is not None
        parts = (self._tissue[i : i + 2**24] for i in range(0, len(self._tissue), 2**24))
        return sum((np.bincount(part, minlength=len(TissueClass)) for part in parts), np.zeros(len(TissueClass), int))

    def drawn(
        self, kind: str, step: int, count: int, *, at_nodules: float = 0.0, centred: bool = False, margin: int = 0
    ) -> Windows:
        """Return windows at random places for a step; a function of the seed, `kind` and the step alone.

        Args:
            kind: name of the stream of random numbers.
            step: number of the step.
            count: number of windows.
            at_nodules: share of the windows, the first ones, that include at least a part of a nodule; all nodules are
                equally probable. Without nodules, all windows are at arbitrary places.
            centred: whether these windows are centred on the nodule. Along an axis on which a window has one voxel, it
                cuts the nodule at a random place.
            margin: number of additional slices on both sides of a window along z; beyond a case its last slice is
                repeated.
        """
        random = generator(self.seed, kind, step)
        first = round(at_nodules * count) if self.nodules else 0
        chosen = [self._at_nodule(random, centred) for _ in range(first)]
        chosen += [self._anywhere(random) for _ in range(count - first)]
        boxes = [self._box(i, start, margin) for i, start in chosen]
        ct = np.stack([self._cut(self._ct, i, box) for (i, _), box in zip(chosen, boxes, strict=True)])
        tissue = None
        if self._tissue is not None:
            tissue = np.stack([self._cut(self._tissue, i, box) for (i, _), box in zip(chosen, boxes, strict=True)])
        return Windows(ct, tissue, np.array([i for i, _ in chosen]))

    def _anywhere(self, random: np.random.Generator) -> tuple[int, list[int]]:
        """Draw the index of a case and the first voxel of a window, uniformly among all places of all cases."""
        i = int(np.searchsorted(self._share, random.random(), side="right"))
        i = min(i, len(self.shapes) - 1)
        return i, [int(random.integers(n - k + 1)) for n, k in zip(self.shapes[i], self.size, strict=True)]

    def _at_nodule(self, random: np.random.Generator, centred: bool) -> tuple[int, list[int]]:
        i, low, high = self.nodules[int(random.integers(len(self.nodules)))]
        start = []
        for a, b, n, k in zip(low, high, self.shapes[i], self.size, strict=True):
            if centred and k > 1:
                first = (a + b + 1 - k) // 2
            else:  # the window's middle is at a random place in the nodule's box
                first = int(random.integers(a, b + 1)) - (k - 1) // 2
                if not centred:
                    first += int(random.integers(-(k // 4), k // 4 + 1))
            start.append(min(max(first, 0), n - k))
        return i, start

    def _box(self, i: int, start: Sequence[int], margin: int) -> list[NDArray[np.int64]]:
        """Return the indices of a window along each axis."""
        more = (margin, 0, 0)
        return [
            np.clip(np.arange(a - m, a + k + m), 0, n - 1)
            for a, k, m, n in zip(start, self.size, more, self.shapes[i], strict=True)
        ]

    def _cut(self, values: NDArray, i: int, box: Sequence[NDArray[np.int64]]) -> NDArray:
        whole = values[self._starts[i] : self._starts[i + 1]].reshape(self.shapes[i])
        z, y, x = box
        found: NDArray = whole[:, y[0] : y[-1] + 1, x[0] : x[-1] + 1][z]  # indices copy, so they come last
        return found


def read_label_windows(
    store: Store,
    cases: Sequence[CaseEntry],
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    seed: int,
    *,
    tissue: bool = True,
    cache: Path | None = None,
    workers: int | None = None,
) -> LabelWindows:
    """Read cases of a store, resampled to one voxel size, from the cache if they are there.

    A line on the screen names the cases that are too small for a window.

    Args:
        store: the store.
        cases: the cases.
        size: voxels (z, y, x) of a window.
        spacing_mm: voxel size (z, y, x).
        seed: seed of the windows.
        tissue: whether to read label maps too.
        cache: folder of the cache; by default the user's cache folder.
        workers: number of processes; by default one for each core.

    Raises:
        InputError: there is no case, no case is as large as a window, or, with `tissue`, a case has no label map.
        OutputError: the cache cannot be written.
    """
    if tissue and (without := [case.case_id for case in cases if not case.has_tissue]):
        found = f"{len(without)} of {len(cases)} training cases without a label map of tissues, such as {without[0]}"
        raise InputError(store.path, found, "a store that was prepared with --tissue")
    fits = {case.case_id: _is_as_large(case, size, spacing_mm) for case in cases}
    kept = [case for case in cases if fits[case.case_id]]
    wanted = f"{' x '.join(map(str, size))} voxels of {' x '.join(f'{s:g}' for s in spacing_mm)} mm"
    if not kept:
        found = f"{len(cases)} training cases" if not cases else f"{len(cases)} training cases, all smaller"
        raise InputError(store.path, found, f"cases of at least {wanted} (z, y, x), the size of a training window")
    if small := [name for name, is_as_large in fits.items() if not is_as_large]:
        more = ", ..." * (len(small) > MOST_SMALL_NAMED)
        tell(
            f"{len(small)} of {len(cases)} training cases are smaller than a window of {wanted} (z, y, x) and are left "
            f"out: {', '.join(small[:MOST_SMALL_NAMED])}{more}"
        )
    request = [LABEL_WINDOWS_RECIPE, store.fingerprint, spacing_mm, tissue, [case.case_id for case in kept]]
    folder = cache or platformdirs.user_cache_path("synthorax")
    stem = folder / f"windows-{fingerprint(json.dumps(request))[:16]}"
    names = ["ct", "tissue"] if tissue else ["ct"]
    files = {name: stem.with_name(f"{stem.name}-{name}.bin") for name in names}
    about = stem.with_name(f"{stem.name}.json")
    rows = _known_rows(about, files, len(kept))
    if rows is None:
        rows = _decoded_rows(_ReadCase(store, spacing_mm, tissue), kept, files, about, workers)
    ct = np.memmap(files["ct"], np.int16, "r")
    labels = np.memmap(files["tissue"], np.uint8, "r") if tissue else None
    return LabelWindows(kept, rows, ct, labels, size, seed)


def _is_as_large(case: CaseEntry, size: Sequence[int], spacing_mm: Sequence[float]) -> bool:
    """Return whether a case, resampled by `resample_to_spacing`, has room for a window."""
    entry = orient(case.grid(), "LPS")
    shape = np.rint(np.multiply(entry.shape, entry.spacing_mm) / spacing_mm)
    return bool((shape >= size).all())


@dataclass(frozen=True)
class _ReadCase:
    """A picklable function: a case to its arrays at a spacing, and to the boxes of its nodules on that grid."""

    store: Store
    spacing_mm: tuple[float, float, float]
    tissue: bool

    def __call__(self, entry: CaseEntry) -> tuple[dict[str, NDArray], list[Any]]:
        case = self.store.read(entry.case_id)
        ct = resample_to_spacing(orient(case.ct, "LPS"), self.spacing_mm)
        arrays: dict[str, NDArray] = {"ct": ct.voxels}
        if self.tissue:
            assert case.tissue is not None
            labels = orient(entry.volume(case.tissue), "LPS")
            arrays["tissue"] = resample_to_spacing(labels, self.spacing_mm, nearest=True, fill=0).voxels
        boxes = []
        for region in case.regions:
            if region.voxels:
                ends = np.array([region.corner, np.add(region.corner, region.shape) - 1])
                at = np.rint(np.sort(ct.to_voxel(case.ct.to_world(ends)), 0))
                low, high = np.clip(at, 0, np.subtract(ct.shape, 1)).astype(int).tolist()
                boxes.append([low, high])
        return arrays, boxes


def _known_rows(about: Path, files: dict[str, Path], count: int) -> list[dict[str, Any]] | None:
    """Read the shape and the nodules' boxes of each case from the cache; None if it does not have the cases."""
    try:
        rows = json.loads(about.read_text())["cases"]
        voxels = sum(math.prod(row["shape"]) for row in rows)
        widths = {"ct": 2, "tissue": 1}
        whole = all(file.stat().st_size == widths[name] * voxels for name, file in files.items())
        if len(rows) != count or not whole:
            return None
        return [{"shape": list(row["shape"]), "nodules": list(row["nodules"])} for row in rows]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _decoded_rows(
    read: _ReadCase, cases: Sequence[CaseEntry], files: dict[str, Path], about: Path, workers: int | None
) -> list[dict[str, Any]]:
    """Write the cases into the cache, one at a time; return the shape and the nodules' boxes of each."""
    rows = []
    try:
        about.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            streams = {
                name: stack.enter_context(open(stack.enter_context(atomic_file(file)), "wb"))
                for name, file in files.items()
            }
            made = map_processes(read, cases, workers=workers, chunk=1, name=lambda case: case.case_id)
            for arrays, boxes in with_progress(made, "label maps", len(cases)):
                for name, stream in streams.items():
                    stream.write(np.ascontiguousarray(arrays[name]).data)
                rows.append({"shape": list(arrays["ct"].shape), "nodules": boxes})
        with atomic_file(about) as temporary:
            temporary.write_text(json.dumps({"cases": rows}))
    except OSError as error:
        raise OutputError(about, reason(error)) from error
    return rows
