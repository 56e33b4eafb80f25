"""Where patches are cut: around nodules, and at places of which it is known that no nodule is there.

A patch without a nodule comes only from a scan of which every nodule is known (`annotated` is `all`), or, where some
are known, from beside anything as large as a nodule. A scan of which nobody has said anything gives none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from synthorax.anatomy.lungs import find_lungs
from synthorax.datasets.patches import Place, extent_voxels, moved_inside
from synthorax.datasets.progress import tell, with_progress
from synthorax.datasets.store import CaseEntry, Store
from synthorax.errors import InputError, OutputError
from synthorax.io.atomic import atomic_file
from synthorax.nodule import Nodule
from synthorax.parallel import map_processes
from synthorax.patch import POSITIVE, PatchSpec
from synthorax.provenance import fingerprint
from synthorax.region import Region
from synthorax.seeding import generator
from synthorax.volume import Volume

HEALTHY_LUNG_HU = (-980, -500)
"""Range of the HU of aerated lung."""
LUNG_SHARE = 0.4
"""Least share of a cube's corner with HU in that range."""
CLEAR_MM = 5.0
"""Least distance of a patch without a nodule from a nodule; of a nodule without outline, from the ball it may fill."""
CLEAR_IN_CUBE_MM = 0.0
"""That distance in a cube from the voxels of an outlined nodule: at 5 mm, cubes of 50 mm have no 24 mm patch left."""
LARGEST_MM = 30.0
"""Diameter assumed of a nodule of which only the centre is known; a larger one is called a mass."""
POINT_MM = 5.0
"""Diameter assumed of a nodule that readers marked by a point, as they mark small ones."""
DENSE_MM, DENSE_HU = 5.0, -500.0
"""In a scan of which some nodules are known, no cube of this width next to a patch has more HU than this in the mean.
A solid nodule of that diameter has; so have the larger vessels, and the wall."""
PLACE_TRIES = 30
"""Candidates drawn for each healthy site before the search gives up."""
PLACES_RECIPE = 4
"""Raised whenever the same request would give other places, so that no old cache is read."""

Classify = Callable[[Nodule], int | None]
"""A nodule's class; None leaves it out."""


def nodule_places(cases: Iterable[CaseEntry], classify: Classify = lambda nodule: 1) -> list[Place]:
    """A place at each nodule.

    Malignant against benign, without the nodules between the two:

    >>> import synthorax as sx
    >>> store = sx.open_store("store")
    >>> def malignant(nodule):
    ...     rating = nodule.attributes.malignancy
    ...     return None if 2 < rating < 4 else int(rating >= 4)
    >>> [(place.nodule.attributes.malignancy, place.label) for place in nodule_places(store.cases, malignant)]
    [(1.5, 0), (4.0, 1), (1.5, 0), (4.0, 1), (1.5, 0), (4.0, 1)]
    """
    return [
        Place(case.case_id, case.patient_id, nodule.center_mm, nodule, label)
        for case in cases
        for nodule in case.nodules
        if (label := classify(nodule)) is not None
    ]


def outlined_places(cases: Iterable[CaseEntry]) -> list[Place]:
    """A place at each nodule that has voxels in its case's mask."""
    return nodule_places(cases, lambda nodule: POSITIVE if nodule.label else None)


def negative_places(
    store: Store,
    cases: Iterable[CaseEntry],
    spec: PatchSpec,
    count: int,
    seed: int,
    label: int = 0,
    *,
    margin: Sequence[int] = (0, 0, 0),
    cache: Path | None = None,
) -> list[Place]:
    """Places without a nodule in the same scans: corners of cubes, or places in the lungs of whole scans.

    The screen tells how many scans gave places by which rule, and how many were left out.

    Args:
        count: about as many in whole scans; cubes give all that they have.
        margin: voxels (z, y, x) around a patch that augmentation may show, and so must be without a nodule too.
        cache: folder for what was found once, the user's cache folder if not given.
    """
    cases = list(cases)
    request = [PLACES_RECIPE, store.fingerprint, [case.case_id for case in cases], spec.size, spec.spacing_mm]
    key = fingerprint(json.dumps([*request, list(margin), count, seed]).encode())[:16]
    file = (cache or platformdirs.user_cache_path("synthorax")) / f"places-{key}.json"
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError, InputError):
        known = [(store[case_id], map(float, center)) for case_id, center in json.loads(file.read_text())["places"]]
        found = [Place(case.case_id, case.patient_id, (x, y, z), None, label) for case, (x, y, z) in known]
        tell(_told(cases, found))
        return found
    whole = [case for case in cases if case.is_whole]
    found = corner_places(store, [case for case in cases if not case.is_whole], spec, label, margin)
    found += lung_places(store, whole, spec, count, seed, label, margin) if whole else []
    with suppress(OSError, OutputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps({"places": [(place.case_id, place.center_mm) for place in found]}))
    tell(_told(cases, found))
    return found


