"""Places of patches: at nodules, and at places known to have no nodule.

A patch without a nodule comes from a scan whose nodules are all known (`annotated` is `all`). If only some are known,
it must also keep clear of everything as large and dense as a nodule. A scan without a statement about its nodules gives
no such patch.
"""

from __future__ import annotations

import json
from collections import Counter
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
"""Least share of voxels with HU in that range in a corner of a cube."""
CLEAR_MM = 5.0
"""Least distance in mm of a patch without a nodule from an outlined nodule, or from the ball that a nodule without an
outline may fill."""
CLEAR_IN_CUBE_MM = 0.0
"""The same distance from outlined nodules in a cube; with 5 mm, cubes of 50 mm would have no patch of 24 mm left."""
LARGEST_MM = 30.0
"""Diameter in mm assumed for a nodule of which only the centre is known; larger ones are called masses."""
POINT_MM = 5.0
"""Diameter in mm assumed for a nodule that readers marked by a point, as they mark small nodules."""
DENSE_MM, DENSE_HU = 5.0, -500.0
"""In a scan with only some known nodules, no cube of this width in mm in or next to a patch may have a higher mean HU
than this. A solid nodule of that diameter has a higher one, and so have larger vessels and the wall."""
PLACE_TRIES = 30
"""Number of candidates drawn for each healthy place before the search gives up."""
PLACES_RECIPE = 4
"""Version of the recipe, part of the cache's key; raise it when the same request would give other places."""

Classify = Callable[[Nodule], int | None]
"""A function of a nodule to its class, or to None to leave it out."""


def nodule_places(cases: Iterable[CaseEntry], classify: Classify = lambda nodule: 1) -> list[Place]:
    """Return a place at each nodule of some cases.

    Args:
        cases: the cases.
        classify: function of a nodule to its class; None leaves it out.

    For example, malignant and benign nodules without those in between:

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
    """Return a place of class `POSITIVE` at each nodule with an outline."""
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
    """Return places without a nodule: corners of cubes, and places in the lungs of whole scans.

    A line on the screen gives the number of scans that gave places by each rule, and the number left out.

    Args:
        store: the store.
        cases: the cases.
        spec: grid of the patches.
        count: approximate number of places in whole scans; cubes give all that they have.
        seed: seed of places in whole scans.
        label: class of the places.
        margin: voxels (z, y, x) around a patch that augmentation can bring into it, which must have no nodule either.
        cache: folder for found places; by default the user's cache folder.
    """
    cases = list(cases)
    request = [PLACES_RECIPE, store.fingerprint, [case.case_id for case in cases], spec.size, spec.spacing_mm]
    key = fingerprint(json.dumps([*request, list(margin), count, seed]).encode())[:16]
    file = (cache or platformdirs.user_cache_path("synthorax")) / f"places-{key}.json"
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError, InputError):
        known = [(store[case_id], map(float, center)) for case_id, center in json.loads(file.read_text())["places"]]
        found = [Place(case.case_id, case.patient_id, (x, y, z), None, label) for case, (x, y, z) in known]
        tell(_places_line(store, cases, spec, found))
        return found
    whole = [case for case in cases if case.is_whole]
    found = corner_places(store, [case for case in cases if not case.is_whole], spec, label, margin)
    found += lung_places(store, whole, spec, count, seed, label, margin) if whole else []
    with suppress(OSError, OutputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps({"places": [(place.case_id, place.center_mm) for place in found]}))
    tell(_places_line(store, cases, spec, found))
    return found


def corner_places(
    store: Store, cases: Iterable[CaseEntry], spec: PatchSpec, label: int = 0, margin: Sequence[int] = (0, 0, 0)
) -> list[Place]:
    """Return the corners of cubes that keep clear of all nodules and lie in lung.

    Args:
        store: the store.
        cases: cubes, larger than `spec`.
        spec: grid of the patches.
        label: class of the places.
        margin: voxels (z, y, x) around a patch that must have no nodule either.
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
    """Return places in the lungs of whole scans whose patches keep clear of all nodules and findings.

    All scans give the same number, as far as they have room. A place whose patch would leave the scan is moved inside,
    as `read_patch` does. A scan in which no lungs are found gives none.

    Args:
        store: the store.
        cases: whole scans.
        spec: grid of the patches.
        count: number of places.
        seed: seed of the places.
        label: class of the places.
        margin: voxels (z, y, x) around a patch that must have no nodule either.
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
        outlined: centres (x, y, z) of the voxels of outlined nodules, [n, 3].
        balls: centres and radii (x, y, z, radius) of other nodules and of points that readers marked, [n, 4].
        clear_mm: least distance from voxels of outlined nodules; the least distance from balls is `CLEAR_MM`.
    """

    outlined: NDArray[np.float64]
    balls: NDArray[np.float64]
    clear_mm: float = CLEAR_MM

    def is_clear(self, center_mm: Sequence[float] | NDArray, reach_mm: NDArray) -> bool:
        """Return whether a box keeps the least distances from all nodules and findings.

        Args:
            center_mm: middle (x, y, z) of the box.
            reach_mm: distances (x, y, z) from the middle of the box to its faces.
        """
        far = _distances(self.outlined, center_mm, reach_mm) > self.clear_mm
        apart = _distances(self.balls[:, :3], center_mm, reach_mm) - self.balls[:, 3] > CLEAR_MM
        return bool(far.all() and apart.all())


