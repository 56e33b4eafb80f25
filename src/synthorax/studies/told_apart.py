"""Can a newly trained network distinguish synthetic patches from real ones? Its AUC counts only beside two controls.

The network is cross-validated over folds of patients, so that every patch is scored by a network that was not trained
on its patient. The controls train the same network with as many patches and steps. It must not distinguish real patches
from real patches of other patients, and it must distinguish real patches from the same ones blurred by half a voxel.
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
"""Network and training: windows of 20^3 voxels cut from patches of 22^3 voxels of 1 mm. Of 100, 200 and 300 steps, 200
are the fewest with which the AUC of blurred against sharp patches of 240 patients exceeds .95."""
TOLD_APART_FOLDS = 3
"""Number of folds of patients; a network trained on the other folds scores each fold."""
LOOKS = 4
"""Number of shifted and turned windows of a patch over which its score is averaged."""
TOLD_APART_BLUR_VOXELS = 0.5
"""Standard deviation in voxels of the Gaussian that blurs the patches of the second control."""
LEAST_BLURRED = 0.9
"""Least AUC of blurred against sharp patches; below it the network is too weak for its verdict to count."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Patches of two kinds with the scores of networks that were not trained on their patients.

    Attributes:
        labels: 1 for patches of the second kind, 0 for the first, int64 [n].
        scores: score of each patch, higher for the second kind, [n]. The scores of one network have a mean of 0 and a
            standard deviation of 1.
        patients: patient of each patch, [n].
        folds: number of the network that scored the patch, int64 [n].
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: NDArray[np.str_]
    folds: NDArray[np.int64]

    def auc(self, rows: NDArray[np.bool_] | None = None) -> Estimate:
        """Return the AUC with its 95 % interval over patients, of all patches or of those that `rows`, bool [n], marks.

        Raises:
            InputError: the patches are of one kind only, or of fewer than 2 patients.
            UndefinedError: a kind has so few patients that many resamples lack it.
        """
        chosen = slice(None) if rows is None else rows
        statistic = auc_of(self.labels[chosen], self.scores[chosen])
        return patient_bootstrap(statistic, self.patients[chosen]).interval()

    def less(self, other: Judged, rows: NDArray[np.bool_] | None = None) -> Comparison:
        """Return this AUC less that of `other`, whose patches must have the same kinds and patients row by row.

        Raises:
            InputError: the rows have other kinds or patients; see also `auc`.
        """
        if not (np.array_equal(self.labels, other.labels) and np.array_equal(self.patients, other.patients)):
            raise InputError("judged patches", "rows with different kinds or patients", "the same rows in both")
        chosen = slice(None) if rows is None else rows
        own, others = (auc_of(each.labels[chosen], each.scores[chosen]) for each in (self, other))
        return patient_bootstrap(difference(own, others), self.patients[chosen]).comparison()


@dataclass(frozen=True, eq=False)
class Controls:
    """The network's scores in two comparisons whose outcome is known.

    Attributes:
        same: real patches of half of the patients against those of the other half. The two halves have similar
            densities in every fold. Otherwise a chance difference in the training folds is reversed in the held-out
            fold, and the AUC falls below .5.
        blurred: real patches of half of the patients against the same patches blurred.
    """

    same: Judged
    blurred: Judged

    @property
    def void(self) -> str:
        """The reason why a verdict beside these controls does not count; empty if it counts."""
        same, blurred = self.same.auc(), self.blurred.auc()
        if not same.low <= 0.5 <= same.high:
            found = f"AUC {same.value:.3f} ({same.low:.3f} to {same.high:.3f})"
            return f"void: the network distinguishes real patches from other real ones, {found}"
        if blurred.value < LEAST_BLURRED:
            found = f"void: the network distinguishes blurred from sharp patches with an AUC of {blurred.value:.3f}"
            return f"{found} only, not {LEAST_BLURRED:g} or more"
        return ""


