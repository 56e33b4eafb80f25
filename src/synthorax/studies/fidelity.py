"""Measures of similarity to real nodules, and sets of samples that they must rank in a known order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.splits import LEAST_PATIENTS
from synthorax.metrics.bootstrap import Bootstrap, Statistic, resampled
from synthorax.metrics.distances import INCEPTION_SPLITS, fid, inception_score, kid_of_all, kid_replicates
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.features import Extractor
from synthorax.metrics.memorisation import membership, memorisation
from synthorax.metrics.ms_ssim import diversity
from synthorax.seeding import derive, generator
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

    @classmethod
    def unrelated(cls, hu: NDArray) -> Patches:
        """Return samples, HU [n, z, y, x], each as a patch of a patient of its own."""
        return cls(hu, np.array([f"sample {i}" for i in range(len(hu))]))

    def parts(self, n: int, seed: int) -> list[Patches]:
        """Split the patches into n sets with different patients, as equal in number of patients as possible."""
        groups = np.array_split(generator(seed, "parts").permutation(np.unique(self.patients)), n)
        return [self.among(group) for group in groups]

    def among(self, patients: NDArray[np.str_]) -> Patches:
        """Return the patches of some patients."""
        rows = np.isin(self.patients, patients)
        return Patches(self.hu[rows], self.patients[rows])


@dataclass(frozen=True, eq=False)
class Likeness:
    """Measures of sets of samples.

    Attributes:
        rows: set to measure to (value, lower, upper), with None for a measure without an interval.
        kid: bootstrap replicates of the `KID` of each set that has an interval, float64 [b]. All sets have the same
            replicates of the real patches, so that two sets can be compared.
    """

    rows: dict[str, dict[str, tuple[float, float | None, float | None]]]
    kid: dict[str, NDArray[np.float64]]

    def kid_less(self, name: str, other: str) -> Estimate | None:
        """Return the `KID` of a set less that of another one, with the 95 % interval; None if one has no interval."""
        if name not in self.kid or other not in self.kid:
            return None
        apart = self.rows[name][KID][0] - self.rows[other][KID][0]
        return Bootstrap.of(apart, self.kid[name] - self.kid[other]).interval()


def likeness(
    samples: Mapping[str, Patches],
    real: Patches,
    held_out: Patches,
    extractor: Extractor,
    spacing_mm: tuple[float, float, float],
    seed: int = 0,
) -> Likeness:
    """Measure each set of samples: FID, KID, IS, MS-SSIM and memorisation.

    The interval of KID resamples the patients of the real patches and those of the set. With fewer than
    `LEAST_PATIENTS` of either there is none.

    Args:
        samples: name of each set to its patches; see `Patches.unrelated` for synthetic ones.
        real: patches with which samples are compared; the training set of their maker.
        held_out: patches of other patients.
        extractor: computes features.
        spacing_mm: voxel size (z, y, x).
        seed: seed of pairs and intervals.
    """
    known, fresh = extractor(real.hu, spacing_mm), extractor(held_out.hu, spacing_mm)
    rows, kid = {}, {}
    drawn = _weights(real.patients, derive(seed, "KID", "real"))
    for name, patches in samples.items():
        made = extractor(patches.hu, spacing_mm)
        frechet, kernel = fid(known, made), 1000 * kid_of_all(known, made).value
        own, low, high = _weights(patches.patients, derive(seed, "KID", name)), None, None
        if drawn is not None and own is not None:
            kid[name] = 1000 * kid_replicates(known, made, drawn, own)
            ends = Bootstrap.of(kernel, kid[name]).interval()
            low, high = ends.low, ends.high
        inception = inception_score(made, splits=min(INCEPTION_SPLITS, len(made)), seed=seed)
        recalled = memorisation(made, known, fresh, real.patients, held_out.patients, seed=seed)
        attacked = membership(made, known, fresh, real.patients, held_out.patients, seed=seed)
        alike = diversity(patches.hu, VALUE_RANGE_HU, seed=seed).ms_ssim
        rows[name] = {
            "FID": (frechet.value, None, None),
            KID: (kernel, low, high),
            "IS": (inception.value, None, None),
            "MS-SSIM of pairs": (alike.value, alike.low, alike.high),
            "attraction": (recalled.attraction.value, recalled.attraction.low, recalled.attraction.high),
            "membership AUC": (attacked.auc.value, attacked.auc.low, attacked.auc.high),
        }
    return Likeness(rows, kid)


def _weights(patients: NDArray[np.str_], seed: int) -> NDArray[np.float64] | None:
    """Return how often each patch counts in each replicate of the patients, [b, n]; None with too few patients."""
    if len(np.unique(patients)) < LEAST_PATIENTS:
        return None
    return resampled(Statistic(len(patients), lambda weights: weights), patients, seed=seed)


def sanity_samples(real: Patches, other: Patches, seed: int = 0) -> dict[str, Patches]:
    """Return four sets whose distances from the real patches have a known order."""
    random = generator(seed, "sanity")
    noise = random.normal(other.hu.mean(), other.hu.std(), other.hu.shape).astype(np.float32)
    copied = random.integers(len(real.hu), size=len(other.hu))
    return {
        "real, other patients": other,
        "the same, blurred": Patches(gaussian_filter(other.hu, (0, *[BLURRED_CONTROL_VOXELS] * 3)), other.patients),
        "noise of the same mean and spread": Patches(noise, other.patients),
        "copies of the real": Patches(real.hu[copied], real.patients[copied]),
    }
