"""How far made chests are from real ones, slice by slice, against how far real ones are from each other (papers/5).

The paper compares slices of one place in two sets, place after place. Here too, in three orientations: the set of a
place has the slices around it of all scans, and a distance is the mean over places. Every set has as many scans as half
of the real ones, drawn anew `DRAWS` times, so that distances of all arms are of sets of one size.
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
"""Places along each orientation at which sets are compared."""
AROUND_PLACE = (-2, -1, 0, 1, 2)
"""Slices of a place, counted from its own."""
DRAWS = 20
"""Halves of the real scans drawn, and as many made ones."""
REAL_REAL, BLURRED_CHESTS = "real, other patients", "the same, blurred"
CHEST_BLUR_VOXELS = 1.0
"""Standard deviation of the Gaussian that blurs real chests: a control that must be further than real chests are."""
SSIM_PAIRS, SSIM_EDGE = 60, 64
"""Pairs of a set whose MS-SSIM is averaged, and voxels along the edge of the grid on which it is."""
LEAST_CHESTS = 8
"""Real chests that are compared at least."""


@dataclass(frozen=True, eq=False)
class SliceFeatures:
    """Features of the slices of some scans.

    Attributes:
        values: float32 [n, orientation, place, slice, d].
        probabilities: float32 [n, orientation, place, slice, k].
    """

    values: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, reader: SliceReader, scans: Iterable[NDArray]) -> SliceFeatures:
        """Of scans, HU [z, y, x] each."""
        found = [reader(_slices(hu)) for hu in scans]
        shape = (len(found), len(ORIENTATIONS), COMPARED_PLACES, len(AROUND_PLACE), -1)
        values = np.stack([each.values for each in found]).astype(np.float32)
        classes = np.stack([each.probabilities for each in found if each.probabilities is not None])
        return cls(values.reshape(shape), classes.astype(np.float32).reshape(shape))

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class SliceDistances:
    """A set of scans against real ones.

    Attributes:
        fid, kid: mean over draws, and the range that holds 95 % of them; KID is multiplied by 1000.
        by_orientation: mean FID of each orientation.
        places: standard deviation of the FID over places, as the paper has beside its mean.
        score: the inception score of all slices, mean and range over draws.
    """

    fid: Estimate
    kid: Estimate
    by_orientation: Mapping[str, float]
    places: float
    score: Estimate


def slice_distances(
    real: SliceFeatures, sets: Mapping[str, SliceFeatures], reader: SliceReader, seed: int = 0, draws: int = DRAWS
) -> dict[str, SliceDistances]:
    """SliceDistances of halves of the real scans to their other half (`REAL_REAL`), and to as many scans of each set.

    Args:
        real: of patients on whom no maker was trained.
        sets: by name; of those that are as many as `real`, row by row of the same patients, the other half is taken.

    Raises:
        InputError: fewer than `LEAST_CHESTS` real scans, or fewer made ones than half of that.
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
    """Refuse sets that are too small to be compared.

    Args:
        real: number of real scans.
        sets: number of scans of each other set.

    Raises:
        InputError: fewer than `LEAST_CHESTS` real scans, or fewer made ones than half of the real ones.
    """
    if real < LEAST_CHESTS or any(n < real // 2 for n in sets.values()):
        found = f"{real} real, {', '.join(f'{n} of {name}' for name, n in sets.items())}"
        raise InputError("scans", found, f"{LEAST_CHESTS} real ones or more, and half as many made ones")


def _by_place(
    real: SliceFeatures, first: NDArray, made: SliceFeatures, second: NDArray, reader: SliceReader
) -> NDArray[np.float64]:
    """FID and 1000 KID of each place, [2, orientation, place]."""
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
    """Of rows [draw, 2, orientation, place]."""
    means = rows.mean((2, 3))
    by_orientation = dict(zip(ORIENTATIONS, rows[:, 0].mean((0, 2)).tolist(), strict=True))
    spread = float(rows[:, 0].mean(0).std())
    return SliceDistances(_range(means[:, 0]), _range(means[:, 1]), by_orientation, spread, _range(np.array(scores)))


def _range(values: NDArray[np.float64]) -> Estimate:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def _slices(hu: NDArray) -> NDArray:
    """The slices of all places of a scan, [orientation * place * slice, v, u]."""
    found = []
    for o in range(len(ORIENTATIONS)):
        n = hu.shape[o]
        for place in range(COMPARED_PLACES):
            middle = int((place + 0.5) / COMPARED_PLACES * n)
            found += [slice_of(hu, o, (min(max(middle + k, 0), n - 1) + 0.5) / n) for k in AROUND_PLACE]
    return np.stack(found)


def blurred_chests(scans: Iterable[NDArray]) -> Iterator[NDArray]:
    """The control that must be further from real chests than they are from each other."""
    return (gaussian_filter(hu.astype(np.float32), CHEST_BLUR_VOXELS) for hu in scans)


@dataclass(frozen=True)
class ChestChecks:
    """What else is measured of a set of scans.

    Attributes:
        ms_ssim: of pairs of the set; the lower, the more scans differ.
        outside: share of the scans that are outside of the range of the training chests, by measure.
        anomalies: share of the scans that are outside in any measure.
        worst: number of the scan that is furthest outside.
        copies: number of scans that are nearer to a training chest than any fresh one is; None of real scans.
        nearest: least, median and greatest distance in HU to the nearest training chest.
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
    """Anatomy along z, diversity and copies of a set.

    Args:
        scans: HU [z, y, x] each.
        training: chests that makers have seen.
        fresh: chests of other patients.
        usual: of the training chests.
        is_real: of `fresh` themselves.
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
