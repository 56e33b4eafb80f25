"""The arms of the study of detection: what each trains, and on which made cubes."""

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
from synthorax.seeding import derive
from synthorax.studies.cube_makers import (
    NEGATIVE,
    POSITIVE,
    AcWganCubes,
    RenderedCubes,
    kept_cubes,
    key_of,
    nodules_of,
    too_wide,
)
from synthorax.studies.trials import Feed
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import DetectorConfig

AMOUNTS = (0.25, 1.0, 4.0)
"""Made nodules for each real one."""
WIDER = 2
"""The larger detector has so many times the channels (section 6)."""
PLAIN, REFERENCE, LARGER = "real alone", "flips", "larger detector, flips"
RENDERED, GAN, SELECTED = "flips + rendered", "flips + GAN", "flips + GAN, selected"
LARGER_SELECTED, CRITIC = "larger detector, flips + GAN, selected", "critic's own head"
GAN_ONLY, SELECTED_ONLY = "GAN only", "GAN only, selected"
LEAST_SELECTED = 0.8
"""Of the samples asked for; an arm of fewer would have fewer made nodules, and those that are easy to make."""


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
        alone = self.amount == inf
        most = max(round((1 if alone else self.amount) * n_real), 1)
        share = 1.0 if alone else self.amount / (1 + self.amount)
        cubes = {label: made[:most] for label, made in self.made.items()}
        key = repr((share, {label: key_of(made) for label, made in cubes.items()}))
        return Feed(key, lambda train: MixedBatches(train, cubes, share, self.config.batch_size))


def recipes(
    config: TaskConfig,
    rendered: NDArray[np.int16],
    gan: Mapping[str, NDArray[np.int16]],
    amounts: Sequence[float] = AMOUNTS,
) -> list[Recipe]:
    """The arms that are trained.

    Args:
        rendered: nodules, rendered into patches without one.
        gan: `plain` and `selected` nodules and `negative` patches of a GAN; arms of what is missing are left out.
    """
    network = config.network
    assert isinstance(network, DetectorConfig)
    flips = config.model_copy(update={"flip": True})
    wider = flips.model_copy(update={"network": network.model_copy(update={"width": WIDER * network.width})})

    def sweep(name: str, cubes: NDArray[np.int16], others: Sequence[str] = ()) -> list[Recipe]:
        return [
            Recipe(
                _swept(name, amount),
                flips,
                {POSITIVE: cubes},
                amount,
                (REFERENCE, *(_swept(other, amount) for other in others)),
            )
            for amount in amounts
        ]

    found = [
        Recipe(PLAIN, config.model_copy(update={"flip": False})),
        Recipe(REFERENCE, flips, against=()),
        Recipe(LARGER, wider),
        *sweep(RENDERED, rendered),
    ]
    if "plain" in gan:
        found += sweep(GAN, gan["plain"], [RENDERED])
    if "selected" in gan:
        found += sweep(SELECTED, gan["selected"], [RENDERED, GAN])
        found.append(Recipe(LARGER_SELECTED, wider, {POSITIVE: gan["selected"]}, 1.0, (LARGER,)))
    for name, kind in ((GAN_ONLY, "plain"), (SELECTED_ONLY, "selected")):
        if {kind, "negative"} <= set(gan):
            found.append(Recipe(name, flips, {POSITIVE: gan[kind], NEGATIVE: gan["negative"]}, inf))
    return found


def _swept(name: str, amount: float) -> str:
    """An arm's name; that of one made nodule for each real one is the plain one."""
    return name if amount == 1 else f"{name} x {amount:g}"


@dataclass(frozen=True, eq=False)
class Made:
    """Cubes that are put beside real ones or in their place, int16 HU [n, z, y, x].

    Attributes:
        gan: by kind, as `recipes` takes them.
        note: how many samples passed the selection, if there was one.
    """

    rendered: NDArray[np.int16]
    gan: Mapping[str, NDArray[np.int16]]
    note: str = ""


def made_cubes(
    folder: Path | None,
    like: str,
    train: PatchDataset,
    renderer: RenderedCubes,
    model: AcWganCubes | None,
    amounts: Sequence[float],
) -> Made:
    """Rendered and generated cubes with the attributes of the training set's nodules.

    Args:
        folder: where they are kept; nowhere if not given. A file stays as it is, whatever made it; trainings are
            known by the cubes themselves.
        like: what the kept ones are known by: the store and its patches.
    """
    n_real = int((train.labels == POSITIVE).sum())
    n = max(round(max(amounts, default=1.0) * n_real), n_real)
    nodules = nodules_of(train, n, 1)

    def kept(kind: str, key: str, count: int, make: Callable[[int], NDArray[np.int16]]) -> NDArray[np.int16]:
        if folder is None:
            return make(derive(0, kind))
        return kept_cubes(folder / f"{kind}-{key}-{count}.npy", lambda: make(derive(0, kind)))

    rendered = kept("rendered", like, n, partial(renderer.made, nodules))
    if model is None:
        return Made(rendered, {}, too_wide(train))
    key = f"{like}-{model.sha256[:12]}"
    gan = {"plain": kept("plain", key, n, partial(model.made, nodules))}
    selected = kept("selected", key, n, partial(model.selected, nodules))
    note = f"{len(selected):,} of {n:,} samples of the GAN passed the selection, each made anew until it did."
    if len(selected) >= LEAST_SELECTED * n:
        gan["selected"] = selected
    else:
        note += f" That is less than {LEAST_SELECTED:.0%}: the arms of selected ones are left out."
    if model.has_negatives:
        gan["negative"] = kept("negative", key, n_real, partial(model.negatives, n_real))
    return Made(rendered, gan, f"{note} {too_wide(train)}".strip())
