"""The arms of the study of detection: what each trains, and on which made patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.mixed import MixedBatches
from synthorax.datasets.patches import PatchDataset
from synthorax.makers import Generator
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.seeding import derive
from synthorax.studies.patch_makers import kept_patches, key_of, nodules_of, sampled, selected, too_wide, without_nodule
from synthorax.studies.trials import Feed
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import DetectorConfig

AMOUNTS = (0.25, 1.0, 4.0)
"""Made nodules for each real one."""
WIDER = 2
"""Channels of the larger detector for each one of the detector (section 6)."""
PLAIN, REFERENCE, LARGER = "real alone", "flips", "larger detector, flips"
LEAST_SELECTED = 0.8
"""Share of the samples asked for that must pass a selection; with fewer, an arm would have fewer made nodules than the
others, and those that are easy to make."""


def beside(maker: str, amount: float = 1.0, *, passed: bool = False) -> str:
    """The arm of a maker's nodules beside real ones; one made nodule for each real one is not said."""
    return f"flips + {maker}{', selected' * passed}" + ("" if amount == 1 else f" x {amount:g}")


def alone(maker: str, *, passed: bool = False) -> str:
    """The arm of a maker's patches without real ones."""
    return f"{maker} only{', selected' * passed}"


def larger(maker: str) -> str:
    """The arm of a larger detector with a maker's selected nodules."""
    return f"{LARGER} + {maker}, selected"


def own_head(maker: str) -> str:
    """The arm of a maker's own judgement."""
    return f"{maker}'s own judgement"


@dataclass(frozen=True, eq=False)
class Recipe:
    """What an arm trains, on what, and what it is compared with.

    Attributes:
        made: int16 HU [n, z, y, x] by class, of which those that the amount asks for are taken.
        amount: made nodules for each real one; infinite for made patches alone, as many as there are real ones.
        against: arms.
    """

    name: str
    config: TaskConfig
    made: Mapping[int, NDArray[np.int16]] = field(default_factory=dict)
    amount: float = 0.0
    against: tuple[str, ...] = (REFERENCE,)

    def feed(self, n_real: int) -> Feed | None:
        """The batches; the real ones alone if nothing is made."""
        if not self.made:
            return None
        only = self.amount == inf
        most = max(round((1 if only else self.amount) * n_real), 1)
        share = 1.0 if only else self.amount / (1 + self.amount)
        patches = {label: made[:most] for label, made in self.made.items()}
        key = repr((share, {label: key_of(made) for label, made in patches.items()}))
        return Feed(key, lambda train: MixedBatches(train, patches, share, self.config.batch_size))


@dataclass(frozen=True, eq=False)
class Made:
    """A maker's patches, int16 HU [n, z, y, x]; what it does not offer is None.

    Attributes:
        nodules: with the attributes of the training set's nodules.
        selected: the same, those that passed the maker's selection.
        empty: without a nodule.
        note: how many samples passed the selection, if there was one.
    """

    nodules: NDArray[np.int16]
    selected: NDArray[np.int16] | None = None
    empty: NDArray[np.int16] | None = None
    note: str = ""


def recipes(config: TaskConfig, made: Mapping[str, Made], amounts: Sequence[float] = AMOUNTS) -> list[Recipe]:
    """The arms that are trained: each maker's nodules are compared with real ones, and with those of the makers before.

    Args:
        made: by maker; arms of what one does not offer are left out.
    """
    network = config.network
    assert isinstance(network, DetectorConfig)
    flips = config.model_copy(update={"flip": True})
    wider = flips.model_copy(update={"network": network.model_copy(update={"width": WIDER * network.width})})
    found = [
        Recipe(PLAIN, config.model_copy(update={"flip": False})),
        Recipe(REFERENCE, flips, against=()),
        Recipe(LARGER, wider),
    ]
    earlier: list[str] = []
    for maker, patches in made.items():
        of_nodules = {POSITIVE: patches.nodules}
        for amount in amounts:
            others = [beside(other, amount) for other in earlier]
            found.append(Recipe(beside(maker, amount), flips, of_nodules, amount, (REFERENCE, *others)))
        if patches.selected is not None:
            of_selected = {POSITIVE: patches.selected}
            for amount in amounts:
                others = [beside(other, amount) for other in (*earlier, maker)]
                name = beside(maker, amount, passed=True)
                found.append(Recipe(name, flips, of_selected, amount, (REFERENCE, *others)))
            found.append(Recipe(larger(maker), wider, of_selected, 1.0, (LARGER,)))
        if patches.empty is not None:
            of_empty = {NEGATIVE: patches.empty}
            found.append(Recipe(alone(maker), flips, of_nodules | of_empty, inf))
            if patches.selected is not None:
                found.append(Recipe(alone(maker, passed=True), flips, of_selected | of_empty, inf))
        earlier.append(maker)
    return found


def made_patches(
    folder: Path | None,
    like: str,
    train: PatchDataset,
    name: str,
    maker: Generator,
    amounts: Sequence[float],
) -> Made:
    """A maker's patches with the attributes of the training set's nodules, and what else it declares to offer.

    Args:
        folder: where they are kept; nowhere if not given. A file stays as it is, whatever made it; trainings are
            known by the patches themselves.
        like: what the kept ones are known by: the store and its patches.
        name: of the maker in this study.
    """
    n_real = int((train.labels == POSITIVE).sum())
    n = max(round(max(amounts, default=1.0) * n_real), n_real)
    nodules = nodules_of(train, n, 1)
    key = "-".join(filter(None, (like, maker.lineage.model_sha256[:12])))

    def kept(kind: str, count: int, make: Callable[[int], NDArray[np.int16]]) -> NDArray[np.int16]:
        if folder is None:
            return make(derive(0, kind))
        file = folder / f"{name.replace(' ', '-')}-{kind}-{key}-{count}.npy"
        return kept_patches(file, lambda: make(derive(0, kind)))

    made = kept("plain", n, partial(sampled, maker, nodules))
    passed, note = None, ""
    if maker.selects:
        passed = kept("selected", n, partial(selected, maker, nodules))
        note = f"{len(passed):,} of {n:,} samples of {name} passed the selection, each made anew until it did."
        if len(passed) < LEAST_SELECTED * n:
            note += f" That is less than {LEAST_SELECTED:.0%}: the arms of selected ones are left out."
            passed = None
    empty = kept("negative", n_real, partial(without_nodule, maker, n_real)) if maker.makes_empty else None
    return Made(made, passed, empty, note)


def notes_of(train: PatchDataset, made: Mapping[str, Made]) -> str:
    """What to tell of the patches that were made, in sentences."""
    return " ".join(filter(None, (*(each.note for each in made.values()), too_wide(train))))