def corner_places(
    store: Store, cases: Iterable[CaseEntry], spec: PatchSpec, label: int = 0, margin: Sequence[int] = (0, 0, 0)
) -> list[Place]:
    """The corners of cubes that miss every nodule and lie in lung: patches of the same scanners without one.

    Args:
        cases: patches larger than `spec`.
        margin: voxels around a patch that must be without a nodule too.
    """
    made = []
    known = _KnownOfScans(store)
    reach = _reach_mm(spec, margin)
    cases = [case for case in cases if case.annotated != "none-known"]
    for case in with_progress(cases, "corners", len(cases)):
        near = known.of(case)
        ct = store.read_box(case.case_id, (0, 0, 0), case.shape)
        dense = _dense(ct) if case.annotated == "some" else None
        step = [
            max(round(n * s / own), 1) for n, s, own in zip(spec.size, spec.spacing_mm, case.spacing_mm, strict=True)
        ]
        for corner in product(*[sorted({0, n - k}) for n, k in zip(case.shape, step, strict=True)]):
            if min(corner) < 0:
                continue
            x, y, z = ct.to_world(np.array(corner) + (np.array(step) - 1) / 2).tolist()
            if not near.is_clear((x, y, z), reach):
                continue
            hu = ct.voxels[tuple(slice(a, a + k) for a, k in zip(corner, step, strict=True))]
            if ((hu > HEALTHY_LUNG_HU[0]) & (hu < HEALTHY_LUNG_HU[1])).mean() < LUNG_SHARE:
                continue
            if dense is None or not dense[_box_around(ct, (x, y, z), reach + DENSE_MM / 2)].any():
                made.append(Place(case.case_id, case.patient_id, (x, y, z), None, label))
    return made


def lung_places(
    store: Store,
    cases: Iterable[CaseEntry],
    spec: PatchSpec,
    count: int,
    seed: int,
    label: int = 0,
    margin: Sequence[int] = (0, 0, 0),
) -> list[Place]:
    """Places in the lungs of whole scans whose patches miss every nodule and finding, as many in each scan.

    Places whose patches would reach beyond the scan are moved inside first, as `read_patch` would. A scan in which no
    lungs are found gives none.

    Args:
        margin: voxels around a patch that must be without a nodule too.
    """
    cases = [case for case in cases if case.annotated != "none-known"]
    made: list[Place] = []
    known = _KnownOfScans(store)
    reach = _reach_mm(spec, margin)
    found = with_progress(map_processes(_Allowed(store, tuple(reach.tolist())), cases, chunk=1), "lungs", len(cases))
    for i, (case, allowed) in enumerate(zip(cases, found, strict=True)):
        if allowed is None:
            continue
        scan, near = case.grid(), known.of(case)
        random = generator(seed, "lung places", case.case_id)
        wanted = (i + 1) * count // len(cases) - len(made)
        inside = random.permutation(np.argwhere(allowed.voxels))[: PLACE_TRIES * wanted]
        for at in moved_inside(scan, spec, allowed.to_world(inside)):
            if len(made) == (i + 1) * count // len(cases):
                break
            if _holds(allowed, at) and near.is_clear(at, reach):
                x, y, z = at.tolist()
                made.append(Place(case.case_id, case.patient_id, (x, y, z), None, label))
    return made


@dataclass(frozen=True, eq=False)
class _Known:
    """The nodules and findings of a scan, in world millimetres.

    Attributes:
        outlined: centres [n, (x, y, z)] of the voxels of outlined nodules.
        balls: centre and radius [n, (x, y, z, radius)] of the others, and of points that readers marked.
        clear_mm: least distance from outlined voxels; from balls it is `CLEAR_MM`.
    """

    outlined: NDArray[np.float64]
    balls: NDArray[np.float64]
    clear_mm: float = CLEAR_MM

    def is_clear(self, center_mm: Sequence[float] | NDArray, reach_mm: NDArray) -> bool:
        """Whether a box stays clear of all of them.

        Args:
            reach_mm: from the middle of the box to its faces, (x, y, z).
        """
        far = _distances(self.outlined, center_mm, reach_mm) > self.clear_mm
        apart = _distances(self.balls[:, :3], center_mm, reach_mm) - self.balls[:, 3] > CLEAR_MM
        return bool(far.all() and apart.all())


class _KnownOfScans:
    """What is known of each scan of a store, of which several cases may be cubes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cases: dict[str, list[CaseEntry]] = {}
        self._known: dict[str, _Known] = {}
        for case in store.cases:
            self._cases.setdefault(_scan_of(case), []).append(case)

    def of(self, case: CaseEntry) -> _Known:
        """The nodules and findings of the scan that a case is, or is a part of."""
        scan = _scan_of(case)
        if scan not in self._known:
            self._known[scan] = self._read(self._cases[scan])
        return replace(self._known[scan], clear_mm=CLEAR_MM if case.is_whole else CLEAR_IN_CUBE_MM)

    def _read(self, cases: Sequence[CaseEntry]) -> _Known:
        voxels, balls = [np.zeros((0, 3))], []
        for case in cases:
            grid = case.grid()
            for nodule in case.nodules:
                region = self._store.region(case.case_id, nodule.label) if nodule.label else None
                if region is not None and region.voxels:
                    voxels.append(grid.to_world(region.indices()))
                if region is None or not region.voxels or _is_cut(region, case):
                    balls.append((*nodule.center_mm, (nodule.attributes.diameter_mm or LARGEST_MM) / 2))
            points = [point for point in self._store.points(case.case_id) if point.is_finding]
            balls += [(*point.center_mm, POINT_MM / 2) for point in points]
        return _Known(np.concatenate(voxels), np.array(balls).reshape(-1, 4))


def _scan_of(case: CaseEntry) -> str:
    """What cases of one scan share: the series, or the patient where no series is known."""
    return case.series_uid or case.patient_id


def _is_cut(region: Region, case: CaseEntry) -> bool:
    """Whether a nodule's voxels reach a face of the case, beyond which it may go on."""
    return min(region.corner) <= 0 or bool((np.add(region.corner, region.shape) >= case.shape).any())


