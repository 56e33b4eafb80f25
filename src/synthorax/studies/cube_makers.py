"""Generative systems as the studies see them: makers of cubes of CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.hub import Model
from synthorax.nodule import NoduleAttributes
from synthorax.systems.ac_wgan.system import POSITIVE, AcWgan
from synthorax.tasks.classification import all_of
from synthorax.tasks.config import TaskConfig


@dataclass(frozen=True, eq=False)
class AcWganCubes:
    """The AC-WGAN-GP as a `detection.CubeMaker`."""

    system: AcWgan
    sha256: str

    @property
    def has_negatives(self) -> bool:
        """Whether it learned patches without a nodule."""
        return self.system.config.negatives

    def made(
        self, asked: Sequence[NoduleAttributes], seed: int, *, positive: bool = True, select: bool = False
    ) -> NDArray[np.int16]:
        """Cubes [n, z, y, x] in HU, one for each set of attributes; what its network was not told of it draws."""
        return self.system.sample(len(asked), seed, asked, positive=positive, select=select).hu

    def confidence(self, patches: PatchDataset) -> NDArray[np.float64]:
        """Probability of a nodule by the critic's class head, [n]."""
        classes = self.system.judge(all_of(patches)["ct"]).classes
        return classes.softmax(1)[:, POSITIVE].numpy().astype(np.float64)


def cube_maker(model: Model, store: Store, config: TaskConfig) -> AcWganCubes:
    """A model as the maker of a study's cubes.

    Raises:
        InputError: a system that makes none, cubes that are not the task's, or training patients among those that
            the study measures or selects on.
    """
    if not isinstance(model.system, AcWgan):
        raise InputError("model", f"a model of {model.system.name}", "one that makes cubes of CT, as ac-wgan")
    own = model.system.config
    for name in ("size", "spacing_mm", "window_hu"):
        if getattr(own, name) != getattr(config, name):
            raise InputError("model", f"cubes with {name} {getattr(own, name)}", f"the task's {getattr(config, name)}")
    check_unseen(model, store)
    return AcWganCubes(model.system, model.sha256)


def check_unseen(model: Model, store: Store) -> None:
    """Refuse a model that learned from patients whom a study holds out.

    Raises:
        InputError: it did.
    """
    if leaked := sorted(model.seen & {p for split in ("val", "test") for p in store.splits[split]}):
        found = f"training with {len(leaked)} patients who are held out here, such as {leaked[0]}"
        raise InputError("model", found, "one trained on this store, or on other patients")
