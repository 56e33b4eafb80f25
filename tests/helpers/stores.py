"""Writes stores of cubes with one nodule each, and cuts patches from them."""

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
    """Write a store of cases; patients without a split are in train."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [write_case(folder, case, "test") for case in cases]
    splits = {name: {case.patient_id for case in cases if (case.split or "train") == name} for name in SPLITS}
    write_index(folder, entries, splits, source={}, skipped=[])
    return Store(folder)


def labelled(store, folder):
    """Write a copy of a store with label maps of tissues for all cases."""
    folder.mkdir(parents=True)
    entries = [write_case(folder, with_tissue(store.read(case.case_id)), "labelled") for case in store.cases]
    write_index(folder, entries, store.splits, source=store.source, skipped=[])
    (folder / STORE_REQUEST).write_text("{}")
    return Store(folder)


def cases(per_split=12, *, readers=READERS, size=44):
    """Return cases of `per_split` patients in each split, with one nodule each; larger nodules are more malignant.

    Args:
        readers: readers' malignancy ratings of a nodule, used in turn; () is a nodule without ratings.
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
    """Return patches of `SPEC` around the nodules of a split, and without a nodule from the corners of their cubes."""
    chosen = store.in_split(split)
    places = nodule_places(chosen) + negative_places(store, chosen, SPEC, 0, 0)
    return PatchDataset(store, places, SPEC, cache=place / "cache", **options)