class _KnownOfScans:
    """The known nodules and findings of each scan of a store; several cases may be cubes of one scan."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cases: dict[str, list[CaseEntry]] = {}
        self._known: dict[str, _Known] = {}
        for case in store.cases:
            self._cases.setdefault(_scan_of(case), []).append(case)

    def of(self, case: CaseEntry) -> _Known:
        """Return the nodules and findings of the scan of a case, whether it is the whole scan or a cube of it."""
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
    """Return the key that all cases of one scan share: the series, or the patient if the series is not known."""
    return case.series_uid or case.patient_id


def _is_cut(region: Region, case: CaseEntry) -> bool:
    """Return whether a nodule's mask touches a face of the case, so that the nodule may extend beyond it."""
    return min(region.corner) <= 0 or bool((np.add(region.corner, region.shape) >= case.shape).any())


def _reach_mm(spec: PatchSpec, margin: Sequence[int]) -> NDArray[np.float64]:
    """Return the distances (x, y, z) in mm from the middle of a patch with its margin to its faces."""
    return np.multiply(np.add(spec.size, np.multiply(margin, 2)), spec.spacing_mm)[::-1] / 2


def _distances(points: NDArray[np.float64], center_mm: Sequence[float] | NDArray, reach_mm: NDArray) -> NDArray:
    """Return the distances in mm from a box along the world's axes to points [n, 3]; 0 inside the box."""
    return np.linalg.norm(np.maximum(np.abs(points - np.asarray(center_mm)) - reach_mm, 0), axis=1)


@dataclass(frozen=True)
class _Allowed:
    """A picklable function: a case to the mask of allowed centres of patches, or to None if no lungs are found.

    Attributes:
        store: store of the case.
        reach_mm: distances (x, y, z) from the middle of a patch to its faces.
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
    """Return the mask of places in the lungs around which a patch has nothing as large and dense as a nodule."""
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
    """Return the middles of cubes with a mean HU like that of a nodule, bool [z, y, x]; see `DENSE_MM`."""
    from scipy.ndimage import uniform_filter

    size = [max(round(DENSE_MM / spacing), 1) for spacing in ct.spacing_mm]
    dense: NDArray[np.bool_] = uniform_filter(ct.voxels.astype(np.float32), size) > DENSE_HU
    return dense


def _box_around(ct: Volume, center_mm: Sequence[float], reach_mm: NDArray[np.float64]) -> tuple[slice, ...]:
    """Return the voxels of a scan in a box along the world's axes, as slices (z, y, x)."""
    center, half = ct.to_voxel(center_mm), extent_voxels(ct, reach_mm)
    low, high = np.floor(center - half).astype(int), np.ceil(center + half).astype(int) + 1
    return tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _holds(mask: Volume, at_mm: NDArray[np.float64]) -> bool:
    index = np.rint(mask.to_voxel(at_mm)).astype(int)
    return bool((index >= 0).all() and (index < mask.shape).all() and mask.voxels[tuple(index)])


def _places_line(store: Store, cases: Sequence[CaseEntry], spec: PatchSpec, found: Sequence[Place]) -> str:
    """Return the line for the screen about places without a nodule."""
    splits = sorted({store.split_of(case.patient_id) for case in cases})
    in_case = Counter(place.case_id for place in found)
    far = f"at least {DENSE_MM / 2:g} mm from anything {DENSE_MM:g} mm wide and denser than {DENSE_HU:g} HU"
    parts = []
    for rule, scans, how in (
        ("all", "scans whose nodules are all known", ""),
        ("some", "scans with some known nodules", f", {far} (smaller and ground-glass nodules may be in them)"),
        ("none-known", "scans without a statement about their nodules", ""),
    ):
        own = [case.case_id for case in cases if case.annotated == rule]
        giving = [case_id for case_id in own if in_case[case_id]]
        if giving:
            parts.append(f"{sum(in_case[c] for c in giving)} from {len(giving)} of {len(own)} {scans}{how}")
        elif own:
            parts.append(f"none from {len(own)} {scans}")
    where = f"{max(spec.size_mm):g} mm wide, patients of {' and '.join(splits) or 'no split'}"
    return f"patches without a nodule, {where}: {'; '.join(parts) or 'none'}"
