"""Malignant nodules made where the training patients have nodules: in the contexts of malignant or of benign ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.patches import PatchDataset, patch_grid
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.makers import Edit, Method
from synthorax.nodule import NoduleAttributes
from synthorax.provenance import fingerprint
from synthorax.seeding import derive, generator
from synthorax.studies.filled_patches import filled_all
from synthorax.studies.malignant_or_benign import diameters_of
from synthorax.studies.patch_makers import kept_patches

BENIGN_CLASS, MALIGNANT_CLASS = 0, 1
ContextKind = Literal["malignant", "benign"]
"""Whose place a nodule is made in: a malignant training nodule's, or a benign one's."""
MADE_MALIGNANCY = 5.0
"""The rating that every made nodule is asked to have."""
OFF_MIDDLE_VOXELS = 1.0
"""A context whose nodule lies further than this from the middle of its patch is left out."""
PROBED = 16
"""Contexts by which a method is seen to replace what was there, or to leave it."""
MOST_LEFT = 0.05
"""Share of the voxels of the nodules that were there which a method that replaces them leaves as they were, at most:
one in a hundred has the same HU by chance."""


@dataclass(frozen=True, eq=False)
class Contexts:
    """Training patches around nodules, in which malignant nodules are made.

    Attributes:
        train: patches of both classes, 0 benign and 1 malignant, with the margin of their augmentation.
        rows: of the patches, by the kind of context; those whose nodule lies in the middle.
        left_out: number of patches without a nodule in the middle, as near the border of a scan.
    """

    train: PatchDataset
    rows: dict[ContextKind, NDArray[np.int64]]
    left_out: int

    @classmethod
    def of(cls, store: Store, train: PatchDataset) -> Contexts:
        """Find the contexts.

        Raises:
            InputError: a class without one.
        """
        middle = [_is_in_middle(store, train, i) for i in range(len(train))]
        labels = {"malignant": MALIGNANT_CLASS, "benign": BENIGN_CLASS}
        rows: dict[ContextKind, NDArray[np.int64]] = {
            "malignant": np.flatnonzero(middle & (train.labels == MALIGNANT_CLASS)),
            "benign": np.flatnonzero(middle & (train.labels == BENIGN_CLASS)),
        }
        for name, found in rows.items():
            if not len(found):
                what = f"{(train.labels == labels[name]).sum()} {name} ones, none in the middle of its patch"
                raise InputError("training nodules", what, f"one or more {name} nodules away from the borders of scans")
        return cls(train, rows, int((~np.array(middle)).sum()))

    @cached_property
    def diameters_mm(self) -> NDArray[np.float64]:
        """Of the nodule of each training patch, [n]."""
        return diameters_of(self.train)

    def wanted(self, kind: ContextKind, n: int, seed: int) -> list[tuple[int, float]]:
        """Draw the contexts and diameters of n nodules: each context once before any comes again.

        In a malignant context the nodule has the diameter of the one that was there, as in the paper; in a benign one
        that of a malignant training nodule, at least as wide as what was there if there is such a one.

        Returns:
            Row of the patch and diameter in mm, n of them.
        """
        rows = self.rows[kind]
        turns = range(-(-n // len(rows)))
        order = np.concatenate([generator(seed, kind, turn).permutation(rows) for turn in turns])[:n]
        if kind == "malignant":
            return [(int(row), float(self.diameters_mm[row])) for row in order]
        pool, random = np.sort(self.diameters_mm[self.rows["malignant"]]), generator(seed, "diameters")
        first = np.searchsorted(pool, self.diameters_mm[order]).clip(max=len(pool) - 1)
        return [(int(row), float(pool[random.integers(low, len(pool))])) for row, low in zip(order, first, strict=True)]


@dataclass(frozen=True, eq=False)
class MadeInContexts:
    """Malignant nodules that a method made.

    Attributes:
        patches: int16 HU [n, z, y, x], with the margin of the training patches.
        left: mean share of the voxels of the nodules that were there which stay as they were.
        note: a sentence on what is missing or left; empty if nothing is.
    """

    patches: NDArray[np.int16]
    left: float
    note: str


def replaces(method: Method, contexts: Contexts, seed: int) -> bool:
    """Whether a method replaces the nodule that was there, as an in-painter does, or lays one over it."""
    n = min(PROBED, len(contexts.rows["malignant"]))
    return _made(method, contexts, "malignant", n, seed).left <= MOST_LEFT


def made_in_contexts(
    method: Method, name: str, contexts: Contexts, kind: ContextKind, n: int, seed: int, *, folder: Path, like: str
) -> MadeInContexts:
    """Make n malignant nodules, or take those of an earlier call.

    Args:
        name: of the method in this study.
        folder: where patches are kept.
        like: what the kept ones are known by: the store and its patches.

    Raises:
        InputError: the method makes none of them.
    """
    key = fingerprint("\n".join((like, method.lineage.model_sha256, str(n), str(seed))).encode())[:16]
    stem = folder / f"{name.replace(' ', '-')}-{kind}-{key}"
    note = stem.with_suffix(".txt")
    made: list[MadeInContexts] = []

    def make() -> NDArray[np.int16]:
        made.append(_made(method, contexts, kind, n, seed))
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{made[0].left}\n{made[0].note}")
        return made[0].patches

    if not note.exists():
        stem.with_suffix(".npy").unlink(missing_ok=True)
    patches = kept_patches(stem.with_suffix(".npy"), make)
    left, _, told = note.read_text().partition("\n")
    return MadeInContexts(patches, float(left), f"{name} in {kind} contexts: {told}" if told else "")


def _made(method: Method, contexts: Contexts, kind: ContextKind, n: int, seed: int) -> MadeInContexts:
    train = contexts.train
    jobs, wide = [], 0
    for i, (row, mm) in enumerate(contexts.wanted(kind, n, seed)):
        given = {"diameter_mm": mm, "malignancy": MADE_MALIGNANCY}
        nodule = NoduleAttributes(**{key: value for key, value in given.items() if key in method.heeds})
        try:
            method.reach_mm(Edit("inject", nodule))
        except InputError:
            wide += 1
        else:
            jobs.append((row, nodule, derive(seed, "nodule", i)))
    if not jobs:
        raise InputError(method.name, f"{n} nodules, all of them wider than it makes", "a method of larger nodules")
    rows = np.array([row for row, _, _ in jobs])
    before = train.with_margin(rows).astype(np.float32)
    found = filled_all(method, train.spec.spacing_mm, [(b, *job[1:]) for b, job in zip(before, jobs, strict=True)])
    done = np.array([not isinstance(one, InputError) for one in found])
    if not done.any():
        raise InputError(method.name, f"no nodule in {len(jobs)} contexts ({found[0]})", "one or more")
    after = np.stack([np.rint(one.hu).astype(np.int16) for one in found if not isinstance(one, InputError)])
    there = train.masks_with_margin(rows[done])
    same = there & (after == before[done])
    known = there.any((1, 2, 3))
    left = float((same.sum((1, 2, 3)) / there.sum((1, 2, 3)).clip(1))[known].mean()) if known.any() else 0.0
    told = [f"{wide} of {n} nodules are wider than it makes, and are left out"] if wide else []
    if not done.all():
        told.append(f"{(~done).sum()} were refused ({next(one for one in found if isinstance(one, InputError))})")
    if left > MOST_LEFT:
        told.append(f"{left:.0%} of the voxels of the nodules that were there stay as they were")
    return MadeInContexts(after, left, "; ".join(told) + "." if told else "")


def _is_in_middle(store: Store, train: PatchDataset, row: int) -> bool:
    """Whether the nodule of a place lies in the middle of its patch."""
    place = train.places[row]
    grid = patch_grid(store[place.case_id].grid(), place.center_mm, train.spec)
    off = grid.to_voxel(place.center_mm) - (np.array(grid.shape) - 1) / 2
    return bool((abs(off) <= OFF_MIDDLE_VOXELS).all())
