"""A network that classifies slices of chests by orientation and place; its features compare sets of slices.

It is trained on the training chests of the store alone. To recognise the place of a slice it must learn anatomy. FID,
KID and IS with its features are comparable with each other, but not with values from other networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthorax.metrics.features import ExtractorCard, Features
from synthorax.provenance import sha256
from synthorax.seeding import generator
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.config import SliceNetConfig
from synthorax.tasks.networks.slices import SliceNet
from synthorax.tasks.training import train_task
from synthorax.training.files import BEST

ORIENTATIONS = ("axial", "coronal", "sagittal")
"""Orientations of slices across the axes z, y and x, in this order."""
READ_PLACES = 10
"""Number of places along each axis that the network distinguishes."""
READER_STEPS, READER_VALIDATE_EVERY = 600, 100
READER_BATCH = 60
HELD_SLICES = 120
"""Number of slices by which the best weights are chosen."""
SEEN_AT_ONCE = 96
"""Number of slices that the network reads at once."""


def slice_of(hu: NDArray, orientation: int, place: float) -> NDArray:
    """Return the slice of a scan [z, y, x] across an axis (0 for z) at a place from 0 to 1 along it, [row, column]."""
    n = hu.shape[orientation]
    return np.asarray(hu.take(min(int(place * n), n - 1), orientation))


@dataclass(frozen=True, eq=False)
class SliceBatches:
    """A function of the step to a batch of random slices of chests with their classes.

    Attributes:
        chests: chests, HU [z, y, x], cubes.
        config: the network and the batch size.
        seed: seed of the draws.
    """

    chests: Sequence[NDArray]
    config: TaskConfig
    seed: int

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Return ct [b, 1, 1, y, x] from -1 to 1, and label [b]."""
        return self.drawn(self.config.batch_size, "batch", step)

    def drawn(self, n: int, *why: int | str) -> dict[str, Tensor]:
        """Draw n slices by the seed and `why`; see `__call__`."""
        random = generator(self.seed, *why)
        places = random.uniform(0, 1, n)
        orientations = random.integers(len(ORIENTATIONS), size=n)
        chosen = random.integers(len(self.chests), size=n)
        hu = [slice_of(self.chests[i], o, p) for i, o, p in zip(chosen, orientations, places, strict=True)]
        label = orientations * READ_PLACES + np.minimum((places * READ_PLACES).astype(np.int64), READ_PLACES - 1)
        return {"ct": _unit(self.config, np.stack(hu)), "label": torch.from_numpy(label)}


class SliceReader:
    """Computes features and class probabilities of slices with a trained network.

    Attributes:
        card: name, weights and preprocessing of the network.
    """

    def __init__(self, task: Classification, weights_sha256: str) -> None:
        self._task = task
        network = task.best_network.eval()
        assert isinstance(network, SliceNet)
        self._network: SliceNet = network
        low, high = task.config.window_hu
        prepared = f"{low:g} to {high:g} HU mapped to -1 to 1, slices of {' x '.join(map(str, task.config.size[1:]))}"
        self.card = ExtractorCard("slice reader", weights_sha256, self._network.feature_size, prepared)

    @torch.inference_mode()
    def __call__(self, slices: NDArray) -> Features:
        """Return features and class probabilities of slices, HU [n, row, column]."""
        values, classes = [], []
        for start in range(0, len(slices), SEEN_AT_ONCE):
            unit = _unit(self._task.config, slices[start : start + SEEN_AT_ONCE]).to(self._task.device)
            maps = self._network.maps(unit)
            values.append(maps.mean((2, 3, 4)).double().cpu().numpy())
            classes.append(self._network.classify(maps).float().softmax(1).double().cpu().numpy())
        return Features(np.concatenate(values), self.card, np.concatenate(classes))


def slice_reader(
    chests: Sequence[NDArray], size: int, out: Path, key: str, *, steps: int = READER_STEPS, device: str = "auto"
) -> SliceReader:
    """Train the network, or load it from an earlier call.

    Args:
        chests: training chests, HU [z, y, x], cubes.
        size: edge of the chests in voxels.
        out: run folder.
        key: hash of the chests.
        steps: training steps.
        device: device of the network.
    """
    config = TaskConfig(
        network=SliceNetConfig(n_classes=len(ORIENTATIONS) * READ_PLACES),
        size=(1, size, size),
        batch_size=READER_BATCH,
        steps=steps,
        learning_rate=3e-3,
        late_rate=3e-4,
        flip=False,
        validate_every=min(READER_VALIDATE_EVERY, steps),
        precision="32",
    )
    task = Classification(config, 0)
    batches = SliceBatches(chests, config, 0)
    held = batches.drawn(HELD_SLICES, "held")

    def validate() -> dict[str, float]:
        logits = task.logits(held["ct"])
        return {"val_loss": float(torch.nn.functional.cross_entropy(logits, held["label"]))}

    trained = train_task(task, batches, validate, out, {"fingerprint": key}, device=device)
    return SliceReader(trained, sha256(out / BEST))


def _unit(config: TaskConfig, hu: NDArray) -> Tensor:
    unit: Tensor = config.patch.to_unit(torch.from_numpy(hu.astype(np.float32)))
    return unit[:, None, None]
