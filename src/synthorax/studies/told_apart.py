"""Can a fresh network tell made patches from real ones? Its AUC counts only beside two controls of the same network.

The network learns on some patients and judges others, in folds, so that every patch is judged once by a network that
has not seen its patient. The controls take as many patches and steps: real patches against those of other patients,
which it must not tell apart, and real patches against the same ones blurred by half a voxel, which it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from synthorax.datasets.augmentation import Augmentation
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import difference, patient_bootstrap
from synthorax.metrics.estimates import ALPHA, POWER, Comparison, Estimate
from synthorax.metrics.roc import auc_of
from synthorax.seeding import derive, generator
from synthorax.studies.fidelity import Patches
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import NoiseNetConfig
from synthorax.training.devices import kind_of, make_fabric
from synthorax.training.precision import with_precision

TELLER = TaskConfig(
    network=NoiseNetConfig(),
    size=(20, 20, 20),
    steps=200,
    learning_rate=3e-3,
    late_rate=3e-4,
    weight_decay=1e-3,
    shift_voxels=1,
)
"""Network and budget: of patches of 22^3 voxels of 1 mm it sees windows of 20^3. 200 steps are the fewest of 100, 200
and 300 at which it tells the blurred patches of 240 patients from the sharp ones with an AUC above .95."""
TOLD_APART_FOLDS = 3
"""Folds of patients: the network scores each fold after training on the others."""
LOOKS = 4
"""Windows and turns of a patch over which its score is the mean."""
TOLD_APART_BLUR_VOXELS = 0.5
"""Standard deviation of the Gaussian that blurs the patches of the second control."""
LEAST_BLURRED = 0.9
"""AUC of sharp against blurred patches below which the network sees too little for its verdict to count."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Patches of two kinds, and what networks that have not seen their patients say of them.

    Attributes:
        labels: 1 for patches of the second kind, int64 [n].
        scores: higher for what looks like the second kind, [n]. Each network's have mean 0 and deviation 1.
        patients: [n].
        folds: number of the network that judged, int64 [n].
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: NDArray[np.str_]
    folds: NDArray[np.int64]

    def auc(self, rows: NDArray[np.bool_] | None = None) -> Estimate:
        """AUC with its 95 % interval over patients, of all patches or of some, bool [n].

        Raises:
            InputError: patches of one kind only, or of fewer than 2 patients.
            UndefinedError: so few patients of a kind that many resamples lack it.
        """
        chosen = slice(None) if rows is None else rows
        statistic = auc_of(self.labels[chosen], self.scores[chosen])
        return patient_bootstrap(statistic, self.patients[chosen]).interval()

    def less(self, other: Judged, rows: NDArray[np.bool_] | None = None) -> Comparison:
        """This AUC less another one of patches that have the same kinds and patients row by row.

        Raises:
            InputError: rows of other kinds or patients, or as `auc`.
        """
        if not (np.array_equal(self.labels, other.labels) and np.array_equal(self.patients, other.patients)):
            raise InputError("judged patches", "rows of other kinds or patients", "the same in both")
        chosen = slice(None) if rows is None else rows
        own, others = (auc_of(each.labels[chosen], each.scores[chosen]) for each in (self, other))
        return patient_bootstrap(difference(own, others), self.patients[chosen]).comparison()


@dataclass(frozen=True, eq=False)
class Controls:
    """What the network says where the answer is known.

    Attributes:
        same: real patches of half of the patients against those of the other half; the halves are alike in density, and
            so is each fold, since by chance differences a network would learn the opposite of what its fold shows.
        blurred: real patches of half of the patients against the same patches blurred.
    """

    same: Judged
    blurred: Judged

    @property
    def void(self) -> str:
        """Why a verdict beside these controls does not count; empty if it does."""
        same, blurred = self.same.auc(), self.blurred.auc()
        if not same.low <= 0.5 <= same.high:
            return (
                f"void: real patches are told from real ones, AUC {same.value:.3f} ({same.low:.3f} to {same.high:.3f})"
            )
        if blurred.value < LEAST_BLURRED:
            found = f"void: blurred patches are told from real ones with an AUC of {blurred.value:.3f}"
            return f"{found}, not {LEAST_BLURRED:g} or more"
        return ""


