"""Stores of cubes with a nodule each, and their patches."""

import numpy as np

from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import SPLITS, STORE_REQUEST, Store, write_case, write_index
from synthorax.datasets.tissue import with_tissue
from tests.helpers.cubes import ball_case
from tests.helpers.toy_makers import SPEC

READERS = ((1, 2, 2, 1), (5, 5, 3, 3), (4, 5, 4, 4), (2, 3, 1, 2), (4, 4, 5, 3))
"""Malignancy by the readers of each nodule; the second has a median of malignant and no majority for it."""


def store_of(folder, cases):
    """Write a store of cases; a patient whose case names no split is in train."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [write_case(folder, case, "test") for case in cases]
    splits = {name: {case.patient_id for case in cases if (case.split or "train") == name} for name in SPLITS}
    write_index(folder, entries, splits, source={}, skipped=[])
    return Store(folder)


def labelled(store, folder):
    """Write a copy of a store whose cases have the label maps of their tissues."""
    folder.mkdir(parents=True)
    entries = [write_case(folder, with_tissue(store.read(case.case_id)), "labelled") for case in store.cases]
    write_index(folder, entries, store.splits, source=store.source, skipped=[])
    (folder / STORE_REQUEST).write_text("{}")
    return Store(folder)


def cases(per_split=12, *, readers=READERS, size=44):
    """Cases of `per_split` patients in each split, a nodule each, the larger the more malignant.

    Args:
        readers: malignancy ratings of one nodule each, dealt out by turns; () is a nodule that nobody rated.
        size: voxels along an edge of the cubes.
    """
    made = []
    for split in SPLITS:
        for i in range(per_split):
            rated = readers[i % len(readers)]
            mm = 3 + np.mean(rated) + i % 4 if rated else 6
            ratings = {"malignancy": rated} if rated else {}
            made.append(ball_case(f"{split}{i:02d}", mm, ratings=ratings, split=split, size=size, seed=len(made)))
    return made


def patches_of(store, place, split="train", **options):
    """Patches of `SPEC` around the nodules of a split, and in the corners of the same cubes, which hold none."""
    chosen = store.in_split(split)
    places = nodule_places(chosen) + negative_places(store, chosen, SPEC, 0, 0)
    return PatchDataset(store, places, SPEC, cache=place / "cache", **options)
