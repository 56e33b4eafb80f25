"""Classifiers of patches: nodule or none, malignant or benign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from synthorax.datasets.patches import PatchDataset
from synthorax.seeding import derive
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.networks.build import build
from synthorax.training.trainable import Share, Trainable

NETWORK = "network"
"""Name of a task's network."""
SCORED_AT_ONCE = 64
"""Patches that go through the network together."""
READ_AT_ONCE = 8 * SCORED_AT_ONCE
"""Patches that are read into memory together."""


class LabelledRows(Protocol):
    """Patches or whole volumes with their classes, on which a classifier is validated; `PatchDataset` is one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class of each row, [n]."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def rows(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return these rows without augmentation: ct [b, 1, z, y, x] within -1 to 1, and label [b]."""
        ...


class Task(Trainable):
    """A network that is trained by Adam with two learning rates; subclasses define the loss and the validation."""

    config: TaskConfig
    memory_format = torch.channels_last_3d

    def __init__(self, config: TaskConfig, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, self.name))
            decays = {NETWORK: config.ema_decay}
            super().__init__(config, {NETWORK: build(config.network)}, seed=seed, decays=decays)

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.networks[NETWORK]

    @property
    def best_network(self) -> nn.Module:
        """The network that is used outside training: the moving average, if there is one."""
        return self.averages.get(NETWORK, self.network)

    def check(self, world: int) -> None:
        Share(0, world).rows(self.config.batch_size)

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        weights, decay = self.network.parameters(), self.config.weight_decay
        return {"adam": torch.optim.AdamW(weights, lr=self.config.learning_rate, weight_decay=decay, fused=True)}

    def training_step(self, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Train on one batch: `ct` [b, 1, z, y, x] within -1 to 1, and the entries that `loss` needs."""
        self.set_rate("adam", self.config.rate(step))
        self.network.train()
        with self.autocast():
            logits = self.network(batch["ct"])
        loss = self.loss(logits.float(), batch)
        loss.backward()
        self.update("adam")
        return {"loss": loss.detach()}

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a batch's logits."""
        raise NotImplementedError

    @torch.no_grad()
    def logits(self, patches: Tensor) -> Tensor:
        """Return the logits of patches [n, 1, z, y, x] within -1 to 1, on the CPU."""
        network = self.best_network.eval()
        found = []
        for part in patches.split(SCORED_AT_ONCE):
            with self.autocast():
                found.append(network(part.to(self.device, memory_format=self.memory_format)).float().cpu())
        return torch.cat(found)


class Classification(Task):
    """A classifier of patches."""

    name = "classification"

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropy; if the batch has `weight` [b], rows are weighted by it."""
        each = functional.cross_entropy(logits, batch["label"], reduction="none")
        return (each * batch["weight"]).mean() if "weight" in batch else each.mean()

    def probabilities(self, patches: Tensor) -> NDArray[np.float64]:
        """Return the probability of each class, [n, k], for patches [n, 1, z, y, x] within -1 to 1."""
        return self.logits(patches).softmax(1).numpy().astype(np.float64)

    def validate(self, patches: LabelledRows) -> dict[str, float]:
        """Return the cross-entropy with equal weight for each class, and for two classes the AUC."""
        from synthorax.metrics.roc import auc

        found = np.concatenate([self.probabilities(ct) for ct in cts(patches)])
        losses = -np.log(np.clip(found[np.arange(len(found)), patches.labels], 1e-7, 1))
        balanced = np.mean([losses[patches.labels == label].mean() for label in np.unique(patches.labels)])
        figures = {"val_loss": float(balanced)}
        if set(patches.labels.tolist()) == {0, 1}:
            figures["val_auc"] = auc(patches.labels, found[:, 1])
        return figures


def all_of(patches: PatchDataset) -> dict[str, Tensor]:
    """Return all patches without augmentation."""
    return patches.rows(range(len(patches)))


def cts(patches: LabelledRows) -> Iterator[Tensor]:
    """Yield the CT [n, 1, z, y, x] of all patches without augmentation, at most `READ_AT_ONCE` at a time."""
    for start in range(0, len(patches), READ_AT_ONCE):
        yield patches.rows(range(start, min(start + READ_AT_ONCE, len(patches))))["ct"]
