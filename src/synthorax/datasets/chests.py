"""Chests of a store on one grid, decoded once into a cache, and slabs of their slices for networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from synthorax.anatomy.lungs import find_lungs
from synthorax.anatomy.morphology import box_around
from synthorax.anatomy.placement import Ball
from synthorax.datasets.chest_grid import ChestGrid
from synthorax.datasets.progress import tell, with_progress
from synthorax.datasets.store import Case, CaseEntry, Store
from synthorax.editing.erase import Unwanted, erase_nodules, is_gone
from synthorax.editing.plan import ball_around
from synthorax.errors import InputError, OutputError, reason
from synthorax.geometry import resized_box
from synthorax.io.atomic import atomic_file
from synthorax.makers import Method
from synthorax.parallel import map_processes
from synthorax.patch import PatchSpec
from synthorax.provenance import fingerprint, making_key
from synthorax.screen import quantity
from synthorax.seeding import derive, generator
from synthorax.volume import Volume

LUNG_BOX_MARGIN_MM = 10.0
"""Margin in mm of the lungs' box, as far as the scan reaches, so that the box includes the chest wall around them."""
CHESTS_RECIPE = 2
"""Version of the recipe, part of the cache's key; raise it when the same request would give other chests."""
MOST_LEFT_OUT_NAMED = 3
"""Most left-out cases that the line on the screen names; it gives the number of all."""


