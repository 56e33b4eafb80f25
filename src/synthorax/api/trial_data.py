"""Small training data for the trial of a system: cubes of noise with balls, or shapes of balls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.case import Case
from synthorax.datasets.shapes import LUNG_GRID, LUNG_SPACING_MM
from synthorax.datasets.store import SPLITS, Split, write_case, write_index
from synthorax.datasets.tissue import with_tissue
from synthorax.nodule import RATINGS, Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.region import Region
from synthorax.registry import Data
from synthorax.volume import Volume

PATIENTS = 4
"""Patients in each split, with one cube each."""
CUBE = PatchSpec((64, 64, 64))
BALLS_MM = (5.0, 7.0, 9.0, 12.0)
"""Diameters of the balls, in turn; the wider ones are more malignant."""
NOISE_HU = 30.0
LUNG_NOISE_HU, BALL_HU = -850.0, 40.0
"""Means of the noise around and in the balls."""
ORDINARY = dict.fromkeys(RATINGS, 3.0) | {"calcification": 6.0, "internal_structure": 1.0, "texture": 5.0}
EDITED = ((1.0, 1.0, 1.0), (2.0, 0.8, 0.8), (1.25, 1.1, 1.1))
"""Spacings in mm of the patches for edits."""
EDITED_MM, REGION_MM = 56.0, 9.0
"""Width of the patches for edits, and radius of the ball that an edit may change."""


def write_trial_data(place: Path, kind: Data, held_out_seed: int = 0) -> Path:
    """Write training data of a kind; return its place.

    A store has `PATIENTS` cubes in each split, each with a ball in the middle, ratings and a label map of tissues.

    Args:
        place: folder that does not exist yet.
        kind: `store` or `shapes`.
        held_out_seed: seed of the noise of validation and test patients in a store.
    """
    place.mkdir(parents=True)
    if kind == "shapes":
        radii = np.linspace(2.5, 7.0, 2 * PATIENTS)
        distances = PatchSpec(LUNG_GRID, LUNG_SPACING_MM).distances_mm()
        np.save(place / "shapes.npy", np.stack([distances <= radius for radius in radii]))
        return place / "shapes.npy"
    cases = [
        _cube(split, number, 0 if split == "train" else held_out_seed) for split in SPLITS for number in range(PATIENTS)
    ]
    splits: dict[str, list[str]] = {
        split: [case.patient_id for case in cases if case.split == split] for split in SPLITS
    }
    write_index(place, [write_case(place, case, "trial") for case in cases], splits, source={}, skipped=[])
    return place


def _cube(split: Split, number: int, seed: int) -> Case:
    diameter = BALLS_MM[number % len(BALLS_MM)]
    mask = CUBE.distances_mm() <= diameter / 2
    random = np.random.default_rng([SPLITS.index(split), number, seed])
    hu = np.where(mask, BALL_HU, LUNG_NOISE_HU) + random.normal(0, NOISE_HU, CUBE.size)
    malignancy = 5.0 if number % 2 else 1.0
    attributes = NoduleAttributes(diameter_mm=diameter, **{**ORDINARY, "malignancy": malignancy})
    nodule = Nodule("1", CUBE.middle_mm, attributes, 1, {"malignancy": (malignancy,) * 3})
    name, ct = f"{split}-{number}", Volume(np.rint(hu).astype(np.int16), CUBE.spacing_mm)
    return with_tissue(Case(name, name, ct, (Region.of(mask),), (nodule,), annotated="all", split=split))


def noise_patches() -> tuple[list[Volume], list[NDArray[np.bool_]]]:
    """Return patches of noise as in lung, HU float32, and the region of each that an edit may change."""
    random = np.random.default_rng(0)
    volumes, regions = [], []
    for spacing in EDITED:
        z, y, x = (round(EDITED_MM / s) for s in spacing)
        hu = np.rint(random.normal(LUNG_NOISE_HU, NOISE_HU, (z, y, x))).astype(np.float32)
        volumes.append(Volume(hu, spacing))
        regions.append(PatchSpec((z, y, x), spacing).distances_mm() <= REGION_MM)
    return volumes, regions
