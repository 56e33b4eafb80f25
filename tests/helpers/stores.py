"""Stores of cases that tests make."""

import numpy as np

from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import negative_places, nodule_places
from synthorax.datasets.store import SPLITS, Case, Store, write_case, write_index
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.region import Region
from synthorax.volume import Volume
from tests.helpers.toy_makers import SPEC

READERS = ((1, 2, 2, 1), (5, 5, 3, 3), (4, 5, 4, 4), (2, 3, 1, 2), (4, 4, 5, 3))
"""By turns; of the second the median says malignant, and half of the readers is no majority."""


def store_of(folder, cases):
    """A store of cases, each patient in the split of the case, or in train."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [write_case(folder, case, "test") for case in cases]
    splits = {name: {case.patient_id for case in cases if (case.split or "train") == name} for name in SPLITS}
    write_index(folder, entries, splits, source={}, skipped=[])
    return Store(folder)


def ball_case(name, diameter_mm, split, ratings, size=44, seed=0):
    """A cube of noise as in lung with a ball in its middle."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 3, indexing="ij"))
    mask = (grid**2).sum(0) <= (diameter_mm / 2) ** 2
    hu = np.where(mask, 40, -850) + rng.normal(0, 30, mask.shape)
    ct = Volume(np.rint(hu).astype(np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    center = ((size - 1) / 2,) * 3
    given = {"malignancy": ratings} if ratings else {}
    mean = float(np.mean(ratings)) if ratings else None
    nodule = Nodule("01", center, NoduleAttributes(diameter_mm=diameter_mm, malignancy=mean), 1, given)
    return Case(name, name, ct, (Region.of(mask),), (nodule,), annotated="all", split=split)


def cases(per_split=12, **options):
    """`per_split` patients in each split, whose nodules are the larger the more malignant."""
    made = []
    for split in SPLITS:
        for i in range(per_split):
            readers = options.get("readers", READERS)
            ratings = options.get("ratings") or (() if "unrated" in options else readers[i % len(readers)])
            mm = 3 + np.mean(ratings) + i % 4 if ratings else 6
            made.append(ball_case(f"{split}{i:02d}", mm, split, ratings, options.get("size", 44), len(made)))
    return made


def patches_of(store, place, split="train", **options):
    """Patches of `SPEC` around the nodules of a split, and corners of the same cubes without one."""
    chosen = store.in_split(split)
    places = nodule_places(chosen) + negative_places(store, chosen, SPEC, 0, 0)
    return PatchDataset(store, places, SPEC, cache=place / "cache", **options)
