"""Distances of synthetic chests from real ones, slice by slice, beside the distances between real chests (CT-SGAN).

The paper compares the slices at one place of the body in two sets of scans, for one place after another. This module
does so in three orientations: the sample of a place holds the slices around it of all scans, and a distance is the mean
over places. Every set has as many scans as half of the real ones, drawn `DRAWS` times, because FID depends on the
number of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.errors import InputError
from synthorax.metrics.chest_anatomy import UsualChests
from synthorax.metrics.chest_copies import chest_copies, coarse
from synthorax.metrics.distances import fid, inception_score, kid_of_all
from synthorax.metrics.estimates import CONFIDENCE, Estimate
from synthorax.metrics.features import Features
from synthorax.metrics.ms_ssim import diversity, scales_of
from synthorax.seeding import generator
from synthorax.studies.fidelity import VALUE_RANGE_HU
from synthorax.studies.slice_reader import ORIENTATIONS, SliceReader, slice_of

COMPARED_PLACES = 16
"""Number of places along each axis at which sets are compared."""
AROUND_PLACE = (-2, -1, 0, 1, 2)
"""Slices of each scan in the sample of a place, counted from the slice at the place."""
DRAWS = 20
"""Number of times that half of the real scans, and as many synthetic scans, are drawn."""
REAL_REAL, BLURRED_CHESTS = "real, other patients", "the same, blurred"
CHEST_BLUR_VOXELS = 1.0
"""Standard deviation in voxels of the Gaussian that blurs real chests: a control, whose distance from real chests must
be larger than the distance between real chests."""
SSIM_PAIRS, SSIM_EDGE = 60, 64
"""Number of pairs of a set's scans whose MS-SSIM is averaged, and edge in voxels of the grid for MS-SSIM."""
LEAST_CHESTS = 8
"""Fewest real chests that are compared."""


@dataclass(frozen=True, eq=False)
class SliceFeatures:
    """Features of the slices of n scans.

    Attributes:
        values: float32 [n, orientation, place, slice, feature].
        probabilities: float32 [n, orientation, place, slice, class].
    """

    values: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, reader: SliceReader, scans: Iterable[NDArray]) -> SliceFeatures:
        """Read the slices of scans, HU [z, y, x] each."""
        found = [reader(_slices(hu)) for hu in scans]
        shape = (len(found), len(ORIENTATIONS), COMPARED_PLACES, len(AROUND_PLACE), -1)
        values = np.stack([each.values for each in found]).astype(np.float32)
        classes = np.stack([each.probabilities for each in found if each.probabilities is not None])
        return cls(values.reshape(shape), classes.astype(np.float32).reshape(shape))

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class SliceDistances:
    """Distances of a set of scans from real ones.

    Attributes:
        fid, kid: mean over draws, and the range that holds 95 % of the draws; KID is multiplied by 1000.
        by_orientation: orientation to its mean FID.
        places: standard deviation of the FID over places, which the paper reports beside the mean.
        score: inception score of all slices, mean and 95 % range over draws.
    """

    fid: Estimate
    kid: Estimate
    by_orientation: Mapping[str, float]
    places: float
    score: Estimate


def slice_distances(
    real: SliceFeatures, sets: Mapping[str, SliceFeatures], reader: SliceReader, seed: int = 0, draws: int = DRAWS
) -> dict[str, SliceDistances]:
    """Measure the distances from half of the real scans to the other half (`REAL_REAL`), and to as many of each set.

    Args:
        real: scans of patients on whom no maker was trained.
        sets: name to its scans. `BLURRED_CHESTS` must have the same patients as `real`, row by row; its other half is
            compared.
        reader: computed the features.
        seed: seed of the draws.
        draws: number of draws.

    Raises:
        InputError: there are fewer than `LEAST_CHESTS` real scans, or a set has fewer scans than half of the real ones.
    """
    check_sizes(len(real), {name: len(made) for name, made in sets.items()})
    half = len(real) // 2
    rows: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (REAL_REAL, *sets)}
    scores: dict[str, list[float]] = {name: [] for name in rows}
    for draw in range(draws):
        order = generator(seed, "halves", draw).permutation(len(real))
        first, second = order[:half], order[half : 2 * half]
        for name in rows:
            made = real if name == REAL_REAL else sets[name]
            chosen = second
            if name not in (REAL_REAL, BLURRED_CHESTS):
                chosen = generator(seed, "made", draw).permutation(len(made))[:half]
            rows[name].append(_by_place(real, first, made, chosen, reader))
            scores[name].append(_score(made, chosen, reader))
    return {name: _distances(np.stack(rows[name]), scores[name]) for name in rows}


