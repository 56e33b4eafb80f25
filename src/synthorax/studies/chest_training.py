"""How classifiers of whole chests are trained: batches of both classes, made chests before real ones."""

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
    """As many chests of each class in every batch, a function of the step.

    Attributes:
        sets: what is drawn from, with the step from which on it is.
        region: whole chests are flipped from side to side alone, cubes along every axis.
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
    """What an arm learns from, and the arms that it is compared with.

    Attributes:
        sets: with the share of the steps after which each begins.
        augmented: flips, shifts and scales.
    """

    name: str
    sets: Sequence[tuple[float, ChestSet]]
    augmented: bool = False
    against: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ChestSplits:
    """What every arm is selected by and measured on."""

    val: ChestSet
    test: ChestSet


def chest_scores(
    study: Study, config: TaskConfig, arm: ChestArm, splits: ChestSplits, region: ChestRegion
) -> list[Scores]:
    """Train an arm with every seed of a study; what each training says of chests that it did not see."""
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
    """A configuration that does not flip, move or scale."""
    return config.model_copy(update={"flip": False, "turn": False, "shift_voxels": 0.0, "scale": (1.0, 1.0)})
