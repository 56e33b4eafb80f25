"""Training of classifiers of whole chests: balanced batches, and pre-training on synthetic chests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.markup import escape
from torch import Tensor

from synthorax.datasets.augmentation import Augmentation
from synthorax.datasets.chest_grid import ChestRegion
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.provenance import fingerprint
from synthorax.seeding import derive, generator
from synthorax.studies.chest_sets import ChestSet
from synthorax.studies.trials import Scores, Study, trial
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig


@dataclass(frozen=True, eq=False)
class ChestBatches:
    """Batches with as many chests of either class, a function of the step.

    Attributes:
        sets: first step of each set, and the set; a batch is drawn from the last set that has begun.
        config: batch size, augmentation and grid.
        seed: seed of the draws.
        region: `lungs` flips chests only from left to right, `cube` along every axis.
    """

    sets: Sequence[tuple[int, ChestSet]]
    config: TaskConfig
    seed: int
    region: ChestRegion

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return ct [b, 1, z, y, x] from -1 to 1, and label [b]."""
        config, random = self.config, generator(self.seed, "batch", step)
        (now,) = [chests for first, chests in self.sets if first <= step][-1:]
        each = config.batch_size // 2
        rows = np.concatenate([random.choice(np.flatnonzero(now.labels == k), each) for k in (NEGATIVE, POSITIVE)])
        drawn = Augmentation(config.flip, config.shift_voxels, config.scale).draw(random, len(rows))
        if self.region == "lungs":
            drawn.flips[:, :2] = 1
        unit = config.patch.to_unit(drawn.apply(now.hu[rows], config.size))
        return {"ct": unit[:, None], "label": torch.from_numpy(now.labels[rows])}


@dataclass(frozen=True, eq=False)
class ChestArm:
    """The chests on which an arm is trained, and the arms with which it is compared.

    Attributes:
        sets: share of the training steps after which each set begins, and the set.
        augmented: whether chests are flipped, shifted and scaled.
        against: names of the arms with which it is compared.
    """

    name: str
    sets: Sequence[tuple[float, ChestSet]]
    augmented: bool = False
    against: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ChestSplits:
    """The chests by which every arm's best weights are chosen, and those on which it is measured."""

    val: ChestSet
    test: ChestSet


def chest_scores(
    study: Study, config: TaskConfig, arm: ChestArm, splits: ChestSplits, region: ChestRegion
) -> list[Scores]:
    """Train an arm with every seed of a study; return each training's scores of validation and test chests."""
    own = config if arm.augmented else unaugmented(config)
    sets = [(round(share * config.steps), chests) for share, chests in arm.sets]
    key = fingerprint(repr([(first, chests.key) for first, chests in sets] + [splits.val.key, splits.test.key]))
    found = []
    for seed in study.seeds:
        study.console.print(f"[bold]{escape(arm.name)}[/bold], training seed {seed}")
        make_batches = partial(ChestBatches, sets, own, derive(seed, "chests"), region)
        out = study.out / f"{arm.name}-{seed}".replace(" ", "-").replace(",", "")
        found.append(trial(Classification(own, seed), splits, make_batches, out, key, device=study.device))
    return found


def unaugmented(config: TaskConfig) -> TaskConfig:
    """Return the configuration without flips, turns, shifts and scaling."""
    return config.model_copy(update={"flip": False, "turn": False, "shift_voxels": 0.0, "scale": (1.0, 1.0)})
