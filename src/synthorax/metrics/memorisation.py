"""Whether a generator copies its training data, and whether its samples betray who was in it.

Training and held-out patches must come from different patients, chosen at random: then a generator that has learned
the distribution and nothing of single patients treats both alike, and every measure here has a value that says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, patient_bootstrap, ratio
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.features import ExtractorCard, Features, common_extractor
from synthorax.metrics.neighbours import nearest
from synthorax.metrics.roc import auc_of


@dataclass(frozen=True)
class Memorisation:
    """How much nearer samples are to the training data than they should be.

    Attributes:
        attraction: share of the samples whose nearest real patch is a training one, as it would be were there as many
            held-out ones: 0.5 without memorisation, 1 if every sample is a copy.
        nearer: chance that a sample is nearer to the training data than a held-out patch is (the Mann-Whitney U of
            Meehan et al. 2020, in one cell): 0.5 for samples like fresh patients. Samples that are only smoother or
            less varied are nearer too; `attraction` is not fooled by them.
        distance_ratio: mean distance of samples to the training data over that of held-out patches.
    """

    attraction: Estimate
    nearer: Estimate
    distance_ratio: Estimate
    n_samples: int
    n_training: int
    n_held_out: int
    extractor: ExtractorCard


@dataclass(frozen=True)
class Membership:
    """How well an attacker tells who was trained on.

    Attributes:
        auc: 0.5 is guessing.
    """

    auc: Estimate
    n_samples: int
    n_members: int
    n_non_members: int
    extractor: ExtractorCard


def memorisation(
    samples: Features,
    training: Features,
    held_out: Features,
    training_patients: ArrayLike,
    held_out_patients: ArrayLike,
    *,
    seed: int = 0,
) -> Memorisation:
    """Compare samples with what their generator was trained on and with what it never saw.

    Args:
        samples: of n patches, made by the generator.
        training: of m patches, which it was trained on.
        held_out: of k patches, which it was not.
        training_patients: patient of each training patch, [m].
        held_out_patients: patient of each held-out patch, [k].

    Raises:
        InputError: fewer than 2 patients on a side, one who is on both, or features of different extractors.
    """
    card = common_extractor(samples, training, held_out)
    made, known, fresh = samples.values, training.values, held_out.values
    known_patient, fresh_patient = _apart(training_patients, held_out_patients, len(known), len(fresh))
    gaps = np.concatenate([nearest(made, known).distance, nearest(fresh, known).distance])
    is_sample = np.arange(len(gaps)) < len(made)
    # Each sample is a unit of its own, each held-out patient with all patches.
    unit = np.concatenate([fresh_patient.max() + 1 + np.arange(len(made)), fresh_patient])
    real = np.concatenate([known_patient, known_patient.max() + 1 + fresh_patient])
    return Memorisation(
        attraction=patient_bootstrap(_attraction_of(made, known, fresh), real, seed=seed).interval(),
        nearer=patient_bootstrap(auc_of(is_sample, -gaps), unit, seed=seed).interval(),
        distance_ratio=patient_bootstrap(_ratio_of(gaps, is_sample), unit, seed=seed).interval(),
        n_samples=len(made),
        n_training=len(known),
        n_held_out=len(fresh),
        extractor=card,
    )


def membership(
    samples: Features,
    members: Features,
    non_members: Features,
    member_patients: ArrayLike,
    non_member_patients: ArrayLike,
    *,
    seed: int = 0,
) -> Membership:
    """An attacker who takes a patch for a training one if a sample is near (Chen et al. 2020, GAN-Leaks).

    Args:
        samples: of n patches, made by the generator.
        members: of m patches, which it was trained on.
        non_members: of k patches, which it was not.
        member_patients, non_member_patients: patient of each, [m] and [k].

    Raises:
        InputError: fewer than 2 patients on a side, one who is on both, or features of different extractors.
    """
    card = common_extractor(samples, members, non_members)
    made, known, fresh = samples.values, members.values, non_members.values
    known_patient, fresh_patient = _apart(member_patients, non_member_patients, len(known), len(fresh))
    gaps = nearest(np.concatenate([known, fresh]), made).distance
    is_member = np.arange(len(gaps)) < len(known)
    unit = np.concatenate([known_patient, known_patient.max() + 1 + fresh_patient])
    found = patient_bootstrap(auc_of(is_member, -gaps), unit, seed=seed).interval()
    return Membership(found, len(made), len(known), len(fresh), card)


def _attraction_of(made: NDArray[np.float64], known: NDArray[np.float64], fresh: NDArray[np.float64]) -> Statistic:
    """How often a training patch is the nearest of a sample, over that and how often a held-out one is.

    Rates a patch need no sets of the same size, and so no patch is left out to make them so. The rows are the training
    and held-out patches, so that what hangs on few patients has a wide interval. That a sample without its nearest
    patient would have another one is not seen: with 40 held-out patients 95 % intervals cover some 90 %.
    """
    real = np.concatenate([known, fresh])
    is_known = np.arange(len(real)) < len(known)
    drawn_to = np.bincount(nearest(made, real).index, minlength=len(real))

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b = (_weighted_mean(drawn_to, weights * rows) for rows in (is_known, ~is_known))
        # Patients whom no sample is drawn to say neither the one nor the other.
        return np.divide(a, a + b, out=a + b + 0.5, where=a + b != 0)

    return Statistic(len(real), values)


def _ratio_of(gaps: NDArray[np.float64], is_sample: NDArray[np.bool_]) -> Statistic:
    """Mean gap of samples over that of the others."""

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b = (_weighted_mean(gaps, weights * rows) for rows in (is_sample, ~is_sample))
        return ratio(a, b)

    return Statistic(len(gaps), values)


def _weighted_mean(values: NDArray, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means [b] of values [n]; NaN where nothing counts."""
    total = weights.sum(1)
    return ratio(weights @ values, total)


def _apart(
    training: ArrayLike, others: ArrayLike, n_training: int, n_others: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both sides' patients as numbers from 0, each side for itself."""
    both = set(np.unique(np.asarray(training)).tolist()) & set(np.unique(np.asarray(others)).tolist())
    if both:
        raise InputError("patients", f"{len(both)} in training and held out, as {min(both)}", "different ones")
    return checks.units(training, n_training)[0], checks.units(others, n_others)[0]
