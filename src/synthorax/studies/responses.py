"""Responses of detectors at places in scans: nodules, healthy lung, erased nodules and injected nodules.

Erasing should move the response from that at nodules to that at healthy sites of the same scans; injecting should move
it from that at healthy sites to that at real nodules. Success is shown by a test of equivalence with a margin stated
beforehand, so that a lack of patients cannot pass for success.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from synthorax.datasets.patches import patch_grid
from synthorax.errors import InputError
from synthorax.geometry import resample_like
from synthorax.metrics.bootstrap import Bootstrap, Statistic, difference, mean_of, patient_bootstrap
from synthorax.metrics.classification import choose_threshold
from synthorax.metrics.estimates import Equivalence, Estimate
from synthorax.patch import PatchSpec
from synthorax.studies.trials import Splits, Study
from synthorax.tasks.classification import Classification, cts
from synthorax.tasks.config import TaskConfig
from synthorax.volume import Volume

WAY_LEFT_WITHIN = 0.1
"""Margin of equivalence for `way_left`, as a share of the distance between the two responses."""
CALLED_WITHIN = 0.05
"""Margin of equivalence for the difference between two shares of places called nodules."""


@dataclass(frozen=True, eq=False)
class Rated:
    """Responses of detectors at n places.

    Attributes:
        log_odds: log odds of a nodule at each place, means over the detectors, float64 [n].
        patients: patient of each place, [n].
    """

    log_odds: NDArray[np.float64]
    patients: NDArray[np.str_]

    def __post_init__(self) -> None:
        if len(self.log_odds) != len(self.patients):
            found = f"{len(self.log_odds)} responses of {len(self.patients)} patients"
            raise InputError("responses", found, "a patient for each response")

    def among(self, rows: NDArray) -> Rated:
        """Return the responses at some places, by index or by a mask, bool [n]."""
        return Rated(self.log_odds[rows], self.patients[rows])

    def mean(self, seed: int = 0) -> Estimate:
        """Return the mean log odds with its 95 % interval over patients."""
        return patient_bootstrap(mean_of(self.log_odds), self.patients, seed=seed).interval()

    def called(self, cut: float, seed: int = 0) -> Estimate:
        """Return the share of places with log odds of at least `cut`, with its 95 % interval over patients."""
        shares = mean_of((self.log_odds >= cut).astype(float))
        return patient_bootstrap(shares, self.patients, seed=seed).interval()


@dataclass(frozen=True, eq=False)
class Detectors:
    """Detectors of one configuration, used together: their log odds are averaged.

    Attributes:
        tasks: the detectors.
        cut: least mean log odds at which a patch is called a nodule.
    """

    tasks: Sequence[Classification]
    cut: float

    @classmethod
    def trained(cls, study: Study, config: TaskConfig, splits: Splits) -> Detectors:
        """Train one detector for each seed of a study, or load it from an earlier call.

        `cut` is the threshold with the best balanced accuracy on the validation patients.
        """
        tasks = [study.reader("detector", config, splits, seed) for seed in study.seeds]
        said = np.mean([[*_all_log_odds(task, splits)] for task in tasks], 0)
        return cls(tasks, choose_threshold(splits.val.labels, said))

    @property
    def spec(self) -> PatchSpec:
        """Grid and HU window of the detectors' patches."""
        return self.tasks[0].config.patch

    def log_odds(self, hu: NDArray[np.number]) -> NDArray[np.float64]:
        """Return the mean log odds of a nodule in the middle of each patch, HU [n, z, y, x]; [n]."""
        patches = self.spec.to_unit(torch.from_numpy(hu.astype(np.float32)))[:, None]
        return np.mean([log_odds_of(task, patches) for task in self.tasks], 0)

    def rated(self, places: Sequence[tuple[Volume, Sequence[float]]], patients: Sequence[str]) -> Rated:
        """Return the detectors' responses at places in scans.

        Args:
            places: pairs of a scan, or a part of it, in HU, and a place (x, y, z) in mm, LPS.
            patients: patient of each place.
        """
        patches = [patch_around(ct, center_mm, self.spec) for ct, center_mm in places]
        return Rated(self.log_odds(np.stack(patches)), np.array(patients))


def patch_around(ct: Volume, center_mm: Sequence[float], spec: PatchSpec) -> NDArray[np.number]:
    """Return the patch around a place (x, y, z) as a network gets it in training, HU [z, y, x]."""
    return resample_like(ct, patch_grid(ct, center_mm, spec)).voxels


def way_left(found: Rated, goal: Rated, start: Rated, seed: int = 0, margin: float = WAY_LEFT_WITHIN) -> Equivalence:
    """Return the share of the distance from `start` to `goal` that an edit leaves: 0 at the goal, 1 at the start.

    The distances are those between mean log odds. The share is tested for equivalence with 0 within `margin`; patients
    are resampled with all their places.

    Args:
        found: responses after the edit.
        goal: responses that the edit should reach.
        start: responses before the edit.
        seed: seed of the bootstrap.
        margin: margin of equivalence.

    Raises:
        InputError: there are fewer than 2 patients, or the goal does not differ from the start.
    """
    values = np.concatenate([found.log_odds, goal.log_odds, start.log_odds])
    kinds = np.repeat(np.eye(3), [len(each.log_odds) for each in (found, goal, start)], 0)
    means = [mean_of(values, kind) for kind in kinds.T]

    def shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        made, wanted, before = (mean.values(weights) for mean in means)
        return (made - wanted) / (before - wanted)

    return _resampled(Statistic(len(values), shares), (found, goal, start), seed).equivalence(margin)


def called_apart(found: Rated, goal: Rated, cut: float, seed: int = 0, margin: float = CALLED_WITHIN) -> Equivalence:
    """Return the share of places called nodules after an edit less that among `goal`, tested for equivalence.

    Args:
        found: responses after the edit.
        goal: responses that the edit should reach.
        cut: least log odds at which a place is called a nodule.
        seed: seed of the bootstrap.
        margin: margin of equivalence.
    """
    called = np.concatenate([found.log_odds, goal.log_odds]) >= cut
    is_found = np.arange(len(called)) < len(found.log_odds)
    apart = difference(mean_of(called, is_found), mean_of(called, ~is_found))
    return _resampled(apart, (found, goal), seed).equivalence(margin)


def _resampled(statistic: Statistic, parts: Sequence[Rated], seed: int) -> Bootstrap:
    return patient_bootstrap(statistic, np.concatenate([each.patients for each in parts]), seed=seed)


def log_odds_of(task: Classification, patches: Float[Tensor, "n 1 z y x"]) -> NDArray[np.float64]:
    """Return a detector's log odds of a nodule in the middle of patches with intensities from -1 to 1, [n]."""
    logits = task.logits(patches)
    return (logits[:, 1] - logits[:, 0]).numpy().astype(np.float64)


def _all_log_odds(task: Classification, splits: Splits) -> NDArray[np.float64]:
    return np.concatenate([log_odds_of(task, ct) for ct in cts(splits.val)])