def _reach_mm(spec: PatchSpec, margin: Sequence[int]) -> NDArray[np.float64]:
    """From the middle of a patch to its faces, (x, y, z)."""
    return np.multiply(np.add(spec.size, np.multiply(margin, 2)), spec.spacing_mm)[::-1] / 2


def _distances(points: NDArray[np.float64], center_mm: Sequence[float] | NDArray, reach_mm: NDArray) -> NDArray:
    """Millimetres from a box along the world's axes to points [n, 3]; 0 within it."""
    return np.linalg.norm(np.maximum(np.abs(points - np.asarray(center_mm)) - reach_mm, 0), axis=1)


@dataclass(frozen=True)
class _Allowed:
    """A picklable function: a case to where the middle of a patch may lie, or None if no lungs are found in it.

    Attributes:
        reach_mm: from the middle of a patch to its faces, (x, y, z).
    """

    store: Store
    reach_mm: tuple[float, ...]

    def __call__(self, case: CaseEntry) -> Volume | None:
        ct = self.store.read_box(case.case_id, (0, 0, 0), case.shape)
        try:
            lungs = find_lungs(ct).mask
        except InputError:
            return None
        if case.annotated == "all":
            return lungs
        return _beside_what_is_dense(ct, lungs, np.array(self.reach_mm))


def _beside_what_is_dense(ct: Volume, lungs: Volume, reach_mm: NDArray[np.float64]) -> Volume:
    """The places of the lungs around which a patch has nothing as large and dense as a nodule."""
    from scipy.ndimage import maximum_filter

    size = (np.ceil(extent_voxels(ct, 2 * (reach_mm + DENSE_MM / 2))) + 1).astype(int)
    blocked = maximum_filter(_dense(ct), size, mode="constant", cval=0)
    inside = np.argwhere(lungs.voxels)
    index = np.clip(np.rint(ct.to_voxel(lungs.to_world(inside))).astype(int), 0, np.array(ct.shape) - 1)
    free = inside[~blocked[tuple(index.T)]]
    voxels = np.zeros(lungs.shape, bool)
    voxels[tuple(free.T)] = True
    return Volume(voxels, lungs.spacing_mm, lungs.origin_mm, lungs.direction)


def _dense(ct: Volume) -> NDArray[np.bool_]:
    """The voxels in the middle of a cube that is as dense as a nodule."""
    from scipy.ndimage import uniform_filter

    size = [max(round(DENSE_MM / spacing), 1) for spacing in ct.spacing_mm]
    dense: NDArray[np.bool_] = uniform_filter(ct.voxels.astype(np.float32), size) > DENSE_HU
    return dense


def _box_around(ct: Volume, center_mm: Sequence[float], reach_mm: NDArray[np.float64]) -> tuple[slice, ...]:
    """The voxels of a scan in a box along the world's axes."""
    center, half = ct.to_voxel(center_mm), extent_voxels(ct, reach_mm)
    low, high = np.floor(center - half).astype(int), np.ceil(center + half).astype(int) + 1
    return tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _holds(mask: Volume, at_mm: NDArray[np.float64]) -> bool:
    index = np.rint(mask.to_voxel(at_mm)).astype(int)
    return bool((index >= 0).all() and (index < mask.shape).all() and mask.voxels[tuple(index)])


def _told(cases: Sequence[CaseEntry], found: Sequence[Place]) -> str:
    """What the screen says of places without a nodule."""
    counts = {place.case_id: 0 for place in found}
    for place in found:
        counts[place.case_id] += 1
    told = []
    for rule, says in (
        ("all", "of which all nodules are known"),
        (
            "some",
            f"of which some are known, {DENSE_MM / 2:g} mm beside anything {DENSE_MM:g} mm wide and denser than "
            f"{DENSE_HU:g} HU (smaller and ground-glass nodules may be in them)",
        ),
    ):
        own = [case.case_id for case in cases if case.annotated == rule]
        if own:
            giving = [case_id for case_id in own if case_id in counts]
            told.append(f"{sum(counts[c] for c in giving)} in {len(giving)} of {len(own)} scans {says}")
    unknown = sum(case.annotated == "none-known" for case in cases)
    if unknown:
        told.append(f"none in {unknown} scans of which nobody has said what nodules they have")
    return f"places without a nodule: {'; '.join(told) or 'none'}"
