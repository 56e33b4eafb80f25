"""The arms of the study of detection: the detector that each trains, and the synthetic patches that it trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.mixed import MixedBatches
from synthorax.datasets.patches import PatchDataset
from synthorax.makers import Generator
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.provenance import making_key
from synthorax.seeding import derive
from synthorax.studies.patch_makers import (
    PATCHES_A_FILE,
    count_without_voxels,
    kept_in_parts,
    kept_patches,
    key_of,
    moved_into_range,
    nodules_of,
    samples_for,
    selected,
    too_wide,
    without_nodule,
    without_voxels,
    write_patches,
)
from synthorax.studies.trials import Feed
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import DetectorConfig

AMOUNTS = (0.25, 1.0, 4.0)
"""Numbers of synthetic nodules for each real one."""
WIDER = 2
"""Factor by which the larger detector has more channels than the detector; Cui's thesis proposes a larger one
(section 6)."""
PLAIN, REFERENCE, LARGER = "real alone", "flips", "larger detector, flips"
LEAST_SELECTED = 0.8
"""Least share of the requested samples that must pass a selection. With fewer, an arm would have fewer synthetic
nodules than the others, and only nodules that are easy to generate."""


def beside(maker: str, amount: float = 1.0, *, passed: bool = False) -> str:
    """Return the name of the arm that adds a maker's nodules to real ones; an amount of 1 is not in the name."""
    return f"flips + {maker}{', selected' * passed}" + ("" if amount == 1 else f" x {amount:g}")


def alone(maker: str, *, passed: bool = False) -> str:
    """Return the name of the arm that trains on a maker's patches alone."""
    return f"{maker} only{', selected' * passed}"


def larger(maker: str) -> str:
    """Return the name of the arm that trains the larger detector with a maker's selected nodules added."""
    return f"{LARGER} + {maker}, selected"


def own_head(maker: str) -> str:
    """Return the name of the arm in which the maker's own critic scores the patches."""
    return f"{maker}'s own judgement"


@dataclass(frozen=True, eq=False)
class Recipe:
    """The network that an arm trains, its synthetic patches, and the arms with which it is compared.

    Attributes:
        made: class to its synthetic patches, int16 HU [n, z, y, x]; the first ones are used, as many as `amount` asks.
        amount: synthetic nodules for each real one; infinite for synthetic patches alone, as many as there are real
            nodules.
        against: names of the arms with which this arm is compared.
    """

    name: str
    config: TaskConfig
    made: Mapping[int, NDArray[np.int16]] = field(default_factory=dict)
    amount: float = 0.0
    against: tuple[str, ...] = (REFERENCE,)

    def feed(self, n_real: int) -> Feed | None:
        """Return the batches of real and synthetic patches, or None if the arm has real patches alone."""
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
    """The patches of a maker, int16 HU [n, z, y, x]; None for a kind that the maker does not offer.

    Attributes:
        nodules: patches with nodules that have the attributes of the training set's nodules.
        selected: patches with such nodules that passed the maker's selection.
        empty: patches without a nodule.
        note: sentences about nodules without voxels in their masks, the samples that passed the selection, and
            attributes that the maker does not take.
    """

    nodules: NDArray[np.int16]
    selected: NDArray[np.int16] | None = None
    empty: NDArray[np.int16] | None = None
    note: str = ""


def recipes(config: TaskConfig, made: Mapping[str, Made], amounts: Sequence[float] = AMOUNTS) -> list[Recipe]:
    """Return the arms to train. Each maker's nodules are compared with real ones, and with those of earlier makers.

    Args:
        config: the detector and its training.
        made: maker to its patches; a kind of patches that a maker does not offer has no arm.
        amounts: synthetic nodules for each real one, an arm each.
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
    """Make a maker's patches: nodules with the attributes of the training set's, and the other kinds that it offers.

    Args:
        folder: folder in which the patches are kept; None to keep none. An existing file is read and not made again;
            trainings are identified by the hash of the patches, not by the file.
        like: hash of the store and its patches, part of the file names.
        train: patches of the training split.
        name: name of the maker in this study.
        maker: generates the patches.
        amounts: synthetic nodules for each real one; the largest decides how many are made.
    """
    n_real = int((train.labels == POSITIVE).sum())
    n = max(round(max(amounts, default=1.0) * n_real), n_real)
    nodules = nodules_of(train, n, 1)
    key = "-".join(filter(None, (like, making_key(maker)[:12])))

    def file_of(kind: str, count: int) -> Path | None:
        return None if folder is None else folder / f"{name.replace(' ', '-')}-{kind}-{key}-{count}.npy"

    def kept(kind: str, count: int, make: Callable[[slice, int], NDArray[np.int16]]) -> NDArray[np.int16]:
        return kept_in_parts(file_of(kind, count), f"{name}, {kind}", count, derive(0, kind), make)

    counts = file_of("without-voxels", n)
    missing = np.zeros(-(-n // PATCHES_A_FILE), np.int64)
    if counts is not None and counts.exists():  # of parts that an earlier call made
        found = kept_patches(counts, missing.copy)
        missing[: len(found)] = found

    def plain(part: slice, own: int) -> NDArray[np.int16]:
        samples = samples_for(maker, nodules[part], own)
        missing[part.start // PATCHES_A_FILE] = count_without_voxels(samples)
        if counts is not None and missing.any():
            write_patches(counts, missing)
        return samples.ct

    made = kept("plain", n, plain)
    passed, note = None, without_voxels(name, int(missing.sum()), n)
    if maker.selects:
        passed = kept("selected", n, lambda part, own: selected(maker, nodules[part], own))
        chosen = (
            f"{len(passed):,} of {n:,} samples of {name} passed the selection; one that fails is drawn again, and left "
            "out if it never passes."
        )
        note = " ".join(filter(None, (note, chosen)))
        if len(passed) < LEAST_SELECTED * n:
            note += f" That is less than {LEAST_SELECTED:.0%}, so the arms with selected samples are left out."
            passed = None
    empty = None
    if maker.makes_empty:
        empty = kept("negative", n_real, lambda part, own: without_nodule(maker, part.stop - part.start, own))
    return Made(made, passed, empty, " ".join(filter(None, (note, moved_into_range(maker, nodules)))))


def notes_of(train: PatchDataset, made: Mapping[str, Made]) -> str:
    """Return the notes on the synthetic patches and on the training set, as sentences for the page."""
    return " ".join(filter(None, (*(each.note for each in made.values()), too_wide(train))))
