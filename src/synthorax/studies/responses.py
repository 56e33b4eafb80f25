"""What detectors say of places in scans: nodules, healthy lung, and what edits made of one or the other.

An edit is judged by the way that it went: of an erased nodule from the response to nodules to that at healthy sites of
the same scans, of an injected one from the response at healthy sites to that to real nodules. That it arrived is
shown by a test of equivalence with a margin that is stated beforehand, so that few patients cannot pass for success.
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
"""Margin of equivalence: an edit that leaves less than this share of the way from one response to the other arrived."""
CALLED_WITHIN = 0.05
"""Margin of equivalence: shares of places called nodules that differ by less than this are taken for the same."""


@dataclass(frozen=True, eq=False)
class Rated:
    """What detectors say of some places.

    Attributes:
        log_odds: of a nodule in the middle, means over the detectors, float64 [n].
        patients: [n].
    """

    log_odds: NDArray[np.float64]
    patients: NDArray[np.str_]

    def __post_init__(self) -> None:
        if len(self.log_odds) != len(self.patients):
            found = f"{len(self.log_odds)} responses of {len(self.patients)} patients"
            raise InputError("responses", found, "a patient for each")

    def among(self, rows: NDArray) -> Rated:
        """Some of them, by their numbers or bool [n]."""
        return Rated(self.log_odds[rows], self.patients[rows])

    def mean(self, seed: int = 0) -> Estimate:
        """The mean log odds with its 95 % interval over patients."""
        return patient_bootstrap(mean_of(self.log_odds), self.patients, seed=seed).interval()

    def called(self, cut: float, seed: int = 0) -> Estimate:
        """The share called nodules, those of at least `cut`, with its 95 % interval over patients."""
        shares = mean_of((self.log_odds >= cut).astype(float))
        return patient_bootstrap(shares, self.patients, seed=seed).interval()


@dataclass(frozen=True, eq=False)
class Detectors:
    """Detectors of one configuration, whose mean log odds count.

    Attributes:
        cut: log odds from which on a patch is called a nodule.
    """

    tasks: Sequence[Classification]
    cut: float

    @classmethod
    def trained(cls, study: Study, config: TaskConfig, splits: Splits) -> Detectors:
        """Train one detector for each seed of a study, or read it from an earlier call.

        They are called with the best balanced accuracy on the validation patients.
        """
        tasks = [study.reader("detector", config, splits, seed) for seed in study.seeds]
        said = np.mean([[*_all_log_odds(task, splits)] for task in tasks], 0)
        return cls(tasks, choose_threshold(splits.val.labels, said))

    @property
    def spec(self) -> PatchSpec:
        """The patches that they see."""
        return self.tasks[0].config.patch

    def log_odds(self, hu: NDArray[np.number]) -> NDArray[np.float64]:
        """Of a nodule in the middle of patches in HU [n, z, y, x], [n]."""
        patches = self.spec.to_unit(torch.from_numpy(hu.astype(np.float32)))[:, None]
        return np.mean([log_odds_of(task, patches) for task in self.tasks], 0)

    def rated(self, places: Sequence[tuple[Volume, Sequence[float]]], patients: Sequence[str]) -> Rated:
        """What they say of places in scans.

        Args:
            places: HU of a scan, or of a part of it, and a place (x, y, z) in mm, LPS.
            patients: of each place.
        """
        patches = [patch_around(ct, center_mm, self.spec) for ct, center_mm in places]
        return Rated(self.log_odds(np.stack(patches)), np.array(patients))


def patch_around(ct: Volume, center_mm: Sequence[float], spec: PatchSpec) -> NDArray[np.number]:
    """HU [z, y, x] of the patch around a place, as a network sees it in training."""
    return resample_like(ct, patch_grid(ct, center_mm, spec)).voxels


def way_left(found: Rated, goal: Rated, start: Rated, seed: int = 0, margin: float = WAY_LEFT_WITHIN) -> Equivalence:
    """How much is left of the way from one mean response to another: 0 at the goal, 1 at the start.

    The test is of a share smaller than `margin` to either side, patients being resampled with all their places.

    Args:
        found: responses after an edit.
        goal: responses that it should have.
        start: responses before it.

    Raises:
        InputError: fewer than 2 patients, or a goal that cannot be told from the start.
    """
    values = np.concatenate([found.log_odds, goal.log_odds, start.log_odds])
    kinds = np.repeat(np.eye(3), [len(each.log_odds) for each in (found, goal, start)], 0)
    means = [mean_of(values, kind) for kind in kinds.T]

    def shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        made, wanted, before = (mean.values(weights) for mean in means)
        return (made - wanted) / (before - wanted)

    return _resampled(Statistic(len(values), shares), (found, goal, start), seed).equivalence(margin)


def called_apart(found: Rated, goal: Rated, cut: float, seed: int = 0, margin: float = CALLED_WITHIN) -> Equivalence:
    """How much larger the share of places called nodules is than it should be.

    Args:
        found: responses after an edit.
        goal: responses that it should have.
        cut: log odds from which on a place is called a nodule.
    """
    called = np.concatenate([found.log_odds, goal.log_odds]) >= cut
    is_found = np.arange(len(called)) < len(found.log_odds)
    apart = difference(mean_of(called, is_found), mean_of(called, ~is_found))
    return _resampled(apart, (found, goal), seed).equivalence(margin)


def _resampled(statistic: Statistic, parts: Sequence[Rated], seed: int) -> Bootstrap:
    return patient_bootstrap(statistic, np.concatenate([each.patients for each in parts]), seed=seed)


def log_odds_of(task: Classification, patches: Float[Tensor, "n 1 z y x"]) -> NDArray[np.float64]:
    """What a detector says of patches within -1 to 1: the log odds of a nodule in the middle, [n]."""
    logits = task.logits(patches)
    return (logits[:, 1] - logits[:, 0]).numpy().astype(np.float64)


def _all_log_odds(task: Classification, splits: Splits) -> NDArray[np.float64]:
    return np.concatenate([log_odds_of(task, ct) for ct in cts(splits.val)])