class Chests:
    """Chests on one grid.

    `batch(step, ...)` returns slabs of slices for a training step, a function of the seed and the step.

    Attributes:
        cases: case of each chest.
        voxels: HU, int16 [n, z, y, x], mapped from the cache.
        spacing_mm: voxel size (z, y, x) of each chest, float64 [n, 3].
        nodules_left: case id to the number of its nodules that stay, because no eraser was used, because their place
            and diameter are not known, or because they are still visible after the erasure.
        window: grid, and HU window of networks.
    """

    def __init__(
        self,
        cases: Sequence[CaseEntry],
        voxels: NDArray[np.int16],
        spacing_mm: NDArray[np.float64],
        nodules_left: Mapping[str, int],
        window: PatchSpec,
        seed: int,
    ) -> None:
        self.cases, self.voxels, self.spacing_mm = tuple(cases), voxels, spacing_mm
        self.nodules_left, self.window, self.seed = nodules_left, window, seed

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def without_nodules(self) -> bool:
        """Whether every chest is known to have no nodule left in it."""
        return not any(self.nodules_left.values()) and all(case.annotated == "all" for case in self.cases)

    def chest(self, index: int) -> Volume:
        """Return a chest, HU [z, y, x], with its spacing."""
        z, y, x = self.spacing_mm[index].tolist()
        return Volume(self.voxels[index], (z, y, x))

    def whole(self, rows: Sequence[int]) -> Float[Tensor, "b 1 z y x"]:
        """Return some chests with intensities from -1 to 1."""
        return self.window.to_unit(torch.from_numpy(self.voxels[list(rows)].astype(np.float32)))[:, None]

    def drawn(self, step: int, size: int) -> NDArray[np.int64]:
        """Draw the numbers of a batch's chests, [size]; every chest is drawn once before any is drawn again."""
        seen = np.arange(step * size, (step + 1) * size)
        orders = {
            turn: generator(self.seed, "order", int(turn)).permutation(len(self)) for turn in {*seen // len(self)}
        }
        return np.array([orders[i // len(self)][i % len(self)] for i in seen.tolist()])

    def batch(self, step: int, size: int, *, depth: int, slices: int) -> dict[str, Tensor]:
        """Return slabs for a training step, each from a random place along z.

        Args:
            step: number of the step.
            size: number of slabs.
            depth: number of slices of a slab.
            slices: number of slices to choose from each slab.

        Returns:
            slab: float32 [b, depth + 2, y, x] from -1 to 1; the slab with one more slice before and one after it;
            start: int64 [b], index of the slab's first slice in its chest, at least 1;
            chosen: int64 [b, slices], different slices of the slab, counted from its first, in order;
            index: int64 [b], index of the chest.
        """
        random = generator(self.seed, "batch", step)
        index, last = self.drawn(step, size), self.voxels.shape[1] - 1
        start = random.integers(1, last - depth + 1, size)
        chosen = np.array([np.sort(random.permutation(depth)[:slices]) for _ in range(size)])
        hu = np.stack([self.voxels[i, z - 1 : z + depth + 1] for i, z in zip(index, start, strict=True)])
        return {
            "slab": self.window.to_unit(torch.from_numpy(hu.astype(np.float32))),
            "start": torch.from_numpy(start),
            "chosen": torch.from_numpy(chosen),
            "index": torch.from_numpy(index),
        }


def slices_of(slab: Float[Tensor, "b d y x"], chosen: Int[Tensor, "b n"], channels: int) -> Float[Tensor, "b*n c y x"]:
    """Return chosen slices of slabs, with their neighbours as channels.

    Args:
        slab: slabs with one more slice before and one after them.
        chosen: slices, counted from the slab's first.
        channels: 3 for a slice with both neighbours, 1 for the slice alone.
    """
    rows = torch.arange(len(slab), device=slab.device)[:, None, None]
    reach = torch.arange(channels, device=slab.device) - channels // 2
    return slab[rows, chosen[:, :, None] + 1 + reach].flatten(0, 1)


def read_chests(
    store: Store,
    cases: Sequence[CaseEntry],
    grid: ChestGrid,
    window_hu: tuple[float, float],
    *,
    erased_by: Method | None = None,
    seed: int = 0,
    cache: Path | None = None,
    workers: int | None = None,
) -> Chests:
    """Read the chests of some cases on one grid, from the cache if they are there.

    A line on the screen gives the number of chests, their spacings, the cases left out and the nodules left in.

    Args:
        store: the store.
        cases: the cases.
        grid: the grid.
        window_hu: HU window of networks.
        erased_by: erases nodules first, in the scan's own voxels; None to leave all nodules in.
        seed: seed of the batches.
        cache: folder of the cache; by default the user's cache folder.
        workers: number of processes; by default one for each core.

    Raises:
        InputError: no case is of the grid's kind and large enough, or no lungs are found in any.
        OutputError: the cache cannot be written.
    """
    kept = [case for case in cases if _fits(case, grid)]
    z, y, x = grid.size
    if not kept:
        wanted = (
            f"whole scans, of at least {z} slices" if grid.region == "lungs" else f"cubes of {z} x {y} x {x} voxels"
        )
        found = f"{len(cases)} cases, none of them {'a whole scan' if grid.region == 'lungs' else 'a cube this wide'}"
        other = "cube" if grid.region == "lungs" else "lungs"
        raise InputError(store.path, found, f"{wanted}; or `region={other}`")
    by = None if erased_by is None else making_key(erased_by)
    request = [CHESTS_RECIPE, store.fingerprint, grid.size, grid.region, grid.cube_mm, by]
    key = fingerprint(json.dumps([*request, [case.case_id for case in kept]]))[:16]
    folder = cache or platformdirs.user_cache_path("synthorax")
    about, file = folder / f"chests-{key}.json", folder / f"chests-{key}.npy"
    rows = _known(about, file, grid.size)
    if rows is None:
        rows = _decode(_ReadChest(store, grid, erased_by), kept, file, about, workers)
    voxels = np.load(file, mmap_mode="r")[: len(rows)]
    spacing = np.array([row["spacing_mm"] for row in rows])
    left = {row["case"]: row["nodules_left"] for row in rows}
    chests = Chests(
        [store[row["case"]] for row in rows], voxels, spacing, left, PatchSpec(grid.size, window_hu=window_hu), seed
    )
    tell(_chests_line(chests, cases, "cube" if grid.region == "cube" else "chest", erased_by is not None))
    return chests


@dataclass(frozen=True)
class _ReadChest:
    """A picklable function: a case to its chest in HU and the number of nodules left in it, or to an error's text."""

    store: Store
    grid: ChestGrid
    erased_by: Method | None

    def __call__(self, entry: CaseEntry) -> tuple[Volume, int] | str:
        try:
            case = self.store.read(entry.case_id)
            case, left = _erased(case, self.erased_by)
            if self.grid.region == "lungs":
                return _box_of_lungs(case.ct, self.grid.size), left
            return _middle(case.ct, self.grid), left
        except InputError as error:
            return str(error)


def _fits(case: CaseEntry, grid: ChestGrid) -> bool:
    """Return whether a case is of the grid's kind: a whole scan, or a cube that is wide enough."""
    if grid.region == "lungs":
        return case.is_whole
    width = np.multiply(case.shape, case.spacing_mm)
    return not case.is_whole and bool((width >= np.multiply(np.subtract(grid.size, 1), grid.cube_mm)).all())


def _erased(case: Case, erased_by: Method | None) -> tuple[Case, int]:
    """Erase the nodules of a case whose place and diameter are known; return it and the number of nodules left."""
    unwanted = []
    for nodule in case.nodules:
        region, diameter = case.region(nodule), nodule.attributes.diameter_mm
        if region is not None:
            unwanted.append(Unwanted(ball_around(region, case.ct), region))
        elif diameter is not None and case.ct.holds(case.ct.to_voxel(nodule.center_mm)):
            unwanted.append(Unwanted(Ball(nodule.center_mm, diameter)))
    if erased_by is None or not unwanted:
        return case, len(case.nodules)
    edited = erase_nodules(case.ct, unwanted, erased_by, derive(0, "erase", case.case_id))
    return replace(case, ct=edited.ct), len(case.nodules) - sum(map(is_gone, edited.nodules))


def _box_of_lungs(ct: Volume, size: tuple[int, int, int]) -> Volume:
    """Return the box of the lungs with its margin, resized.

    Raises:
        InputError: no lungs are found, or the box has too few voxels to be resized.
    """
    mask = find_lungs(ct).mask
    box = box_around(mask.voxels, 0)
    corners = np.array([[side.start - 0.5 for side in box], [side.stop - 0.5 for side in box]])
    faces = np.sort(ct.to_voxel(mask.to_world(corners)), 0)  # lungs are found on a coarser grid of blocks
    margin = LUNG_BOX_MARGIN_MM / np.array(ct.spacing_mm)
    low = np.clip(np.floor(faces[0] - margin + 0.5), 0, None).astype(int)
    high = np.minimum(np.ceil(faces[1] + margin + 0.5), ct.shape).astype(int)
    return resized_box(ct, low.tolist(), high.tolist(), size)


def _middle(ct: Volume, grid: ChestGrid) -> Volume:
    """Return the middle of a cube at the grid's spacing."""
    extent = np.multiply(grid.size, grid.cube_mm) / ct.spacing_mm
    low = np.clip(np.rint((ct.shape - extent) / 2), 0, None).astype(int)
    high = np.minimum(low + np.rint(extent).astype(int), ct.shape)
    return resized_box(ct, low.tolist(), high.tolist(), grid.size)


def _known(about: Path, file: Path, size: tuple[int, int, int]) -> list[dict[str, Any]] | None:
    """Read the facts on each chest from the cache; None if the cache does not have the chests."""
    try:
        rows = json.loads(about.read_text())["chests"]
        voxels = np.load(file, mmap_mode="r", allow_pickle=False)
        known = [{name: row[name] for name in ("case", "spacing_mm", "nodules_left")} for row in rows]
    except (OSError, ValueError, LookupError, TypeError, EOFError, RecursionError):
        return None
    return known if voxels.shape[1:] == size and len(voxels) >= len(known) > 0 else None


def _decode(
    read: _ReadChest, cases: Sequence[CaseEntry], file: Path, about: Path, workers: int | None
) -> list[dict[str, Any]]:
    """Write the chests of some cases into the cache, one at a time; return the facts on each.

    Raises:
        InputError: no case gives a chest.
        OutputError: the cache cannot be written.
    """
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary, open(temporary, "wb") as stream:
            shape = (len(cases), *read.grid.size)
            descr = np.lib.format.dtype_to_descr(np.dtype(np.int16))
            np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
            made = map_processes(read, cases, workers=workers, chunk=1, name=lambda case: case.case_id)
            for case, found in zip(cases, with_progress(made, "chests", len(cases)), strict=True):
                if isinstance(found, str):
                    reasons.append(f"{case.case_id}: {found}")
                    continue
                chest, left = found
                stream.write(np.ascontiguousarray(chest.voxels, np.int16).data)
                rows.append({"case": case.case_id, "spacing_mm": list(chest.spacing_mm), "nodules_left": left})
            stream.write(bytes(2 * math.prod(read.grid.size) * (len(cases) - len(rows))))
            if not rows:
                found = f"{len(cases)} scans without lungs; the first: {reasons[0]}"
                raise InputError(read.store.path, found, "chest CT in HU")
        with atomic_file(about) as temporary:
            temporary.write_text(json.dumps({"chests": rows}))
    except OSError as error:
        raise OutputError(file, reason(error)) from error
    return rows


def _chests_line(chests: Chests, cases: Sequence[CaseEntry], kind: str, is_erased: bool) -> str:
    """Return the line for the screen about the chests, or cubes as `kind` says, that were read from some cases."""
    z, y, x = chests.voxels.shape[1:]
    ends = [[f"{mm:.3g}" for mm in side] for side in (chests.spacing_mm.min(0), chests.spacing_mm.max(0))]
    spacings = [low if low == high else f"{low} to {high}" for low, high in zip(*ends, strict=True)]
    used = {case.case_id for case in chests.cases}
    scans = {tuple(np.round(case.spacing_mm, 2)) for case in chests.cases}
    line = f"{quantity(len(chests), kind)} of {z} x {y} x {x} voxels, of {' x '.join(spacings)} mm (z, y, x)"
    if len(scans) > 1:
        line += f", resized from scans of {len(scans)} spacings"
    if left_out := [case.case_id for case in cases if case.case_id not in used]:
        more = ", ..." * (len(left_out) > MOST_LEFT_OUT_NAMED)
        line += f"; {len(left_out)} cases are left out: {', '.join(left_out[:MOST_LEFT_OUT_NAMED])}{more}"
    if nodules := sum(chests.nodules_left.values()):
        with_them = sum(bool(n) for n in chests.nodules_left.values())
        stay = "their place is unknown or they are still visible" if is_erased else "no eraser was used"
        line += f"; {quantity(nodules, 'nodule')} of {quantity(with_them, kind)} not taken out, because {stay}"
    if unknown := sum(case.annotated != "all" for case in chests.cases):
        line += f"; {quantity(unknown, kind)} may have further nodules, since not all nodules are known"
    return line