def told_apart(
    real: Patches, made: Patches, seed: int = 0, *, config: TaskConfig = TELLER, device: str = "auto"
) -> Judged:
    """Judge made patches among real ones; the rows are the real patches, then the made ones.

    The patients are taken in two halves, so that each network learns from as many patches as those of `controls` do.

    Args:
        made: patches on the same grid; the patient of each is the one whose scan surrounds the nodule.
        config: network, window and budget. Patches are `shift_voxels` wider than its window on each side.

    Raises:
        InputError: patches of another size, or fewer patients than folds in a half.
    """
    rows = _both(real, made)
    halves = [np.isin(rows.patients, half) for half in _halves(real, made, seed)]
    scores, folds = np.zeros(len(rows.hu)), np.zeros(len(rows.hu), np.int64)
    labels = np.repeat([0, 1], [len(real.hu), len(made.hu)])
    for k, half in enumerate(halves):
        judged = judge(
            Patches(rows.hu[half], rows.patients[half]), labels[half], derive(seed, "half", k), config, device
        )
        scores[half], folds[half] = judged.scores, judged.folds + TOLD_APART_FOLDS * k
    return Judged(labels, scores, rows.patients, folds)


def controls(real: Patches, seed: int = 0, *, config: TaskConfig = TELLER, device: str = "auto") -> Controls:
    """Judge real patches among real ones, and blurred ones among sharp ones; arguments as of `told_apart`.

    Raises:
        InputError: as `told_apart`.
    """
    names, couples, sides = _couples(real, seed)
    first, second = (real.among(names[sides == side]) for side in (0, 1))
    both = _both(first, second)
    blurred = np.stack([gaussian_filter(hu.astype(np.float32), TOLD_APART_BLUR_VOXELS) for hu in first.hu])
    labels = np.repeat([0, 1], [len(first.hu), len(second.hu)])
    groups = couples[np.searchsorted(names, both.patients)]
    same = judge(both, labels, derive(seed, "same"), config, device, groups=groups)
    against = _both(first, Patches(np.rint(blurred), first.patients))
    labels = np.repeat([0, 1], [len(first.hu)] * 2)
    return Controls(same, judge(against, labels, derive(seed, "blurred"), config, device))


def judge(
    patches: Patches,
    labels: NDArray[np.int64],
    seed: int,
    config: TaskConfig,
    device: str = "auto",
    *,
    groups: NDArray | None = None,
) -> Judged:
    """Train a network for each fold of the patients on the other folds, and let it judge the fold.

    Args:
        labels: 0 or 1, [n].
        groups: of each patch, [n]; a group's patches are in one fold. Its patients if not given.

    Raises:
        InputError: patches of another size, or a fold without whose patients one kind is missing.
    """
    margin = Augmentation(shift_voxels=config.shift_voxels).margin(config.size)
    if (size := patches.hu.shape[1:]) != (wanted := tuple(n + 2 * m for n, m in zip(config.size, margin, strict=True))):
        raise InputError("patches", f"{size} voxels", f"{wanted}, the network's window and {margin} on each side")
    folds = folds_of(patches.patients if groups is None else groups, seed)
    scores = np.zeros(len(labels))
    for k in range(TOLD_APART_FOLDS):
        task = _learned(patches, labels, np.flatnonzero(folds != k), derive(seed, "fold", k), config, device)
        held_out = np.flatnonzero(folds == k)
        found = _scores(task, patches.hu[held_out], derive(seed, "looks", k))
        scores[held_out] = (found - found.mean()) / max(float(found.std()), 1e-9)
    return Judged(labels, scores, patches.patients, folds)