def check_sizes(real: int, sets: Mapping[str, int]) -> None:
    """Check that all sets are large enough to be compared.

    Args:
        real: number of real scans.
        sets: name of each other set to its number of scans.

    Raises:
        InputError: there are fewer than `LEAST_CHESTS` real scans, or a set has fewer scans than half of the real ones.
    """
    if real < LEAST_CHESTS:
        raise InputError("scans", f"{real} real ones", f"at least {LEAST_CHESTS} real scans")
    if few := [f"{n} of {name}" for name, n in sets.items() if n < real // 2]:
        expected = f"at least {real // 2} of each, half as many as the {real} real ones"
        raise InputError("compared", f"scans: {', '.join(few)}", expected)


def _by_place(
    real: SliceFeatures, first: NDArray, made: SliceFeatures, second: NDArray, reader: SliceReader
) -> NDArray[np.float64]:
    """Return FID and 1000 x KID of each place, [2, orientation, place]."""
    found = np.zeros((2, len(ORIENTATIONS), COMPARED_PLACES))
    for o in range(len(ORIENTATIONS)):
        for place in range(COMPARED_PLACES):
            a, b = (
                Features(of.values[rows, o, place].reshape(-1, of.values.shape[-1]).astype(float), reader.card)
                for of, rows in ((real, first), (made, second))
            )
            found[:, o, place] = fid(a, b).value, 1000 * kid_of_all(a, b).value
    return found


def _score(made: SliceFeatures, rows: NDArray, reader: SliceReader) -> float:
    values, classes = (of[rows].reshape(-1, of.shape[-1]).astype(float) for of in (made.values, made.probabilities))
    classes /= classes.sum(1, keepdims=True)
    return inception_score(Features(values, reader.card, classes), splits=1).value


def _distances(rows: NDArray[np.float64], scores: Sequence[float]) -> SliceDistances:
    """Summarise FID and 1000 x KID, rows [draw, 2, orientation, place], and the inception scores of the draws."""
    means = rows.mean((2, 3))
    by_orientation = dict(zip(ORIENTATIONS, rows[:, 0].mean((0, 2)).tolist(), strict=True))
    spread = float(rows[:, 0].mean(0).std())
    return SliceDistances(_range(means[:, 0]), _range(means[:, 1]), by_orientation, spread, _range(np.array(scores)))


def _range(values: NDArray[np.float64]) -> Estimate:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def _slices(hu: NDArray) -> NDArray:
    """Return the slices at all places of a scan, [orientation * place * slice, row, column]."""
    found = []
    for o in range(len(ORIENTATIONS)):
        n = hu.shape[o]
        for place in range(COMPARED_PLACES):
            middle = int((place + 0.5) / COMPARED_PLACES * n)
            found += [slice_of(hu, o, (min(max(middle + k, 0), n - 1) + 0.5) / n) for k in AROUND_PLACE]
    return np.stack(found)


def blurred_chests(scans: Iterable[NDArray]) -> Iterator[NDArray]:
    """Blur real chests: a control, which must be further from real chests than real chests are from each other."""
    return (gaussian_filter(hu.astype(np.float32), CHEST_BLUR_VOXELS) for hu in scans)


@dataclass(frozen=True)
class ChestChecks:
    """Diversity, anatomy and copies of a set of scans.

    Attributes:
        ms_ssim: mean MS-SSIM of pairs of the set, lower for more varied scans; None for sets or scans too small.
        outside: anatomical measure to the share of the scans outside the range of the training chests.
        anomalies: share of the scans outside that range in at least one measure.
        worst: index of the scan furthest outside.
        copies: number of scans nearer to a training chest than any chest of other patients is; None for real scans.
        nearest: smallest, median and largest distance in HU to the nearest training chest.
    """

    ms_ssim: Estimate | None
    outside: Mapping[str, float]
    anomalies: float
    worst: int
    copies: int | None
    nearest: tuple[float, float, float]


def chest_checks(
    scans: Sequence[NDArray],
    training: Sequence[NDArray],
    fresh: Sequence[NDArray],
    usual: UsualChests,
    *,
    is_real: bool = False,
) -> ChestChecks:
    """Measure the anatomy along z, the diversity and the copies of a set of scans.

    Args:
        scans: HU [z, y, x] each.
        training: chests on which makers were trained.
        fresh: chests of other patients.
        usual: ranges of the anatomical measures of the training chests.
        is_real: whether `scans` are the `fresh` chests, so that copies are not counted.
    """
    outside = [usual.outside(hu) for hu in scans]
    far = [max(each.values()) for each in outside]
    found = chest_copies(scans, training, fresh)
    edge = min(SSIM_EDGE, *scans[0].shape)
    alike = None
    if len(scans) >= 3 and scales_of((edge,) * 3):
        alike = diversity(coarse(scans, edge), VALUE_RANGE_HU, pairs=SSIM_PAIRS).ms_ssim
    return ChestChecks(
        alike,
        {name: float(np.mean([each[name] > 0 for each in outside])) for name in outside[0]},
        float(np.mean(np.array(far) > 0)),
        int(np.argmax(far)),
        None if is_real else int(found.copies.sum()),
        (float(found.made.min()), float(np.median(found.made)), float(found.made.max())),
    )
