"""The arms of the study of malignancy: the augmentation, weights and synthetic nodules of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.pooled import PooledBatches
from synthorax.makers import Method
from synthorax.screen import quantity
from synthorax.seeding import derive
from synthorax.studies.contexts import (
    MALIGNANT_CLASS,
    ContextKind,
    Contexts,
    MadeInContexts,
    made_in_contexts,
)
from synthorax.studies.patch_makers import key_of
from synthorax.studies.results import MADE
from synthorax.studies.trials import Feed, Splits, Study
from synthorax.tasks.config import TaskConfig

RATIOS = (0.5, 1.0, 2.0, 4.0)
"""Numbers of synthetic malignant nodules for each real one."""
PAPER_RATIO = 2.0
"""The paper's ratio: 463 synthetic malignant nodules beside 233 real ones (table 1)."""
ArmKind = Literal["raw", "weighted", "oversampled", "flips", "malignant", "benign", "flips-made"]
"""Kinds of arms. The first four have real nodules alone: without augmentation, with a weighted loss, with malignant
nodules repeated, with flips and turns. The others have synthetic nodules too: in malignant contexts, in benign
contexts, in malignant contexts with flips and turns."""
IN_MALIGNANT: tuple[ArmKind, ...] = ("malignant", "flips-made")
"""Kinds of arms with synthetic nodules in malignant contexts. Only makers that replace nodules have them."""
RAW, WEIGHTED, FLIPS = "raw", "weighted loss", "flips and turns"


@dataclass(frozen=True, eq=False)
class MalignancyRecipe:
    """The patches and the loss of an arm, and the arms with which it is compared.

    Attributes:
        made: synthetic malignant patches with the margin of the real ones, int16 HU [n, z, y, x], or None.
        repeats: number of times that each real malignant patch is in the pool.
        weighted: whether both classes have the same total weight in the loss.
        against: names of the arms with which it is compared.
    """

    name: str
    config: TaskConfig
    made: NDArray[np.int16] | None = None
    repeats: int = 1
    weighted: bool = False
    against: tuple[str, ...] = (RAW,)

    @property
    def feed(self) -> Feed:
        """Batches of a training of this arm."""
        made = {} if self.made is None else {MALIGNANT_CLASS: self.made}
        key = repr(("pooled", self.repeats, self.weighted, {label: key_of(each) for label, each in made.items()}))
        pooled = partial(
            PooledBatches,
            size=self.config.batch_size,
            made=made,
            repeats={MALIGNANT_CLASS: self.repeats},
            weighted=self.weighted,
        )
        return Feed(key, pooled)


def in_contexts(maker: str, kind: str, ratio: float) -> str:
    """Return the name of the arm with a maker's nodules in malignant or benign contexts."""
    return f"raw + {maker}, {kind} contexts x {ratio:g}"


def with_flips(maker: str) -> str:
    """Return the name of the arm with a maker's nodules, and with flips and turns."""
    return f"{FLIPS} + {maker}, malignant contexts x {PAPER_RATIO:g}"


@dataclass(eq=False)
class MadeNodules:
    """Makes the synthetic nodules of the arms, and collects the notes on them.

    Attributes:
        n_real: number of real malignant training nodules.
        notes: sentences about nodules that were left out, and about arms that have fewer than their names say.
    """

    study: Study
    splits: Splits
    contexts: Contexts
    n_real: int
    notes: list[str] = field(default_factory=list)

    def __call__(self, name: str, method: Method, kind: ContextKind, ratio: float) -> MadeInContexts:
        """Make `ratio` nodules for each real malignant one."""
        made = made_in_contexts(
            method,
            name,
            self.contexts,
            kind,
            self._count(ratio),
            derive(0, "contexts"),
            folder=self.study.out.parent / MADE,
            like=self.study.key(self.splits),
        )
        if made.note and made.note not in self.notes:
            self.notes.append(made.note)
        return made

    def first(self, arm: str, patches: NDArray[np.int16], ratio: float) -> NDArray[np.int16]:
        """Return the first `ratio` patches for each real malignant one, with a note if there are fewer."""
        n = self._count(ratio)
        if len(patches) < n:
            self.notes.append(f"{arm}: {quantity(len(patches), 'synthetic nodule')} instead of {n}.")
        return patches[:n]

    def _count(self, ratio: float) -> int:
        """Return the number of synthetic nodules for a ratio."""
        return max(round(ratio * self.n_real), 1)


def recipes_without_made(config: TaskConfig, arms: Sequence[ArmKind]) -> list[MalignancyRecipe]:
    """Return the arms of real patches alone; `raw` is always among them."""
    flipped = config.model_copy(update={"flip": True, "turn": True})
    repeats = 1 + round(PAPER_RATIO)
    found = {
        "raw": MalignancyRecipe(RAW, config, against=()),
        "weighted": MalignancyRecipe(WEIGHTED, config, weighted=True),
        "oversampled": MalignancyRecipe(f"malignant ones {repeats} times", config, repeats=repeats),
        "flips": MalignancyRecipe(FLIPS, flipped),
    }
    return [recipe for kind, recipe in found.items() if kind == "raw" or kind in arms]


def recipes_with_made(
    config: TaskConfig,
    named: Mapping[str, Method],
    replacing: Collection[str],
    makes: MadeNodules,
    arms: Sequence[ArmKind],
    ratios: Sequence[float],
) -> list[MalignancyRecipe]:
    """Return the arms with synthetic nodules.

    Each is compared with the arm without them. At the paper's ratio, it is also compared with the arms of earlier
    makers, and an arm in malignant contexts with the maker's own in benign contexts.

    Args:
        config: the classifier and its training.
        named: name to maker.
        replacing: names of the makers that replace the nodule in a context; the others have no arms in malignant
            contexts.
        makes: makes the nodules.
        arms: kinds of arms.
        ratios: synthetic malignant nodules for each real one in malignant contexts, an arm each.
    """
    flipped = config.model_copy(update={"flip": True, "turn": True})
    most = max(*ratios, PAPER_RATIO)
    found: list[MalignancyRecipe] = []
    earlier: list[str] = []
    for name, method in named.items():
        benign = in_contexts(name, "benign", PAPER_RATIO)
        if "benign" in arms:
            patches = makes.first(benign, makes(name, method, "benign", PAPER_RATIO).patches, PAPER_RATIO)
            found.append(MalignancyRecipe(benign, config, patches, against=(RAW, *earlier)))
        if name in replacing:
            patches = makes(name, method, "malignant", most).patches  # each ratio takes the first of them
            for ratio in ratios if "malignant" in arms else ():
                against = (RAW, *earlier, benign) if ratio == PAPER_RATIO else (RAW,)
                arm = in_contexts(name, "malignant", ratio)
                some = makes.first(arm, patches, ratio)
                found.append(MalignancyRecipe(arm, config, some, against=against))
            if "flips-made" in arms:
                some = makes.first(with_flips(name), patches, PAPER_RATIO)
                found.append(MalignancyRecipe(with_flips(name), flipped, some, against=(FLIPS,)))
        earlier.append(benign)
    return found