def folds_of(patients: NDArray, seed: int) -> NDArray[np.int64]:
    """The fold of each patch, [n]; all patches of a patient are in one fold.

    Raises:
        InputError: fewer patients than folds.
    """
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < TOLD_APART_FOLDS:
        raise InputError("patients", f"{len(names)} of them", f"{TOLD_APART_FOLDS} or more, one a fold")
    fold = np.empty(len(names), np.int64)
    fold[generator(seed, "folds").permutation(len(names))] = np.arange(len(names)) % TOLD_APART_FOLDS
    return fold[index]


def smallest_auc(negatives: int, positives: int) -> float:
    """The AUC that would be told from .5 in `POWER` of all cases, by the variance of the Mann-Whitney statistic.

    >>> round(smallest_auc(100, 100), 3)
    0.615
    """
    error = sqrt((negatives + positives + 1) / (12 * negatives * positives))
    return float(0.5 + (norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)) * error)


def _learned(
    patches: Patches, labels: NDArray[np.int64], rows: NDArray[np.int64], seed: int, config: TaskConfig, device: str
) -> Classification:
    """A network after its steps on some rows, as many of each kind in every batch."""
    kinds = [rows[labels[rows] == label] for label in (0, 1)]
    if not all(map(len, kinds)):
        raise InputError("patches", "a kind from the patients of one fold alone", "both kinds in every part")
    config = with_precision(config, kind_of(device))
    task = Classification(config, seed)
    task.prepare_training(make_fabric(device, precision=config.precision))
    task.enter("network")
    window = _window(config)
    for step in range(config.steps):
        random = generator(seed, "batch", step)
        drawn = np.concatenate([random.choice(each, config.batch_size // 2) for each in kinds])
        batch = window.draw(random, len(drawn)).apply(patches.hu[drawn], config.size)
        ct, target = config.patch.to_unit(batch)[:, None], labels[drawn]
        task.training_step({"ct": ct.to(task.device), "label": torch.from_numpy(target).to(task.device)}, step)
    return task


def _scores(task: Classification, hu: NDArray, seed: int) -> NDArray[np.float64]:
    """Log odds of the second kind, the mean over some windows, [n]."""
    config, total = task.config, np.zeros(len(hu))
    for look in range(LOOKS):
        drawn = _window(config).draw(generator(seed, look), len(hu))
        logits = task.logits(config.patch.to_unit(drawn.apply(hu, config.size))[:, None]).numpy()
        total += logits[:, 1] - logits[:, 0]
    return total / LOOKS


def _window(config: TaskConfig) -> Augmentation:
    """Whole voxels of shift and right-angled turns alone, which blur nothing."""
    return Augmentation(config.flip, config.shift_voxels, turn=config.flip)


def _halves(real: Patches, made: Patches, seed: int) -> Sequence[NDArray[np.str_]]:
    """The patients of both sets in two halves."""
    patients = np.unique(np.concatenate([real.patients, made.patients]))
    return np.array_split(generator(seed, "halves").permutation(patients), 2)


def _couples(real: Patches, seed: int) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64]]:
    """Patients in couples of like mean HU, one of each on either side; of an odd number one is alone.

    Returns:
        The patients, sorted; the couple of each; its side, 0 or 1.
    """
    names, index = np.unique(real.patients, return_inverse=True)
    mean_hu = np.bincount(index, real.hu.mean((1, 2, 3))) / np.bincount(index)
    rank = np.argsort(np.argsort(mean_hu, kind="stable"), kind="stable")
    swapped = generator(seed, "halves").integers(2, size=(len(names) + 1) // 2)
    return names, rank // 2, (rank + swapped[rank // 2]) % 2


def _both(first: Patches, second: Patches) -> Patches:
    if first.hu.shape[1:] != second.hu.shape[1:]:
        raise InputError("made patches", f"{second.hu.shape[1:]} voxels", f"{first.hu.shape[1:]}, as of the real ones")
    return Patches(np.concatenate([first.hu, second.hu]), np.concatenate([first.patients, second.patients]))
