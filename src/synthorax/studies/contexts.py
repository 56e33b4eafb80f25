"""Synthetic malignant nodules at the places of training nodules: in the contexts of malignant or of benign ones."""

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
from synthorax.provenance import fingerprint, making_key
from synthorax.seeding import derive, generator
from synthorax.studies.filled_patches import filled_all
from synthorax.studies.malignant_or_benign import diameters_of
from synthorax.studies.patch_makers import kept_patches

BENIGN_CLASS, MALIGNANT_CLASS = 0, 1
ContextKind = Literal["malignant", "benign"]
"""Class of the training nodule at whose place a synthetic nodule is made."""
MADE_MALIGNANCY = 5.0
"""Malignancy rating requested of every synthetic nodule."""
OFF_MIDDLE_VOXELS = 1.0
"""A context whose nodule lies further than this from the middle of its patch, in voxels, is left out."""
PROBED = 16
"""Number of contexts in which a method is tried, to see whether it replaces the nodule that is there."""
MOST_LEFT = 0.05
"""Largest share of the earlier nodule's voxels that a method may leave unchanged and still count as replacing it; one
voxel in a hundred has the same HU by chance."""


@dataclass(frozen=True, eq=False)
class Contexts:
    """Training patches around nodules, in which synthetic malignant nodules are made.

    Attributes:
        train: patches of both classes, 0 benign and 1 malignant, with the margin of their augmentation.
        rows: kind of context to the rows of its patches whose nodule lies in the middle.
        left_out: number of patches whose nodule is not in the middle, for example because it is near a scan's border.
    """

    train: PatchDataset
    rows: dict[ContextKind, NDArray[np.int64]]
    left_out: int

    @classmethod
    def of(cls, store: Store, train: PatchDataset) -> Contexts:
        """Find the contexts among the training patches.

        Raises:
            InputError: a class has no patch with its nodule in the middle.
        """
        middle = [_is_in_middle(store, train, i) for i in range(len(train))]
        labels = {"malignant": MALIGNANT_CLASS, "benign": BENIGN_CLASS}
        rows: dict[ContextKind, NDArray[np.int64]] = {
            "malignant": np.flatnonzero(middle & (train.labels == MALIGNANT_CLASS)),
            "benign": np.flatnonzero(middle & (train.labels == BENIGN_CLASS)),
        }
        for name, found in rows.items():
            if not len(found):
                what = f"{(train.labels == labels[name]).sum()} {name} nodules, none in the middle of its patch"
                raise InputError("training nodules", what, f"one or more {name} nodules away from the borders of scans")
        return cls(train, rows, int((~np.array(middle)).sum()))

    @cached_property
    def diameters_mm(self) -> NDArray[np.float64]:
        """Diameter in mm of each training patch's nodule, [n]."""
        return diameters_of(self.train)

    def wanted(self, kind: ContextKind, n: int, seed: int) -> list[tuple[int, float]]:
        """Draw the contexts and diameters of n nodules. Every context is used once before any is used again.

        In a malignant context the synthetic nodule has the diameter of the real one, as in the paper. In a benign
        context it has the diameter of a malignant training nodule that is at least as wide as the benign one, or of
        the widest if none is.

        Returns:
            n pairs of the row of a patch and a diameter in mm.
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
    """Malignant nodules that a method made in contexts of one kind.

    Attributes:
        patches: int16 HU [n, z, y, x], with the margin of the training patches.
        left: share of the earlier nodules' voxels that are unchanged, mean over patches.
        note: sentence about nodules that were left out and about unchanged voxels; empty if there are none.
    """

    patches: NDArray[np.int16]
    left: float
    note: str


def replaces(method: Method, contexts: Contexts, seed: int) -> bool:
    """Return whether a method replaces the nodule in its context, as in-painters do, instead of adding one to it."""
    n = min(PROBED, len(contexts.rows["malignant"]))
    return _made(method, contexts, "malignant", n, seed).left <= MOST_LEFT


def made_in_contexts(
    method: Method, name: str, contexts: Contexts, kind: ContextKind, n: int, seed: int, *, folder: Path, like: str
) -> MadeInContexts:
    """Make n malignant nodules in contexts of one kind, or load those of an earlier call.

    Args:
        method: injects nodules.
        name: name of the method in this study.
        contexts: the training patches.
        kind: kind of the contexts.
        n: number of nodules.
        seed: seed of the contexts, diameters and nodules.
        folder: folder in which the patches are kept.
        like: hash of the store and its patches, part of the file names.

    Raises:
        InputError: the method makes none of the nodules.
    """
    key = fingerprint("\n".join((like, making_key(method), str(n), str(seed))).encode())[:16]
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
    left, _, sentences = note.read_text().partition("\n")
    return MadeInContexts(patches, float(left), f"{name} in {kind} contexts: {sentences}" if sentences else "")


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
        raise InputError(
            method.name, f"{n} requested nodules, all wider than it can make", "a method that makes larger nodules"
        )
    rows = np.array([row for row, _, _ in jobs])
    before = train.with_margin(rows).astype(np.float32)
    found = filled_all(method, train.spec.spacing_mm, [(b, *job[1:]) for b, job in zip(before, jobs, strict=True)])
    done = np.array([not isinstance(one, InputError) for one in found])
    if not done.any():
        raise InputError(method.name, f"no nodule made in {len(jobs)} contexts ({found[0]})", "one or more")
    after = np.stack([np.rint(one.hu).astype(np.int16) for one in found if not isinstance(one, InputError)])
    there = train.masks_with_margin(rows[done])
    same = there & (after == before[done])
    known = there.any((1, 2, 3))
    left = float((same.sum((1, 2, 3)) / there.sum((1, 2, 3)).clip(1))[known].mean()) if known.any() else 0.0
    notes = [f"{wide} of {n} nodules are left out, because they are wider than the method can make"] if wide else []
    if not done.all():
        refused = next(one for one in found if isinstance(one, InputError))
        notes.append(f"the method refused {(~done).sum()} nodules ({refused})")
    if left > MOST_LEFT:
        notes.append(f"{left:.0%} of the voxels of the real nodules that were there are unchanged")
    return MadeInContexts(after, left, "; ".join(notes) + "." if notes else "")


def _is_in_middle(store: Store, train: PatchDataset, row: int) -> bool:
    """Return whether a nodule lies within `OFF_MIDDLE_VOXELS` of the middle of its patch."""
    place = train.places[row]
    grid = patch_grid(store[place.case_id].grid(), place.center_mm, train.spec)
    off = grid.to_voxel(place.center_mm) - (np.array(grid.shape) - 1) / 2
    return bool((abs(off) <= OFF_MIDDLE_VOXELS).all())
