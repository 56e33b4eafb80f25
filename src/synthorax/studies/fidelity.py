"""Measures of similarity to real nodules, and sets of samples that they must rank in a known order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.datasets.patches import PatchDataset
from synthorax.metrics.distances import INCEPTION_SPLITS, fid, inception_score, kid_of_all
from synthorax.metrics.features import Extractor
from synthorax.metrics.memorisation import membership, memorisation
from synthorax.metrics.ms_ssim import diversity
from synthorax.seeding import generator
from synthorax.studies.trials import patients_of

KID = "KID x 1000"
"""Name of the kernel inception distance among the measures."""
BLURRED_CONTROL_VOXELS = 1.5
"""Standard deviation in voxels of the Gaussian that blurs real patches for a control."""
VALUE_RANGE_HU = 1400.0
"""Width of the lung window, the dynamic range for MS-SSIM."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches and their patients.

    Attributes:
        hu: HU [n, z, y, x].
        patients: patient of each patch, [n].
    """

    hu: NDArray[np.float32]
    patients: NDArray[np.str_]

    @classmethod
    def of(cls, patches: PatchDataset, rows: NDArray[np.bool_] | None = None) -> Patches:
        """Read all patches of a data set without augmentation, or those that `rows`, bool [n], marks."""
        chosen = np.flatnonzero(np.ones(len(patches), bool) if rows is None else rows)
        hu = patches.spec.to_hu(patches.rows(chosen.tolist())["ct"][:, 0]).numpy()
        return cls(hu, patients_of(patches)[chosen])

    def parts(self, n: int, seed: int) -> list[Patches]:
        """Split the patches into n sets with different patients, as equal in number of patients as possible."""
        groups = np.array_split(generator(seed, "parts").permutation(np.unique(self.patients)), n)
        return [self.among(group) for group in groups]

    def among(self, patients: NDArray[np.str_]) -> Patches:
        """Return the patches of some patients."""
        rows = np.isin(self.patients, patients)
        return Patches(self.hu[rows], self.patients[rows])


def likeness(
    samples: Mapping[str, NDArray],
    real: Patches,
    held_out: Patches,
    extractor: Extractor,
    spacing_mm: tuple[float, float, float],
    seed: int = 0,
) -> dict[str, dict[str, tuple[float, float | None, float | None]]]:
    """Measure each set of samples: FID, KID, IS, MS-SSIM and memorisation.

    Args:
        samples: name of each set to HU [n, z, y, x].
        real: patches with which samples are compared; the training set of their maker.
        held_out: patches of other patients.
        extractor: computes features.
        spacing_mm: voxel size (z, y, x).
        seed: seed of pairs and intervals.

    Returns:
        Set to measure to (value, lower, upper), with None for a measure without an interval.
    """
    known, fresh = extractor(real.hu, spacing_mm), extractor(held_out.hu, spacing_mm)
    rows = {}
    for name, hu in samples.items():
        made = extractor(hu, spacing_mm)
        frechet, kernel = fid(known, made), kid_of_all(known, made)
        inception = inception_score(made, splits=min(INCEPTION_SPLITS, len(made)), seed=seed)
        recalled = memorisation(made, known, fresh, real.patients, held_out.patients, seed=seed)
        attacked = membership(made, known, fresh, real.patients, held_out.patients, seed=seed)
        alike = diversity(hu, VALUE_RANGE_HU, seed=seed).ms_ssim
        rows[name] = {
            "FID": (frechet.value, None, None),
            KID: (1000 * kernel.value, None, None),
            "IS": (inception.value, None, None),
            "MS-SSIM of pairs": (alike.value, alike.low, alike.high),
            "attraction": (recalled.attraction.value, recalled.attraction.low, recalled.attraction.high),
            "membership AUC": (attacked.auc.value, attacked.auc.low, attacked.auc.high),
        }
    return rows


def sanity_samples(real: Patches, other: Patches, seed: int = 0) -> dict[str, NDArray]:
    """Return four sets, HU [n, z, y, x], whose distances from the real patches have a known order."""
    random = generator(seed, "sanity")
    n = len(other.hu)
    return {
        "real, other patients": other.hu,
        "the same, blurred": gaussian_filter(other.hu, (0, *[BLURRED_CONTROL_VOXELS] * 3)),
        "noise of the same mean and spread": random.normal(other.hu.mean(), other.hu.std(), other.hu.shape),
        "copies of the real": real.hu[random.integers(len(real.hu), size=n)],
    }