def told_apart(
    real: Patches, made: Patches, seed: int = 0, *, config: TaskConfig = TELLER, device: str = "auto"
) -> Judged:
    """Score real and synthetic patches with networks trained to distinguish them.

    The patients are split into two halves, so that each network is trained on as many patches as those of `controls`.

    Args:
        real: real patches.
        made: synthetic patches on the same grid; a patch belongs to the patient whose scan surrounds the nodule.
        seed: seed of the halves, folds and trainings.
        config: network, window and training. Patches are wider than the window by `shift_voxels` on each side.
        device: device of the networks.

    Returns:
        The scores, first of the real patches (label 0) and then of the synthetic ones (label 1).

    Raises:
        InputError: patches have another size, or a half has fewer patients than folds.
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
    """Score real patches against other real ones, and blurred against sharp ones; for arguments see `told_apart`.

    Raises:
        InputError: see `told_apart`.
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
    """Score each fold of the patients with a network trained on the other folds.

    Args:
        patches: the patches.
        labels: kind of each patch, 0 or 1, [n].
        seed: seed of the folds and trainings.
        config: network, window and training.
        device: device of the networks.
        groups: group of each patch, [n]; the patches of a group are in one fold. By default the patients.

    Raises:
        InputError: patches have another size, there are fewer groups than folds, or all patches of a kind are in one
            fold.
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
    """Return the fold of each patch, [n]; all patches of a patient are in one fold.

    Raises:
        InputError: there are fewer patients than folds.
    """
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < TOLD_APART_FOLDS:
        raise InputError("patients", f"{len(names)}", f"{TOLD_APART_FOLDS} or more, at least one for each fold")
    fold = np.empty(len(names), np.int64)
    fold[generator(seed, "folds").permutation(len(names))] = np.arange(len(names)) % TOLD_APART_FOLDS
    return fold[index]


def smallest_auc(negatives: int, positives: int) -> float:
    """Return the AUC that a test against .5 detects with the power `POWER`, by the Mann-Whitney statistic's variance.

    >>> round(smallest_auc(100, 100), 3)
    0.615
    """
    error = sqrt((negatives + positives + 1) / (12 * negatives * positives))
    return float(0.5 + (norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)) * error)


def _learned(
    patches: Patches, labels: NDArray[np.int64], rows: NDArray[np.int64], seed: int, config: TaskConfig, device: str
) -> Classification:
    """Train a network on some rows, with as many patches of either kind in every batch."""
    kinds = [rows[labels[rows] == label] for label in (0, 1)]
    if not all(map(len, kinds)):
        raise InputError("patches", "all patches of a kind in one fold", "both kinds in two or more folds")
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
    """Return the log odds of the second kind, means over `LOOKS` windows, [n]."""
    config, total = task.config, np.zeros(len(hu))
    for look in range(LOOKS):
        drawn = _window(config).draw(generator(seed, look), len(hu))
        logits = task.logits(config.patch.to_unit(drawn.apply(hu, config.size))[:, None]).numpy()
        total += logits[:, 1] - logits[:, 0]
    return total / LOOKS


def _window(config: TaskConfig) -> Augmentation:
    """Return the augmentation: shifts by whole voxels, flips and right-angled turns, none of which blurs."""
    return Augmentation(config.flip, config.shift_voxels, turn=config.flip)


def _halves(real: Patches, made: Patches, seed: int) -> Sequence[NDArray[np.str_]]:
    """Split the patients of both sets into two halves."""
    patients = np.unique(np.concatenate([real.patients, made.patients]))
    return np.array_split(generator(seed, "halves").permutation(patients), 2)


def _couples(real: Patches, seed: int) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64]]:
    """Pair patients of similar mean HU, and put one patient of each couple on either side.

    Returns:
        The patients, sorted; the number of each patient's couple; each patient's side, 0 or 1. With an odd number of
        patients, one couple has one patient.
    """
    names, index = np.unique(real.patients, return_inverse=True)
    mean_hu = np.bincount(index, real.hu.mean((1, 2, 3))) / np.bincount(index)
    rank = np.argsort(np.argsort(mean_hu, kind="stable"), kind="stable")
    swapped = generator(seed, "halves").integers(2, size=(len(names) + 1) // 2)
    return names, rank // 2, (rank + swapped[rank // 2]) % 2


def _both(first: Patches, second: Patches) -> Patches:
    if first.hu.shape[1:] != second.hu.shape[1:]:
        found, expected = f"{second.hu.shape[1:]} voxels", f"{first.hu.shape[1:]}, as the real ones have"
        raise InputError("synthetic patches", found, expected)
    return Patches(np.concatenate([first.hu, second.hu]), np.concatenate([first.patients, second.patients]))
